//! What a worker has for each link, and which link a frame is of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;

use super::message::LinkNumber;
use crate::counters::Counters;
use crate::drops::DropReason;
use crate::policy::{Decision, Direction, Match};
use crate::protect::Protect;
use crate::spi::Epoch;
use crate::unprotect::Unprotect;
use crate::wire::View;
use crate::xsk::Frame;
use crate::{BURST, Verdict};

/// An outer address as it stands in a packet; of IPv4 the first four bytes.
type Source = [u8; 16];

/// The packet path of one link at one worker.
#[derive(Debug)]
pub struct WorkerLink {
    pub(super) number: LinkNumber,
    pub(super) protect: Protect,
    pub(super) unprotect: Unprotect,
    pub(super) counters: Arc<Counters>,
    source: Source,
    /// Epochs, by number, whose probe was told of.
    pub(super) told: u32,
    /// The receiving epoch whose keys are derived ahead, and until when its being installed is told at the latest.
    pub(super) installing: Option<(Epoch, Option<Instant>)>,
    /// The sending epoch to switch to once the flows in use are carried over.
    pub(super) switching: Option<Epoch>,
    /// Frames of a burst that are this link's, while the burst is sorted.
    pub(super) batch: Vec<Frame>,
    /// The workers whose queues these arrived on, if they were handed over.
    pub(super) from: ArrayVec<u8, BURST>,
}

/// It as it goes between threads: a worker that adds a link or gives it back moves a pointer, and allocates and frees nothing.
pub type LinkWork = Box<WorkerLink>;

impl WorkerLink {
    /// A link without keys to the peer at an address. What is counted of it is counted in `counters`.
    pub fn new(
        number: LinkNumber,
        peer: IpAddr,
        protect: Protect,
        unprotect: Unprotect,
        counters: Arc<Counters>,
    ) -> WorkerLink {
        WorkerLink {
            number,
            protect,
            unprotect,
            counters,
            source: source_of(peer),
            told: 0,
            installing: None,
            switching: None,
            batch: Vec::with_capacity(BURST),
            from: ArrayVec::new(),
        }
    }

    /// What stands for it.
    pub fn number(&self) -> LinkNumber {
        self.number
    }

    /// What is counted of it.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// The links of a worker, in the order in which their policies are asked.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<LinkWork>,
    /// Their peers, sorted, each with its place among the links.
    sources: Vec<(Source, usize)>,
}

impl Links {
    /// With room for all that can be, so that no worker ever allocates for one.
    pub(super) fn new(first: Vec<LinkWork>) -> Links {
        let most = usize::from(LinkNumber::MAX) + 1;
        let mut links = Links { links: Vec::with_capacity(most), sources: Vec::with_capacity(most) };
        links.links.extend(first);
        links.index();
        links
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut WorkerLink {
        &mut self.links[at]
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut WorkerLink> {
        self.links.iter_mut().map(|link| &mut **link)
    }

    /// The place of a link.
    pub(super) fn place(&self, number: LinkNumber) -> Option<usize> {
        self.links.iter().position(|link| link.number == number)
    }

    pub(super) fn add(&mut self, link: LinkWork) {
        self.links.push(link);
        self.index();
    }

    pub(super) fn remove(&mut self, at: usize) -> LinkWork {
        let link = self.links.remove(at);
        self.index();
        link
    }

    /// Puts the links into this order; those that are not named stay behind the others.
    pub(super) fn arrange(&mut self, order: impl Fn(LinkNumber) -> usize) {
        self.links.sort_unstable_by_key(|link| order(link.number));
        self.index();
    }

    /// The place of the link that carries a plain frame: the first whose policy protects it. If there is none, what becomes of the
    /// frame: rules for what crosses in clear are in the policy of each link, in front, and a discard rule of one link speaks for
    /// that link alone.
    ///
    /// A frame that a link may be meant to carry, for all that it shows, is nobody else's: it would be given to the wrong site.
    pub(super) fn carrier(&self, frame: &[u8]) -> Result<usize, Verdict> {
        let view = View::of_frame(frame).ok_or(Verdict::Drop(DropReason::Runt))?;
        let mut refusal = DropReason::PolicyDiscard;
        let mut perhaps = None;
        for (at, link) in self.links.iter().enumerate() {
            match (link.protect.policy().judge(&view, Direction::Outbound), perhaps) {
                ((Decision::Protect(_), Match::Yes), None) => return Ok(at),
                ((Decision::Protect(_), _), None) => perhaps = Some(at),
                ((Decision::Protect(_), _), Some(_)) => return Err(Verdict::Drop(DropReason::PolicyUnclear)),
                ((Decision::Bypass, _), _) => return Err(Verdict::Bypass),
                ((Decision::Discard, _), _) => {}
                ((Decision::Unclear, _), _) => refusal = DropReason::PolicyUnclear,
            }
        }
        perhaps.ok_or(Verdict::Drop(refusal))
    }

    /// The place of the link whose peer sent a packet. If there is none, what becomes of it.
    pub(super) fn sender(&self, frame: &[u8]) -> Result<usize, Verdict> {
        let first = self.links.first().ok_or(Verdict::Drop(DropReason::NoLink))?;
        // What comes in clear is judged by the site's own rules, which stand in the policy of each link.
        if first.protect.policy().takes_as_clear(frame) {
            return Err(first.unprotect.judge_clear(frame));
        }
        let source = source_in(frame).ok_or(Verdict::Drop(DropReason::NoLink))?;
        match self.sources.binary_search_by_key(&source, |(source, _)| *source) {
            Ok(found) => Ok(self.sources[found].1),
            Err(_) => Err(Verdict::Drop(DropReason::NoLink)),
        }
    }

    fn index(&mut self) {
        self.sources.clear();
        self.sources.extend(self.links.iter().enumerate().map(|(at, link)| (link.source, at)));
        self.sources.sort_unstable();
    }
}

fn source_of(address: IpAddr) -> Source {
    match address {
        IpAddr::V4(address) => padded(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The outer source address, where the cipher port's program found it too: behind an untagged Ethernet header.
fn source_in(frame: &[u8]) -> Option<Source> {
    match frame.get(12..14)? {
        [0x08, 0x00] => frame.get(26..30)?.try_into().ok().map(padded),
        [0x86, 0xdd] => frame.get(22..38)?.try_into().ok(),
        _ => None,
    }
}

fn padded([a, b, c, d]: [u8; 4]) -> Source {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
