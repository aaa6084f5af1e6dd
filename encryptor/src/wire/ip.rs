//! IPv4 (RFC 791) and IPv6 (RFC 8200) up to the transport ports, for telling flows apart.

use super::{Seen, be16};

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
const DCCP: u8 = 33;
pub(super) const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Extension headers that are followed before a packet counts as odd; RFC 8200 section 4.1 lists six, each at most
/// once but for one.
const MAX_EXTENSIONS: usize = 8;

/// What the network layer says of a packet. Addresses of IPv4 are mapped into IPv6 form (RFC 4291 section 2.5.5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct L3 {
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// The upper protocol's number; for an IPv6 packet whose extension headers cannot be followed, the last one read.
    pub protocol: u8,
    /// What could be told of the transport layer.
    pub transport: Transport,
}

impl L3 {
    /// The upper protocol, unless it is behind extension headers that cannot be followed, or in another fragment.
    pub fn upper_protocol(&self) -> Seen<u8> {
        match self.protocol {
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
                if self.transport != Transport::None =>
            {
                Seen::Hidden
            }
            protocol => Seen::Is(protocol),
        }
    }
}

/// The transport layer, as far as it tells flows apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Source and destination port of TCP, UDP, UDP-Lite, SCTP or DCCP.
    Ports(u16, u16),
    /// A fragment, first ones included: they must share a flow with the ones that carry no ports.
    Fragment,
    /// A protocol with ports that are cut off, or extension headers that cannot be followed to one.
    Cut,
    /// A protocol without ports.
    None,
}

/// Reads an IPv4 or IPv6 header, told apart by its version field; with it comes what the packet carries, link-layer padding
/// left out. `None`: not IP, cut within its header, or shorter by its own account than its header.
pub fn parse_ip(packet: &[u8]) -> Option<(L3, &[u8])> {
    match packet.first()? >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        _ => None,
    }
}

fn parse_v4(packet: &[u8]) -> Option<(L3, &[u8])> {
    let header = packet.first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let end = usize::from(be16(header, 2)?).min(packet.len());
    if header_len < 20 || end < header_len {
        return None;
    }
    let (protocol, segment) = (header[9], &packet[header_len..end]);
    let more_or_offset = be16(header, 6)? & 0x3fff;
    let transport = match more_or_offset {
        0 => ports(protocol, segment),
        _ => Transport::Fragment,
    };
    let (source, destination) = (mapped(&header[12..16])?, mapped(&header[16..20])?);
    Some((L3 { source, destination, traffic_class: header[1], protocol, transport }, segment))
}

fn parse_v6(packet: &[u8]) -> Option<(L3, &[u8])> {
    let header = packet.first_chunk::<40>()?;
    let end = (40 + usize::from(be16(header, 4)?)).min(packet.len());
    let (protocol, transport, segment) = follow_extensions(header[6], &packet[40..end]);
    let l3 = L3 {
        source: header[8..24].try_into().ok()?,
        destination: header[24..40].try_into().ok()?,
        traffic_class: (header[0] << 4) | (header[1] >> 4),
        protocol,
        transport,
    };
    Some((l3, segment))
}

fn follow_extensions(first: u8, mut rest: &[u8]) -> (u8, Transport, &[u8]) {
    let mut next = first;
    for _ in 0..MAX_EXTENSIONS {
        let length = match (next, rest) {
            (FRAGMENT, _) => return (FRAGMENT, Transport::Fragment, rest),
            (HOP_BY_HOP | ROUTING | DESTINATION, [_, units, ..]) => (usize::from(*units) + 1) * 8,
            (AUTHENTICATION, [_, units, ..]) => (usize::from(*units) + 2) * 4,
            (HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION, _) => break,
            _ => return (next, ports(next, rest), rest),
        };
        let Some(behind) = rest.get(length..) else { break };
        next = rest[0];
        rest = behind;
    }
    (next, Transport::Cut, rest)
}

fn ports(protocol: u8, segment: &[u8]) -> Transport {
    match protocol {
        TCP | UDP | UDP_LITE | SCTP | DCCP => match (be16(segment, 0), be16(segment, 2)) {
            (Some(source), Some(destination)) => Transport::Ports(source, destination),
            _ => Transport::Cut,
        },
        _ => Transport::None,
    }
}

fn mapped(v4: &[u8]) -> Option<[u8; 16]> {
    let mut address = [0; 16];
    address[10..12].fill(0xff);
    address[12..].copy_from_slice(v4.get(..4)?);
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, fragment: u16, behind: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0xb8, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet[2..4].copy_from_slice(&(20 + behind.len() as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend_from_slice(behind);
        packet
    }

    fn v6(next: u8, behind: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x6b, 0x80, 0, 0, 0, 0, next, 64];
        packet[4..6].copy_from_slice(&(behind.len() as u16).to_be_bytes());
        packet.extend_from_slice(&[1; 16]);
        packet.extend_from_slice(&[2; 16]);
        packet.extend_from_slice(behind);
        packet
    }

    fn transport(packet: &[u8]) -> Transport {
        parse_ip(packet).unwrap().0.transport
    }

    const PORTS: [u8; 4] = [0x12, 0x34, 0x08, 0x68];

    #[test]
    fn reads_ports_in_both_families() {
        for packet in [v4(UDP, 0x4000, &PORTS), v6(SCTP, &PORTS)] {
            let (l3, segment) = parse_ip(&packet).unwrap();
            assert_eq!(l3.transport, Transport::Ports(0x1234, 2152));
            assert_eq!((l3.traffic_class, segment), (0xb8, &PORTS[..]));
        }
        let packet = v4(UDP, 0x4000, &PORTS);
        let (l3, _) = parse_ip(&packet).unwrap();
        assert_eq!(&l3.source[10..], &[0xff, 0xff, 10, 0, 0, 1]);
    }

    #[test]
    fn every_fragment_is_a_fragment() {
        for field in [0x2000, 0x2001, 0x0001] {
            assert_eq!(transport(&v4(UDP, field, &PORTS)), Transport::Fragment);
        }
        let fragment = [&[UDP, 0, 0, 1, 0, 0, 0, 9][..], &PORTS].concat();
        assert_eq!(transport(&v6(FRAGMENT, &fragment)), Transport::Fragment);
        let behind_options = [&[FRAGMENT, 0, 0, 0, 0, 0, 0, 0][..], &fragment].concat();
        let packet = v6(HOP_BY_HOP, &behind_options);
        let (l3, _) = parse_ip(&packet).unwrap();
        assert_eq!((l3.transport, l3.upper_protocol()), (Transport::Fragment, Seen::Hidden));
    }

    #[test]
    fn follows_extension_headers_up_to_a_bound() {
        let one = [DESTINATION, 0, 0, 0, 0, 0, 0, 0];
        let last = [TCP, 0, 0, 0, 0, 0, 0, 0];
        let chain = |count: usize| [one.repeat(count), last.to_vec(), PORTS.to_vec()].concat();
        assert_eq!(transport(&v6(DESTINATION, &chain(6))), Transport::Ports(0x1234, 2152));
        assert_eq!(transport(&v6(DESTINATION, &chain(40))), Transport::Cut);
    }

    #[test]
    fn a_cut_is_coarser_or_refused_never_a_panic() {
        let whole = v6(DESTINATION, &[&[TCP, 1][..], &[0; 14], &PORTS].concat());
        for cut in 0..whole.len() {
            match parse_ip(&whole[..cut]) {
                None => assert!(cut < 40),
                Some((l3, _)) => assert_eq!(l3.transport, Transport::Cut),
            }
        }
        assert_eq!(transport(&v4(TCP, 0, &PORTS[..3])), Transport::Cut);
        assert_eq!(transport(&v4(1, 0, &PORTS)), Transport::None);
        let mut long_header = v4(TCP, 0, &PORTS);
        long_header[0] = 0x4f;
        assert_eq!(parse_ip(&long_header), None);
    }

    #[test]
    fn padding_behind_the_packet_is_no_part_of_it() {
        for (mut packet, at) in [(v4(UDP, 0, &[]), 3), (v6(UDP, &[]), 5)] {
            packet.extend_from_slice(&PORTS);
            assert_eq!(transport(&packet), Transport::Cut);
            packet[at - 1] = 0x7f;
            assert_eq!(transport(&packet), Transport::Ports(0x1234, 2152), "a length beyond the end");
        }
        let mut short = v4(UDP, 0, &PORTS);
        short[3] = 19;
        assert_eq!(parse_ip(&short), None);
    }
}
