//! The plain side of mode `ip`: networks of its own behind each site, for which the gateway is the router.
//!
//! Each site has a network on the plain port, and one behind the host that is reached through the host's address.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::command::{words, words_in};
use super::error::Result;
use super::plan::{Node, Side};
use super::topology::Topology;

impl Side {
    /// The host's IPv4 address in the network on the plain port, a /24.
    pub fn near_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.network(), 1)
    }

    /// The host's IPv6 address there, a /64.
    pub fn near_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd78, 0, 0, self.network().into(), 0, 0, 0, 1)
    }

    /// The host's IPv4 address in the network behind it, a /24.
    pub fn far_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 79, self.network(), 1)
    }

    /// The host's IPv6 address there, a /64.
    pub fn far_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd79, 0, 0, self.network().into(), 0, 0, 0, 1)
    }

    /// The gateway's IPv4 address on the plain port.
    pub fn router_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.network(), 254)
    }

    /// The gateway's IPv6 address there.
    pub fn router_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd78, 0, 0, self.network().into(), 0, 0, 0, 0xfe)
    }

    fn network(self) -> u8 {
        self.index() as u8 + 1
    }
}

impl Topology {
    /// Adds the networks, addresses and routes of mode `ip`. The gateway's kernel still forwards nothing.
    pub fn add_networks(&self) -> Result<()> {
        Side::BOTH.into_iter().try_for_each(|side| self.add_networks_of(side))
    }

    fn add_networks_of(&self, side: Side) -> Result<()> {
        let (host, gateway) = (self.namespace(Node::Host(side)), self.namespace(Node::Gateway(side)));
        let (peer, near4, near6) = (side.peer(), side.near_v4(), side.near_v6());
        let (router4, router6) = (side.router_v4(), side.router_v6());
        let number = side.network();
        words_in(
            &gateway,
            &[
                "sysctl -qw net.ipv6.conf.plain.disable_ipv6=0 net.ipv6.conf.plain.accept_dad=0",
                &format!("ip addr add {router4}/24 dev plain"),
                &format!("ip addr add {router6}/64 dev plain nodad"),
                &format!("ip route add 10.79.{number}.0/24 via {near4}"),
                &format!("ip -6 route add fd79:0:0:{number}::/64 via {near6}"),
            ],
        )?;
        words_in(
            &host,
            &[
                &format!("ip addr add {near4}/24 dev eth0"),
                &format!("ip addr add {near6}/64 dev eth0 nodad"),
                &format!("ip addr add {}/32 dev lo", side.far_v4()),
                &format!("ip addr add {}/128 dev lo", side.far_v6()),
            ],
        )?;
        for (peers, router) in [
            (format!("10.78.{}.0/24", peer.network()), router4.to_string()),
            (format!("10.79.{}.0/24", peer.network()), router4.to_string()),
            (format!("fd78:0:0:{}::/64", peer.network()), router6.to_string()),
            (format!("fd79:0:0:{}::/64", peer.network()), router6.to_string()),
        ] {
            words(&format!("ip -n {host} route add {peers} via {router} dev eth0"))?;
        }
        Ok(())
    }
}
