//! A worker: one core, its share of the queues of both ports, five steps: receive, transform, transmit, recycle, apply key changes.

mod commands;
mod message;
mod oversize;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use tracing::error;

use crate::config::Polling;
use crate::counters::{Gauge, Tally};
use crate::drops::DropReason;
use crate::fit::Made;
use crate::handover::Handover;
use crate::spi::Epoch;
use crate::tunnel::Egress;
use crate::wire::ETH_HLEN;
use crate::xsk::{Frame, Port, Umem};
use crate::{BURST, Verdict};

pub use message::{Command, Event, PortReport, Queues, Transforms, Wiring};

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
pub const AHEAD_BUSY: usize = 8;
const AHEAD_IDLE: usize = 64;

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
        self.settle_unprotected(queue % self.queues.plain.len(), now)?;
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
        self.settle_unprotected(0, now)?;
        Ok(true)
    }

    fn settle_unprotected(&mut self, out: usize, now: Instant) -> Result<(), crate::xsk::Error> {
        let unprotect = &mut self.transforms.unprotect;
        let counters = &self.wiring.counters;
        counters.add(Tally::Derivations, unprotect.take_derivations());
        counters.set(Gauge::RxFlows, unprotect.flow_count() as u64);
        let wanted = unprotect.egress_mut().map(Egress::take_wanted).unwrap_or_default();
        wanted.into_iter().for_each(|address| self.tell(Event::Wanted(address)));
        let sent = self.settle(Side::Plain, out)?;
        self.wiring.counters.add(Tally::PlainOut, sent);
        if !self.made.replies.is_empty() {
            self.answer_peer(out, now)?;
        }
        if let Some(handover) = &mut self.wiring.handover {
            handover.wake();
        }
        Ok(())
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

    fn tell_probed(&mut self, epoch: Epoch) {
        let bit = 1 << epoch.index();
        if self.told & bit == 0 {
            self.told |= bit;
            self.tell(Event::Probed(epoch));
        }
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
