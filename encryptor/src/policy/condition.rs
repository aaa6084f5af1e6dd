//! What a rule asks of a frame, one thing at a time.

use std::fmt;
use std::net::IpAddr;

use super::{Direction, Match, Preset};
use crate::wire::{EtherType, Gtpu, L3, Seen, Session, Transport, View};

/// Stands for "no tag" among VLAN identifiers, which end at 4095.
pub const UNTAGGED: u32 = 4096;

/// Numbers from and to, both included; one of them must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranges(pub Vec<(u32, u32)>);

/// An IP prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    is_v4: bool,
    /// In IPv6 form, bits behind the prefix zero.
    address: u128,
    mask: u128,
    length: u8,
}

/// One thing asked of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// One of these control frames.
    Frame(Vec<Preset>),
    /// The type behind all tags; below 1536 it is an IEEE 802.3 length.
    Ethertype(Ranges),
    /// The outermost tag's VLAN, or [`UNTAGGED`].
    Vlan(Ranges),
    /// The second tag's.
    InnerVlan(Ranges),
    /// The outermost label.
    Mpls(Ranges),
    /// The second label.
    InnerMpls(Ranges),
    /// Address at the plain side.
    Source(Vec<Prefix>),
    /// Address at the far side.
    Destination(Vec<Prefix>),
    /// The upper protocol.
    Protocol(Ranges),
    /// Either port.
    Port(Ranges),
    /// Port at the plain side.
    SourcePort(Ranges),
    /// Port at the far side.
    DestinationPort(Ranges),
    /// DSCP.
    Dscp(Ranges),
    /// GTP-U tunnel, as it stands in the frame.
    Teid(Ranges),
    /// QoS flow of a GTP-U tunnel.
    Qfi(Ranges),
}

impl Condition {
    /// Whether the frame is as asked.
    pub(super) fn test(&self, view: &View, direction: Direction) -> Match {
        let outer = direction == Direction::Outbound;
        match self {
            Condition::Frame(presets) => {
                presets.iter().map(|preset| preset.test(view)).max().unwrap_or(Match::No)
            }
            Condition::Ethertype(ranges) => ranges.test(ethertype(view)),
            Condition::Vlan(ranges) => ranges.test(vlan(view, 0)),
            Condition::InnerVlan(ranges) => ranges.test(vlan(view, 1)),
            Condition::Mpls(ranges) => ranges.test(view.labels.map(|stack| stack.labels[0])),
            Condition::InnerMpls(ranges) => ranges.test(inner_label(view)),
            Condition::Source(prefixes) => address(prefixes, view, outer),
            Condition::Destination(prefixes) => address(prefixes, view, !outer),
            Condition::Protocol(ranges) => {
                ranges.test(network(view).and_then(|l3| l3.upper_protocol()).map(u32::from))
            }
            Condition::Port(ranges) => test(ports(view), |both| both.iter().any(|port| ranges.has(*port))),
            Condition::SourcePort(ranges) => ranges.test(ports(view).map(|both| both[usize::from(!outer)])),
            Condition::DestinationPort(ranges) => {
                ranges.test(ports(view).map(|both| both[usize::from(outer)]))
            }
            Condition::Dscp(ranges) => ranges.test(network(view).map(|l3| u32::from(l3.traffic_class >> 2))),
            Condition::Teid(ranges) => ranges.test(tunnel(view).map(|gtpu| gtpu.teid)),
            Condition::Qfi(ranges) => ranges.test(tunnel(view).and_then(|gtpu| gtpu.qfi).map(u32::from)),
        }
    }

    /// Whether it asks for something that differs between frames of one protocol: addresses, ports or class.
    pub(super) fn is_about_parties(&self) -> bool {
        matches!(
            self,
            Condition::Source(_)
                | Condition::Destination(_)
                | Condition::Port(_)
                | Condition::SourcePort(_)
                | Condition::DestinationPort(_)
                | Condition::Dscp(_)
        )
    }
}

impl Ranges {
    /// Whether a number is among them.
    pub fn has(&self, number: u32) -> bool {
        self.0.iter().any(|&(from, to)| (from..=to).contains(&number))
    }

    fn test(&self, seen: Seen<u32>) -> Match {
        test(seen, |number| self.has(number))
    }
}

impl Prefix {
    /// The prefix that `address` begins with. `None`: a length beyond the family's.
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        let (is_v4, whole, bits) = match address {
            IpAddr::V4(v4) => (true, v4.to_ipv6_mapped(), length.checked_add(96)?),
            IpAddr::V6(v6) => (false, v6, length),
        };
        let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits.into())?).unwrap_or(0);
        Some(Prefix { is_v4, address: whole.to_bits() & mask, mask, length })
    }

    fn has(&self, is_v4: bool, address: [u8; 16]) -> bool {
        self.is_v4 == is_v4 && u128::from_be_bytes(address) & self.mask == self.address
    }
}

fn test<T>(seen: Seen<T>, holds: impl FnOnce(T) -> bool) -> Match {
    match seen {
        Seen::Absent => Match::No,
        Seen::Hidden => Match::May,
        Seen::Is(value) => match holds(value) {
            true => Match::Yes,
            false => Match::No,
        },
    }
}

fn ethertype(view: &View) -> Seen<u32> {
    if view.l2.ethertype.is_tag() { Seen::Hidden } else { Seen::Is(view.l2.ethertype.0.into()) }
}

fn vlan(view: &View, number: u8) -> Seen<u32> {
    match number < view.l2.tags {
        true => Seen::Is(view.l2.vlans[usize::from(number)].into()),
        // The frame ends within this tag.
        false if view.l2.ethertype.is_tag() => Seen::Hidden,
        false => Seen::Is(UNTAGGED),
    }
}

fn inner_label(view: &View) -> Seen<u32> {
    view.labels.and_then(|stack| match stack.payload {
        // An entry takes four bytes.
        Some(4) => Seen::Absent,
        Some(_) => Seen::Is(stack.labels[1]),
        None => Seen::Hidden,
    })
}

/// A guess is not enough for a decision: what is behind labels may be an address, and may be anything.
fn network(view: &View) -> Seen<&L3> {
    match &view.network {
        _ if view.guessed => Seen::Hidden,
        Seen::Is(l3) => Seen::Is(l3),
        Seen::Hidden => Seen::Hidden,
        Seen::Absent => Seen::Absent,
    }
}

fn address(prefixes: &[Prefix], view: &View, is_source: bool) -> Match {
    let is_v4 = view.l2.ethertype == EtherType::IPV4;
    let end = network(view).map(|l3| if is_source { l3.source } else { l3.destination });
    test(end, |address| prefixes.iter().any(|prefix| prefix.has(is_v4, address)))
}

/// Source and destination port.
pub(super) fn ports(view: &View) -> Seen<[u32; 2]> {
    network(view).and_then(|l3| match l3.transport {
        Transport::Ports(source, destination) => Seen::Is([source.into(), destination.into()]),
        // First fragments too, so that all of a packet meet the same fate.
        Transport::Fragment | Transport::Cut => Seen::Hidden,
        Transport::None => Seen::Absent,
    })
}

fn tunnel(view: &View) -> Seen<Gtpu> {
    match view.session {
        _ if view.guessed => Seen::Hidden,
        Session::Gtpu(gtpu) => Seen::Is(gtpu),
        Session::Hidden => Seen::Hidden,
        Session::None | Session::Sctp(_) => Seen::Absent,
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |prefixes: &[Prefix]| prefixes.iter().map(Prefix::to_string).collect::<Vec<_>>().join(",");
        match self {
            Condition::Frame(presets) => {
                let names: Vec<&str> = presets.iter().map(|preset| preset.name()).collect();
                write!(f, "frame={}", names.join(","))
            }
            Condition::Ethertype(ranges) => write!(f, "ethertype={ranges:#}"),
            Condition::Vlan(ranges) => write!(f, "vlan={ranges}"),
            Condition::InnerVlan(ranges) => write!(f, "inner_vlan={ranges}"),
            Condition::Mpls(ranges) => write!(f, "mpls={ranges}"),
            Condition::InnerMpls(ranges) => write!(f, "inner_mpls={ranges}"),
            Condition::Source(prefixes) => write!(f, "source={}", list(prefixes)),
            Condition::Destination(prefixes) => write!(f, "destination={}", list(prefixes)),
            Condition::Protocol(ranges) => write!(f, "protocol={ranges}"),
            Condition::Port(ranges) => write!(f, "port={ranges}"),
            Condition::SourcePort(ranges) => write!(f, "source_port={ranges}"),
            Condition::DestinationPort(ranges) => write!(f, "destination_port={ranges}"),
            Condition::Dscp(ranges) => write!(f, "dscp={ranges}"),
            Condition::Teid(ranges) => write!(f, "teid={ranges:#}"),
            Condition::Qfi(ranges) => write!(f, "qfi={ranges}"),
        }
    }
}

impl fmt::Display for Ranges {
    /// In decimal, or alternately in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: u32| match number {
            UNTAGGED if !f.alternate() => "untagged".to_string(),
            _ if f.alternate() => format!("{number:#x}"),
            _ => number.to_string(),
        };
        let range = |&(from, to): &(u32, u32)| match from == to {
            true => number(from),
            false => format!("{}-{}", number(from), number(to)),
        };
        f.write_str(&self.0.iter().map(range).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = std::net::Ipv6Addr::from_bits(self.address);
        match address.to_ipv4_mapped().filter(|_| self.is_v4) {
            Some(v4) => write!(f, "{v4}/{}", self.length),
            None => write!(f, "{address}/{}", self.length),
        }
    }
}
