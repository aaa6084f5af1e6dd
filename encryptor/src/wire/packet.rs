//! Whole IP packets, for those who answer, cut or change them: RFC 791 and RFC 8200.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::be16;
use super::checksum::checksum;

/// Extension headers that are followed before a packet counts as odd.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// An IPv4 packet whose header verifies, without link-layer padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4<'a> {
    /// The header with its options: 20 to 60 bytes.
    pub header: &'a [u8],
    /// What is behind it.
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// `None`: cut, lengths that contradict each other, or a header whose checksum is wrong (RFC 1812 section 5.2.2).
    pub fn parse(packet: &'a [u8]) -> Option<Ipv4<'a>> {
        let first = *packet.first()?;
        let header = packet.get(..usize::from(first & 0x0f) * 4)?;
        if first >> 4 != 4 || header.len() < 20 || checksum(&[header]) != 0 {
            return None;
        }
        let payload = packet.get(header.len()..usize::from(be16(header, 2)?))?;
        Some(Ipv4 { header, payload })
    }

    /// Whether it may not be fragmented.
    pub fn dont_fragment(&self) -> bool {
        self.header[6] & 0x40 != 0
    }

    /// Whether fragments of the same packet follow.
    pub fn more_fragments(&self) -> bool {
        self.header[6] & 0x20 != 0
    }

    /// Where its payload belongs in that of the whole packet, in units of 8 bytes.
    pub fn offset(&self) -> u16 {
        u16::from_be_bytes([self.header[6] & 0x1f, self.header[7]])
    }

    /// The upper protocol's number.
    pub fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// Source address.
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.header[12], self.header[13], self.header[14], self.header[15])
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.header[16], self.header[17], self.header[18], self.header[19])
    }
}

/// An IPv6 packet, without link-layer padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6<'a> {
    /// The fixed header.
    pub header: &'a [u8; 40],
    /// What is behind it, extension headers first.
    pub payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// `None`: cut, or of another version. (A jumbogram, RFC 2675, shows as cut.)
    pub fn parse(packet: &'a [u8]) -> Option<Ipv6<'a>> {
        let header: &[u8; 40] = packet.first_chunk()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let payload = packet[40..].get(..usize::from(be16(header, 4)?))?;
        Some(Ipv6 { header, payload })
    }

    /// Source address.
    pub fn source(&self) -> Ipv6Addr {
        address(self.header, 8)
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv6Addr {
        address(self.header, 24)
    }

    /// The upper protocol, and where in the payload it begins. `None`: in another fragment, cut off, or too many extension
    /// headers.
    pub fn upper(&self) -> Option<(u8, usize)> {
        let (mut next, mut at) = (self.header[6], 0);
        for _ in 0..MAX_EXTENSIONS {
            let length = match next {
                HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(*self.payload.get(at + 1)?) + 1) * 8,
                FRAGMENT if be16(self.payload, at + 2)? & 0xfff8 == 0 => 8,
                FRAGMENT => return None,
                _ => return Some((next, at)),
            };
            next = *self.payload.get(at)?;
            at += length;
        }
        None
    }
}

fn address(header: &[u8; 40], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    octets.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_ipv4_header_has_to_verify() {
        let mut packet = [0x45, 0, 0, 22, 0, 1, 0x20, 5, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 7, 8, 0, 0];
        assert_eq!(Ipv4::parse(&packet), None);
        let sum = checksum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let ip = Ipv4::parse(&packet).unwrap();
        assert_eq!((ip.payload, ip.offset(), ip.more_fragments()), (&[7, 8][..], 5, true));
        assert_eq!(ip.destination(), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(Ipv4::parse(&packet[..21]), None, "cut");
    }

    #[test]
    fn the_upper_protocol_stands_behind_extension_headers() {
        let packet = |first: u8, behind: &[u8]| {
            let mut packet = vec![0x60, 0, 0, 0, 0, behind.len() as u8, first, 64];
            packet.extend([0xfe; 32]);
            packet.extend(behind);
            packet
        };
        let upper = |first, behind: &[u8]| Ipv6::parse(&packet(first, behind)).unwrap().upper();
        assert_eq!(upper(6, &[]), Some((6, 0)));
        assert_eq!(upper(0, &[44, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 9]), Some((6, 16)));
        assert_eq!(upper(44, &[6, 0, 0, 9, 0, 0, 0, 9]), None, "a later fragment");
        assert_eq!(upper(60, &[6]), None, "cut");
        assert_eq!(upper(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(9)), None, "too many");
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Ipv4::parse(&bytes);
            let _ = Ipv6::parse(&bytes).map(|packet| packet.upper());
        }
    }
}
