//! A worker: one core, its share of the queues of both ports, five steps: receive, transform, transmit, recycle, apply key changes.

mod oversize;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use crossbeam::channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use tracing::error;

use crate::config::Polling;
use crate::counters::{Counters, Gauge, Tally};
use crate::drops::DropReason;
use crate::fit::{Fit, Made};
use crate::flows::{RxEpoch, TxEpoch};
use crate::handover::Handover;
use crate::policy::Policy;
use crate::protect::{Inside, Protect};
use crate::spi::Epoch;
use crate::tunnel::{Egress, PlainSide};
use crate::unprotect::Unprotect;
use crate::wire::ETH_HLEN;
use crate::xsk::{Frame, Port, PortCounters, Statistics, Umem};
use crate::{BURST, Verdict};

/// How long an adaptive worker spins with nothing to do before it sleeps: longer than a packet's time at rates where the
/// wake-up would be felt, short beside a scheduler's slice.
const SPIN: Duration = Duration::from_micros(50);
/// The longest sleep. Frames and commands end it early.
const SLEEP: Duration = Duration::from_secs(1);
/// The longest sleep while frames wait to be sent.
const SHORT_SLEEP: Duration = Duration::from_millis(1);
/// A dummy of so many bytes is there for its size, and not only for its key.
const PATH_PROBE: usize = 512;
const WAKE: Token = Token(usize::MAX);
/// Keys made ahead of a new epoch in one turn of the loop: about ten microseconds while packets flow, more while none do.
const AHEAD_BUSY: usize = 8;
const AHEAD_IDLE: usize = 64;
/// The longest that a new epoch waits for keys that are derived ahead; the rest follows while it is in use.
const AHEAD_WITHIN: Duration = Duration::from_secs(1);

/// What the control thread tells the worker. Applied between bursts, in order.
#[derive(Debug)]
pub enum Command {
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
    /// Go by this policy from now on.
    SetPolicy(Arc<Policy>),
    /// The plain side is like this now (mode `ip`).
    PlainSide(Arc<PlainSide>),
    /// Tell how the ports do.
    Report,
    /// Give everything back and end.
    Stop,
}

/// What the worker tells the control thread.
#[derive(Debug)]
pub enum Event {
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
    /// Another policy is in force; the one before is handed back, so that the worker never frees it.
    PolicyReplaced([Arc<Policy>; 2]),
    /// A genuine padded dummy came, of so many bytes with its outer IP header.
    PathSeen(u32),
    /// A soft limit asks for the next epoch.
    RotationWish,
    /// A packet was for this next hop on the plain side, which is not resolved.
    Wanted(IpAddr),
    /// Tables of the plain side that are no longer used, to be freed where that takes no packet's time.
    PlainSideRetired([Option<Arc<PlainSide>>; 2]),
    /// How the ports do.
    Report(Vec<PortReport>),
    /// The worker cannot go on.
    Failed(String),
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

/// The packet path of a worker.
#[derive(Debug)]
pub struct Transforms {
    /// Plain to cipher.
    pub protect: Protect,
    /// Cipher to plain.
    pub unprotect: Unprotect,
    /// What does not fit.
    pub fit: Fit,
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
    /// What is counted.
    pub counters: Arc<Counters>,
    /// With several workers: how packets get to the owner of their flow.
    pub handover: Option<Handover>,
}

/// One worker. It is made on the control thread and runs on its own.
#[derive(Debug)]
pub struct Worker {
    queues: Queues,
    transforms: Transforms,
    wiring: Wiring,
    polling: Polling,
    poll: Poll,
    batch: Vec<Frame>,
    outbox: Vec<Frame>,
    verdicts: ArrayVec<Verdict, BURST>,
    /// Frames that were too big, as they were received.
    oversize: Vec<Frame>,
    /// What becomes of them.
    made: Made,
    /// Epochs, by number, whose probe was told of.
    told: u32,
    /// The receiving epoch whose keys are derived ahead, and until when its being installed is told at the latest.
    installing: Option<(Epoch, Option<Instant>)>,
    /// The sending epoch to switch to once the flows in use are carried over.
    switching: Option<Epoch>,
    stopped: bool,
}

impl Worker {
    /// What a worker sleeps on, and what wakes it.
    pub fn bed() -> io::Result<(Poll, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        Ok((poll, waker))
    }

    /// A worker that sleeps on `poll`, one of [`Worker::bed`].
    pub fn new(
        queues: Queues,
        transforms: Transforms,
        wiring: Wiring,
        polling: Polling,
        poll: Poll,
    ) -> io::Result<Worker> {
        for (number, port) in queues.plain.iter().chain(&queues.cipher).enumerate() {
            let fd = port.as_fd().as_raw_fd();
            // Readable only: a transmit ring is nearly always ready, and the loop would spin.
            poll.registry().register(&mut SourceFd(&fd), Token(number), Interest::READABLE)?;
        }
        let (batch, outbox) = (Vec::with_capacity(BURST), Vec::with_capacity(BURST));
        let verdicts = ArrayVec::new();
        Ok(Worker {
            queues,
            transforms,
            wiring,
            polling,
            poll,
            batch,
            outbox,
            verdicts,
            oversize: Vec::with_capacity(BURST),
            made: Made::default(),
            told: 0,
            installing: None,
            switching: None,
            stopped: false,
        })
    }

    /// Works until told to stop, then closes the ports.
    pub fn run(mut self) {
        let mut idle_since = None;
        while !self.stopped {
            let now = Instant::now();
            match self.turn(now) {
                Ok(true) => idle_since = None,
                Ok(false) => self.rest(now, &mut idle_since),
                Err(error) => {
                    self.tell(Event::Failed(error.to_string()));
                    break;
                }
            }
        }
        self.close();
    }

    /// One turn of the loop. Whether there was anything to do.
    fn turn(&mut self, now: Instant) -> Result<bool, crate::xsk::Error> {
        let mut busy = false;
        for queue in 0..self.queues.plain.len() {
            busy |= self.protect_burst(queue, now)?;
        }
        for queue in 0..self.queues.cipher.len() {
            busy |= self.unprotect_burst(queue, now)?;
        }
        busy |= self.take_over(now)?;
        self.recycle();
        busy |= self.apply_commands(now)?;
        let ahead = if busy { AHEAD_BUSY } else { AHEAD_IDLE };
        busy |= self.derive_ahead(now, ahead);
        busy |= self.carry(ahead);
        Ok(busy)
    }

    fn protect_burst(&mut self, queue: usize, now: Instant) -> Result<bool, crate::xsk::Error> {
        let Queues { umem, plain, .. } = &mut self.queues;
        let received = plain[queue].receive(umem, &mut self.batch, BURST);
        if received == 0 {
            return Ok(false);
        }
        let counters = &self.wiring.counters;
        counters.add(Tally::PlainIn, received as u64);
        counters.add(Tally::BytesOut, self.batch.iter().map(|frame| frame.len() as u64).sum());
        let Transforms { protect, fit, .. } = &mut self.transforms;
        self.batch.iter_mut().for_each(|frame| fit.clamp(frame));
        protect.burst(&mut self.batch, &mut self.verdicts, now);
        if self.transforms.protect.take_rotation_wish() {
            self.tell(Event::RotationWish);
        }
        self.note_tx_flows();
        let out = queue % self.queues.cipher.len();
        let mut sent = self.settle(Side::Cipher, out)?;
        if !self.oversize.is_empty() {
            sent += self.fit_oversize(out, now)?;
        }
        self.wiring.counters.add(Tally::CipherOut, sent);
        if !self.made.replies.is_empty() {
            self.answer(queue)?;
        }
        Ok(true)
    }

    fn unprotect_burst(&mut self, queue: usize, now: Instant) -> Result<bool, crate::xsk::Error> {
        let Queues { umem, cipher, .. } = &mut self.queues;
        let received = cipher[queue].receive(umem, &mut self.batch, BURST);
        if received == 0 {
            return Ok(false);
        }
        self.transforms.unprotect.burst(&mut self.batch, &mut self.verdicts, now);
        self.wiring.counters.add(Tally::CipherIn, received as u64);
        self.settle_unprotected(queue % self.queues.plain.len())?;
        Ok(true)
    }

    /// Opens what other workers handed over.
    fn take_over(&mut self, now: Instant) -> Result<bool, crate::xsk::Error> {
        let Some(handover) = &mut self.wiring.handover else { return Ok(false) };
        let (umem, mut from, mut lost) = (&mut self.queues.umem, ArrayVec::<u8, BURST>::new(), 0);
        while from.len() < BURST {
            let frame = handover.take(|packet, worker| {
                let frame = copy_into(umem, packet)?;
                from.push(worker);
                Some(frame)
            });
            match frame {
                None => break,
                Some(Some(frame)) => self.batch.push(frame),
                Some(None) => lost += 1,
            }
        }
        let taken = from.len() as u64 + lost;
        if taken == 0 {
            return Ok(false);
        }
        self.wiring.counters.add(Tally::TakenOver, taken);
        self.wiring.counters.add_dropped(DropReason::HandoverFull, lost);
        self.transforms.unprotect.burst_handed_over(&mut self.batch, &from, &mut self.verdicts, now);
        self.settle_unprotected(0)?;
        Ok(true)
    }

    fn settle_unprotected(&mut self, out: usize) -> Result<(), crate::xsk::Error> {
        let unprotect = &mut self.transforms.unprotect;
        let counters = &self.wiring.counters;
        counters.add(Tally::Derivations, unprotect.take_derivations());
        counters.set(Gauge::RxFlows, unprotect.flow_count() as u64);
        let wanted = unprotect.egress_mut().map(Egress::take_wanted).unwrap_or_default();
        wanted.into_iter().for_each(|address| self.tell(Event::Wanted(address)));
        let sent = self.settle(Side::Plain, out)?;
        self.wiring.counters.add(Tally::PlainOut, sent);
        if let Some(handover) = &mut self.wiring.handover {
            handover.wake();
        }
        Ok(())
    }

    /// Derives keys of the newest receiving epoch, and tells of it when they are there. Whether more are left.
    fn derive_ahead(&mut self, now: Instant, count: usize) -> bool {
        let Some((epoch, untold)) = self.installing else { return false };
        let more = self.transforms.unprotect.derive_ahead(epoch, count);
        let tell = untold.is_some_and(|latest| !more || now >= latest);
        if tell {
            self.tell(Event::RxInstalled(epoch));
        }
        self.installing = more.then_some((epoch, untold.filter(|_| !tell)));
        more
    }

    /// Carries flows over to the installed sending epoch, and switches to it when that is done. Whether more are left.
    fn carry(&mut self, count: usize) -> bool {
        let more = self.transforms.protect.carry(count);
        if let Some(epoch) = self.switching.take_if(|_| !more) {
            self.switch(epoch);
        }
        more
    }

    fn switch(&mut self, epoch: Epoch) {
        let (switched, old) = self.transforms.protect.switch(epoch);
        if let Some(old) = old {
            self.tell(Event::TxRetired(old));
        }
        if switched {
            self.note_tx_flows();
            self.tell(Event::TxSwitched(epoch));
        }
    }

    fn note_tx_flows(&mut self) {
        let flows = self.transforms.protect.active_mut().map_or(0, |epoch| epoch.flow_count());
        self.wiring.counters.set(Gauge::TxFlows, flows as u64);
    }

    /// Turns verdicts into actions: what may go goes out of a port, all else goes home. How many went.
    fn settle(&mut self, side: Side, queue: usize) -> Result<u64, crate::xsk::Error> {
        let (umem, Wiring { counters, handover, .. }) = (&mut self.queues.umem, &mut self.wiring);
        let mut probed = ArrayVec::<(Epoch, usize), BURST>::new();
        for (mut frame, verdict) in self.batch.drain(..).zip(&self.verdicts) {
            match *verdict {
                Verdict::Send => {
                    if side == Side::Plain {
                        self.transforms.fit.clamp(&mut frame);
                        counters.add(Tally::BytesIn, frame.len() as u64);
                    }
                    self.outbox.push(frame);
                }
                Verdict::Bypass => {
                    counters.add(if side == Side::Plain { Tally::BypassIn } else { Tally::BypassOut }, 1);
                    self.outbox.push(frame);
                }
                Verdict::Dummy(epoch) => {
                    counters.add(Tally::Dummies, 1);
                    probed.push((epoch, frame.len().saturating_sub(ETH_HLEN)));
                    umem.free(frame);
                }
                Verdict::HandOver(owner) => {
                    match handover.as_mut().is_some_and(|handover| handover.give(owner, frame.data())) {
                        true => counters.add(Tally::HandedOver, 1),
                        false => counters.add_dropped(DropReason::HandoverFull, 1),
                    }
                    umem.free(frame);
                }
                Verdict::Drop(DropReason::TooBig) => self.oversize.push(frame),
                Verdict::Drop(reason) => {
                    counters.add_dropped(reason, 1);
                    umem.free(frame);
                }
                Verdict::Answer(reason) => {
                    counters.add_dropped(reason, 1);
                    self.made.replies.push(frame);
                }
            }
        }
        for (epoch, packet) in probed {
            self.tell_probed(epoch);
            if packet >= PATH_PROBE {
                self.tell(Event::PathSeen(packet as u32));
            }
        }
        self.send(side, queue)
    }

    /// Sends the outbox; what finds no room, even after a kick, is dropped under its name. How many went.
    fn send(&mut self, side: Side, queue: usize) -> Result<u64, crate::xsk::Error> {
        let (port, reason) = match side {
            Side::Cipher => (&mut self.queues.cipher[queue], DropReason::CipherRingFull),
            Side::Plain => (&mut self.queues.plain[queue], DropReason::PlainRingFull),
        };
        let umem = &mut self.queues.umem;
        let mut sent = port.transmit(umem, &mut self.outbox);
        kick(port)?;
        if !self.outbox.is_empty() {
            port.complete(umem);
            sent += port.transmit(umem, &mut self.outbox);
            kick(port)?;
        }
        self.wiring.counters.add_dropped(reason, self.outbox.len() as u64);
        self.outbox.drain(..).for_each(|frame| umem.free(frame));
        Ok(sent as u64)
    }

    fn recycle(&mut self) {
        let Queues { umem, plain, cipher, fill } = &mut self.queues;
        for port in plain.iter_mut().chain(cipher) {
            port.complete(umem);
            port.refill(umem, *fill);
        }
    }

    fn apply_commands(&mut self, now: Instant) -> Result<bool, crate::xsk::Error> {
        let mut busy = false;
        while let Ok(command) = self.wiring.commands.try_recv() {
            busy = true;
            self.apply(command, now)?;
        }
        Ok(busy)
    }

    fn apply(&mut self, command: Command, now: Instant) -> Result<(), crate::xsk::Error> {
        let Transforms { protect, unprotect, .. } = &mut self.transforms;
        match command {
            Command::InstallTx(epoch) => {
                if let Some(unused) = protect.install(epoch) {
                    self.tell(Event::TxRetired(unused));
                }
            }
            Command::Probe(epoch) => {
                self.probe(0, |protect, frame| protect.probe(epoch, frame))?;
            }
            Command::ProbePath(bytes) => {
                let bytes = bytes as usize;
                self.probe(bytes, |protect, frame| protect.path_probe(bytes, frame))?;
            }
            Command::SwitchTx(epoch) => self.switching = Some(epoch),
            Command::WithdrawTx => {
                self.switching = None;
                for epoch in protect.withdraw().into_iter().flatten() {
                    self.tell(Event::TxRetired(epoch));
                }
            }
            Command::InstallRx(epoch) => {
                let number = epoch.epoch();
                self.told &= !(1 << number.index());
                if let Some(old) = unprotect.install(epoch) {
                    self.tell(Event::RxRetired(old));
                }
                self.installing = Some((number, Some(now + AHEAD_WITHIN)));
            }
            Command::RetireRx(epoch) => {
                self.installing.take_if(|(installing, _)| *installing == epoch);
                if let Some(old) = unprotect.retire(epoch) {
                    self.tell(Event::RxRetired(old));
                }
            }
            Command::SetPolicy(policy) => {
                let old = [protect.set_policy(policy.clone()), unprotect.set_policy(policy)];
                self.tell(Event::PolicyReplaced(old));
            }
            Command::PlainSide(side) => {
                let ingress = match protect.inside_mut() {
                    Inside::Frames => None,
                    Inside::Packets(ingress) => Some(ingress.follow(side.clone())),
                };
                let egress = unprotect.egress_mut().map(|egress| egress.follow(side));
                self.tell(Event::PlainSideRetired([ingress, egress]));
            }
            Command::Report => self.report(),
            Command::Stop => self.stopped = true,
        }
        Ok(())
    }

    /// Sends what `make` makes of a frame with room for `bytes`.
    fn probe(
        &mut self,
        bytes: usize,
        make: impl FnOnce(&mut Protect, &mut Frame) -> bool,
    ) -> Result<(), crate::xsk::Error> {
        let Some(mut frame) = self.queues.umem.alloc_for(bytes) else { return Ok(()) };
        if !make(&mut self.transforms.protect, &mut frame) {
            self.queues.umem.free(frame);
            return Ok(());
        }
        self.outbox.push(frame);
        let sent = self.send(Side::Cipher, 0)?;
        self.wiring.counters.add(Tally::Probes, sent);
        Ok(())
    }

    fn tell_probed(&mut self, epoch: Epoch) {
        let bit = 1 << epoch.index();
        if self.told & bit == 0 {
            self.told |= bit;
            self.tell(Event::Probed(epoch));
        }
    }

    fn report(&mut self) {
        let ports = self.queues.plain.iter().chain(&self.queues.cipher);
        let report = ports.map(|port| PortReport {
            interface: port.interface().to_string(),
            queue: port.queue(),
            port: port.counters(),
            kernel: port.statistics().unwrap_or_default(),
        });
        let report = report.collect();
        self.tell(Event::Report(report));
    }

    /// With nothing to do: spins for a while, then sleeps until a frame or a command comes.
    fn rest(&mut self, now: Instant, idle_since: &mut Option<Instant>) {
        let since = *idle_since.get_or_insert(now);
        if self.polling == Polling::Busy || now.saturating_duration_since(since) < SPIN {
            std::hint::spin_loop();
            return;
        }
        if self.wiring.handover.as_ref().is_none_or(Handover::may_sleep) {
            self.sleep();
        }
        if let Some(handover) = &self.wiring.handover {
            handover.awake();
        }
    }

    fn sleep(&mut self) {
        let ports = self.queues.plain.iter().chain(&self.queues.cipher);
        let sending = ports.into_iter().any(|port| port.outstanding().tx > 0);
        let longest = if sending { SHORT_SLEEP } else { SLEEP };
        let mut events = Events::with_capacity(16);
        match self.poll.poll(&mut events, Some(longest)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => error!("the worker cannot sleep: {error}"),
        }
    }

    fn tell(&self, event: Event) {
        self.wiring.tell(event);
    }

    fn close(mut self) {
        for epoch in self.transforms.protect.withdraw().into_iter().flatten() {
            self.tell(Event::TxRetired(epoch));
        }
        self.queues.close();
    }
}

impl Wiring {
    fn tell(&self, event: Event) {
        // The control thread outlives the worker; if it is gone, so is the process soon.
        let _ = self.events.send((self.number, event));
        let _ = self.control.wake();
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

/// A frame that holds `packet`, if there is one that is free and large enough.
fn copy_into(umem: &mut Umem, packet: &[u8]) -> Option<Frame> {
    for alloc in [Umem::alloc, Umem::alloc_jumbo] {
        let mut frame = alloc(umem)?;
        if frame.fill_from(packet) {
            return Some(frame);
        }
        umem.free(frame);
    }
    None
}

/// A port that is down keeps its frames until it is up again, or its ring is full: no reason to end.
fn kick(port: &mut Port) -> Result<(), crate::xsk::Error> {
    match port.kick() {
        Err(crate::xsk::Error::Down { .. }) => Ok(()),
        result => result,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Plain,
    Cipher,
}
