//! From a plain frame to the flow it belongs to.
//!
//! A flow is one key and one sequence of packets, kept in order. What can be told apart finely is (addresses,
//! protocol and ports behind up to two VLAN tags); everything else falls into a coarser flow, never into the clear:
//!
//! | frame | flow |
//! | --- | --- |
//! | TCP, UDP, UDP-Lite, SCTP, DCCP | VLANs, addresses, protocol, ports |
//! | other IP protocols, ports cut off, odd extension headers | VLANs, addresses, protocol |
//! | IP fragments, first ones included | VLANs, addresses, "fragment" and (IPv4) protocol |
//! | not IP, or a broken IP header | VLANs, EtherType |

use crate::wire::{EtherType, L2, L3, Transport, parse_ip};

/// What tells flows apart: addresses, VLANs, ports, EtherType, protocol and how finely it was looked at, in six words, so that it
/// is hashed and compared in a few instructions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowId([u64; 6]);

#[derive(Clone, Copy)]
enum Kind {
    NotIp,
    NoPorts,
    Fragment,
    Ports,
}

/// A classified frame: its flow, and the traffic class to show on the outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Classified {
    /// The flow.
    pub flow: FlowId,
    /// Traffic class of the inner IP header (DSCP in the upper six bits), 0 where there is none.
    pub class: u8,
}

/// Classifies a whole Ethernet frame. `None`: a runt, shorter than its own Ethernet header.
pub fn classify(frame: &[u8]) -> Option<Classified> {
    let l2 = L2::parse(frame)?;
    let is_ip = matches!(l2.ethertype, EtherType::IPV4 | EtherType::IPV6);
    let l3 = is_ip.then(|| parse_ip(&frame[l2.payload..])).flatten();
    Some(match l3 {
        Some(l3) => Classified { flow: ip_flow(&l2, &l3), class: l3.traffic_class },
        None => Classified { flow: other_flow(&l2), class: 0 },
    })
}

fn ip_flow(l2: &L2, l3: &L3) -> FlowId {
    let (kind, ports) = match l3.transport {
        Transport::Ports(source, destination) => (Kind::Ports, [source, destination]),
        Transport::Fragment => (Kind::Fragment, [0, 0]),
        Transport::None => (Kind::NoPorts, [0, 0]),
    };
    let (source, destination) = (u128::from_ne_bytes(l3.source), u128::from_ne_bytes(l3.destination));
    flow_id(l2, [source, destination], ports, l3.protocol, kind)
}

fn other_flow(l2: &L2) -> FlowId {
    flow_id(l2, [0, 0], [0, 0], 0, Kind::NotIp)
}

fn flow_id(l2: &L2, [source, destination]: [u128; 2], ports: [u16; 2], protocol: u8, kind: Kind) -> FlowId {
    let high = |address: u128| (address >> 64) as u64;
    let low = |address: u128| address as u64;
    let tags = [l2.vlans[0], l2.vlans[1], ports[0], ports[1]];
    let tags = tags.into_iter().fold(0, |word, part| (word << 16) | u64::from(part));
    let rest = (u64::from(l2.ethertype.0) << 16) | (u64::from(protocol) << 8) | kind as u64;
    FlowId([high(source), low(source), high(destination), low(destination), tags, rest])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp_frame(tag: Option<u16>, ports: [u16; 2], fragment: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if let Some(vlan) = tag {
            frame.extend_from_slice(&[0x81, 0]);
            frame.extend_from_slice(&vlan.to_be_bytes());
        }
        frame.extend_from_slice(&[8, 0, 0x45, 0x2c, 0, 28, 0, 0]);
        frame.extend_from_slice(&fragment.to_be_bytes());
        frame.extend_from_slice(&[64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend_from_slice(&ports[0].to_be_bytes());
        frame.extend_from_slice(&ports[1].to_be_bytes());
        frame.extend_from_slice(&[0, 8, 0, 0]);
        frame
    }

    fn flow(frame: &[u8]) -> FlowId {
        classify(frame).unwrap().flow
    }

    #[test]
    fn ports_and_vlans_tell_flows_apart() {
        let base = flow(&udp_frame(None, [1, 2], 0));
        assert_eq!(base, flow(&udp_frame(None, [1, 2], 0x4000)));
        assert_ne!(base, flow(&udp_frame(None, [1, 3], 0)));
        assert_ne!(base, flow(&udp_frame(None, [2, 1], 0)));
        assert_ne!(base, flow(&udp_frame(Some(100), [1, 2], 0)));
        assert_ne!(flow(&udp_frame(Some(101), [1, 2], 0)), flow(&udp_frame(Some(100), [1, 2], 0)));
        assert_eq!(classify(&udp_frame(None, [1, 2], 0)).unwrap().class, 0x2c);
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
        assert_eq!(classify(&whole[..13]), None);
    }
}
