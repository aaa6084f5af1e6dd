//! A worker's second pass: over frames that one packet does not carry, and over what it made itself.

use std::time::Instant;

use super::{Queues, Side, Transforms, Worker, kick};
use crate::BURST;
use crate::counters::Tally;
use crate::drops::DropReason;

impl Worker {
    /// Cuts what was too big, or makes the answer to its sender. How many packets went to the cipher port.
    pub(super) fn fit_oversize(&mut self, cipher: usize, now: Instant) -> Result<u64, crate::xsk::Error> {
        let (umem, counters) = (&mut self.queues.umem, &self.wiring.counters);
        let Transforms { protect, fit, .. } = &mut self.transforms;
        for frame in self.oversize.drain(..) {
            let router = protect.inside_mut().voice_mut();
            match fit.handle(frame, umem, &mut self.made, router, now) {
                Ok(fragments) => counters.add(Tally::FragmentsAdded, fragments.saturating_sub(1) as u64),
                Err(reason) => counters.add_dropped(reason, 1),
            }
        }
        let mut sent = 0;
        while !self.made.fragments.is_empty() {
            let burst = self.made.fragments.len().min(BURST);
            self.batch.extend(self.made.fragments.drain(..burst));
            self.transforms.protect.burst(&mut self.batch, &mut self.verdicts, now);
            sent += self.settle_made(cipher)?;
        }
        Ok(sent)
    }

    /// Sends ICMP errors to the plain side. One that finds no room is no loss: the sender will ask for it again.
    pub(super) fn answer(&mut self, queue: usize) -> Result<(), crate::xsk::Error> {
        let Queues { umem, plain, .. } = &mut self.queues;
        let count = plain.len();
        let port = &mut plain[queue % count];
        let sent = port.transmit(umem, &mut self.made.replies);
        kick(port)?;
        self.made.replies.drain(..).for_each(|frame| umem.free(frame));
        self.wiring.counters.add(Tally::IcmpOut, sent as u64);
        Ok(())
    }

    /// Sends ICMP errors to hosts behind the peer, on the way of the plain side's frames, and so under its rules.
    pub(super) fn answer_peer(&mut self, queue: usize, now: Instant) -> Result<(), crate::xsk::Error> {
        self.batch.append(&mut self.made.replies);
        self.wiring.counters.add(Tally::IcmpAdded, self.batch.len() as u64);
        self.transforms.protect.burst(&mut self.batch, &mut self.verdicts, now);
        let sent = self.settle_made(queue % self.queues.cipher.len())?;
        self.wiring.counters.add(Tally::CipherOut, sent);
        Ok(())
    }

    /// Settles what the worker made. It was made to fit; if a frame did not, it would end here and not be worked on and on.
    fn settle_made(&mut self, cipher: usize) -> Result<u64, crate::xsk::Error> {
        let sent = self.settle(Side::Cipher, cipher)?;
        self.wiring.counters.add_dropped(DropReason::TooBig, self.oversize.len() as u64);
        self.oversize.drain(..).for_each(|frame| self.queues.umem.free(frame));
        Ok(sent)
    }
}
