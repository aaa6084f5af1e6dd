//! What the messages about addresses, routes and neighbours say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{attributes, u16_at, u32_at};
use crate::wire::MacAddr;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// An address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The interface's number.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
}

impl Address {
    /// Reads `struct ifaddrmsg` and its attributes (`linux/if_addr.h`). `None`: not an address that can be used.
    pub(super) fn read(body: &[u8]) -> Option<Address> {
        const IFA_ADDRESS: u16 = 1;
        const IFA_LOCAL: u16 = 2;
        const TENTATIVE_OR_FAILED: u8 = 0x40 | 0x08;
        let [family, _, flags, ..] = *body.first_chunk::<8>()?;
        let index = u32_at(body, 4)?;
        // On point-to-point links IFA_ADDRESS is the peer's, and IFA_LOCAL ours.
        let find = |wanted| attributes(&body[8..]).find(|(kind, _)| *kind == wanted);
        let (_, value) = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
        let usable = family != AF_INET6 || flags & TENTATIVE_OR_FAILED == 0;
        usable.then_some(Address { index, address: address(family, value)? })
    }
}

/// A unicast route of the main table over one interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteEntry {
    /// The interface's number.
    pub index: u32,
    /// Its network's address.
    pub network: IpAddr,
    /// Bits of it that count.
    pub prefix: u8,
    /// The router; `None` if the network is on the link itself.
    pub via: Option<IpAddr>,
    /// The kernel's priority: the least is best.
    pub metric: u32,
}

impl RouteEntry {
    /// Reads `struct rtmsg` and its attributes (`linux/rtnetlink.h`): the route over the interface with number `over`, be it the
    /// only one or one of several. `None`: another table, type or interface, or a link that is dead.
    pub(super) fn read(body: &[u8], over: u32) -> Option<RouteEntry> {
        const RTA_DST: u16 = 1;
        const RTA_OIF: u16 = 4;
        const RTA_PRIORITY: u16 = 6;
        const RTA_MULTIPATH: u16 = 9;
        const RTA_TABLE: u16 = 15;
        const RT_TABLE_MAIN: u32 = 254;
        const RTN_UNICAST: u8 = 1;
        let [family, prefix, _, _, table, _, _, kind, ..] = *body.first_chunk::<12>()?;
        let flags = u32_at(body, 8)?;
        let behind = &body[12..];
        let find = |wanted| attributes(behind).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let number = |wanted| find(wanted).and_then(|value| u32_at(value, 0));
        if kind != RTN_UNICAST || number(RTA_TABLE).unwrap_or(table.into()) != RT_TABLE_MAIN {
            return None;
        }
        let network = match find(RTA_DST) {
            Some(value) => address(family, value)?,
            None => unspecified(family)?,
        };
        let via = match find(RTA_MULTIPATH) {
            Some(hops) => next_hop_over(family, hops, over)?,
            None => (number(RTA_OIF) == Some(over) && is_alive(flags)).then(|| gateway(family, behind))?,
        };
        Some(RouteEntry { index: over, network, prefix, via, metric: number(RTA_PRIORITY).unwrap_or(0) })
    }
}

/// Of several next hops (`struct rtnexthop`) the first over one interface.
fn next_hop_over(family: u8, mut hops: &[u8], over: u32) -> Option<Option<IpAddr>> {
    loop {
        let length = usize::from(u16_at(hops, 0)?);
        let hop = hops.get(..length).filter(|hop| hop.len() >= 8)?;
        if u32_at(hop, 4) == Some(over) && is_alive(hop[2].into()) {
            return Some(gateway(family, &hop[8..]));
        }
        hops = hops.get(length.next_multiple_of(4)..)?;
    }
}

/// Neither RTNH_F_DEAD nor RTNH_F_LINKDOWN.
fn is_alive(flags: u32) -> bool {
    flags & 0x11 == 0
}

/// RTA_GATEWAY, or RTA_VIA for a router of the other family.
fn gateway(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    const RTA_GATEWAY: u16 = 5;
    const RTA_VIA: u16 = 18;
    attributes(bytes).find_map(|(kind, value)| match kind {
        RTA_GATEWAY => address(family, value),
        RTA_VIA => address(u16_at(value, 0)?.try_into().ok()?, value.get(2..)?),
        _ => None,
    })
}

/// How well the kernel knows a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Soundness {
    /// Confirmed, or set by hand.
    Fresh,
    /// Known, and not confirmed for a while.
    Stale,
}

/// A neighbour whose hardware address is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The interface's number.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: MacAddr,
    /// How well it is known.
    pub soundness: Soundness,
}

impl Neighbour {
    /// Reads `struct ndmsg` and its attributes (`linux/neighbour.h`). `None`: not resolved, or not by asking (groups).
    pub(super) fn read(body: &[u8]) -> Option<Neighbour> {
        const NDA_DST: u16 = 1;
        const NDA_LLADDR: u16 = 2;
        const REACHABLE_OR_PERMANENT: u16 = 0x02 | 0x80;
        const STALE_DELAY_PROBE: u16 = 0x04 | 0x08 | 0x10;
        let [family, ..] = *body.first_chunk::<12>()?;
        let (index, state) = (u32_at(body, 4)?, u16_at(body, 8)?);
        let find = |wanted| attributes(&body[12..]).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let soundness = match state {
            state if state & REACHABLE_OR_PERMANENT != 0 => Soundness::Fresh,
            state if state & STALE_DELAY_PROBE != 0 => Soundness::Stale,
            _ => return None,
        };
        let mac = MacAddr(find(NDA_LLADDR)?.try_into().ok()?);
        Some(Neighbour { index, address: address(family, find(NDA_DST)?)?, mac, soundness })
    }
}

/// Family and bytes of an address, as requests carry it.
pub(super) fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    }
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        AF_INET6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [&(value.len() as u16 + 4).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn number(value: u32) -> [u8; 4] {
        value.to_ne_bytes()
    }

    fn route(table: u8, kind: u8, flags: u32, behind: &[Vec<u8>]) -> Vec<u8> {
        [&[AF_INET, 24, 0, 0, table, 2, 0, kind][..], &number(flags), &behind.concat()].concat()
    }

    #[test]
    fn routes_of_the_main_table_over_the_port_are_read() {
        let (net, oif) = (attribute(1, &[10, 1, 0, 0]), attribute(4, &number(7)));
        let via = attribute(5, &[10, 1, 0, 9]);
        let entry = |via: Option<IpAddr>, metric| {
            Some(RouteEntry { index: 7, network: [10, 1, 0, 0].into(), prefix: 24, via, metric })
        };
        let read = |body: Vec<u8>| RouteEntry::read(&body, 7);
        assert_eq!(read(route(254, 1, 0, &[net.clone(), oif.clone()])), entry(None, 0));
        let metric = attribute(6, &number(100));
        let through = Some([10, 1, 0, 9].into());
        assert_eq!(
            read(route(254, 1, 0, &[net.clone(), oif.clone(), via.clone(), metric])),
            entry(through, 100)
        );
        let big_table = attribute(15, &number(254));
        assert_eq!(read(route(0, 1, 0, &[net.clone(), oif.clone(), big_table])), entry(None, 0));
        let six = [&10u16.to_ne_bytes()[..], &[0xfe; 16]].concat();
        let other_family = Some(IpAddr::from([0xfe; 16]));
        assert_eq!(
            read(route(254, 1, 0, &[net.clone(), oif.clone(), attribute(18, &six)])),
            entry(other_family, 0)
        );
        let hop = |index: u32, flags: u8, via: &[u8]| {
            [&(8 + via.len() as u16).to_ne_bytes()[..], &[flags, 0], &number(index), via].concat()
        };
        let hops = [hop(3, 0, &[]), hop(7, 1, &[]), hop(7, 0, &via)].concat();
        assert_eq!(read(route(254, 1, 0, &[net.clone(), attribute(9, &hops)])), entry(through, 0));
        let none = [
            route(255, 1, 0, &[net.clone(), oif.clone()]),
            route(254, 3, 0, &[net.clone(), oif.clone()]),
            route(254, 1, 0x10, &[net.clone(), oif]),
            route(254, 1, 0, &[net.clone(), attribute(4, &number(8))]),
            route(254, 1, 0, &[net, attribute(9, &hop(3, 0, &[]))]),
        ];
        none.into_iter().for_each(|body| assert_eq!(read(body), None));
        assert_eq!(
            read(route(254, 1, 0, &[attribute(4, &number(7))])).unwrap().network,
            IpAddr::from([0; 4])
        );
    }

    #[test]
    fn neighbours_count_once_they_are_resolved() {
        let body = |state: u16, mac: &[u8]| {
            let head = [&[AF_INET, 0, 0, 0][..], &number(7), &state.to_ne_bytes(), &[0, 1]].concat();
            [head, attribute(1, &[10, 1, 0, 1]), attribute(2, mac)].concat()
        };
        let mac = [2, 0, 0, 0, 0, 1];
        let found = |state| Neighbour::read(&body(state, &mac)).map(|neighbour| neighbour.soundness);
        assert_eq!([0x02, 0x80].map(found), [Some(Soundness::Fresh); 2]);
        assert_eq!([0x04, 0x08, 0x10].map(found), [Some(Soundness::Stale); 3]);
        assert_eq!([0x00, 0x01, 0x20, 0x40].map(found), [None; 4], "incomplete, failed, or a group's");
        assert_eq!(Neighbour::read(&body(0x02, &mac[..5])), None);
        let read = Neighbour::read(&body(0x02, &mac)).unwrap();
        assert_eq!((read.index, read.address, read.mac), (7, [10, 1, 0, 1].into(), MacAddr(mac)));
    }

    #[test]
    fn an_address_that_others_may_have_too_is_none_of_ours() {
        let body = |family: u8, flags: u8, address: &[u8]| {
            [&[family, 64, flags, 0][..], &number(7), &attribute(1, address)].concat()
        };
        let read = |body: Vec<u8>| Address::read(&body).map(|address| address.address);
        assert_eq!(read(body(AF_INET6, 0x80, &[1; 16])), Some([1; 16].into()));
        assert_eq!(read(body(AF_INET6, 0x40, &[1; 16])), None);
        assert_eq!(read(body(AF_INET, 0x80, &[10, 1, 0, 254])), Some([10, 1, 0, 254].into()));
        let peer = [body(AF_INET, 0, &[10, 0, 0, 2]), attribute(2, &[10, 0, 0, 1])].concat();
        assert_eq!(read(peer), Some([10, 0, 0, 1].into()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (Address::read(&bytes), RouteEntry::read(&bytes, 7), Neighbour::read(&bytes));
        }
    }
}
