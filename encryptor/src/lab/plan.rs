//! The lab's plan: who stands where, and under which names and addresses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::{LabError, Result};

/// MTU of the plain side, in bytes.
pub const PLAIN_MTU: u16 = 1500;
/// MTU of the backhaul, in bytes: a tagged 1,500-byte frame needs 1,580 with ESP in UDP over IPv4.
pub const BACKHAUL_MTU: u16 = 1600;
/// MTU of a backhaul over IPv6, in bytes: its headers take 20 more.
pub const IPV6_BACKHAUL_MTU: u16 = 1620;
/// VLAN of the hosts' sub-interfaces.
pub const VLAN: u16 = 100;
/// The interface name of that sub-interface.
pub const VLAN_INTERFACE: &str = "eth0.100";
/// UDP port of ESP (RFC 3948).
pub const ESP_PORT: u16 = 4500;
/// TCP port of the link channel.
pub const CHANNEL_PORT: u16 = 4501;
/// TCP port on which the KMEs serve their SAE.
pub const KME_PORT: u16 = 8443;
/// TCP port on which the KMEs talk to each other.
pub const KME_PEER_PORT: u16 = 8444;

/// One of the two ends of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Site a.
    A,
    /// Site b.
    B,
}

impl Side {
    /// Both sites.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other site.
    pub fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// 0 for a, 1 for b.
    pub fn index(self) -> usize {
        self as usize
    }

    /// SAE ID, such as `sae-a`.
    pub fn sae(self) -> String {
        format!("sae-{self}")
    }

    /// KME ID, such as `kme-a`.
    pub fn kme(self) -> String {
        format!("kme-{self}")
    }

    /// The host's MAC address; fixed, so that an eavesdropper can be asked whether it saw it.
    pub fn host_mac(self) -> [u8; 6] {
        [0x02, 0x00, 0x5e, 0x77, 0x00, self.number()]
    }

    /// The MAC address of the encryptor's cipher port.
    pub fn cipher_mac(self) -> [u8; 6] {
        [0x02, 0x00, 0x5e, 0x99, 0x00, self.number()]
    }

    /// The host's IPv4 address.
    pub fn host_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number())
    }

    /// The host's IPv4 address on the VLAN.
    pub fn vlan_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 100, self.number())
    }

    /// The host's IPv6 address.
    pub fn host_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number().into())
    }

    /// The address of the encryptor's cipher port.
    pub fn cipher_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.number())
    }

    /// Its IPv6 address, on a backhaul that has IPv6.
    pub fn cipher_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.number().into())
    }

    /// The encryptor's management address.
    pub fn mgmt_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, 0, self.number())
    }

    /// The key server's address on the management network.
    pub fn kme_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, 0, 10 + self.number())
    }

    fn number(self) -> u8 {
        self as u8 + 1
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// A namespace of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A host on the plain side.
    Host(Side),
    /// An encryptor.
    Gateway(Side),
    /// A key server.
    Kme(Side),
    /// The backhaul's bridge, where the eavesdropper listens.
    Backhaul,
    /// The management network's bridge.
    Mgmt,
}

impl Node {
    /// All namespaces, in the order in which they are made.
    pub const ALL: [Self; 8] = [
        Self::Backhaul,
        Self::Mgmt,
        Self::Gateway(Side::A),
        Self::Gateway(Side::B),
        Self::Host(Side::A),
        Self::Host(Side::B),
        Self::Kme(Side::A),
        Self::Kme(Side::B),
    ];

    /// The namespace's name, such as `qh-gw-a`.
    pub fn namespace(self, prefix: &str) -> String {
        format!("{prefix}-{self}")
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(side) => write!(f, "host-{side}"),
            Self::Gateway(side) => write!(f, "gw-{side}"),
            Self::Kme(side) => write!(f, "kme-{side}"),
            Self::Backhaul => f.write_str("backhaul"),
            Self::Mgmt => f.write_str("mgmt"),
        }
    }
}

/// A MAC address as tools write it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The IPv6 link-local address that the kernel makes of a MAC address (RFC 4291, appendix A).
pub(super) fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Refuses prefixes that could name a namespace of somebody else, or a path.
pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    let plain = prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if (1..=8).contains(&prefix.len()) && plain { Ok(()) } else { Err(LabError::Prefix(prefix.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_lab_are_its_own() {
        assert_eq!(Node::Gateway(Side::B).namespace("qh"), "qh-gw-b");
        assert_eq!(Node::Mgmt.namespace("t1"), "t1-mgmt");
        assert!(check_prefix("qh").is_ok());
        for bad in ["", "..", "a/b", "a-b", "QH", "ninechars"] {
            assert!(check_prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn link_local_follows_the_mac() {
        let expected: Ipv6Addr = "fe80::5eff:fe77:1".parse().unwrap();
        assert_eq!(link_local(Side::A.host_mac()), expected);
    }
}
