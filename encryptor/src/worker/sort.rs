//! With several links: a burst is sorted by link, and each link's share goes its way as a burst of its own.

use std::time::Instant;

use arrayvec::ArrayVec;

use super::Worker;
use super::settle::{Side, enqueue};
use crate::counters::Tally;
use crate::{BURST, Verdict};

/// Places of the links that have a share of a burst.
type Shares = ArrayVec<usize, BURST>;

impl Worker {
    /// Gives each plain frame of the batch to the link that carries it.
    pub(super) fn protect_by_link(&mut self, out: usize, now: Instant) -> Result<(), crate::xsk::Error> {
        let mut shares = Shares::new();
        for frame in self.batch.drain(..) {
            match self.links.carrier(frame.data()) {
                Ok(place) => {
                    let link = self.links.get_mut(place);
                    if link.batch.is_empty() {
                        shares.push(place);
                    }
                    link.batch.push(frame);
                }
                Err(verdict) => self.strays.push((frame, verdict)),
            }
        }
        self.settle_strays(Side::Cipher, out, [Tally::PlainIn, Tally::CipherOut])?;
        for place in shares {
            std::mem::swap(&mut self.batch, &mut self.links.get_mut(place).batch);
            self.protect(place, out, now)?;
        }
        Ok(())
    }

    /// Gives each packet of the batch to the link whose peer sent it. `from` as in [`Worker::unprotect`].
    pub(super) fn unprotect_by_link(
        &mut self,
        out: usize,
        from: Option<&[u8]>,
        now: Instant,
    ) -> Result<(), crate::xsk::Error> {
        let mut shares = Shares::new();
        for (at, frame) in self.batch.drain(..).enumerate() {
            match self.links.sender(frame.data()) {
                Ok(place) => {
                    let link = self.links.get_mut(place);
                    if link.batch.is_empty() {
                        shares.push(place);
                    }
                    link.batch.push(frame);
                    link.from.extend(from.map(|from| from[at]));
                }
                Err(verdict) => self.strays.push((frame, verdict)),
            }
        }
        let counted = if from.is_some() { Tally::TakenOver } else { Tally::CipherIn };
        self.settle_strays(Side::Plain, out, [counted, Tally::PlainOut])?;
        for place in shares {
            let link = self.links.get_mut(place);
            std::mem::swap(&mut self.batch, &mut link.batch);
            let own = std::mem::take(&mut link.from);
            self.unprotect(place, out, from.map(|_| &own[..]), now)?;
        }
        Ok(())
    }

    /// What is of no link crosses in clear or ends here.
    fn settle_strays(
        &mut self,
        side: Side,
        queue: usize,
        [received, sent]: [Tally; 2],
    ) -> Result<(), crate::xsk::Error> {
        if self.strays.is_empty() {
            return Ok(());
        }
        let counters = &self.wiring.strays;
        counters.add(received, self.strays.len() as u64);
        for (frame, verdict) in self.strays.drain(..) {
            match verdict {
                Verdict::Bypass => {
                    counters.add(side.bypass(), 1);
                    self.outbox.push(frame);
                }
                Verdict::Drop(reason) | Verdict::Answer(reason) => {
                    counters.add_dropped(reason, 1);
                    self.queues.umem.free(frame);
                }
                // Only a link's own path says these.
                Verdict::Send | Verdict::Dummy(_) | Verdict::HandOver(_) => {
                    unreachable!("a frame of no link has no keys")
                }
            }
        }
        enqueue(&mut self.queues, &mut self.outbox, counters, (side, queue), sent)
    }
}
