//! ICMP "time exceeded" about a plain packet whose hops have run out, made for the side that it came from (RFC 792, RFC 1812
//! section 4.3, RFC 4443). What is made here is bounded by the caller, by [`Budget`](crate::budget::Budget).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{EtherType, L2, MacAddr, checksum, ip_header as ip};
use crate::xsk::Frame;

/// Bytes of an ICMP error with its IPv4 header at the most (RFC 1812 section 4.3.2.3).
const MOST_V4: usize = 576;
/// The same with its IPv6 header (RFC 4443 section 2.4 (c)): the least MTU that there is.
const MOST_V6: usize = 1280;
const ICMP_HLEN: usize = 8;
const HOP_LIMIT: u8 = 64;
/// Internetwork control, as routers send their errors (RFC 1812 section 4.3.2.5).
const CONTROL: u8 = 0xc0;

/// Type and code of "time exceeded in transit", for IPv4 (RFC 792) and IPv6 (RFC 4443 section 3.3).
const KIND_V4: [u8; 2] = [11, 0];
const KIND_V6: [u8; 2] = [3, 0];

/// Who tells of errors: the gateway's addresses on the plain side. Without one of a family, the packet's destination is named as
/// the error's source: all that a bump in the wire can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Teller {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// Turns `frame`, a whole Ethernet frame, tagged or not, into the error that goes back to where it came from. False, and no
/// change: no error may be told of this packet (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)), or there is no room.
#[must_use]
pub(super) fn answer(frame: &mut Frame, teller: &Teller) -> bool {
    let bytes = frame.data();
    let Some(l2) = L2::parse(bytes).filter(|_| MacAddr::of_source(bytes).is_some_and(|mac| !mac.is_group()))
    else {
        return false;
    };
    if MacAddr::of_destination(bytes).is_none_or(MacAddr::is_group) {
        return false;
    }
    let packet = &bytes[l2.payload..];
    let made = match l2.ethertype {
        EtherType::IPV4 => about_v4(packet, teller),
        EtherType::IPV6 => about_v6(packet, teller),
        _ => None,
    };
    made.is_some_and(|(head, quoted)| dress(frame, &l2, head.bytes(), quoted))
}

/// An IP header and an ICMP header, up to 48 bytes.
struct Head {
    bytes: [u8; ip::V6_HLEN + ICMP_HLEN],
    length: usize,
}

impl Head {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn about_v4(packet: &[u8], teller: &Teller) -> Option<(Head, usize)> {
    let header = ip::Ipv4Header::parse(packet)?;
    let telling = header.fragment_offset == 0
        && is_host_v4(header.source)
        && !header.destination.is_multicast()
        && !header.destination.is_broadcast()
        && !(header.protocol == ip::ICMP && is_error_v4(packet.get(header.length)));
    if !telling {
        return None;
    }
    let quoted = header.total_length.min(MOST_V4 - ip::V4_HLEN - ICMP_HLEN);
    let length = ip::V4_HLEN + ICMP_HLEN;
    let mut bytes = [0; ip::V6_HLEN + ICMP_HLEN];
    let (outer, icmp) = bytes[..length].split_at_mut(ip::V4_HLEN);
    outer[0..2].copy_from_slice(&[0x45, CONTROL]);
    outer[2..4].copy_from_slice(&((length + quoted) as u16).to_be_bytes());
    // DF, and so no identification is needed (RFC 6864).
    outer[6] = 0x40;
    outer[8..10].copy_from_slice(&[HOP_LIMIT, ip::ICMP]);
    outer[12..16].copy_from_slice(&teller.v4.unwrap_or(header.destination).octets());
    outer[16..20].copy_from_slice(&header.source.octets());
    let sum = checksum(&[outer]);
    outer[10..12].copy_from_slice(&sum.to_be_bytes());
    write_icmp(icmp, KIND_V4, &packet[..quoted], [&[], &[]]);
    Some((Head { bytes, length }, quoted))
}

fn about_v6(packet: &[u8], teller: &Teller) -> Option<(Head, usize)> {
    let header = ip::Ipv6Header::parse(packet)?;
    let (source, destination) = (header.source, header.destination);
    let mute = source.is_unspecified() || source.is_multicast() || destination.is_multicast();
    if mute || is_error_v6(packet, header.next) {
        return None;
    }
    let quoted = header.total_length.min(MOST_V6 - ip::V6_HLEN - ICMP_HLEN);
    let mut bytes = [0; ip::V6_HLEN + ICMP_HLEN];
    let (outer, icmp) = bytes.split_at_mut(ip::V6_HLEN);
    let payload = (ICMP_HLEN + quoted) as u16;
    outer[0] = 0x60;
    outer[4..6].copy_from_slice(&payload.to_be_bytes());
    outer[6..8].copy_from_slice(&[ip::ICMPV6, HOP_LIMIT]);
    outer[8..24].copy_from_slice(&teller.v6.unwrap_or(destination).octets());
    outer[24..40].copy_from_slice(&source.octets());
    // The pseudo-header of RFC 8200 section 8.1: addresses, length, next header.
    let [high, low] = payload.to_be_bytes();
    write_icmp(icmp, KIND_V6, &packet[..quoted], [&outer[8..40], &[high, low, 0, ip::ICMPV6]]);
    Some((Head { bytes, length: ip::V6_HLEN + ICMP_HLEN }, quoted))
}

fn write_icmp(icmp: &mut [u8], kind: [u8; 2], quoted: &[u8], pseudo: [&[u8]; 2]) {
    icmp[0..2].copy_from_slice(&kind);
    let [addresses, rest] = pseudo;
    let sum = checksum(&[addresses, rest, icmp, quoted]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Puts `head` between the link layer, whose addresses are exchanged, and the first `quoted` bytes of the packet.
fn dress(frame: &mut Frame, l2: &L2, head: &[u8], quoted: usize) -> bool {
    if frame.headroom() < head.len() || frame.prepend(head.len()).is_none() {
        return false;
    }
    frame.truncate(head.len() + l2.payload + quoted);
    let bytes = frame.data_mut();
    bytes.copy_within(head.len()..head.len() + l2.payload, 0);
    bytes[l2.payload..l2.payload + head.len()].copy_from_slice(head);
    let (to, from) = bytes[..12].split_at_mut(6);
    to.swap_with_slice(from);
    true
}

/// Whether an address can be told of an error: not this network, not loopback, no group, not reserved.
fn is_host_v4(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

/// Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792); what cannot be told counts too.
fn is_error_v4(kind: Option<&u8>) -> bool {
    matches!(kind, None | Some(3 | 4 | 5 | 11 | 12))
}

/// ICMPv6 types below 128 are errors (RFC 4443 section 2.1), and of redirects none is told; what cannot be told counts too.
fn is_error_v6(packet: &[u8], first: u8) -> bool {
    const REDIRECT: u8 = 137;
    match ip::upper_layer(first, &packet[ip::V6_HLEN..]) {
        (ip::ICMPV6, rest) => rest.first().is_none_or(|&kind| kind < 128 || kind == REDIRECT),
        (ip::FRAGMENT, rest) => rest.first().is_none_or(|&next| next == ip::ICMPV6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ip_header::Ipv4Header;
    use crate::xsk::Umem;
    use proptest::prelude::*;

    const TELLER: Teller = Teller {
        v4: Some(Ipv4Addr::new(10, 1, 0, 254)),
        v6: Some(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 0xfe)),
    };

    /// What `answer` makes of an Ethernet frame.
    fn answered(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut umem = Umem::new(64, 4096).unwrap();
        let mut frame = umem.alloc().unwrap();
        assert!(frame.fill_from(bytes));
        let made = answer(&mut frame, &TELLER);
        assert!(made || frame.data() == bytes, "a frame that is not answered stays as it is");
        let answer = made.then(|| frame.data().to_vec());
        umem.free(frame);
        answer
    }

    fn v4(protocol: u8, behind: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1, 8, 0];
        let total = 20 + behind.len() as u16;
        frame.extend_from_slice(&[
            0x45,
            0,
            (total >> 8) as u8,
            total as u8,
            0,
            0,
            0x40,
            0,
            1,
            protocol,
            0,
            0,
        ]);
        frame.extend_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
        frame.extend_from_slice(behind);
        frame
    }

    fn v6(next: u8, behind: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0];
        frame.extend_from_slice(&(behind.len() as u16).to_be_bytes());
        frame.extend_from_slice(&[next, 1]);
        frame.extend_from_slice(&Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1).octets());
        frame.extend_from_slice(&Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 1).octets());
        frame.extend_from_slice(behind);
        frame
    }

    #[test]
    fn an_ipv4_error_goes_back_with_right_checksums_and_quotes_what_fits() {
        for (length, quoted) in [(8, 28), (528, 548), (1400, 548)] {
            let original = v4(17, &vec![7; length]);
            let answer = answered(&[&original[..], &[0; 5]].concat()).unwrap();
            assert_eq!(answer[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe, 8, 0]);
            let header = Ipv4Header::parse(&answer[14..]).unwrap();
            assert_eq!((header.total_length, header.protocol), (28 + quoted, ip::ICMP));
            assert_eq!(answer.len(), 14 + header.total_length);
            assert_eq!(Some(header.source), TELLER.v4);
            assert_eq!(header.destination, Ipv4Addr::new(10, 1, 0, 1));
            assert_eq!(checksum(&[&answer[14..34]]), 0);
            assert_eq!(checksum(&[&answer[34..]]), 0);
            assert_eq!(answer[34..36], [11, 0]);
            assert_eq!(answer[42..], original[14..14 + quoted]);
        }
    }

    #[test]
    fn an_ipv6_error_goes_back_with_a_right_checksum_and_quotes_what_fits() {
        for (length, quoted) in [(8, 48), (1192, 1232), (1400, 1232)] {
            let original = v6(17, &vec![7; length]);
            let answer = answered(&original).unwrap();
            let header = ip::Ipv6Header::parse(&answer[14..]).unwrap();
            assert_eq!((header.total_length, header.next), (48 + quoted, ip::ICMPV6));
            assert_eq!(Some(header.source), TELLER.v6);
            let [high, low] = (8 + quoted as u16).to_be_bytes();
            let pseudo = [high, low, 0, ip::ICMPV6];
            assert_eq!(checksum(&[&answer[22..54], &pseudo, &answer[54..]]), 0);
            assert_eq!(answer[54..56], [3, 0]);
            assert_eq!(answer[62..], original[14..14 + quoted]);
        }
    }

    #[test]
    fn a_tag_stays_and_a_gateway_without_address_speaks_as_the_destination() {
        let original = v4(17, &[7; 8]);
        let tagged = [&original[..12], &[0x81, 0, 0, 100], &original[12..]].concat();
        let answer = answered(&tagged).unwrap();
        assert_eq!(answer[12..18], [0x81, 0, 0, 100, 8, 0]);
        let nobody = Teller::default();
        let made = about_v4(&original[14..], &nobody).unwrap();
        assert_eq!(made.0.bytes()[12..16], [10, 2, 0, 1]);
    }

    #[test]
    fn errors_groups_fragments_and_nameless_sources_are_never_answered() {
        let with = |frame: &[u8], at: usize, bytes: &[u8]| {
            let mut frame = frame.to_vec();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        let (four, six) = (v4(17, &[7; 8]), v6(17, &[7; 8]));
        let mute = [
            ("an IPv4 error", v4(ip::ICMP, &[11, 0, 0, 0, 0, 0, 0, 0])),
            ("an ICMP message that is cut off", v4(ip::ICMP, &[])),
            ("a later fragment", with(&four, 20, &[0, 5])),
            ("to an IPv4 group", with(&four, 30, &[239])),
            ("to all", with(&four, 30, &[255; 4])),
            ("from nowhere", with(&four, 26, &[0; 4])),
            ("from loopback", with(&four, 26, &[127])),
            ("from an IPv4 group", with(&four, 26, &[224])),
            ("to a group of the link layer", with(&four, 0, &[3])),
            ("from a group of the link layer", with(&four, 6, &[3])),
            ("a lying length", with(&four, 16, &[9])),
            ("an IPv6 error", v6(ip::ICMPV6, &[3, 0, 0, 0, 0, 0, 0, 0])),
            ("an IPv6 redirect", v6(ip::ICMPV6, &[137, 0, 0, 0, 0, 0, 0, 0])),
            ("an IPv6 error behind options", v6(60, &[58, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])),
            ("a fragment of ICMPv6", v6(ip::FRAGMENT, &[58, 0, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0])),
            ("to an IPv6 group", with(&six, 38, &[0xff])),
            ("from an IPv6 group", with(&six, 22, &[0xff])),
            ("from nowhere in IPv6", with(&six, 22, &[0; 16])),
            ("not IP", with(&four, 12, &[0x08, 0x06])),
        ];
        for (what, frame) in mute {
            assert_eq!(answered(&frame), None, "{what}");
        }
        for (what, frame) in [
            ("a ping", v4(ip::ICMP, &[8, 0, 0, 0, 0, 0, 0, 0])),
            ("a first fragment", with(&four, 20, &[0x20, 0])),
            ("an IPv6 ping", v6(ip::ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 0])),
            ("an IPv6 fragment of UDP", v6(ip::FRAGMENT, &[17, 0, 0, 8, 0, 0, 0, 0])),
        ] {
            assert!(answered(&frame).is_some(), "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 1..200), type_at in 0..3usize) {
            let mut bytes = bytes;
            if bytes.len() > 14 {
                let kind: [u8; 2] = [[8, 0], [0x86, 0xdd], [bytes[12], bytes[13]]][type_at];
                bytes[12..14].copy_from_slice(&kind);
            }
            answered(&bytes);
        }
    }
}
