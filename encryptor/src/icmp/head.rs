//! What stands in front of the packet that an ICMP error quotes: an IP header and the ICMP header.

use super::{Problem, Teller};
use crate::wire::ip_header::{ICMP, ICMPV6, V4_HLEN, V6_HLEN};
use crate::wire::{Ipv4, Ipv6, checksum};

/// Bytes of an ICMP error's own header, in both families.
const ICMP_HLEN: usize = 8;
/// Bytes of an error with its IPv4 header at the most (RFC 1812 section 4.3.2.3).
const MOST_V4: usize = 576;
/// The same with its IPv6 header (RFC 4443 section 2.4 (c)): the least MTU that there is.
const MOST_V6: usize = 1280;
const HOP_LIMIT: u8 = 64;
/// Internetwork control, as routers send their errors (RFC 1812 section 4.3.2.5).
const CONTROL: u8 = 0xc0;

/// The headers, and how much of the packet they announce behind them.
pub(super) struct Head {
    bytes: [u8; V6_HLEN + ICMP_HLEN],
    length: usize,
    quoted: usize,
}

impl Head {
    /// For `packet`, which is `ip` and maybe padding.
    pub(super) fn about_v4(packet: &[u8], ip: &Ipv4<'_>, problem: Problem, teller: &Teller) -> Head {
        let length = V4_HLEN + ICMP_HLEN;
        let quoted = (ip.header.len() + ip.payload.len()).min(MOST_V4 - length);
        let mut bytes = [0; V6_HLEN + ICMP_HLEN];
        let (outer, icmp) = bytes[..length].split_at_mut(V4_HLEN);
        outer[0..2].copy_from_slice(&[0x45, CONTROL]);
        outer[2..4].copy_from_slice(&((length + quoted) as u16).to_be_bytes());
        // DF, and so no identification is needed (RFC 6864).
        outer[6] = 0x40;
        outer[8..10].copy_from_slice(&[HOP_LIMIT, ICMP]);
        outer[12..16].copy_from_slice(&teller.v4.unwrap_or(ip.destination()).octets());
        outer[16..20].copy_from_slice(&ip.source().octets());
        let sum = checksum(&[outer]);
        outer[10..12].copy_from_slice(&sum.to_be_bytes());
        icmp.copy_from_slice(&problem.header_v4());
        let sum = checksum(&[icmp, &packet[..quoted]]);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        Head { bytes, length, quoted }
    }

    /// The same of IPv6.
    pub(super) fn about_v6(packet: &[u8], ip: &Ipv6<'_>, problem: Problem, teller: &Teller) -> Head {
        let length = V6_HLEN + ICMP_HLEN;
        let quoted = (V6_HLEN + ip.payload.len()).min(MOST_V6 - length);
        let mut bytes = [0; V6_HLEN + ICMP_HLEN];
        let (outer, icmp) = bytes.split_at_mut(V6_HLEN);
        let [high, low] = ((ICMP_HLEN + quoted) as u16).to_be_bytes();
        outer[0] = 0x60;
        outer[4..8].copy_from_slice(&[high, low, ICMPV6, HOP_LIMIT]);
        outer[8..24].copy_from_slice(&teller.v6.unwrap_or(ip.destination()).octets());
        outer[24..40].copy_from_slice(&ip.source().octets());
        icmp.copy_from_slice(&problem.header_v6());
        // The pseudo-header of RFC 8200 section 8.1: addresses, length, next header.
        let pseudo = [high, low, 0, ICMPV6];
        let sum = checksum(&[&outer[8..], &pseudo, icmp, &packet[..quoted]]);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        Head { bytes, length, quoted }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Bytes of the packet that belong behind them.
    pub(super) fn quoted(&self) -> usize {
        self.quoted
    }
}

impl Problem {
    /// The ICMP header without its checksum (RFC 792, RFC 1191 section 4).
    fn header_v4(self) -> [u8; ICMP_HLEN] {
        match self {
            Problem::TooBig(mtu) => with_mtu(3, 4, mtu),
            Problem::TimeExceeded => [11, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    /// The same of ICMPv6 (RFC 4443 sections 3.2 and 3.3).
    fn header_v6(self) -> [u8; ICMP_HLEN] {
        match self {
            Problem::TooBig(mtu) => with_mtu(2, 0, mtu),
            Problem::TimeExceeded => [3, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// IPv4 has 16 bits for the MTU behind 16 unused ones, IPv6 has 32.
fn with_mtu(kind: u8, code: u8, mtu: u16) -> [u8; ICMP_HLEN] {
    let [high, low] = mtu.to_be_bytes();
    [kind, code, 0, 0, 0, 0, high, low]
}
