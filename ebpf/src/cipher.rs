use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::os::fd::BorrowedFd;

use crate::attachment::{AttachMode, Attachment};
use crate::object::{Buffers, Embedded, Loaded};
use crate::{CipherCounters, ClearSettings, Error};

static IMAGE: &Embedded<[u8]> = &Embedded(*include_bytes!(concat!(env!("OUT_DIR"), "/cipher.bpf.o")));

/// What the cipher port's program lets in. Fixed when it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSettings {
    /// The outer addresses.
    pub ends: CipherEnds,
    /// UDP destination port of ESP, such as 4500 (RFC 3948); without one ESP is bare (IP protocol 50).
    pub esp_port: Option<NonZeroU16>,
    /// The link channel's TCP port, at the side that listens.
    pub channel_port: u16,
    /// Whether that is ours; if not, we open the connection and nobody opens one to us.
    pub channel_listens: bool,
}

/// The outer addresses of both sites, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherEnds {
    /// IPv4.
    V4 {
        /// The other site's.
        peer: Ipv4Addr,
        /// This site's.
        own: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// The other site's.
        peer: Ipv6Addr,
        /// This site's.
        own: Ipv6Addr,
    },
}

/// The program of the cipher port: ESP from the peer goes to the AF_XDP socket of its queue; ARP, IPv6 neighbour
/// discovery, ICMP for us and the link channel go to the kernel; all else is dropped and counted by its reason.
///
/// Dropping this detaches the program. A process that is killed leaves it attached.
#[derive(Debug)]
pub struct CipherProgram {
    // First, so that the program is detached before it is unloaded.
    attachment: Attachment,
    loaded: Loaded,
}

impl CipherProgram {
    /// Loads the program with its settings and attaches it to `interface`, with no sockets yet.
    pub fn attach(
        interface: &str,
        mode: AttachMode,
        buffers: Buffers,
        settings: &CipherSettings,
    ) -> Result<Self, Error> {
        let loaded = load(interface, settings, buffers)?;
        let attachment = Attachment::new(interface, mode, &loaded.program())?;
        Ok(Self { attachment, loaded })
    }

    /// Gives the frames of receive queue `queue` (below [`crate::MAX_QUEUES`]) to `socket`, an AF_XDP socket bound to it.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.loaded.set_socket(queue, socket)
    }

    /// Says what may cross in clear, from the next frame on. Until then: nothing.
    pub fn set_clear(&self, settings: &ClearSettings) -> Result<(), Error> {
        self.loaded.set_clear(settings)
    }

    /// What the program has done with the frames since it was attached.
    pub fn counters(&self) -> Result<CipherCounters, Error> {
        self.loaded.counters(|map| CipherCounters::read(map))
    }

    /// The kernel's id of the program, as `ip link` and `bpftool` show it.
    pub fn id(&self) -> u32 {
        self.attachment.id()
    }
}

fn load(interface: &str, settings: &CipherSettings, buffers: Buffers) -> Result<Loaded, Error> {
    Loaded::load(interface, &IMAGE.0, Some(&settings.to_bytes()), buffers)
}

impl CipherSettings {
    /// `struct settings` of `cipher.bpf.c`: addresses and ports in network byte order.
    fn to_bytes(self) -> [u8; 44] {
        let mut bytes = [0; 44];
        let is_ipv6 = match self.ends {
            CipherEnds::V4 { peer, own } => {
                bytes[0..4].copy_from_slice(&peer.octets());
                bytes[16..20].copy_from_slice(&own.octets());
                false
            }
            CipherEnds::V6 { peer, own } => {
                bytes[0..16].copy_from_slice(&peer.octets());
                bytes[16..32].copy_from_slice(&own.octets());
                true
            }
        };
        bytes[32..34].copy_from_slice(&self.esp_port.map_or(0, NonZeroU16::get).to_be_bytes());
        bytes[34..36].copy_from_slice(&self.channel_port.to_be_bytes());
        bytes[36..40].copy_from_slice(&u32::from(self.channel_listens).to_ne_bytes());
        bytes[40..44].copy_from_slice(&u32::from(is_ipv6).to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
#[path = "cipher_tests.rs"]
mod tests;
