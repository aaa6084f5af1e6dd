//! From a flow's identity to its slot: one cache line a look-up, which can be asked for ahead.

use crate::classify::FlowId;
use crate::xsk::{filled, prefetch};

/// Slots by the hash of their flow: open addressing, at most half full. The hash has a random key, so that nobody can choose
/// flows that collide.
#[derive(Debug)]
pub(super) struct FlowIndex {
    /// Upper half of the hash, then the slot; 0 where there is none, for no flow has slot 0.
    places: Vec<u64>,
    hasher: ahash::RandomState,
}

/// A flow's hash in one table.
#[derive(Clone, Copy, Debug)]
pub struct FlowHash(u64);

impl FlowHash {
    #[inline]
    fn tag(self) -> u64 {
        self.0 & 0xffff_ffff_0000_0000
    }
}

impl FlowIndex {
    /// Room for `capacity` flows.
    pub(super) fn new(capacity: usize) -> FlowIndex {
        FlowIndex { places: filled(places(capacity), 0), hasher: ahash::RandomState::new() }
    }

    /// Bytes of memory for `capacity` flows.
    pub(super) fn size(capacity: usize) -> usize {
        places(capacity) * size_of::<u64>()
    }

    #[inline]
    pub(super) fn hash(&self, flow: &FlowId) -> FlowHash {
        FlowHash(self.hasher.hash_one(flow))
    }

    /// Asks for the memory that [`FlowIndex::find`] reads first.
    #[inline]
    pub(super) fn prefetch(&self, hash: FlowHash) {
        prefetch(&self.places[self.start(hash)]);
    }

    /// The first slot of this hash for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: FlowHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.start(hash);
        while self.places[at] != 0 {
            let slot = self.places[at] as u32;
            if hash.tag() == self.places[at] & 0xffff_ffff_0000_0000 && is_it(slot) {
                return Some(slot);
            }
            at = self.next(at);
        }
        None
    }

    /// Notes the slot (from 1 on) of a flow that has none yet.
    pub(super) fn insert(&mut self, hash: FlowHash, slot: u32) {
        let mut at = self.start(hash);
        while self.places[at] != 0 {
            at = self.next(at);
        }
        self.places[at] = hash.tag() | u64::from(slot);
    }

    /// Forgets all flows.
    pub(super) fn clear(&mut self) {
        self.places.fill(0);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.places.iter().all(|&place| place == 0)
    }

    #[inline]
    fn start(&self, FlowHash(hash): FlowHash) -> usize {
        hash as usize & (self.places.len() - 1)
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }
}

fn places(capacity: usize) -> usize {
    (2 * capacity).next_power_of_two()
}
