//! About which packets an ICMP error may be made: RFC 1812 section 4.3.2.7 and RFC 4443 section 2.4 (e). Never about an error, so
//! that errors make no errors, and never about a packet that more than one host sent or gets. What cannot be told counts as an error.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Problem;
use crate::wire::ip_header::{FRAGMENT, ICMP, ICMPV6, upper_layer};
use crate::wire::{Ipv4, Ipv6};

/// ICMPv6 errors are the types below this one (RFC 4443 section 2.1).
const FIRST_QUERY: u8 = 128;
const REDIRECT: u8 = 137;

/// Whether one may be made about an IPv4 packet.
pub(super) fn about_v4(ip: &Ipv4<'_>, problem: Problem) -> bool {
    let fits_if_cut = matches!(problem, Problem::TooBig(_)) && !ip.dont_fragment();
    let is_error = ip.protocol() == ICMP && !matches!(ip.payload.first(), Some(0 | 8..=10 | 13..=18));
    let is_first = ip.offset() == 0;
    is_first && !fits_if_cut && !is_error && is_host_v4(ip.source()) && is_host_v4(ip.destination())
}

/// Whether one may be made about an IPv6 packet.
pub(super) fn about_v6(ip: &Ipv6<'_>) -> bool {
    !is_error_v6(ip.header[6], ip.payload) && is_host_v6(ip.source()) && is_host_v6(ip.destination())
}

/// Not this network, not loopback, no group, not reserved.
fn is_host_v4(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

fn is_host_v6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// Redirects are treated as errors are. A first fragment shows its type; of a later one only the protocol is known.
fn is_error_v6(first: u8, payload: &[u8]) -> bool {
    let upper = match upper_layer(first, payload) {
        (FRAGMENT, [next, _, high, low, _, _, _, _, behind @ ..])
            if u16::from_be_bytes([*high, *low]) & 0xfff8 == 0 =>
        {
            upper_layer(*next, behind)
        }
        upper => upper,
    };
    match upper {
        (ICMPV6, message) => message.first().is_none_or(|&kind| kind < FIRST_QUERY || kind == REDIRECT),
        (FRAGMENT, header) => header.first().is_none_or(|&next| next == ICMPV6),
        _ => false,
    }
}
