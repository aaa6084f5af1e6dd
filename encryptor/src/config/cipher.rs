//! The `[cipher]` section: the port towards the backhaul, and what packets look like on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use serde::Deserialize;

use super::raw::demand;
use crate::esn::IvRule;
use crate::replay::WindowSize;
use crate::wire::{Dscp, Ecn, Encap, Ends};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCipher {
    pub(super) interface: String,
    address: IpAddr,
    peer: Option<IpAddr>,
    pub(super) next_hop: Option<IpAddr>,
    #[serde(default = "default_encap")]
    encap: RawEncap,
    #[serde(default = "default_udp_port")]
    udp_port: u16,
    #[serde(default)]
    pub(super) nat: bool,
    #[serde(default)]
    pub(super) iv: IvRule,
    replay_window: Option<u32>,
    #[serde(default = "default_ttl")]
    pub(super) ttl: u8,
    #[serde(default = "default_dscp")]
    pub(super) dscp: RawDscp,
    #[serde(default = "default_ecn")]
    pub(super) ecn: Ecn,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawEncap {
    Udp,
    None,
}

/// `"copy"`, a number, or a table from inner to outer numbers.
#[derive(Deserialize)]
#[serde(untagged, expecting = "cipher.dscp is \"copy\", a DSCP from 0 to 63, or a table such as { 46 = 34 }")]
pub(super) enum RawDscp {
    Word(DscpWord),
    Set(i64),
    Map(BTreeMap<String, i64>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DscpWord {
    Copy,
}

fn default_encap() -> RawEncap {
    RawEncap::Udp
}

fn default_udp_port() -> u16 {
    4500
}

fn default_ttl() -> u8 {
    64
}

fn default_dscp() -> RawDscp {
    RawDscp::Word(DscpWord::Copy)
}

fn default_ecn() -> Ecn {
    Ecn::Copy
}

impl RawCipher {
    pub(super) fn replay_window(&self) -> Result<WindowSize, String> {
        let Some(size) = self.replay_window else { return Ok(WindowSize::default()) };
        WindowSize::new(size).ok_or_else(|| {
            let (min, max) = (WindowSize::MIN, WindowSize::MAX);
            format!(
                "cipher.replay_window = {size} is no power of two within {min} to {max} packets, such as 1024"
            )
        })
    }

    pub(super) fn encap(&self) -> Encap {
        match self.encap {
            RawEncap::Udp => Encap::Udp(self.udp_port),
            RawEncap::None => Encap::None,
        }
    }

    /// The addresses, after everything that has to do with them was checked.
    pub(super) fn ends(&self) -> Result<Ends, String> {
        let peer = self.peer.ok_or("cipher.peer is missing: the other site's address")?;
        let two = self.address != peer;
        demand(two, "cipher.address and cipher.peer are the same: cipher.peer is the other site's address")?;
        let all = is_host(self.address) && is_host(peer);
        demand(
            all,
            "cipher.address and cipher.peer must be addresses of single hosts that are valid beyond one network: \
             global, private or unique local ones",
        )?;
        let hop = self.next_hop.is_none_or(|hop| hop.is_ipv4() == peer.is_ipv4());
        demand(hop, "cipher.next_hop must be of the same family as cipher.peer")?;
        demand(self.udp_port != 0, "cipher.udp_port is within 1 to 65535")?;
        demand(self.ttl != 0, "cipher.ttl is within 1 to 255")?;
        let nat = !self.nat || self.encap == RawEncap::Udp;
        demand(
            nat,
            "cipher.nat = true needs cipher.encap = \"udp\": a NAT has no ports to rewrite in bare ESP",
        )?;
        Ends::new(self.address, peer)
            .ok_or_else(|| "cipher.address and cipher.peer must both be IPv4 or both be IPv6".to_string())
    }
}

/// An address of one host that needs no interface beside it to be understood.
fn is_host(address: IpAddr) -> bool {
    let local =
        |v6: Ipv6Addr| v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some() || v6.is_loopback();
    let scoped = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => local(v6),
    };
    !scoped && !address.is_unspecified() && !address.is_multicast()
}

impl RawDscp {
    pub(super) fn checked(self) -> Result<Dscp, String> {
        let outer = |value: i64| {
            let dscp = u8::try_from(value).ok().filter(|dscp| *dscp < 64);
            dscp.ok_or_else(|| format!("cipher.dscp: {value} is no DSCP: these go from 0 to 63"))
        };
        let map = match self {
            RawDscp::Word(DscpWord::Copy) => return Ok(Dscp::Copy),
            RawDscp::Set(value) => return outer(value).map(Dscp::Set),
            RawDscp::Map(map) => map,
        };
        // What is not named is copied.
        let mut table: [u8; 64] = std::array::from_fn(|dscp| dscp as u8);
        for (from, to) in map {
            let from = from.parse().map_err(|_| format!("cipher.dscp: \"{from}\" is no number"));
            table[usize::from(outer(from?)?)] = outer(to)?;
        }
        Ok(Dscp::Map(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(more: &str) -> Result<(Ends, Dscp, Encap), String> {
        let text = format!("interface = \"eth2\"\n{more}");
        let raw: RawCipher = toml::from_str(&text).map_err(|error| error.message().to_string())?;
        let (ends, encap) = (raw.ends()?, raw.encap());
        Ok((ends, raw.dscp.checked()?, encap))
    }

    const V4: &str = "address = \"192.0.2.1\"\npeer = \"192.0.2.2\"";

    #[test]
    fn both_families_and_encapsulations_are_read() {
        let v6 =
            "address = \"2001:db8::1\"\npeer = \"2001:db8::2\"\nnext_hop = \"fe80::1\"\nencap = \"none\"";
        assert!(matches!(cipher(v6), Ok((Ends::V6(..), Dscp::Copy, Encap::None))));
        assert!(matches!(cipher(V4), Ok((Ends::V4(..), Dscp::Copy, Encap::Udp(4500)))));
    }

    #[test]
    fn the_dscp_is_a_word_a_number_or_a_table() {
        let dscp = |value: &str| cipher(&format!("{V4}\ndscp = {value}")).map(|(_, dscp, _)| dscp);
        assert_eq!(dscp("\"copy\""), Ok(Dscp::Copy));
        assert_eq!(dscp("46"), Ok(Dscp::Set(46)));
        let Ok(Dscp::Map(table)) = dscp("{ 46 = 34, 0 = 8 }") else { panic!("a table") };
        assert_eq!((table[46], table[0], table[10]), (34, 8, 10));
        for wrong in ["64", "-1", "\"EF\"", "{ 64 = 0 }", "{ 0 = 64 }", "{ x = 1 }", "1.5"] {
            let line = dscp(wrong).unwrap_err();
            assert!(line.contains("cipher.dscp") && !line.contains('\n'), "{wrong}: {line}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let ends = |own: &str, peer: &str| format!("address = \"{own}\"\npeer = \"{peer}\"");
        let cases = [
            (ends("192.0.2.1", "2001:db8::2"), "both be IPv4 or both be IPv6"),
            (ends("192.0.2.1", "192.0.2.1"), "cipher.peer"),
            (ends("192.0.2.1", "255.255.255.255"), "single hosts"),
            (ends("2001:db8::1", "ff02::1"), "single hosts"),
            (ends("fe80::1", "fe80::2"), "beyond one network"),
            (ends("::ffff:192.0.2.1", "2001:db8::2"), "beyond one network"),
            (format!("{V4}\nnext_hop = \"fe80::1\""), "cipher.next_hop"),
            (format!("{V4}\nudp_port = 0"), "cipher.udp_port"),
            (format!("{V4}\nttl = 0"), "cipher.ttl"),
            (format!("{V4}\nencap = \"none\"\nnat = true"), "cipher.nat"),
            (format!("{V4}\nencap = \"gre\""), "gre"),
            (format!("{V4}\necn = \"on\""), "on"),
        ];
        for (text, named) in cases {
            let line = cipher(&text).unwrap_err();
            assert!(line.contains(named) && !line.contains('\n'), "{text}: {line}");
        }
    }
}
