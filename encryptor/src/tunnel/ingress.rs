//! The way in: frames of the plain side are judged, and those that cannot go on are answered, within bounds.

use std::sync::Arc;
use std::time::Instant;

use super::{Entry, Gateway, PlainSide};
use crate::Verdict;
use crate::drops::DropReason;
use crate::icmp::{Problem, Voice};
use crate::xsk::Frame;

/// The gateway as the sending side uses it.
#[derive(Debug)]
pub struct Ingress {
    gateway: Gateway,
    voice: Voice,
}

impl Ingress {
    /// The way in through this gateway.
    pub fn new(gateway: Gateway) -> Ingress {
        let voice = Voice::new(gateway.side.teller());
        Ingress { gateway, voice }
    }

    /// Takes a new table; gives the old one back.
    pub fn follow(&mut self, side: Arc<PlainSide>) -> Arc<PlainSide> {
        self.voice.speak_as(side.teller());
        std::mem::replace(&mut self.gateway.side, side)
    }

    /// Lets time pass.
    pub fn refill(&mut self, now: Instant) {
        self.voice.refill(now);
    }

    /// Who tells senders of errors.
    pub fn voice_mut(&mut self) -> &mut Voice {
        &mut self.voice
    }

    /// Judges a frame; see [`Gateway::admit`].
    pub fn admit(&self, frame: &[u8]) -> Result<Entry, DropReason> {
        self.gateway.admit(frame)
    }

    /// What becomes of a frame that is refused for `reason`: it is dropped, or it turns into the answer to its sender.
    pub fn refuse(&mut self, frame: &mut Frame, reason: DropReason) -> Verdict {
        match reason == DropReason::TtlExpired && self.voice.tell(frame, Problem::TimeExceeded) {
            true => Verdict::Answer(reason),
            false => Verdict::Drop(reason),
        }
    }
}
