//! From a plain frame to the flow it belongs to.
//!
//! A flow is one key and one sequence of packets, kept in order. The policy says how finely flows are told apart; what a frame
//! does not show puts it into a coarser flow, never into the clear. By 5-tuple, finest first:
//!
//! | frame | flow |
//! | --- | --- |
//! | SCTP | VLANs, labels, addresses, ports, verification tag |
//! | TCP, UDP, UDP-Lite, DCCP | VLANs, labels, addresses, protocol, ports |
//! | other IP protocols, ports cut off, odd extension headers | VLANs, labels, addresses, protocol |
//! | IP fragments, first ones included | VLANs, labels, addresses, "fragment" and (IPv4) protocol |
//! | not IP, or a broken IP header | VLANs, labels, EtherType |
//!
//! VLANs and labels: the two outermost of each.

mod common;

use std::hash::{Hash, Hasher};

use crate::wire::{L3, Seen, Session, Transport, View};

pub use common::classify_common;

/// How finely flows are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
pub enum Granularity {
    /// As the table above has it.
    #[default]
    #[serde(rename = "5-tuple")]
    FiveTuple,
    /// GTP-U by VLANs, labels, addresses and TEID, whatever its source port; all else by 5-tuple.
    #[serde(rename = "teid")]
    Teid,
    /// The same, and by QFI: one flow for each QoS flow of a tunnel.
    #[serde(rename = "teid+qfi")]
    TeidQfi,
    /// One flow for each DSCP, and one for all frames without an IP header.
    #[serde(rename = "dscp")]
    Dscp,
    /// One flow for each pair of VLANs.
    #[serde(rename = "vlan")]
    Vlan,
    /// One flow.
    #[serde(rename = "link")]
    Link,
}

impl Granularity {
    /// Its name in the site's file.
    pub fn name(self) -> &'static str {
        match self {
            Granularity::FiveTuple => "5-tuple",
            Granularity::Teid => "teid",
            Granularity::TeidQfi => "teid+qfi",
            Granularity::Dscp => "dscp",
            Granularity::Vlan => "vlan",
            Granularity::Link => "link",
        }
    }
}

/// What tells flows apart: addresses, VLANs, labels, ports, EtherType, protocol and how finely it was looked at, in six words, so
/// that it is hashed and compared in a few instructions.
#[derive(Clone, Copy, Eq, Default, Debug)]
pub struct FlowId([u64; 6]);

impl PartialEq for FlowId {
    /// All words at once: arrays of this size are compared by a call to `memcmp`.
    #[inline]
    fn eq(&self, other: &FlowId) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differs, (one, other)| differs | one ^ other) == 0
    }
}

impl Hash for FlowId {
    /// Two words at a time: `ahash` mixes two in one step. The hash of an array would count its length too.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (pairs, _) = self.0.as_chunks::<2>();
        pairs.iter().for_each(|[low, high]| state.write_u128(u128::from(*high) << 64 | u128::from(*low)));
    }
}

/// Keeps flows of one sort apart from those of another. In the lowest byte of the last word.
#[derive(Clone, Copy)]
enum Sort {
    NotIp,
    NoPorts,
    Fragment,
    Ports,
    Tunnel,
    TunnelQfi,
    Dscp,
    Vlan,
    Link,
}

/// The flow of a frame.
pub fn classify(view: &View, granularity: Granularity) -> FlowId {
    let tunnel = match view.session {
        Session::Gtpu(gtpu) => Some(gtpu),
        _ => None,
    };
    match (granularity, tunnel, &view.network) {
        (Granularity::Teid, Some(gtpu), Seen::Is(l3)) => tunnel_flow(view, l3, gtpu.teid, Seen::Absent),
        (Granularity::TeidQfi, Some(gtpu), Seen::Is(l3)) => tunnel_flow(view, l3, gtpu.teid, gtpu.qfi),
        (Granularity::FiveTuple | Granularity::Teid | Granularity::TeidQfi, _, Seen::Is(l3)) => {
            five_tuple(view, l3)
        }
        (Granularity::FiveTuple | Granularity::Teid | Granularity::TeidQfi, ..) => {
            let last = last_word(labels(view), view.l2.ethertype.0, 0, Sort::NotIp);
            FlowId([0, 0, 0, 0, middle_word(view, [0; 2], 0), last])
        }
        (Granularity::Dscp, ..) => coarse(Sort::Dscp, dscp(view)),
        (Granularity::Vlan, ..) => coarse(Sort::Vlan, middle_word(view, [0; 2], 0)),
        (Granularity::Link, ..) => coarse(Sort::Link, 0),
    }
}

fn five_tuple(view: &View, l3: &L3) -> FlowId {
    let (sort, ports) = match l3.transport {
        Transport::Ports(source, destination) => (Sort::Ports, [source, destination]),
        Transport::Fragment => (Sort::Fragment, [0, 0]),
        Transport::None | Transport::Cut => (Sort::NoPorts, [0, 0]),
    };
    let tag = match view.session {
        Session::Sctp(tag) => tag,
        _ => 0,
    };
    // Two labels and a tag share 32 bits: where they coincide, two flows become one, which is only coarser.
    let mark = labels(view) ^ tag;
    let last = last_word(mark, view.l2.ethertype.0, l3.protocol, sort);
    FlowId(with_addresses(l3, middle_word(view, ports, 0), last))
}

/// The TEID stands where other flows have their ports: the source port of a tunnel varies on purpose (TS 29.281 clause 4.4.2.0).
fn tunnel_flow(view: &View, l3: &L3, teid: u32, qfi: Seen<u8>) -> FlowId {
    let (sort, qfi) = match qfi {
        Seen::Is(qfi) => (Sort::TunnelQfi, qfi),
        Seen::Absent | Seen::Hidden => (Sort::Tunnel, 0),
    };
    let last = last_word(labels(view), view.l2.ethertype.0, l3.protocol, sort);
    FlowId(with_addresses(l3, middle_word(view, [(teid >> 16) as u16, teid as u16], qfi), last))
}

fn coarse(sort: Sort, word: u64) -> FlowId {
    FlowId([0, 0, 0, 0, word, last_word(0, 0, 0, sort)])
}

/// 64: no IP header.
fn dscp(view: &View) -> u64 {
    match view.network {
        Seen::Is(l3) if !view.guessed => u64::from(l3.traffic_class >> 2),
        _ => 64,
    }
}

fn labels(view: &View) -> u32 {
    match view.labels {
        Seen::Is(stack) => stack.labels[0] << 12 ^ stack.labels[1],
        Seen::Absent | Seen::Hidden => 0,
    }
}

fn with_addresses(l3: &L3, middle: u64, last: u64) -> [u64; 6] {
    let halves = |address: [u8; 16]| {
        let (words, _) = address.as_chunks::<8>();
        [1, 0].map(|word: usize| u64::from_ne_bytes(words[word]))
    };
    let ([a, b], [c, d]) = (halves(l3.source), halves(l3.destination));
    [a, b, c, d, middle, last]
}

/// Two VLAN identifiers of 12 bits, a byte, and 32 bits of ports or TEID.
fn middle_word(view: &View, ports: [u16; 2], byte: u8) -> u64 {
    let vlans = view.l2.vlans.into_iter().fold(0, |word, vlan| word << 12 | u64::from(vlan));
    let ports = u64::from(ports[0]) << 16 | u64::from(ports[1]);
    vlans << 40 | u64::from(byte) << 32 | ports
}

fn last_word(mark: u32, ethertype: u16, protocol: u8, sort: Sort) -> u64 {
    u64::from(mark) << 32 | u64::from(ethertype) << 16 | u64::from(protocol) << 8 | sort as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip_frame(tag: Option<u16>, protocol: u8, fragment: u16, segment: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if let Some(vlan) = tag {
            frame.extend_from_slice(&[0x81, 0]);
            frame.extend_from_slice(&vlan.to_be_bytes());
        }
        frame.extend_from_slice(&[8, 0, 0x45, 0x2c]);
        frame.extend_from_slice(&(20 + segment.len() as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&fragment.to_be_bytes());
        frame.extend_from_slice(&[64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend_from_slice(segment);
        frame
    }

    fn udp_frame(tag: Option<u16>, ports: [u16; 2], fragment: u16) -> Vec<u8> {
        let words = [ports[0], ports[1], 8, 0].map(u16::to_be_bytes);
        ip_frame(tag, 17, fragment, words.as_flattened())
    }

    fn gtpu_frame(source: u16, teid: u8, qfi: u8) -> Vec<u8> {
        let udp = [source, 2152, 24, 0].map(u16::to_be_bytes);
        let message = [0x34, 255, 0, 8, 0, 0, 0, teid, 0, 0, 0, 0x85, 1, 0, qfi, 0];
        ip_frame(None, 17, 0, &[udp.as_flattened(), &message].concat())
    }

    fn sctp_frame(tag: u8) -> Vec<u8> {
        ip_frame(None, 132, 0, &[0x8e, 0x3c, 0x8e, 0x3c, 0, 0, 0, tag, 0, 0, 0, 0])
    }

    fn mpls_frame(labels: [u8; 2]) -> Vec<u8> {
        let stack = [0, labels[0], 0, 64, 0, labels[1], 1, 64];
        [&[2; 12][..], &[0x88, 0x47], &stack, &udp_frame(None, [1, 2], 0)[14..]].concat()
    }

    fn by(granularity: Granularity, frame: &[u8]) -> FlowId {
        classify(&View::of_frame(frame).unwrap(), granularity)
    }

    fn flow(frame: &[u8]) -> FlowId {
        by(Granularity::FiveTuple, frame)
    }

    #[test]
    fn ports_and_vlans_tell_flows_apart() {
        let base = flow(&udp_frame(None, [1, 2], 0));
        assert_eq!(base, flow(&udp_frame(None, [1, 2], 0x4000)));
        assert_ne!(base, flow(&udp_frame(None, [1, 3], 0)));
        assert_ne!(base, flow(&udp_frame(None, [2, 1], 0)));
        assert_ne!(base, flow(&udp_frame(Some(100), [1, 2], 0)));
        assert_ne!(flow(&udp_frame(Some(101), [1, 2], 0)), flow(&udp_frame(Some(100), [1, 2], 0)));
    }

    #[test]
    fn verification_tags_and_labels_tell_flows_apart() {
        assert_eq!(flow(&sctp_frame(1)), flow(&sctp_frame(1)));
        assert_ne!(flow(&sctp_frame(1)), flow(&sctp_frame(2)));
        let stacks = [[1, 2], [1, 3], [2, 1], [3, 2]].map(|labels| flow(&mpls_frame(labels)));
        assert!((1..4).all(|at| !stacks[..at].contains(&stacks[at])));
    }

    #[test]
    fn all_fragments_of_a_pair_share_a_flow() {
        let first = flow(&udp_frame(None, [1, 2], 0x2000));
        let later = flow(&udp_frame(None, [0xdead, 0xbeef], 0x2005));
        let last = flow(&udp_frame(None, [7, 7], 0x0005));
        assert_eq!(first, later);
        assert_eq!(first, last);
        assert_ne!(first, flow(&udp_frame(None, [0, 0], 0)));
    }

    #[test]
    fn odd_frames_fall_into_coarser_flows() {
        let arp = [&[2u8; 12][..], &[8, 6], &[0; 28]].concat();
        let other_arp = [&[4u8; 12][..], &[8, 6], &[1; 28]].concat();
        assert_eq!(flow(&arp), flow(&other_arp));
        let whole = udp_frame(None, [1, 2], 0);
        assert_eq!(flow(&whole[..20]), flow(&whole[..30]), "a broken IP header goes by its EtherType");
    }

    #[test]
    fn each_granularity_looks_at_what_it_says() {
        use Granularity::{Dscp, FiveTuple, Link, Teid, TeidQfi, Vlan};
        let (one, port, teid, qfi) =
            (gtpu_frame(1, 7, 9), gtpu_frame(2, 7, 9), gtpu_frame(1, 8, 9), gtpu_frame(1, 7, 5));
        let arp = [&[2u8; 12][..], &[8, 6], &[0; 28]].concat();
        let table = [
            (FiveTuple, [false, true, true, false]),
            (Teid, [true, false, true, false]),
            (TeidQfi, [true, false, false, false]),
            (Dscp, [true, true, true, false]),
            (Vlan, [true, true, true, true]),
            (Link, [true, true, true, true]),
        ];
        for (granularity, same) in table {
            let found =
                [&port, &teid, &qfi, &arp].map(|frame| by(granularity, &one) == by(granularity, frame));
            assert_eq!(found, same, "{granularity:?}");
        }
        let tagged = [Some(5), Some(6)].map(|vlan| udp_frame(vlan, [1, 2], 0));
        assert_ne!(by(Vlan, &tagged[0]), by(Vlan, &tagged[1]));
        assert_eq!(by(Link, &tagged[0]), by(Link, &tagged[1]));
        let fragment = udp_frame(None, [1, 2152], 0x2000);
        assert_eq!(by(Teid, &fragment), flow(&fragment), "a fragment shows no TEID");
    }
}
