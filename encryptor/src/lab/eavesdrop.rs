//! What somebody on the backhaul can read: sorts captured frames by kind and looks for plaintext in every one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::memmem::Finder;

use super::plan::{CHANNEL_PORT, ESP_PORT, Side, link_local};
use super::trail::Trail;
use super::{fetch, iperf, ping};

/// What a frame on the backhaul is, judged by its outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ESP between the two cipher ports, in UDP (RFC 3948) or bare.
    Esp,
    /// The link channel's TCP between the two cipher ports.
    Channel,
    /// ARP.
    Arp,
    /// IPv6 neighbour discovery and multicast listener reports.
    Neighbour,
    /// ICMP between the two cipher ports.
    Icmp,
    /// Anything else; nothing else should be there.
    Unexpected,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Esp => "ESP",
            Self::Channel => "link channel (TLS)",
            Self::Arp => "ARP",
            Self::Neighbour => "IPv6 neighbours",
            Self::Icmp => "ICMP of the ports",
            Self::Unexpected => "anything else",
        })
    }
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    /// Frames looked at.
    pub frames: u64,
    /// Frames by kind; kinds without any are absent.
    pub kinds: BTreeMap<Kind, u64>,
    /// Frames with anything of the plain side in clear, or of an unexpected kind.
    pub plaintext: u64,
    /// What was read in clear, and in how many frames.
    pub findings: BTreeMap<&'static str, u64>,
    /// What the SPIs tell of epochs and flows, from a to b and from b to a.
    pub trails: [Trail; 2],
}

impl Sightings {
    /// Distinct epochs that carried traffic, in the direction that had fewer.
    pub fn epochs(&self) -> u64 {
        self.trails.iter().map(Trail::epochs).min().unwrap_or_default()
    }

    /// The most flows that one epoch carried, both directions together.
    pub fn flows(&self) -> u64 {
        self.trails.iter().map(Trail::flows).sum()
    }

    /// Frames of one kind.
    pub fn of_kind(&self, kind: Kind) -> u64 {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }
}

/// Looks at frames one by one.
#[derive(Debug)]
pub struct Eavesdropper {
    needles: Vec<(&'static str, Finder<'static>)>,
    seen: Sightings,
}

impl Default for Eavesdropper {
    fn default() -> Self {
        let needles = needles().into_iter().map(|(name, bytes)| (name, Finder::new(&bytes).into_owned()));
        Self { needles: needles.collect(), seen: Sightings::default() }
    }
}

impl Eavesdropper {
    /// Takes in one frame, from its Ethernet header on.
    pub fn look_at(&mut self, frame: &[u8]) {
        let outer = Outer::of(frame);
        self.seen.frames += 1;
        *self.seen.kinds.entry(outer.kind()).or_default() += 1;
        if let Outer::Esp { from, spi } = outer {
            self.seen.trails[from.index()].note(spi);
        }
        let mut readable = outer == Outer::Unexpected;
        if readable {
            *self.seen.findings.entry("a frame of an unexpected kind").or_default() += 1;
        }
        let mut last = "";
        for (name, needle) in &self.needles {
            // Needles of one name are neighbours: a frame counts once for each name.
            if *name != last && needle.find(frame).is_some() {
                *self.seen.findings.entry(name).or_default() += 1;
                (readable, last) = (true, name);
            }
        }
        self.seen.plaintext += u64::from(readable);
    }

    /// What was seen so far.
    pub fn into_sightings(self) -> Sightings {
        self.seen
    }
}

/// Bytes that only the plain side knows. The shortest has 6: by chance such bytes stand once in 2^48 places of ciphertext.
fn needles() -> Vec<(&'static str, Vec<u8>)> {
    let mut needles = Vec::new();
    for side in Side::BOTH {
        needles.push(("a host's MAC address", side.host_mac().to_vec()));
    }
    for side in Side::BOTH {
        for address in [side.host_v6(), link_local(side.host_mac())] {
            needles.push(("a host's IPv6 address", address.octets().to_vec()));
        }
    }
    for (from, to) in Side::BOTH.into_iter().flat_map(|side| {
        let peer = side.peer();
        [(side.host_v4(), peer.host_v4()), (side.vlan_v4(), peer.vlan_v4())]
    }) {
        needles.push(("the hosts' pair of IPv4 addresses", [from.octets(), to.octets()].concat()));
    }
    for marker in [&ping::MARKER[..], iperf::MARKER, fetch::MARKER] {
        needles.push(("a payload's marker", marker.to_vec()));
    }
    needles
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outer {
    Esp { from: Side, spi: u32 },
    Known(Kind),
    Unexpected,
}

impl Outer {
    fn of(frame: &[u8]) -> Self {
        let classified = match (frame.get(12..14), frame.get(14..)) {
            (Some([0x08, 0x06]), Some(_)) => Some(Self::Known(Kind::Arp)),
            (Some([0x08, 0x00]), Some(packet)) => Self::of_ipv4(packet),
            (Some([0x86, 0xdd]), Some(packet)) => Self::of_ipv6(packet),
            _ => None,
        };
        classified.unwrap_or(Self::Unexpected)
    }

    fn of_ipv4(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        let from = sender(address(12)?.into(), address(16)?.into())?;
        let fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
        if fragment || header < 20 {
            return None;
        }
        match packet[9] {
            1 => Some(Self::Known(Kind::Icmp)),
            protocol => Self::of_transport(from, protocol, packet.get(header..)?),
        }
    }

    fn of_transport(from: Side, protocol: u8, payload: &[u8]) -> Option<Self> {
        let port = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
        match protocol {
            6 if port(0)? == CHANNEL_PORT || port(2)? == CHANNEL_PORT => Some(Self::Known(Kind::Channel)),
            17 if port(2)? == ESP_PORT => Self::of_esp(from, payload.get(8..)?),
            50 => Self::of_esp(from, payload),
            _ => None,
        }
    }

    /// SPI, sequence number, IV, at least the trailer of two bytes, ICV; bit 31 of our SPIs is 0, the epoch is not.
    fn of_esp(from: Side, esp: &[u8]) -> Option<Self> {
        let spi = u32::from_be_bytes(esp.get(..4)?.try_into().ok()?);
        (esp.len() >= 4 + 4 + 8 + 2 + 16 && (1..32).contains(&(spi >> 26))).then_some(Self::Esp { from, spi })
    }

    /// MLD (RFC 3810) comes behind a hop-by-hop header, with types 130 to 132 and 143; ND (RFC 4861) is 133 to 137.
    fn of_ipv6(packet: &[u8]) -> Option<Self> {
        let (next, payload) = match *packet.get(6)? {
            0 => (*packet.get(40)?, packet.get(48..)?),
            next => (next, packet.get(40..)?),
        };
        if next == 58 && matches!(payload.first()?, 130..=137 | 143) {
            return Some(Self::Known(Kind::Neighbour));
        }
        let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
        let from = sender(address(8)?.into(), address(24)?.into())?;
        match next {
            58 => Some(Self::Known(Kind::Icmp)),
            _ => Self::of_transport(from, next, payload),
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Esp { .. } => Kind::Esp,
            Self::Known(kind) => kind,
            Self::Unexpected => Kind::Unexpected,
        }
    }
}

/// The site whose cipher port sends to the other's.
fn sender(source: IpAddr, destination: IpAddr) -> Option<Side> {
    let addresses = |side: Side| [IpAddr::from(side.cipher_v4()), side.cipher_v6().into()];
    Side::BOTH.into_iter().find(|side| {
        addresses(*side).into_iter().zip(addresses(side.peer())).any(|pair| pair == (source, destination))
    })
}

#[cfg(test)]
#[path = "eavesdrop_tests.rs"]
mod tests;
