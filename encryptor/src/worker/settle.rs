//! What becomes of a burst once each of its frames has its verdict.

use arrayvec::ArrayVec;

use super::{LinkEvent, Queues, Worker};
use crate::counters::{Counters, Tally};
use crate::drops::DropReason;
use crate::spi::Epoch;
use crate::wire::ETH_HLEN;
use crate::xsk::{Frame, Port};
use crate::{BURST, Verdict};

/// A dummy of so many bytes is there for its size, and not only for its key.
const PATH_PROBE: usize = 512;

/// Where frames go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Plain,
    Cipher,
}

impl Side {
    /// What a frame that leaves on this side in clear is counted as.
    pub(super) fn bypass(self) -> Tally {
        match self {
            Side::Plain => Tally::BypassIn,
            Side::Cipher => Tally::BypassOut,
        }
    }
}

impl Worker {
    /// Turns verdicts into actions: what may go is put into a port's ring, all else goes home. `sent`: what is counted of what went.
    pub(super) fn settle(
        &mut self,
        link: usize,
        side: Side,
        queue: usize,
        sent: Tally,
    ) -> Result<(), crate::xsk::Error> {
        let umem = &mut self.queues.umem;
        let link = self.links.get_mut(link);
        let counters = &link.counters;
        let mut probed = ArrayVec::<(Epoch, usize), BURST>::new();
        for (mut frame, verdict) in self.batch.drain(..).zip(&self.verdicts) {
            match *verdict {
                Verdict::Send => {
                    if side == Side::Plain {
                        self.fit.clamp(&mut frame);
                        counters.add(Tally::BytesIn, frame.len() as u64);
                    }
                    self.outbox.push(frame);
                }
                Verdict::Bypass => {
                    counters.add(side.bypass(), 1);
                    self.outbox.push(frame);
                }
                Verdict::Dummy(epoch) => {
                    counters.add(Tally::Dummies, 1);
                    probed.push((epoch, frame.len().saturating_sub(ETH_HLEN)));
                    umem.free(frame);
                }
                Verdict::HandOver(owner) => self.parcels.push((frame, owner, link.number)),
                Verdict::Drop(DropReason::TooBig) => self.oversize.push((frame, link.number)),
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
            let bit = 1 << epoch.index();
            if link.told & bit == 0 {
                link.told |= bit;
                self.wiring.tell_of(link.number, LinkEvent::Probed(epoch));
            }
            if packet >= PATH_PROBE {
                self.wiring.tell_of(link.number, LinkEvent::PathSeen(packet as u32));
            }
        }
        enqueue(&mut self.queues, &mut self.outbox, &link.counters, (side, queue), sent)
    }
}

impl Worker {
    /// Gives packets to the workers that they belong to. After what this worker sends itself: at a switch of epochs a flow may go from
    /// one worker to the other within a burst, and its later packets must not overtake its earlier ones.
    pub(super) fn hand_over(&mut self) {
        for (frame, owner, link) in self.parcels.drain(..) {
            let handover = self.wiring.handover.as_mut();
            let given = handover.is_some_and(|handover| handover.give(owner, frame.data()));
            self.queues.umem.free(frame);
            // It is there: links come and go between bursts.
            let Some(place) = self.links.place(link) else { continue };
            let counters = &self.links.get_mut(place).counters;
            match given {
                true => counters.add(Tally::HandedOver, 1),
                false => counters.add_dropped(DropReason::HandoverFull, 1),
            }
        }
    }
}

/// Puts the outbox into a port's ring, and counts it as `tally`; what finds no room, even after a kick, is dropped under its name. All
/// that a burst became is kicked at once, by [`kick`].
pub(super) fn enqueue(
    queues: &mut Queues,
    outbox: &mut Vec<Frame>,
    counters: &Counters,
    (side, queue): (Side, usize),
    tally: Tally,
) -> Result<(), crate::xsk::Error> {
    let (port, reason) = match side {
        Side::Cipher => (&mut queues.cipher[queue], DropReason::CipherRingFull),
        Side::Plain => (&mut queues.plain[queue], DropReason::PlainRingFull),
    };
    let umem = &mut queues.umem;
    let mut sent = port.transmit(umem, outbox);
    if !outbox.is_empty() {
        kick(port)?;
        port.complete(umem);
        sent += port.transmit(umem, outbox);
    }
    counters.add(tally, sent as u64);
    counters.add_dropped(reason, outbox.len() as u64);
    outbox.drain(..).for_each(|frame| umem.free(frame));
    Ok(())
}

/// Has the kernel send what is in a port's ring. A port that is down keeps its frames until it is up again, or its ring is full: no
/// reason to end.
pub(super) fn kick(port: &mut Port) -> Result<(), crate::xsk::Error> {
    match port.kick() {
        Err(crate::xsk::Error::Down { .. }) => Ok(()),
        result => result,
    }
}
