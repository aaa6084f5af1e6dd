//! A worker: one core, its share of the queues of both ports, five steps: receive, transform, transmit, recycle, apply key changes.

mod bed;
mod commands;
mod link;
mod message;
mod oversize;
mod settle;
mod sort;

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use tracing::error;

use crate::config::Polling;
use crate::counters::{Gauge, Tally};
use crate::drops::DropReason;
use crate::fit::{Fit, Made};
use crate::handover::Handover;
use crate::tunnel::Egress;
use crate::xsk::{Frame, Umem};
use crate::{BURST, Verdict};

use link::Links;
use settle::{Side, kick};

pub use bed::Bed;
pub use link::{LinkWork, WorkerLink};
pub use message::{Command, Event, LinkCommand, LinkEvent, LinkNumber, PortReport, Queues, Wiring};

/// How long an adaptive worker with nothing to do looks again before it sleeps: longer than a packet's time at rates where the
/// wake-up would be felt, and than most cores take to wake up, so that the answer of a peer that slept finds this end awake; short
/// beside a scheduler's slice.
pub const LOOK: Duration = Duration::from_micros(150);
/// The longest sleep. Frames and commands end it early.
const SLEEP: Duration = Duration::from_secs(1);
/// The longest sleep while frames wait to be sent.
const SHORT_SLEEP: Duration = Duration::from_millis(1);
/// Keys made ahead of new epochs in one turn of the loop while no packets flow.
const AHEAD_IDLE: usize = 64;

/// Keys made ahead of new epochs in a turn whose packets took `spent`: an eighth of that, at 600 ns a key. So packets wait a little longer,
/// whatever they cost, and never long.
pub fn ahead_while_busy(spent: Duration) -> usize {
    (spent.as_nanos() / 5000).clamp(1, 32) as usize
}

/// One worker. It is made on the control thread and runs on its own.
#[derive(Debug)]
pub struct Worker {
    queues: Queues,
    links: Links,
    fit: Fit,
    wiring: Wiring,
    polling: Polling,
    bed: Bed,
    batch: Vec<Frame>,
    outbox: Vec<Frame>,
    verdicts: ArrayVec<Verdict, BURST>,
    /// Frames that were too big, as they were received, each with its link.
    oversize: Vec<(Frame, LinkNumber)>,
    /// What becomes of them.
    made: Made,
    /// Links that had more keys to be made ahead of an epoch to receive, and to send, when they were last asked.
    ahead: [usize; 2],
    /// Packets of other workers' flows, each with its owner and its link.
    parcels: Vec<(Frame, u8, LinkNumber)>,
    /// Frames of no link, each with what becomes of it.
    strays: Vec<(Frame, Verdict)>,
    stopped: bool,
}

impl Worker {
    /// `links` in the order in which their policies are asked.
    pub fn new(
        queues: Queues,
        links: Vec<LinkWork>,
        fit: Fit,
        wiring: Wiring,
        polling: Polling,
        bed: Bed,
    ) -> Worker {
        let (batch, outbox) = (Vec::with_capacity(BURST), Vec::with_capacity(BURST));
        let verdicts = ArrayVec::new();
        Worker {
            queues,
            links: Links::new(links),
            fit,
            wiring,
            polling,
            bed,
            batch,
            outbox,
            verdicts,
            oversize: Vec::with_capacity(BURST),
            made: Made::default(),
            ahead: [0; 2],
            parcels: Vec::with_capacity(BURST),
            strays: Vec::with_capacity(BURST),
            stopped: false,
        }
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
        let ahead = match busy {
            false => AHEAD_IDLE,
            // The clock is asked only while there are keys to be made.
            true if self.ahead == [0; 2] => 1,
            true => ahead_while_busy(now.elapsed()),
        };
        busy |= self.derive_ahead(now, ahead);
        busy |= self.carry(ahead);
        Ok(busy)
    }

    fn protect_burst(&mut self, queue: usize, now: Instant) -> Result<bool, crate::xsk::Error> {
        let Queues { umem, plain, .. } = &mut self.queues;
        if plain[queue].receive(umem, &mut self.batch, BURST) == 0 {
            return Ok(false);
        }
        self.batch.iter().for_each(Frame::prefetch);
        let out = queue % self.queues.cipher.len();
        match self.links.len() {
            1 => self.protect(0, out, now)?,
            _ => self.protect_by_link(out, now)?,
        }
        if !self.oversize.is_empty() {
            self.fit_oversize(out, now)?;
        }
        kick(&mut self.queues.cipher[out])?;
        if !self.made.replies.is_empty() {
            self.answer(queue)?;
        }
        Ok(true)
    }

    /// Encrypts the batch, all of which is one link's, as it came from the plain port.
    fn protect(&mut self, link: usize, out: usize, now: Instant) -> Result<(), crate::xsk::Error> {
        let counters = &self.links.get_mut(link).counters;
        counters.add(Tally::PlainIn, self.batch.len() as u64);
        counters.add(Tally::BytesOut, self.batch.iter().map(|frame| frame.len() as u64).sum());
        self.batch.iter_mut().for_each(|frame| self.fit.clamp(frame));
        self.seal(link, out, now)
    }

    /// Encrypts the batch, and puts it into the cipher port's ring.
    fn seal(&mut self, link: usize, out: usize, now: Instant) -> Result<(), crate::xsk::Error> {
        let work = self.links.get_mut(link);
        work.protect.burst(&mut self.batch, &mut self.verdicts, now);
        if work.protect.take_rotation_wish() {
            self.wiring.tell_of(work.number, LinkEvent::RotationWish);
        }
        note_tx_flows(work);
        self.settle(link, Side::Cipher, out, Tally::CipherOut)
    }

    fn unprotect_burst(&mut self, queue: usize, now: Instant) -> Result<bool, crate::xsk::Error> {
        let Queues { umem, cipher, .. } = &mut self.queues;
        if cipher[queue].receive(umem, &mut self.batch, BURST) == 0 {
            return Ok(false);
        }
        self.batch.iter().for_each(Frame::prefetch);
        let out = queue % self.queues.plain.len();
        match self.links.len() {
            1 => self.unprotect(0, out, None, now)?,
            _ => self.unprotect_by_link(out, None, now)?,
        }
        self.finish_unprotected(out)?;
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
        self.wiring.strays.add(Tally::TakenOver, lost);
        self.wiring.strays.add_dropped(DropReason::HandoverFull, lost);
        match (self.batch.len(), self.links.len()) {
            (0, _) => {}
            (_, 1) => self.unprotect(0, 0, Some(&from), now)?,
            _ => self.unprotect_by_link(0, Some(&from), now)?,
        }
        self.finish_unprotected(0)?;
        Ok(!from.is_empty() || lost > 0)
    }

    /// Opens the batch, all of which is from one link's peer. `from`: the workers whose queues its packets arrived
    /// on, if these are others.
    fn unprotect(
        &mut self,
        link: usize,
        out: usize,
        from: Option<&[u8]>,
        now: Instant,
    ) -> Result<(), crate::xsk::Error> {
        let WorkerLink { unprotect, counters, .. } = self.links.get_mut(link);
        match from {
            None => {
                counters.add(Tally::CipherIn, self.batch.len() as u64);
                unprotect.burst(&mut self.batch, &mut self.verdicts, now);
            }
            Some(from) => {
                counters.add(Tally::TakenOver, from.len() as u64);
                unprotect.burst_handed_over(&mut self.batch, from, &mut self.verdicts, now);
            }
        }
        counters.add(Tally::Derivations, unprotect.take_derivations());
        counters.set(Gauge::RxFlows, unprotect.flow_count() as u64);
        let wanted = unprotect.egress_mut().map(Egress::take_wanted).unwrap_or_default();
        wanted.into_iter().for_each(|address| self.wiring.tell(Event::Wanted(address)));
        self.settle(link, Side::Plain, out, Tally::PlainOut)?;
        match self.made.replies.is_empty() {
            true => Ok(()),
            false => self.answer_peer(link, out, now),
        }
    }

    /// Once for each burst, of however many links.
    fn finish_unprotected(&mut self, out: usize) -> Result<(), crate::xsk::Error> {
        kick(&mut self.queues.plain[out])?;
        self.hand_over();
        if let Some(handover) = &mut self.wiring.handover {
            handover.wake();
        }
        Ok(())
    }

    fn recycle(&mut self) {
        let Queues { umem, plain, cipher, fill } = &mut self.queues;
        for port in plain.iter_mut().chain(cipher) {
            port.complete(umem);
            port.refill(umem, *fill);
        }
    }

    /// With nothing to do: looks again if it polls busily, else does so for a while, then sleeps until a frame or a command comes.
    fn rest(&mut self, now: Instant, idle_since: &mut Option<Instant>) {
        let since = *idle_since.get_or_insert(now);
        if self.polling == Polling::Busy || now.saturating_duration_since(since) < LOOK {
            // It lets others have a core that it has to share. On one of its own the kernel comes back at once.
            std::thread::yield_now();
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
        let sending = ports.clone().any(|port| port.outstanding().tx > 0);
        let longest = if sending { SHORT_SLEEP } else { SLEEP };
        if let Err(error) = self.bed.sleep(ports, longest) {
            error!("the worker cannot sleep: {error}");
        }
    }

    fn tell(&self, event: Event) {
        self.wiring.tell(event);
    }

    fn close(mut self) {
        for link in self.links.iter_mut() {
            for epoch in link.protect.withdraw().into_iter().flatten() {
                self.wiring.tell_of(link.number, LinkEvent::TxRetired(epoch));
            }
        }
        self.queues.close();
    }
}

fn note_tx_flows(link: &mut WorkerLink) {
    let flows = link.protect.active_mut().map_or(0, |epoch| epoch.flow_count());
    link.counters.set(Gauge::TxFlows, flows as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_made_ahead_take_a_part_of_the_packets_time_and_are_some_in_any_case() {
        let keys = |microseconds| ahead_while_busy(Duration::from_micros(microseconds));
        assert_eq!([0, 4, 20, 80, 1_000_000].map(keys), [1, 1, 4, 16, 32]);
    }
}
