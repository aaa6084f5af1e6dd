//! The outer headers on the cipher side: Ethernet, IPv4 or IPv6, UDP (RFC 3948) or nothing, and ESP (RFC 4303) with its
//! 8-byte IV.

mod read;
mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ETH_HLEN;
use crate::spi::Spi;

pub use read::{EspHeader, OuterError, parse_outer};
pub use write::OuterTemplate;

const IPV4_HLEN: usize = 20;
const IPV6_HLEN: usize = 40;
const UDP_HLEN: usize = 8;
/// SPI, sequence number, IV.
const ESP_IV_LEN: usize = 16;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_ESP: u8 = 50;

/// What [`OuterShape::header_len`] comes to.
const IPV4_BARE: usize = ETH_HLEN + IPV4_HLEN + ESP_IV_LEN;
const IPV4_UDP: usize = IPV4_BARE + UDP_HLEN;
const IPV6_BARE: usize = ETH_HLEN + IPV6_HLEN + ESP_IV_LEN;
const IPV6_UDP: usize = IPV6_BARE + UDP_HLEN;

/// The most that [`OuterShape::header_len`] comes to.
pub const MAX_OUTER_LEN: usize = IPV6_UDP;

/// The ESP next header values in use (IANA protocol numbers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHeader {
    /// A whole Ethernet frame without FCS (143).
    Ethernet,
    /// An IPv4 packet (4).
    Ipv4,
    /// An IPv6 packet (41).
    Ipv6,
    /// Nothing: a dummy packet (59, RFC 4303 section 2.6).
    None,
}

impl NextHeader {
    /// The number on the wire.
    pub fn value(self) -> u8 {
        match self {
            NextHeader::Ethernet => 143,
            NextHeader::Ipv4 => 4,
            NextHeader::Ipv6 => 41,
            NextHeader::None => 59,
        }
    }

    /// The meaning of a number on the wire, if it is one of ours.
    #[inline]
    pub fn from_wire(value: u8) -> Option<NextHeader> {
        match value {
            143 => Some(NextHeader::Ethernet),
            4 => Some(NextHeader::Ipv4),
            41 => Some(NextHeader::Ipv6),
            59 => Some(NextHeader::None),
            _ => None,
        }
    }
}

/// Our address on the backhaul and the peer's, of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// Ours and the peer's.
    V4(Ipv4Addr, Ipv4Addr),
    /// Ours and the peer's.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    /// `None`: the two are not of one family.
    pub fn new(own: IpAddr, peer: IpAddr) -> Option<Ends> {
        match (own, peer) {
            (IpAddr::V4(own), IpAddr::V4(peer)) => Some(Ends::V4(own, peer)),
            (IpAddr::V6(own), IpAddr::V6(peer)) => Some(Ends::V6(own, peer)),
            _ => None,
        }
    }

    /// Ours.
    pub fn own(self) -> IpAddr {
        match self {
            Ends::V4(own, _) => own.into(),
            Ends::V6(own, _) => own.into(),
        }
    }

    /// The peer's.
    pub fn peer(self) -> IpAddr {
        match self {
            Ends::V4(_, peer) => peer.into(),
            Ends::V6(_, peer) => peer.into(),
        }
    }

    /// What packets between them look like.
    pub fn shape(self, encap: Encap) -> OuterShape {
        OuterShape { ipv6: matches!(self, Ends::V6(..)), encap }
    }
}

/// What stands between the IP header and ESP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encap {
    /// UDP to this port (RFC 3948).
    Udp(u16),
    /// Nothing: IP protocol 50.
    None,
}

/// Which headers stand in front of the ciphertext.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OuterShape {
    ipv6: bool,
    encap: Encap,
}

impl OuterShape {
    /// Bytes in front of the ciphertext, Ethernet header and IV included.
    #[inline]
    pub fn header_len(self) -> usize {
        match (self.ipv6, self.encap) {
            (false, Encap::Udp(_)) => IPV4_UDP,
            (false, Encap::None) => IPV4_BARE,
            (true, Encap::Udp(_)) => IPV6_UDP,
            (true, Encap::None) => IPV6_BARE,
        }
    }

    /// Bytes of an IP packet in front of the ciphertext.
    pub fn ip_overhead(self) -> usize {
        self.header_len() - ETH_HLEN
    }

    fn protocol(self) -> u8 {
        match self.encap {
            Encap::Udp(_) => IPPROTO_UDP,
            Encap::None => IPPROTO_ESP,
        }
    }
}

/// The UDP source port that packets of `spi` carry: 49152 to 65535, a fixed function of the SPI, so that ECMP and
/// RSS spread flows. The upper 14 bits of [`mixed`] are kept.
#[inline]
pub fn source_port(spi: Spi) -> u16 {
    0xc000 | ((mixed(spi) >> 18) as u16)
}

/// The IPv6 flow label (RFC 6437) that packets of `spi` carry, for the same end: the upper 20 bits, never 0, which
/// would say that there is no label.
#[inline]
pub fn flow_label(spi: Spi) -> u32 {
    (mixed(spi) >> 12).max(1)
}

/// Knuth's multiplicative hash: 2^32 divided by the golden ratio.
fn mixed(spi: Spi) -> u32 {
    spi.value().wrapping_mul(0x9e37_79b1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spi::Epoch;

    #[test]
    fn the_headers_add_up() {
        let v4 = Ends::V4([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let v6 = Ends::V6(1.into(), 2.into());
        let lengths =
            [v4, v6].map(|ends| [Encap::Udp(4500), Encap::None].map(|encap| ends.shape(encap).header_len()));
        assert_eq!(lengths, [[58, 50], [78, 70]]);
        assert_eq!(v6.shape(Encap::Udp(1)).header_len(), MAX_OUTER_LEN);
    }

    #[test]
    fn ends_are_of_one_family() {
        let (v4, v6): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), Ipv6Addr::LOCALHOST.into());
        assert_eq!(Ends::new(v4, v6), None);
        assert_eq!(Ends::new(v6, v4), None);
        assert_eq!(Ends::new(v4, v4).map(|ends| [ends.own(), ends.peer()]), Some([v4, v4]));
    }

    #[test]
    fn ports_and_labels_spread_over_neighbouring_slots() {
        let spis = || (1..=1000).map(|slot| Spi::new(Epoch::FIRST, 0, slot));
        let ports: std::collections::HashSet<u16> = spis().map(source_port).collect();
        let labels: std::collections::HashSet<u32> = spis().map(flow_label).collect();
        assert!(ports.len() > 950, "{} ports for 1000 flows", ports.len());
        assert!(labels.len() > 950, "{} labels for 1000 flows", labels.len());
        assert!(labels.iter().all(|label| (1..1 << 20).contains(label)));
    }
}
