//! A worker's second pass: over frames that one packet does not carry, and over what it made itself.

use std::time::Instant;

use super::settle::kick;
use super::{LinkNumber, Queues, Worker, WorkerLink};
use crate::BURST;
use crate::counters::Tally;
use crate::drops::DropReason;

impl Worker {
    /// Cuts what was too big, or makes the answer to its sender. Fragments go by the link of the frame that they are of, whatever they
    /// show of it themselves.
    pub(super) fn fit_oversize(&mut self, cipher: usize, now: Instant) -> Result<(), crate::xsk::Error> {
        let mut oversize = std::mem::take(&mut self.oversize);
        let mut last = None;
        for (frame, link) in oversize.drain(..) {
            if let Some(other) = last.replace(link).filter(|last| *last != link) {
                self.seal_fragments(other, cipher, now)?;
            }
            // It is there: links come and go between bursts.
            let Some(place) = self.links.place(link) else {
                self.queues.umem.free(frame);
                continue;
            };
            let WorkerLink { protect, counters, .. } = self.links.get_mut(place);
            let router = protect.inside_mut().voice_mut();
            match self.fit.handle(frame, &mut self.queues.umem, &mut self.made, router, now) {
                Ok(fragments) => counters.add(Tally::FragmentsAdded, fragments.saturating_sub(1) as u64),
                Err(reason) => counters.add_dropped(reason, 1),
            }
        }
        if let Some(link) = last {
            self.seal_fragments(link, cipher, now)?;
        }
        // What sealing put there is gone again: its memory is used on.
        self.oversize = oversize;
        Ok(())
    }

    fn seal_fragments(
        &mut self,
        link: LinkNumber,
        cipher: usize,
        now: Instant,
    ) -> Result<(), crate::xsk::Error> {
        let Some(place) = self.links.place(link) else { return Ok(()) };
        while !self.made.fragments.is_empty() {
            let burst = self.made.fragments.len().min(BURST);
            self.batch.extend(self.made.fragments.drain(..burst));
            self.seal_made(place, cipher, now)?;
        }
        Ok(())
    }

    /// Encrypts what the worker made. None is too big, for it was made to fit; if one were, it would end here and not be worked on and on.
    fn seal_made(&mut self, place: usize, cipher: usize, now: Instant) -> Result<(), crate::xsk::Error> {
        self.seal(place, cipher, now)?;
        let counters = &self.links.get_mut(place).counters;
        counters.add_dropped(DropReason::TooBig, self.oversize.len() as u64);
        self.oversize.drain(..).for_each(|(frame, _)| self.queues.umem.free(frame));
        Ok(())
    }

    /// Sends ICMP errors to the plain side. One that finds no room is no loss: the sender will ask for it again.
    pub(super) fn answer(&mut self, queue: usize) -> Result<(), crate::xsk::Error> {
        let Queues { umem, plain, .. } = &mut self.queues;
        let count = plain.len();
        let port = &mut plain[queue % count];
        let sent = port.transmit(umem, &mut self.made.replies);
        kick(port)?;
        self.made.replies.drain(..).for_each(|frame| umem.free(frame));
        self.wiring.strays.add(Tally::IcmpOut, sent as u64);
        Ok(())
    }

    /// Sends ICMP errors to hosts behind a link's peer, on the way of the plain side's frames, and so under that link's rules.
    pub(super) fn answer_peer(
        &mut self,
        place: usize,
        queue: usize,
        now: Instant,
    ) -> Result<(), crate::xsk::Error> {
        self.batch.append(&mut self.made.replies);
        self.links.get_mut(place).counters.add(Tally::IcmpAdded, self.batch.len() as u64);
        let cipher = queue % self.queues.cipher.len();
        self.seal_made(place, cipher, now)?;
        kick(&mut self.queues.cipher[cipher])
    }
}
