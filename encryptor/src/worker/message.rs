//! What a worker is given, and what it and the control thread tell each other.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};
use mio::Waker;

use super::link::LinkWork;
use crate::counters::Counters;
use crate::flows::{RxEpoch, TxEpoch};
use crate::handover::Handover;
use crate::policy::Policy;
use crate::spi::Epoch;
use crate::tunnel::PlainSide;
use crate::xsk::{Port, PortCounters, Statistics, Umem};

/// A link among those of a site. Given anew only when nothing is left of the link that had it.
pub type LinkNumber = u8;

/// What the control thread tells the worker. Applied between bursts, in order.
#[derive(Debug)]
pub enum Command {
    /// Something about one link.
    Link(LinkNumber, LinkCommand),
    /// Work for one link more, behind all others.
    AddLink(LinkWork),
    /// Give back this link with all its epochs.
    RemoveLink(LinkNumber),
    /// From now on ask the links' policies in this order, and go by these. All at once: no frame meets some of the old ones and
    /// some of the new.
    SetPolicies(Vec<(LinkNumber, Arc<Policy>)>),
    /// The plain side is like this now (mode `ip`).
    PlainSide(Arc<PlainSide>),
    /// Tell how the ports do.
    Report,
    /// Give everything back and end.
    Stop,
}

/// What it tells of one link.
#[derive(Debug)]
pub enum LinkCommand {
    /// Install an epoch for sending; it is probed, then switched to.
    InstallTx(Box<TxEpoch>),
    /// Send a probe of the installed epoch.
    Probe(Epoch),
    /// Send a padded dummy of so many bytes, with its outer IP header, in the epoch in use.
    ProbePath(u32),
    /// Send in the installed epoch from now on.
    SwitchTx(Epoch),
    /// Send in no epoch.
    WithdrawTx,
    /// Receive in this epoch too.
    InstallRx(Box<RxEpoch>),
    /// Receive in this epoch no more.
    RetireRx(Epoch),
}

/// What the worker tells the control thread.
#[derive(Debug)]
pub enum Event {
    /// News of one link.
    Link(LinkNumber, LinkEvent),
    /// A link that is worked for no more; its epochs were given back before.
    LinkRemoved(LinkWork),
    /// Other policies are in force; those before are handed back, so that the worker never frees them.
    PoliciesReplaced(Vec<(LinkNumber, Arc<Policy>)>),
    /// A packet was for this next hop on the plain side, which is not resolved.
    Wanted(IpAddr),
    /// Tables of the plain side that are no longer used, to be freed where that takes no packet's time.
    PlainSideRetired([Option<Arc<PlainSide>>; 2]),
    /// How the ports do.
    Report(Vec<PortReport>),
    /// The worker cannot go on.
    Failed(String),
}

/// What it tells of one link.
#[derive(Debug)]
pub enum LinkEvent {
    /// Traffic is sent in this epoch.
    TxSwitched(Epoch),
    /// A sending epoch that is no longer used, to be wiped.
    TxRetired(Box<TxEpoch>),
    /// Packets of this epoch can be opened.
    RxInstalled(Epoch),
    /// A receiving epoch that is no longer used, to be wiped.
    RxRetired(Box<RxEpoch>),
    /// A probe of this epoch proved genuine. Told once for each epoch installed.
    Probed(Epoch),
    /// A genuine padded dummy came, of so many bytes with its outer IP header.
    PathSeen(u32),
    /// A soft limit asks for the next epoch.
    RotationWish,
}

/// How one queue of one port does.
#[derive(Clone, Debug)]
pub struct PortReport {
    /// The interface.
    pub interface: String,
    /// The queue.
    pub queue: u32,
    /// What the port counted.
    pub port: PortCounters,
    /// What the kernel counted.
    pub kernel: Statistics,
}

/// The memory and the queues of a worker.
#[derive(Debug)]
pub struct Queues {
    /// The frames of all ports.
    pub umem: Umem,
    /// Its queues of the plain port.
    pub plain: Vec<Port>,
    /// Its queues of the cipher port.
    pub cipher: Vec<Port>,
    /// Entries that each fill ring is kept at.
    pub fill: u32,
}

impl Queues {
    /// Lets go of the ports.
    pub fn close(self) {
        let Queues { mut umem, plain, cipher, .. } = self;
        for port in plain.into_iter().chain(cipher) {
            port.close(&mut umem);
        }
    }
}

/// How a worker and the control thread reach each other.
#[derive(Debug)]
pub struct Wiring {
    /// The worker's number, from 0 on. It is also the lane that it sends in.
    pub number: u8,
    /// What to do.
    pub commands: Receiver<Command>,
    /// What happened, and to which worker.
    pub events: Sender<(u8, Event)>,
    /// Wakes the control thread for events.
    pub control: Arc<Waker>,
    /// What is counted of frames that are of no link.
    pub strays: Arc<Counters>,
    /// With several workers: how packets get to the owner of their flow.
    pub handover: Option<Handover>,
}

impl Wiring {
    pub(super) fn tell(&self, event: Event) {
        // The control thread outlives the worker; if it is gone, so is the process soon.
        let _ = self.events.send((self.number, event));
        let _ = self.control.wake();
    }

    pub(super) fn tell_of(&self, link: LinkNumber, event: LinkEvent) {
        self.tell(Event::Link(link, event));
    }
}

/// A worker that panics says so: the others run on, so that nobody would notice by their silence.
impl Drop for Wiring {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(Event::Failed("it panicked; the log says where".into()));
        }
    }
}
