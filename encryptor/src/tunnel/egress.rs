//! The way out: opened packets are judged and sent to their next hop, or answered; next hops that are not resolved are asked for.
//! Both are done within bounds.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;

use super::{Delivery, Gateway, PlainSide, frame_as, put_on};
use crate::Verdict;
use crate::budget::Budget;
use crate::drops::DropReason;
use crate::icmp::{Problem, Voice};
use crate::wire::{EtherType, NextHeader};
use crate::xsk::Frame;

/// Next hops asked for, a second and at once, at the most: the peer's hosts decide how many there are.
const ASKS_PER_SECOND: u32 = 200;
/// The same for one burst.
const ASKS_PER_BURST: usize = 8;

/// Next hops that packets wait for.
pub type Wanted = ArrayVec<IpAddr, ASKS_PER_BURST>;

/// The gateway as the receiving side uses it.
#[derive(Debug)]
pub struct Egress {
    gateway: Gateway,
    wanted: Wanted,
    asks: Budget,
    voice: Voice,
}

impl Egress {
    /// The way out through this gateway.
    pub fn new(gateway: Gateway) -> Egress {
        let voice = Voice::new(gateway.side.teller());
        let asks = Budget::new(ASKS_PER_SECOND, ASKS_PER_SECOND);
        Egress { gateway, wanted: Wanted::new(), asks, voice }
    }

    /// Takes a new table; gives the old one back.
    pub fn follow(&mut self, side: Arc<PlainSide>) -> Arc<PlainSide> {
        self.voice.speak_as(side.teller());
        std::mem::replace(&mut self.gateway.side, side)
    }

    /// Lets time pass.
    pub fn refill(&mut self, now: Instant) {
        self.asks.refill(now);
        self.voice.refill(now);
    }

    /// Makes a frame for the next hop of the `payload` bytes that begin `start` bytes behind the front of `frame`, if they are a
    /// packet of the kind `next` that may go. One whose sender is to be told why it does not becomes the answer: a frame as the plain
    /// side sends them, for the way in.
    pub fn emit(&mut self, frame: &mut Frame, start: usize, payload: usize, next: NextHeader) -> Verdict {
        match self.gateway.deliver(&frame.data()[start..start + payload], next) {
            Ok(delivery) => {
                put_on(frame, start, &delivery, self.gateway.mac);
                Verdict::Send
            }
            Err((reason, wanted)) => {
                if let Some(address) = wanted {
                    self.want(address);
                }
                let told = self.problem(reason).is_some_and(|problem| {
                    self.frame_for_way_in(frame, start, payload, next);
                    self.voice.tell(frame, problem)
                });
                if told { Verdict::Answer(reason) } else { Verdict::Drop(reason) }
            }
        }
    }

    /// The next hops that were missed since the last call.
    pub fn take_wanted(&mut self) -> Wanted {
        std::mem::take(&mut self.wanted)
    }

    /// What the sender of a refused packet is told, if anything.
    fn problem(&self, reason: DropReason) -> Option<Problem> {
        match reason {
            DropReason::InnerTtl => Some(Problem::TimeExceeded),
            DropReason::InnerSize => u16::try_from(self.gateway.mtu).ok().map(Problem::TooBig),
            _ => None,
        }
    }

    fn frame_for_way_in(&self, frame: &mut Frame, start: usize, payload: usize, next: NextHeader) {
        let ethertype = if next == NextHeader::Ipv4 { EtherType::IPV4 } else { EtherType::IPV6 };
        let ours = self.gateway.mac;
        frame_as(frame, start, &Delivery { to: ours, ethertype, length: payload }, ours);
    }

    fn want(&mut self, address: IpAddr) {
        if !self.wanted.contains(&address) && !self.wanted.is_full() && self.asks.take() {
            self.wanted.push(address);
        }
    }
}
