//! The way in: frames of the plain side are judged, and those that cannot go on are answered, within bounds.

use std::sync::Arc;
use std::time::Instant;

use super::time_exceeded::{Teller, answer};
use super::{Entry, Gateway, PlainSide};
use crate::Verdict;
use crate::budget::Budget;
use crate::drops::DropReason;
use crate::xsk::Frame;

/// ICMP errors a second, and at once, at the most (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).
const ERRORS_PER_SECOND: u32 = 100;

/// The gateway as the sending side uses it.
#[derive(Debug)]
pub struct Ingress {
    gateway: Gateway,
    teller: Teller,
    errors: Budget,
}

impl Ingress {
    /// The way in through this gateway.
    pub fn new(gateway: Gateway) -> Ingress {
        let teller = gateway.side.teller();
        Ingress { gateway, teller, errors: Budget::new(ERRORS_PER_SECOND, ERRORS_PER_SECOND) }
    }

    /// Takes a new table; gives the old one back.
    pub fn follow(&mut self, side: Arc<PlainSide>) -> Arc<PlainSide> {
        self.teller = side.teller();
        std::mem::replace(&mut self.gateway.side, side)
    }

    /// Lets time pass.
    pub fn refill(&mut self, now: Instant) {
        self.errors.refill(now);
    }

    /// Judges a frame; see [`Gateway::admit`].
    pub fn admit(&self, frame: &[u8]) -> Result<Entry, DropReason> {
        self.gateway.admit(frame)
    }

    /// What becomes of a frame that is refused for `reason`: it is dropped, or it turns into the answer to its sender.
    pub fn refuse(&mut self, frame: &mut Frame, reason: DropReason) -> Verdict {
        if reason != DropReason::TtlExpired {
            return Verdict::Drop(reason);
        }
        match self.errors.take() {
            true if answer(frame, &self.teller) => Verdict::Answer(reason),
            true => {
                self.errors.refund();
                Verdict::Drop(reason)
            }
            false => Verdict::Drop(reason),
        }
    }
}
