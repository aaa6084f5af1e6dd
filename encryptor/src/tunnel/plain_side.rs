//! The plain side as the kernel knows it: a read-only table that the control thread makes and the worker looks up.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::icmp::Teller;
use crate::wire::MacAddr;

/// Routes that are kept at the most.
pub const MAX_ROUTES: usize = 4096;
/// Neighbours that are kept at the most.
pub const MAX_NEIGHBOURS: usize = 8192;

/// Bits in front of an IPv4 address that is mapped into IPv6 form (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

/// A route over the plain port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Its network's address.
    pub network: IpAddr,
    /// Bits of it that count, 0 to 32 or 128.
    pub prefix: u8,
    /// The router; `None` if the network is on the port itself.
    pub via: Option<IpAddr>,
}

/// Why an address has no hardware address to be sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// No route over the plain port leads there.
    NoRoute,
    /// This next hop is not resolved.
    NoNeighbour(IpAddr),
}

/// Own addresses, routes and neighbours of the plain port.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PlainSide {
    own: Vec<IpAddr>,
    /// Lengths of prefixes in use, longest first, in bits of the mapped form.
    lengths: Vec<u8>,
    routes: HashMap<(u8, u128), Option<IpAddr>, ahash::RandomState>,
    neighbours: HashMap<IpAddr, MacAddr, ahash::RandomState>,
}

impl PlainSide {
    /// A table of these addresses, of [`MAX_ROUTES`] routes and [`MAX_NEIGHBOURS`] neighbours at the most; of two routes to one
    /// network the first counts.
    pub fn new(
        own: Vec<IpAddr>,
        routes: impl IntoIterator<Item = Route>,
        neighbours: impl IntoIterator<Item = (IpAddr, MacAddr)>,
    ) -> PlainSide {
        let mut table: HashMap<_, _, ahash::RandomState> = HashMap::default();
        for Route { network, prefix, via } in routes.into_iter().take(MAX_ROUTES) {
            let length = if network.is_ipv4() { MAPPED + prefix.min(32) } else { prefix.min(128) };
            table.entry((length, first_bits(mapped(network), length))).or_insert(via);
        }
        let mut lengths: Vec<u8> = table.keys().map(|&(length, _)| length).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        let neighbours = neighbours.into_iter().take(MAX_NEIGHBOURS).collect();
        PlainSide { own, lengths, routes: table, neighbours }
    }

    /// Whether an address is the gateway's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// The addresses that ICMP errors come from: the first of each family that is not link-local, or else the first.
    pub fn teller(&self) -> Teller {
        let v4 = || {
            self.own.iter().filter_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            })
        };
        let v6 = || {
            self.own.iter().filter_map(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(v6) => Some(*v6),
            })
        };
        Teller {
            v4: v4().find(|address| !address.is_link_local()).or_else(|| v4().next()),
            v6: v6().find(|address| !address.is_unicast_link_local()).or_else(|| v6().next()),
        }
    }

    /// The hardware address of the next hop towards `destination`, by the longest prefix.
    pub fn resolve(&self, destination: IpAddr) -> Result<MacAddr, Miss> {
        let address = mapped(destination);
        // The shortest prefixes of IPv6 would match a mapped address too.
        let shortest = if destination.is_ipv4() { MAPPED } else { 0 };
        let lengths = self.lengths.iter().take_while(|&&length| length >= shortest);
        let route =
            lengths.into_iter().find_map(|&length| self.routes.get(&(length, first_bits(address, length))));
        let next = route.ok_or(Miss::NoRoute)?.unwrap_or(destination);
        self.neighbours.get(&next).copied().ok_or(Miss::NoNeighbour(next))
    }

    /// How many routes and neighbours there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.routes.len(), self.neighbours.len())
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn first_bits(address: u128, length: u8) -> u128 {
    address & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(text: &str, via: Option<&str>) -> Route {
        let (network, prefix) = text.split_once('/').unwrap();
        Route { network: address(network), prefix: prefix.parse().unwrap(), via: via.map(address) }
    }

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn side() -> PlainSide {
        PlainSide::new(
            ["fe80::fe", "10.1.0.254", "fd01::fe"].map(address).to_vec(),
            [
                route("10.1.0.0/24", None),
                route("10.1.0.128/25", Some("10.1.0.1")),
                route("10.1.0.0/24", Some("10.9.9.9")),
                route("10.9.0.5/32", Some("fe80::2")),
                route("fd01::/64", None),
                route("::/0", Some("fe80::2")),
            ],
            [
                (address("10.1.0.1"), mac(1)),
                (address("10.1.0.2"), mac(2)),
                (address("fe80::2"), mac(9)),
                (address("fd01::7"), mac(7)),
            ],
        )
    }

    #[test]
    fn the_longest_prefix_leads_to_the_next_hop() {
        let cases = [
            ("10.1.0.2", Ok(mac(2))),
            ("10.1.0.3", Err(Miss::NoNeighbour(address("10.1.0.3")))),
            ("10.1.0.200", Ok(mac(1))),
            ("10.9.0.5", Ok(mac(9))),
            ("10.9.0.6", Err(Miss::NoRoute)),
            ("fd01::7", Ok(mac(7))),
            ("fd01::8", Err(Miss::NoNeighbour(address("fd01::8")))),
            ("2001:db8::1", Ok(mac(9))),
        ];
        for (destination, expected) in cases {
            assert_eq!(side().resolve(address(destination)), expected, "{destination}");
        }
        assert_eq!(PlainSide::default().resolve(address("10.1.0.2")), Err(Miss::NoRoute));
    }

    #[test]
    fn a_default_route_of_ipv4_is_for_ipv4_alone() {
        let side = PlainSide::new(
            Vec::new(),
            [route("0.0.0.0/0", Some("10.1.0.1"))],
            [(address("10.1.0.1"), mac(1))],
        );
        assert_eq!(side.resolve(address("192.0.2.77")), Ok(mac(1)));
        assert_eq!(side.resolve(address("2001:db8::1")), Err(Miss::NoRoute));
    }

    #[test]
    fn errors_come_from_addresses_that_can_be_answered() {
        let teller = side().teller();
        assert_eq!(teller.v4.map(IpAddr::from), Some(address("10.1.0.254")));
        assert_eq!(teller.v6.map(IpAddr::from), Some(address("fd01::fe")));
        let cases = [
            (&["169.254.0.1", "10.1.0.254", "10.1.0.253"][..], Some("10.1.0.254"), None),
            (&["169.254.0.1", "fe80::1"], Some("169.254.0.1"), Some("fe80::1")),
            (&["fe80::1", "fd01::fe", "fd01::fd"], None, Some("fd01::fe")),
        ];
        for (own, v4, v6) in cases {
            let own = own.iter().map(|text| address(text)).collect();
            let teller = PlainSide::new(own, [], []).teller();
            assert_eq!(teller.v4.map(IpAddr::from), v4.map(address));
            assert_eq!(teller.v6.map(IpAddr::from), v6.map(address));
        }
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let routes = (0..2 * MAX_ROUTES as u32).map(|number| Route {
            network: Ipv4Addr::from(number << 8).into(),
            prefix: 24,
            via: None,
        });
        let neighbours = (0..2 * MAX_NEIGHBOURS as u32).map(|number| (Ipv4Addr::from(number).into(), mac(1)));
        assert_eq!(PlainSide::new(Vec::new(), routes, neighbours).counts(), (MAX_ROUTES, MAX_NEIGHBOURS));
    }
}
