use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::fd::BorrowedFd;

use crate::attachment::{AttachMode, Attachment};
use crate::object::{Buffers, Embedded, Loaded};
use crate::{CipherCounters, ClearSettings, Error};

static IMAGE: &Embedded<[u8]> = &Embedded(*include_bytes!(concat!(env!("OUT_DIR"), "/cipher.bpf.o")));

/// The highest number of peers: the size of the program's tables.
pub const MAX_PEERS: u32 = 256;

/// What the cipher port's program lets in, whoever sends it. Fixed when it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSettings {
    /// Our outer address.
    pub own: IpAddr,
    /// UDP destination port of ESP, such as 4500 (RFC 3948); without one ESP is bare (IP protocol 50).
    pub esp_port: Option<NonZeroU16>,
    /// The link channel's TCP port, at the side that listens.
    pub channel_port: u16,
}

/// Another site, of our address's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherPeer {
    /// Its outer address.
    pub address: IpAddr,
    /// What stands for it in [`CipherProgram::set_live_epochs`], below [`MAX_PEERS`]; no other peer's.
    pub number: u32,
    /// Whether it opens the link channel to us; if not, we open it and nobody opens one to us.
    pub calls: bool,
}

/// The program of the cipher port: ESP from its peers, in epochs that are live, goes to the AF_XDP socket of its queue; ARP, IPv6
/// neighbour discovery, ICMP for us and the link channel go to the kernel; all else is dropped and counted by its reason.
///
/// Dropping this detaches the program. A process that is killed leaves it attached.
#[derive(Debug)]
pub struct CipherProgram {
    // First, so that the program is detached before it is unloaded.
    attachment: Attachment,
    loaded: Loaded,
}

impl CipherProgram {
    /// Loads the program with its settings and attaches it to `interface`, with no sockets yet. It knows `peers` from its first
    /// frame on: one that calls already is no foreign source.
    pub fn attach(
        interface: &str,
        mode: AttachMode,
        buffers: Buffers,
        settings: &CipherSettings,
        peers: &[CipherPeer],
    ) -> Result<Self, Error> {
        let loaded = load(interface, settings, buffers)?;
        peers.iter().try_for_each(|peer| add_peer(&loaded, peer))?;
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

    /// Lets a peer in, from the next frame on, with no epoch live.
    pub fn add_peer(&self, peer: &CipherPeer) -> Result<(), Error> {
        add_peer(&self.loaded, peer)
    }

    /// Lets a peer in no more. One that is not there is no error.
    pub fn remove_peer(&self, address: IpAddr) -> Result<(), Error> {
        self.loaded.delete("peers", &key_of(address), "take a peer from the XDP program's table")
    }

    /// Says which epochs of peer `number` there are keys for, a bit for each: ESP of all others is dropped.
    pub fn set_live_epochs(&self, number: u32, epochs: u32) -> Result<(), Error> {
        set_live_epochs(&self.loaded, number, epochs)
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

fn add_peer(loaded: &Loaded, peer: &CipherPeer) -> Result<(), Error> {
    set_live_epochs(loaded, peer.number, 0)?;
    let mut value = [0; 8];
    value[0..4].copy_from_slice(&peer.number.to_ne_bytes());
    value[4..8].copy_from_slice(&u32::from(peer.calls).to_ne_bytes());
    loaded.update("peers", &key_of(peer.address), &value, "put a peer into the XDP program's table")
}

fn set_live_epochs(loaded: &Loaded, number: u32, epochs: u32) -> Result<(), Error> {
    let (number, epochs) = (number.to_ne_bytes(), epochs.to_ne_bytes());
    loaded.update("live_epochs", &number, &epochs, "tell the XDP program which epochs are live")
}

/// `struct address` of `cipher.bpf.c`.
fn key_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut key = [0; 16];
            key[0..4].copy_from_slice(&address.octets());
            key
        }
        IpAddr::V6(address) => address.octets(),
    }
}

impl CipherSettings {
    /// `struct settings` of `cipher.bpf.c`: addresses and ports in network byte order.
    fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[0..16].copy_from_slice(&key_of(self.own));
        bytes[16..18].copy_from_slice(&self.esp_port.map_or(0, NonZeroU16::get).to_be_bytes());
        bytes[18..20].copy_from_slice(&self.channel_port.to_be_bytes());
        bytes[20..24].copy_from_slice(&u32::from(self.own.is_ipv6()).to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
#[path = "cipher_tests.rs"]
mod tests;
