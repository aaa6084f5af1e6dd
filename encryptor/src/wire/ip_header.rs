//! Whole IP headers, as a router reads them: lengths agree, the version is the right one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{be16, checksum, update_checksum};

/// An IPv4 header without options.
pub const V4_HLEN: usize = 20;
/// The fixed header of IPv6.
pub const V6_HLEN: usize = 40;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Next header value of a fragment header.
pub const FRAGMENT: u8 = 44;

/// Extension headers that are followed; see `parse_ip`.
const MAX_EXTENSIONS: usize = 8;

/// An IPv4 header (RFC 791).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Header {
    /// Bytes of the header, options included.
    pub length: usize,
    /// Bytes of the packet; what is behind them is padding.
    pub total_length: usize,
    /// In units of eight bytes.
    pub fragment_offset: u16,
    /// Hops left.
    pub ttl: u8,
    /// The upper protocol.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Ipv4Header {
    /// Reads the header in front of `packet`. `None`: another version, or lengths that contradict each other or the packet. The
    /// checksum is not looked at.
    pub fn parse(packet: &[u8]) -> Option<Ipv4Header> {
        let header: &[u8; V4_HLEN] = packet.first_chunk()?;
        let length = usize::from(header[0] & 0x0f) * 4;
        let total_length = usize::from(be16(header, 2)?);
        let whole = header[0] >> 4 == 4 && length >= V4_HLEN;
        (whole && length <= total_length && total_length <= packet.len()).then_some(Ipv4Header {
            length,
            total_length,
            fragment_offset: be16(header, 6)? & 0x1fff,
            ttl: header[8],
            protocol: header[9],
            source: address_v4(header, 12)?,
            destination: address_v4(header, 16)?,
        })
    }
}

/// An IPv6 header (RFC 8200).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Header {
    /// Bytes of the packet, header included; what is behind them is padding.
    pub total_length: usize,
    /// What follows the header.
    pub next: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6Header {
    /// Reads the header in front of `packet`. `None`: another version, or longer than the packet.
    pub fn parse(packet: &[u8]) -> Option<Ipv6Header> {
        let header: &[u8; V6_HLEN] = packet.first_chunk()?;
        let total_length = V6_HLEN + usize::from(be16(header, 4)?);
        (header[0] >> 4 == 6 && total_length <= packet.len()).then_some(Ipv6Header {
            total_length,
            next: header[6],
            hop_limit: header[7],
            source: address_v6(header, 8)?,
            destination: address_v6(header, 24)?,
        })
    }
}

/// What a router asks of a packet of either version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpHeader {
    /// Bytes of the packet, header included.
    pub total_length: usize,
    /// TTL or hop limit.
    pub hops: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
}

impl IpHeader {
    /// Reads an IPv4 header whose checksum holds (RFC 1812 section 5.2.2).
    pub fn parse_v4(packet: &[u8]) -> Option<IpHeader> {
        let header = Ipv4Header::parse(packet)?;
        (checksum(&[&packet[..header.length]]) == 0).then_some(IpHeader {
            total_length: header.total_length,
            hops: header.ttl,
            source: header.source.into(),
            destination: header.destination.into(),
        })
    }

    /// Reads an IPv6 header.
    pub fn parse_v6(packet: &[u8]) -> Option<IpHeader> {
        Ipv6Header::parse(packet).map(|header| IpHeader {
            total_length: header.total_length,
            hops: header.hop_limit,
            source: header.source.into(),
            destination: header.destination.into(),
        })
    }
}

/// Takes one off the TTL or hop limit of a packet whose header was read and has some left.
pub fn take_hop(packet: &mut [u8]) {
    let is_v6 = packet[0] >> 4 == 6;
    if is_v6 {
        packet[7] -= 1;
        return;
    }
    let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let old = word(packet, 8);
    packet[8] -= 1;
    let new = word(packet, 8);
    let checksum = update_checksum(word(packet, 10), old, new);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Follows IPv6 extension headers from `first` on through `rest`: the number of the first header that is none, or cannot be
/// followed, and what begins with it. Fragment headers are not followed.
pub fn upper_layer(first: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    let mut next = first;
    for _ in 0..MAX_EXTENSIONS {
        let length = match (next, rest) {
            (0 | 43 | 60, [_, units, ..]) => (usize::from(*units) + 1) * 8,
            (51, [_, units, ..]) => (usize::from(*units) + 2) * 4,
            _ => break,
        };
        let Some(behind) = rest.get(length..) else { break };
        next = rest[0];
        rest = behind;
    }
    (next, rest)
}

fn address_v4(header: &[u8], at: usize) -> Option<Ipv4Addr> {
    header.get(at..)?.first_chunk::<4>().copied().map(Ipv4Addr::from)
}

fn address_v6(header: &[u8], at: usize) -> Option<Ipv6Addr> {
    header.get(at..)?.first_chunk::<16>().copied().map(Ipv6Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(length: u16, ttl: u8) -> Vec<u8> {
        let mut packet =
            vec![0x46, 0, 0, 0, 0, 1, 0x20, 7, ttl, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1];
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.resize(40, 9);
        packet
    }

    fn v6(payload: u16) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 17, 3];
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet.resize(60, 8);
        packet
    }

    #[test]
    fn lengths_and_versions_must_agree() {
        let header = Ipv4Header::parse(&v4(40, 9)).unwrap();
        assert_eq!((header.length, header.total_length, header.fragment_offset, header.ttl), (24, 40, 7, 9));
        assert_eq!(header.destination, Ipv4Addr::new(10, 0, 0, 2));
        assert!(Ipv4Header::parse(&v4(24, 9)).is_some() && Ipv4Header::parse(&v4(23, 9)).is_none());
        assert_eq!(Ipv4Header::parse(&v4(41, 9)), None);
        assert_eq!(Ipv4Header::parse(&v6(0)), None);
        assert_eq!(Ipv6Header::parse(&v6(20)).map(|header| header.total_length), Some(60));
        assert_eq!(Ipv6Header::parse(&v6(21)), None);
        assert_eq!(Ipv6Header::parse(&v4(40, 9)), None);
    }

    #[test]
    fn a_wrong_checksum_is_no_header() {
        let right = v4(40, 9);
        assert!(IpHeader::parse_v4(&right).is_some());
        for bit in 0..24 * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(IpHeader::parse_v4(&wrong), None, "bit {bit}");
        }
    }

    #[test]
    fn a_hop_is_taken_and_the_checksum_still_holds() {
        for ttl in 1..=255 {
            let mut packet = v4(40, ttl);
            take_hop(&mut packet);
            assert_eq!(IpHeader::parse_v4(&packet).map(|header| header.hops), Some(ttl - 1));
        }
        let mut packet = v6(20);
        take_hop(&mut packet);
        assert_eq!(IpHeader::parse_v6(&packet).map(|header| header.hops), Some(2));
    }

    #[test]
    fn extension_headers_are_followed_within_bounds() {
        let chain =
            [[60, 0, 0, 0, 0, 0, 0, 0], [58, 0, 0, 0, 0, 0, 0, 0], [128, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(upper_layer(0, &chain), (58, &chain[16..]));
        assert_eq!(upper_layer(0, &chain[..12]), (60, &chain[8..12]));
        assert_eq!(upper_layer(FRAGMENT, &chain), (FRAGMENT, &chain[..]));
        let endless = [60, 0, 0, 0, 0, 0, 0, 0].repeat(20);
        assert_eq!(upper_layer(60, &endless).0, 60);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            for header in [IpHeader::parse_v4(&packet), IpHeader::parse_v6(&packet)].into_iter().flatten() {
                prop_assert!(header.total_length <= packet.len());
            }
            upper_layer(packet.first().copied().unwrap_or(0), &packet);
        }
    }
}
