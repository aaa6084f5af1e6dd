//! Puts the data path together: queues, programs, worker; and takes it apart in an order in which nothing leaks.

use std::net::IpAddr;
use std::num::NonZeroU16;

use qhaul_ebpf::{
    AttachMode, Buffers, CipherCounters, CipherPeer, CipherProgram, CipherSettings, ClearSettings,
    PlainCounters, PlainProgram, PlainRouter,
};
use std::os::fd::AsFd;
use tracing::{info, warn};

use crate::BURST;
use crate::config::{Config, LinkConfig, Payload};
use crate::netlink;
use crate::policy::{ClearTypes, Policy};
use crate::spi::Epoch;
use crate::wire::{Encap, OuterShape};
use crate::worker::{LinkNumber, Queues};
use crate::xsk::{BindMode, Interface, LiveMode, OffloadsOff, Port, PortConfig, Promiscuous, Umem};

/// Bytes of a chunk.
const CHUNK: u32 = 4096;

/// The largest MTU at which a frame takes one buffer of any driver: a page without headroom, tags and the kernel's
/// skb_shared_info (on veth it is 3,506 bytes). Above it frames take several, which are copied together and apart.
pub const ONE_BUFFER_MTU: u32 = 3498;

/// The largest MTU of the plain side: frames of 9,216 bytes.
pub const MAX_PLAIN_MTU: u32 = 9216 - crate::wire::ETH_HLEN as u32;

/// What hinders the data path.
#[derive(Debug, thiserror::Error)]
pub enum DataPathError {
    /// A socket, a ring or the UMEM.
    #[error(transparent)]
    Sockets(#[from] crate::xsk::Error),
    /// A program.
    #[error(transparent)]
    Programs(#[from] qhaul_ebpf::Error),
    /// The plain port's addresses.
    #[error("the plain port's addresses: {0}")]
    Addresses(std::io::Error),
}

/// The epochs of a link that packets can be opened in, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LiveEpochs(u32);

impl LiveEpochs {
    /// These and `epoch`.
    pub fn with(self, epoch: Epoch) -> LiveEpochs {
        LiveEpochs(self.0 | 1 << epoch.index())
    }

    /// These without `epoch`.
    pub fn without(self, epoch: Epoch) -> LiveEpochs {
        LiveEpochs(self.0 & !(1 << epoch.index()))
    }
}

/// The two programs. Dropping them detaches them.
#[derive(Debug)]
pub struct Programs {
    interface: String,
    proven: bool,
    released: bool,
    /// Put back when this goes, whatever the way out.
    offloads: Vec<OffloadsOff>,
    /// Interface numbers of the plain and the cipher port.
    indexes: [u32; 2],
    /// For as long as the data path lives; a router takes only what is addressed to it.
    _promiscuous: Option<Promiscuous>,
    plain: PlainProgram,
    cipher: CipherProgram,
}

impl Drop for Programs {
    /// Whatever the way out: the plain port stays shut if it was shut before this process, or if traffic has passed. Nobody is to
    /// find clear frames where there were encrypted ones. Only a clean end opens it; a first start that fails changes nothing.
    fn drop(&mut self) {
        if !self.released && (self.proven || self.plain.replaced_stale()) {
            self.plain.stay_shut();
            let name = &self.interface;
            warn!(
                "{name}: the plain port stays shut; `qhaul run` takes it again, `ip link set dev {name} xdp off` opens it"
            );
        }
    }
}

impl Programs {
    /// Traffic has passed.
    pub fn prove(&mut self) {
        self.proven = true;
    }

    /// Ends cleanly: both ports are the kernel's again.
    pub fn release(mut self) {
        self.released = true;
    }

    /// Has the programs let through what the policy, any link's, may let cross in clear. Where the kernel refuses, nothing does.
    pub fn set_policy(&self, policy: &Policy) -> Result<(), qhaul_ebpf::Error> {
        let set = |settings: [ClearSettings; 2]| {
            self.plain.set_clear(&settings[0]).and_then(|()| self.cipher.set_clear(&settings[1]))
        };
        set(clear_settings(policy, self.indexes)).inspect_err(|_| {
            let _ = set(Default::default());
        })
    }

    /// Lets the peer of a link that comes later in at the cipher port, with no epoch live.
    pub fn add_peer(&self, number: LinkNumber, link: &LinkConfig) -> Result<(), qhaul_ebpf::Error> {
        self.cipher.add_peer(&peer_of(number, link))
    }

    /// Lets the peer of a link that goes in no more.
    pub fn remove_peer(&self, address: IpAddr) -> Result<(), qhaul_ebpf::Error> {
        self.cipher.remove_peer(address)
    }

    /// Says which epochs of link `number` there are keys for: ESP of all others is dropped before it costs a worker anything.
    pub fn set_live_epochs(&self, number: u8, epochs: LiveEpochs) -> Result<(), qhaul_ebpf::Error> {
        self.cipher.set_live_epochs(number.into(), epochs.0)
    }

    /// What the programs counted.
    pub fn counters(&self) -> Result<(PlainCounters, CipherCounters), qhaul_ebpf::Error> {
        Ok((self.plain.counters()?, self.cipher.counters()?))
    }

    fn take_sockets(&self, plain: &[Port], cipher: &[Port]) -> Result<(), qhaul_ebpf::Error> {
        for port in cipher {
            self.cipher.set_socket(port.queue(), port.as_fd())?;
        }
        for port in plain {
            self.plain.set_socket(port.queue(), port.as_fd())?;
        }
        Ok(())
    }
}

/// An open data path: programs attached, all queues claimed.
#[derive(Debug)]
pub struct DataPath {
    /// The programs.
    pub programs: Programs,
    /// The queues, for each worker its own.
    pub queues: Vec<Queues>,
    /// What is live: "zero-copy", "native-copy" or "generic".
    pub mode: &'static str,
}

/// Opens both ports in the best mode that works, or in the one that the configuration pins.
pub fn open(config: &Config, plain: &Interface, cipher: &Interface) -> Result<DataPath, DataPathError> {
    let attempts = config.attempts();
    for (number, (attach, bind)) in attempts.iter().enumerate() {
        match open_in(config, plain, cipher, *attach, *bind) {
            Err(error) if number + 1 < attempts.len() => {
                warn!("data path: {attach:?} XDP does not work here: {error}")
            }
            result => {
                if let Ok(path) = &result {
                    info!("data path: {} on {} and {}", path.mode, config.plain, config.cipher);
                }
                return result;
            }
        }
    }
    unreachable!("every mode has an attempt")
}

/// Programs first, and once for both ways to bind: from here on what no socket takes is dropped, and a driver that resets its
/// rings for XDP has done so.
fn open_in(
    config: &Config,
    plain: &Interface,
    cipher: &Interface,
    attach: AttachMode,
    bind: BindMode,
) -> Result<DataPath, DataPathError> {
    let one = plain.mtu.max(cipher.mtu) <= ONE_BUFFER_MTU;
    let buffers = if one { Buffers::One } else { Buffers::Several };
    let programs = attach_programs(config, [plain, cipher], attach, buffers)?;
    programs.set_policy(&config.links[0].policy)?;
    let queues = open_all_queues(config, [plain, cipher], bind, buffers, &programs)?;
    let mut ports = queues.iter().flat_map(|queues| queues.plain.iter().chain(&queues.cipher));
    let zero_copy = ports.all(|port| port.live_mode() == LiveMode::ZeroCopy);
    let mode = match (attach, zero_copy) {
        (_, true) => "zero-copy",
        (AttachMode::Native, false) => "native-copy",
        (AttachMode::Generic, false) => "generic",
    };
    Ok(DataPath { programs, queues, mode })
}

/// The queues of all workers, or none: what was opened is closed again.
fn open_all_queues(
    config: &Config,
    ports: [&Interface; 2],
    bind: BindMode,
    buffers: Buffers,
    programs: &Programs,
) -> Result<Vec<Queues>, DataPathError> {
    let mut all: Vec<Queues> = Vec::new();
    for worker in 0..config.cores.len() as u32 {
        match open_queues(config, worker, ports, bind, buffers, programs) {
            Ok(queues) => all.push(queues),
            Err(error) => {
                all.into_iter().for_each(Queues::close);
                return Err(error);
            }
        }
    }
    Ok(all)
}

/// The queues of one worker: of both ports every one whose number leaves the worker's when divided by the number of workers.
fn open_queues(
    config: &Config,
    worker: u32,
    [plain, cipher]: [&Interface; 2],
    bind: BindMode,
    buffers: Buffers,
    programs: &Programs,
) -> Result<Queues, DataPathError> {
    let ring = config.ring;
    let own = |port: &Interface| (worker..port.queues).step_by(config.cores.len());
    let names = own(plain).map(|queue| (plain.name.as_str(), queue));
    let names: Vec<(&str, u32)> =
        names.chain(own(cipher).map(|queue| (cipher.name.as_str(), queue))).collect();
    // Each queue can hold a fill ring and a transmit ring full, and what was received is on its way in between.
    let frames = names.len() as u32 * ring * 2 + ring;
    let chains = buffers == Buffers::Several;
    // A worker holds a burst at a time, of which each frame may be a large one and become several large fragments; each queue
    // may have begun one.
    let jumbos = if chains { names.len() + 4 * BURST } else { 0 };
    let mut umem = Umem::with_jumbos(frames, CHUNK, jumbos as u32)?;
    let sizes = PortConfig {
        rx: ring,
        tx: ring,
        fill: ring,
        completion: ring,
        bind,
        chains,
        ..PortConfig::default()
    };
    let mut ports = Port::open_all(&mut umem, &names, &sizes)?;
    let cipher = ports.split_off(own(plain).count());
    let queues = Queues { umem, plain: ports, cipher, fill: ring };
    if let Err(error) = programs.take_sockets(&queues.plain, &queues.cipher) {
        queues.close();
        return Err(error.into());
    }
    Ok(queues)
}

fn attach_programs(
    config: &Config,
    [plain, cipher]: [&Interface; 2],
    attach: AttachMode,
    buffers: Buffers,
) -> Result<Programs, DataPathError> {
    let settings = CipherSettings {
        own: config.own,
        esp_port: match config.encap {
            Encap::Udp(port) => NonZeroU16::new(port),
            Encap::None => None,
        },
        channel_port: config.channel_port,
    };
    let peers: Vec<CipherPeer> =
        (0..=LinkNumber::MAX).zip(&config.links).map(|(number, link)| peer_of(number, link)).collect();
    let mut programs = Programs {
        interface: config.plain.clone(),
        proven: false,
        released: false,
        offloads: Vec::new(),
        indexes: [plain.index, cipher.index],
        _promiscuous: match config.payload {
            Payload::Ethernet => Some(Promiscuous::new(plain)?),
            Payload::Ip => None,
        },
        cipher: CipherProgram::attach(&config.cipher, attach, buffers, &settings, &peers)?,
        plain: match router(config, plain)? {
            None => PlainProgram::attach(&config.plain, attach, buffers)?,
            Some(router) => PlainProgram::attach_router(&config.plain, attach, buffers, &router)?,
        },
    };
    for name in [&config.plain, &config.cipher] {
        let off = OffloadsOff::new(name)?;
        if !off.names().is_empty() {
            info!("{name}: switched off until qhaul ends: {}", off.names().join(", "));
        }
        programs.offloads.push(off);
    }
    Ok(programs)
}

fn peer_of(number: LinkNumber, link: &LinkConfig) -> CipherPeer {
    CipherPeer { address: link.ends.peer(), number: number.into(), calls: link.listens }
}

/// For the plain and the cipher port.
fn clear_settings(policy: &Policy, [plain, cipher]: [u32; 2]) -> [ClearSettings; 2] {
    let (any, types) = match policy.clear_types() {
        ClearTypes::Any => (true, Vec::new()),
        ClearTypes::These(types) => (false, types),
    };
    let ptp = |port: u32| policy.forwards_ptp_in_kernel().then_some(port);
    let outbound = ClearSettings { ptp_port: ptp(cipher), ..Default::default() };
    [outbound, ClearSettings { any, types, ptp_port: ptp(plain) }]
}

/// In mode `ip` the plain port has addresses that its neighbours may ask for.
fn router(config: &Config, plain: &Interface) -> Result<Option<PlainRouter>, DataPathError> {
    if config.payload == Payload::Ethernet {
        return Ok(None);
    }
    let own = netlink::addresses(plain.index).map_err(DataPathError::Addresses)?;
    let v6 = own.into_iter().filter_map(|entry| match entry.address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    });
    Ok(Some(PlainRouter { own_v6: v6.collect() }))
}

/// Bytes of an IP packet on the cipher side that carries the largest plain packet: `plain_mtu`, as a frame behind an Ethernet
/// header with two VLAN tags, in outer headers of this `shape`.
pub fn cipher_mtu_needed(payload: Payload, plain_mtu: u32, shape: OuterShape) -> u32 {
    let inside = match payload {
        Payload::Ethernet => plain_mtu as usize + crate::wire::ETH_HLEN + 8,
        Payload::Ip => plain_mtu as usize,
    };
    let packet = shape.ip_overhead() + inside + crate::esp::tail_len(inside);
    packet as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ends;

    #[test]
    fn a_live_epoch_has_the_bit_of_its_number() {
        let (one, last) = (Epoch::FIRST, Epoch::try_from(31).unwrap());
        let both = LiveEpochs::default().with(one).with(last);
        assert_eq!((both.0, both.without(one).0), (1 << 31 | 1 << 1, 1 << 31));
    }

    #[test]
    fn the_overhead_is_what_the_headers_add_up_to() {
        // 1,500 + 22 with trailer 2 padded to 1,536; IPv4 20, UDP 8, ESP 8, IV 8, ICV 16.
        let v4 = Ends::V4([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert_eq!(cipher_mtu_needed(Payload::Ethernet, 1500, v4.shape(Encap::Udp(4500))), 1536 + 60);
        assert_eq!(cipher_mtu_needed(Payload::Ethernet, 1500, v4.shape(Encap::None)), 1536 + 52);
        let v6 = Ends::V6(1.into(), 2.into());
        assert_eq!(cipher_mtu_needed(Payload::Ethernet, 1500, v6.shape(Encap::Udp(4500))), 1536 + 80);
        // 1,500 with trailer 2 padded to 1,504.
        assert_eq!(cipher_mtu_needed(Payload::Ip, 1500, v4.shape(Encap::Udp(4500))), 1504 + 60);
    }
}
