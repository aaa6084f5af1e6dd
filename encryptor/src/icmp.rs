//! ICMP errors for senders on the plain side: "packet too big", of IPv4 (RFC 792, RFC 1191) and IPv6 (RFC 4443).
//!
//! A bump in the wire has no address there, so the error comes from the address that the packet was sent to. It is made only
//! where RFC 1812 section 4.3.2.7 and RFC 4443 section 2.4 allow one: never about an ICMP error, a group's packet or one whose
//! sender is not a single host.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{EtherType, Ipv4, Ipv6, L2, checksum};
use crate::xsk::{Frame, HEADROOM};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Bytes of an ICMP error's own header, in both families.
const ERROR_LEN: usize = 8;
/// An IPv4 error quotes as much as fits into this packet (RFC 1812 section 4.3.2.3), an IPv6 error into the least MTU
/// (RFC 4443 section 2.4).
const IPV4_MOST: usize = 576;
const IPV6_MOST: usize = 1280;
/// Precedence 6, internetwork control (RFC 1812 section 4.3.2.5).
const CONTROL: u8 = 0xc0;
const TTL: u8 = 64;

/// Writes the error about the plain frame `about`, whose packet may have `mtu` bytes at the most, into `reply`. False: none may
/// be sent, and `reply` is of no use. IPv4 packets without DF are no matter for an error: they can be fragmented.
#[must_use]
pub fn packet_too_big(about: &[u8], l2: &L2, mtu: u16, reply: &mut Frame) -> bool {
    let (head, packet) = about.split_at(l2.payload);
    let is_group = |mac: &[u8]| mac[0] & 1 != 0;
    if is_group(&head[..6]) || is_group(&head[6..12]) {
        return false;
    }
    reply.reset(HEADROOM);
    let addressed = reply.extend_from(&head[6..12]) && reply.extend_from(&head[..6]);
    let written = match l2.ethertype {
        EtherType::IPV4 => Ipv4::parse(packet)
            .filter(may_answer_v4)
            .is_some_and(|ip| reply.extend_from(&head[12..]) && write_v4(packet, ip, mtu, reply)),
        EtherType::IPV6 => Ipv6::parse(packet)
            .filter(may_answer_v6)
            .is_some_and(|ip| reply.extend_from(&head[12..]) && write_v6(packet, ip, mtu, reply)),
        _ => false,
    };
    addressed && written
}

fn may_answer_v4(ip: &Ipv4<'_>) -> bool {
    let is_error = ip.protocol() == ICMP && !matches!(ip.payload.first(), Some(0 | 8..=10 | 13..=18));
    let is_host = |address: Ipv4Addr| {
        !(address.octets()[0] == 0
            || address.is_loopback()
            || address.is_multicast()
            || address.octets()[0] >= 240)
    };
    ip.dont_fragment() && ip.offset() == 0 && !is_error && is_host(ip.source()) && is_host(ip.destination())
}

fn may_answer_v6(ip: &Ipv6<'_>) -> bool {
    let is_error = match ip.upper() {
        Some((ICMPV6, at)) => ip.payload.get(at).is_none_or(|kind| *kind < 128),
        _ => false,
    };
    let is_host =
        |address: Ipv6Addr| !(address.is_unspecified() || address.is_loopback() || address.is_multicast());
    !is_error && is_host(ip.source()) && is_host(ip.destination())
}

/// Type 3, code 4, with the MTU of RFC 1191.
fn write_v4(packet: &[u8], ip: Ipv4<'_>, mtu: u16, reply: &mut Frame) -> bool {
    let quote = &packet[..(ip.header.len() + ip.payload.len()).min(IPV4_MOST - 20 - ERROR_LEN)];
    let mut error = [3, 4, 0, 0, 0, 0, 0, 0];
    error[6..].copy_from_slice(&mtu.to_be_bytes());
    let sum = checksum(&[&error, quote]);
    error[2..4].copy_from_slice(&sum.to_be_bytes());

    let length = (20 + ERROR_LEN + quote.len()) as u16;
    let mut header = [0; 20];
    (header[0], header[1]) = (0x45, CONTROL);
    header[2..4].copy_from_slice(&length.to_be_bytes());
    // DF with identification 0 (RFC 6864): an error is not fragmented.
    header[6] = 0x40;
    (header[8], header[9]) = (TTL, ICMP);
    header[12..16].copy_from_slice(&ip.destination().octets());
    header[16..20].copy_from_slice(&ip.source().octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    reply.extend_from(&header) && reply.extend_from(&error) && reply.extend_from(quote)
}

/// Type 2, code 0.
fn write_v6(packet: &[u8], ip: Ipv6<'_>, mtu: u16, reply: &mut Frame) -> bool {
    let quote = &packet[..(40 + ip.payload.len()).min(IPV6_MOST - 40 - ERROR_LEN)];
    let length = (ERROR_LEN + quote.len()) as u16;
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    (header[6], header[7]) = (ICMPV6, TTL);
    header[8..24].copy_from_slice(&ip.destination().octets());
    header[24..40].copy_from_slice(&ip.source().octets());

    let mut error = [2, 0, 0, 0, 0, 0, 0, 0];
    error[6..].copy_from_slice(&mtu.to_be_bytes());
    // The pseudo-header of RFC 8200 section 8.1: addresses, length, next header.
    let pseudo = [0, 0, header[4], header[5], 0, 0, 0, ICMPV6];
    let sum = checksum(&[&header[8..], &pseudo, &error, quote]);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    reply.extend_from(&header) && reply.extend_from(&error) && reply.extend_from(quote)
}

#[cfg(test)]
#[path = "icmp_tests.rs"]
mod tests;
