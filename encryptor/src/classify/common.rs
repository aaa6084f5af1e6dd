//! The flow of a common frame, read in one go: most of what a link carries shows all that it takes at fixed places.

use super::{FlowId, Granularity, Sort, last_word};
use crate::wire::{EtherType, GTPU_PORT, TCP, UDP};

/// What the network and transport headers say.
struct Headers {
    /// As in [`FlowId`].
    ends: [u64; 4],
    /// Source port, destination port.
    ports: u32,
    protocol: u8,
    class: u8,
}

/// The flow that [`classify`](super::classify) finds in a frame with at most one VLAN tag that carries TCP or UDP over IPv4 without
/// options or over IPv6 without extension headers, and its traffic class. `None`: it is another frame, or `granularity` asks for
/// more; it is to be [seen whole](crate::wire::View).
#[inline(always)]
pub fn classify_common(frame: &[u8], granularity: Granularity) -> Option<(FlowId, u8)> {
    let looks_into_tunnels = match granularity {
        Granularity::FiveTuple => false,
        Granularity::Teid | Granularity::TeidQfi => true,
        Granularity::Dscp | Granularity::Vlan | Granularity::Link => return None,
    };
    let head: &[u8; 18] = frame.first_chunk()?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (ethertype, vlan, packet) = match EtherType(word(12)) {
        outer if outer.is_tag() => (EtherType(word(16)), word(14) & 0x0fff, &frame[18..]),
        ethertype => (ethertype, 0, &frame[14..]),
    };
    let Headers { ends: [a, b, c, d], ports, protocol, class } = match ethertype {
        EtherType::IPV4 => ipv4(packet)?,
        EtherType::IPV6 => ipv6(packet)?,
        _ => return None,
    };
    if looks_into_tunnels && protocol == UDP && ports as u16 == GTPU_PORT {
        return None;
    }
    let middle = u64::from(vlan) << 52 | u64::from(ports);
    Some((FlowId([a, b, c, d, middle, last_word(0, ethertype.0, protocol, Sort::Ports)]), class))
}

#[inline]
fn ipv4(packet: &[u8]) -> Option<Headers> {
    let head: &[u8; 24] = packet.first_chunk()?;
    let (total, fragment) = (u16::from_be_bytes([head[2], head[3]]), u16::from_be_bytes([head[6], head[7]]));
    let (class, protocol) = (head[1], head[9]);
    let is_common = head[0] == 0x45 && total >= 24 && fragment & 0x3fff == 0 && has_ports(protocol);
    let end = |at: usize| {
        u64::from_ne_bytes([0, 0, 0xff, 0xff, head[at], head[at + 1], head[at + 2], head[at + 3]])
    };
    let ports = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
    is_common.then_some(Headers { ends: [end(12), 0, end(16), 0], ports, protocol, class })
}

#[inline]
fn ipv6(packet: &[u8]) -> Option<Headers> {
    let head: &[u8; 44] = packet.first_chunk()?;
    let (payload, protocol) = (u16::from_be_bytes([head[4], head[5]]), head[6]);
    let is_common = head[0] >> 4 == 6 && payload >= 4 && has_ports(protocol);
    let (words, _) = head[8..40].as_chunks::<8>();
    let ends = [1, 0, 3, 2].map(|word: usize| u64::from_ne_bytes(words[word]));
    let ports = u32::from_be_bytes([head[40], head[41], head[42], head[43]]);
    let class = head[0] << 4 | head[1] >> 4;
    is_common.then_some(Headers { ends, ports, protocol, class })
}

fn has_ports(protocol: u8) -> bool {
    protocol == TCP || protocol == UDP
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::classify::classify;
    use crate::wire::View;

    const BY: [Granularity; 6] = [
        Granularity::FiveTuple,
        Granularity::Teid,
        Granularity::TeidQfi,
        Granularity::Dscp,
        Granularity::Vlan,
        Granularity::Link,
    ];

    /// A frame of the given type behind the given tags.
    fn frame(tags: &[[u8; 4]], ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[2; 12][..], tags.as_flattened(), &ethertype, packet].concat()
    }

    fn v4(protocol: u8, ports: [u16; 2]) -> Vec<u8> {
        let head = [0x45, 0xb9, 0, 36, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        [&head[..], ports.map(u16::to_be_bytes).as_flattened(), &[0x30, 255, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0]]
            .concat()
    }

    fn v6(protocol: u8, ports: [u16; 2]) -> Vec<u8> {
        let head = [0x6b, 0x91, 0, 0, 0, 16, protocol, 64];
        let ends: Vec<u8> = (0..32).collect();
        [
            &head[..],
            &ends,
            ports.map(u16::to_be_bytes).as_flattened(),
            &[0x30, 255, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0],
        ]
        .concat()
    }

    fn agrees(frame: &[u8]) -> usize {
        let found = BY.map(|granularity| match classify_common(frame, granularity) {
            Some((flow, class)) => {
                let view = View::of_frame(frame).expect("what is common is no runt");
                assert_eq!(flow, classify(&view, granularity), "{granularity:?}: {frame:x?}");
                assert_eq!(class, view.class(), "{frame:x?}");
                true
            }
            None => false,
        });
        found.into_iter().filter(|found| *found).count()
    }

    #[test]
    fn tcp_and_udp_are_common_with_and_without_a_tag() {
        for tags in [&[][..], &[[0x81, 0, 0x20, 100]], &[[0x88, 0xa8, 0, 5]]] {
            for (ethertype, packet) in [([8, 0], v4 as fn(u8, [u16; 2]) -> _), ([0x86, 0xdd], v6)] {
                assert_eq!(agrees(&frame(tags, ethertype, &packet(TCP, [7, 443]))), 3);
                assert_eq!(agrees(&frame(tags, ethertype, &packet(UDP, [2152, 53]))), 3);
                assert_eq!(
                    agrees(&frame(tags, ethertype, &packet(UDP, [1, GTPU_PORT]))),
                    1,
                    "its tunnel counts"
                );
                assert_eq!(agrees(&frame(tags, ethertype, &packet(132, [1, 2]))), 0, "its tag counts");
            }
        }
        let two = [[0x88, 0xa8, 0, 5], [0x81, 0, 0, 6]];
        assert_eq!(agrees(&frame(&two, [8, 0], &v4(TCP, [1, 2]))), 0);
    }

    #[test]
    fn what_does_not_show_its_ports_at_the_usual_place_is_not_common() {
        let changed = |at: usize, value: u8| {
            let mut packet = v4(UDP, [1, 2]);
            packet[at] = value;
            agrees(&frame(&[], [8, 0], &packet))
        };
        assert_eq!(changed(0, 0x46), 0, "options");
        assert_eq!([changed(6, 0x20), changed(7, 1)], [0, 0], "fragments");
        assert_eq!(changed(3, 23), 0, "too short by its own account");
        assert_eq!(agrees(&frame(&[], [8, 0], &v4(UDP, [1, 2])[..23])), 0, "cut");
    }

    proptest! {
        #[test]
        fn whatever_is_found_is_what_the_whole_view_finds(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            kind in 0..4usize,
            (at, value) in (0..44usize, any::<u8>()),
            cut in 0..80usize,
        ) {
            let packet = [v4(UDP, [1, GTPU_PORT]), v6(TCP, [1, 2]), bytes.clone(), v4(TCP, [3, 4])];
            let mut packet = packet[kind].clone();
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
            for tags in [&[][..], &[[0x81, 0, 0, 100]]] {
                for ethertype in [[8, 0], [0x86, 0xdd], [0x81, 0]] {
                    let whole = frame(tags, ethertype, &packet);
                    agrees(&whole[..whole.len().saturating_sub(cut)]);
                }
            }
            agrees(&bytes);
        }
    }
}
