//! Counts what a site puts on the wire, where it arrives at the backhaul, whether the site lives to tell or not.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use qhaul::lab::plan::{ESP_PORT, Node, Side};
use qhaul::lab::{Topology, Trail};
use qhaul::spi::Spi;

use crate::flood::is_traffic;
use crate::wire::end::within;

/// `PACKET_OUTGOING` (packet(7)): what leaves here came from the other site.
const OUTGOING: u8 = 4;
/// A packet is old enough to be replayed once the peer has surely taken it.
const AGE: Duration = Duration::from_millis(150);
const ESP: usize = 42;

/// Packets of a site that reached the backhaul.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct OnWire {
    /// Of flows.
    pub(super) traffic: u64,
    /// Dummies in slot 0.
    pub(super) probes: u64,
}

/// Listens until it is dropped.
pub(super) struct WireTap {
    heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    stop: AtomicBool,
    traffic: AtomicU64,
    probes: AtomicU64,
    kept: Mutex<Kept>,
    switches: Mutex<Vec<Instant>>,
}

#[derive(Default)]
struct Kept {
    /// The packet that may be replayed.
    old: Option<Vec<u8>>,
    /// The one that takes its place, and when it was heard.
    young: Option<(Instant, Vec<u8>)>,
}

impl WireTap {
    /// For before the site is started: everything that it ever sends is counted.
    pub(super) fn start(topology: &Topology, side: Side) -> Result<WireTap> {
        let interface = format!("wan-{side}");
        let socket = within(&topology.namespace(Node::Backhaul), || Ok(open(&interface)?))
            .with_context(|| format!("listening to {interface}"))?;
        let heard = Arc::new(Heard::default());
        let told = heard.clone();
        let thread = thread::spawn(move || listen(&socket, &told));
        Ok(WireTap { heard, thread: Some(thread) })
    }

    pub(super) fn seen(&self) -> OnWire {
        let [traffic, probes] =
            [&self.heard.traffic, &self.heard.probes].map(|count| count.load(Ordering::Acquire));
        OnWire { traffic, probes }
    }

    /// When traffic was switched to new epochs, since this was asked last.
    pub(super) fn switches(&self) -> Vec<Instant> {
        self.heard.switches.lock().map(|mut switches| std::mem::take(&mut *switches)).unwrap_or_default()
    }

    /// A packet of traffic that its receiver has seen, and not long ago.
    pub(super) fn genuine(&self) -> Option<Vec<u8>> {
        self.heard.kept.lock().ok()?.old.clone()
    }
}

impl Drop for WireTap {
    fn drop(&mut self) {
        self.heard.stop.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            resume_unwind(panic);
        }
    }
}

fn open(interface: &str) -> io::Result<OwnedFd> {
    let mut addresses = getifaddrs()?.filter(|one| one.interface_name == interface);
    let address: Option<LinkAddr> = addresses.find_map(|one| one.address?.as_link_addr().copied());
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    bind(socket.as_raw_fd(), &address.ok_or(Errno::ENODEV)?)?;
    // Seconds of a listener that has no core for itself.
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100))?;
    Ok(socket)
}

fn listen(socket: &OwnedFd, heard: &Heard) {
    let (mut buffer, mut trail) = (vec![0; 1 << 16], Trail::default());
    while !heard.stop.load(Ordering::Relaxed) {
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) else {
            continue;
        };
        let frame = &buffer[..length];
        let Some(spi) = esp(frame).filter(|_| from.pkttype() != OUTGOING) else { continue };
        match spi.slot() {
            0 => heard.probes.fetch_add(1, Ordering::Release),
            _ => heard.traffic.fetch_add(1, Ordering::Release),
        };
        let epochs = trail.epochs();
        trail.note(spi.value());
        if let (true, Ok(mut switches)) = (trail.epochs() > epochs, heard.switches.lock()) {
            switches.push(Instant::now());
        }
        if is_traffic(frame) {
            keep(heard, frame);
        }
    }
}

fn keep(heard: &Heard, frame: &[u8]) {
    let Ok(mut kept) = heard.kept.lock() else { return };
    if kept.young.as_ref().is_none_or(|(heard, _)| heard.elapsed() >= AGE) {
        let young = kept.young.replace((Instant::now(), frame.to_vec()));
        kept.old = young.map(|(_, frame)| frame).or(kept.old.take());
    }
}

/// The SPI of ESP in UDP over IPv4.
fn esp(frame: &[u8]) -> Option<Spi> {
    let udp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 17;
    let to_esp = udp && frame.get(36..38)? == ESP_PORT.to_be_bytes();
    let spi = frame.get(ESP..ESP + 4)?.first_chunk().copied()?;
    Spi::from_wire(u32::from_be_bytes(spi)).filter(|_| to_esp)
}
