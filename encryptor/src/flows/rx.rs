//! The receiving side: the SPI read from a packet leads to its flow's key and replay window.

use std::sync::Arc;

use crate::aead::AeadKey;
use crate::keylog::KeyLog;
use crate::keys::{EpochKey, KeyError};
use crate::ownership::Owners;
use crate::replay::ReplayWindow;
use crate::spi::{Epoch, MAX_LANES, MAX_SLOTS, Spi};

/// Marks a slot of the index that holds no flow.
const EMPTY: u32 = u32::MAX;

/// A flow's receiving state in one epoch.
#[derive(Debug)]
pub struct RxFlow {
    /// The key.
    pub key: AeadKey,
    /// What was seen of it.
    pub window: ReplayWindow,
}

/// The memory of a receiving epoch, wiped and ready to be used (again).
#[derive(Debug)]
pub struct RxTable {
    index: Vec<u32>,
    flows: Vec<RxFlow>,
    /// Flows of all workers.
    capacity: u32,
    /// Of them in this table.
    room: usize,
}

impl RxTable {
    /// For a worker that owns up to `share` of `capacity` flows, in however many lanes, and probes beside; memory is taken here
    /// and never again.
    pub fn new(capacity: u32, share: u32) -> RxTable {
        let capacity = capacity.min(MAX_SLOTS - 1);
        let room = share.min(capacity) as usize + MAX_LANES;
        let index = vec![EMPTY; capacity as usize + MAX_LANES];
        RxTable { index, flows: Vec::with_capacity(room), capacity, room }
    }

    /// Bytes of memory that such a table takes.
    pub fn size(capacity: u32, share: u32) -> usize {
        (share as usize + MAX_LANES) * size_of::<RxFlow>()
            + (capacity as usize + MAX_LANES) * size_of::<u32>()
    }
}

/// What a receiving epoch is made by.
#[derive(Clone, Debug)]
pub struct RxTerms {
    /// Its number.
    pub epoch: Epoch,
    /// Lanes that the sender uses, from 0 on, and in each the flows whose keys are to be derived ahead. The lanes share the
    /// site's flows evenly.
    pub lanes: Arc<[u32]>,
    /// The worker that this is the part of.
    pub worker: u8,
    /// The workers that own its flows.
    pub owners: Owners,
    /// Its key.
    pub key: Arc<EpochKey>,
    /// Where flow keys are logged to, in a debug run.
    pub log: KeyLog,
}

/// The flows of one receiving epoch.
#[derive(Debug)]
pub struct RxEpoch {
    terms: RxTerms,
    /// Slots of each lane, the probe's included.
    lane_slots: u32,
    table: RxTable,
    probes: usize,
    /// Lane and slot that are to be derived ahead next.
    ahead: (u8, u32),
}

/// Where a packet's SPI leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// To the flow at this index for [`RxEpoch::flow`].
    Known(usize),
    /// To a slot whose flow has not been seen yet.
    Unseen,
    /// To another worker.
    Owner(u8),
    /// To a slot whose flow has not been seen yet, and no room is left for it.
    Full,
    /// To a lane or slot that this table does not have.
    OutOfRange,
}

impl RxEpoch {
    /// An epoch of which no packet has been seen. The probes' flows are stored at once: a probe must not compete with forged
    /// packets for the budget of derivations.
    pub fn new(table: RxTable, terms: RxTerms) -> Result<RxEpoch, KeyError> {
        let lane_slots = table.capacity / (terms.lanes.len() as u32).max(1) + 1;
        let mut rx = RxEpoch { terms, lane_slots, table, probes: 0, ahead: (0, 1) };
        for lane in 0..rx.terms.lanes.len() as u8 {
            let probe = Spi::new(rx.terms.epoch, lane, 0);
            if rx.lookup(probe) == Lookup::Unseen {
                let flow = rx.derive(probe)?;
                rx.store(probe, flow);
            }
        }
        rx.probes = rx.table.flows.len();
        Ok(rx)
    }

    /// Its number.
    pub fn epoch(&self) -> Epoch {
        self.terms.epoch
    }

    /// Flows so far, the probes' left out.
    pub fn flow_count(&self) -> usize {
        self.table.flows.len() - self.probes
    }

    /// Follows an SPI of this epoch.
    pub fn lookup(&self, spi: Spi) -> Lookup {
        match self.place(spi).map(|place| self.table.index[place]) {
            None => Lookup::OutOfRange,
            Some(EMPTY) => match self.terms.owners.of(spi) {
                owner if owner != self.terms.worker => Lookup::Owner(owner),
                _ if self.table.flows.len() >= self.table.room => Lookup::Full,
                _ => Lookup::Unseen,
            },
            Some(index) => Lookup::Known(index as usize),
        }
    }

    /// Derives up to `count` keys of flows that the sender had in use when it offered the epoch and will most likely carry over,
    /// which it does into the first slots of each lane. So the switch to the epoch costs no derivation at once, and forged packets
    /// have nothing to gain against these flows. Whether more are left.
    pub fn derive_ahead(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(spi) = self.next_ahead() else { return false };
            if self.lookup(spi) == Lookup::Unseen
                && let Ok(flow) = self.derive(spi)
            {
                self.store(spi, flow);
            }
        }
        true
    }

    /// Derives the state of an unseen flow without storing it: a forged packet must leave nothing behind.
    pub fn derive(&self, spi: Spi) -> Result<RxFlow, KeyError> {
        let key = self.terms.key.flow_key(spi)?;
        self.terms.log.record("rx", spi, &key);
        Ok(RxFlow { key: AeadKey::new(&key), window: ReplayWindow::new() })
    }

    /// The index that the next stored flow gets.
    pub fn next_index(&self) -> usize {
        self.table.flows.len()
    }

    /// Stores a flow whose first packet proved genuine.
    pub fn store(&mut self, spi: Spi, flow: RxFlow) {
        if let Some(place) = self.place(spi) {
            self.table.index[place] = self.next_index() as u32;
            self.table.flows.push(flow);
        }
    }

    /// The flow at an index.
    pub fn flow(&self, index: usize) -> &RxFlow {
        &self.table.flows[index]
    }

    /// The flow at an index, to mark what was seen.
    pub fn flow_mut(&mut self, index: usize) -> &mut RxFlow {
        &mut self.table.flows[index]
    }

    /// Wipes every key and gives the memory back.
    pub fn retire(mut self) -> RxTable {
        self.table.flows.clear();
        self.table.index.fill(EMPTY);
        self.table
    }

    /// The next SPI to derive ahead, whoever owns it.
    fn next_ahead(&mut self) -> Option<Spi> {
        loop {
            let (lane, slot) = self.ahead;
            let flows = *self.terms.lanes.get(usize::from(lane))?;
            if slot <= flows && slot < self.lane_slots {
                self.ahead.1 += 1;
                return Some(Spi::new(self.terms.epoch, lane, slot));
            }
            self.ahead = (lane + 1, 1);
        }
    }

    fn place(&self, spi: Spi) -> Option<usize> {
        let there = usize::from(spi.lane()) < self.terms.lanes.len() && spi.slot() < self.lane_slots;
        there.then(|| (u32::from(spi.lane()) * self.lane_slots + spi.slot()) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Arrivals;

    #[test]
    fn only_what_is_stored_is_known_and_retiring_forgets_it() {
        let key = Arc::new(EpochKey::new(&[5; 32]).unwrap());
        let lanes = [0; 3].into();
        let terms = RxTerms {
            epoch: Epoch::FIRST,
            lanes,
            key,
            worker: 0,
            owners: Owners::sole(),
            log: KeyLog::off(),
        };
        let mut rx = RxEpoch::new(RxTable::new(12, 12), terms).unwrap();
        let spi = |lane, slot| Spi::new(Epoch::FIRST, lane, slot);
        let flow = rx.derive(spi(2, 4)).unwrap();
        assert_eq!(rx.lookup(spi(2, 4)), Lookup::Unseen);
        rx.store(spi(2, 4), flow);
        assert_eq!(rx.lookup(spi(2, 4)), Lookup::Known(3));
        assert_eq!(rx.lookup(spi(1, 4)), Lookup::Unseen, "another lane's");
        assert_eq!(
            [0, 1, 2].map(|lane| rx.lookup(spi(lane, 0))),
            [0, 1, 2].map(Lookup::Known),
            "the probes'"
        );
        assert_eq!(rx.lookup(spi(2, 5)), Lookup::OutOfRange, "twelve flows are four for each of three lanes");
        assert_eq!(rx.lookup(spi(3, 1)), Lookup::OutOfRange);
        assert_eq!(rx.flow_count(), 1);
        let table = rx.retire();
        assert!(table.flows.is_empty() && table.index.iter().all(|&slot| slot == EMPTY));
    }

    #[test]
    fn each_worker_derives_ahead_what_it_owns_and_what_was_announced() {
        let key = Arc::new(EpochKey::new(&[5; 32]).unwrap());
        let owners = Arrivals::new(2).owners();
        let spis = [(0, 3), (1, 100)].map(|(lane, flows)| (1..=flows).map(move |slot| (lane, slot)));
        let mut known = 0;
        for worker in [0, 1] {
            let (lanes, owners) = ([3, 100].into(), owners.clone());
            let terms =
                RxTerms { epoch: Epoch::FIRST, lanes, key: key.clone(), worker, owners, log: KeyLog::off() };
            // Two lanes of 20 slots each: of the hundred announced flows only twenty can exist.
            let mut rx = RxEpoch::new(RxTable::new(40, 40), terms).unwrap();
            while rx.derive_ahead(2) {}
            for (lane, slot) in spis.clone().into_iter().flatten() {
                let spi = Spi::new(Epoch::FIRST, lane, slot);
                match rx.lookup(spi) {
                    Lookup::Known(_) => known += 1,
                    Lookup::Owner(owner) => assert_ne!(owner, worker),
                    other => assert_eq!((other, slot > 20), (Lookup::OutOfRange, true)),
                }
            }
        }
        assert_eq!(known, 23, "each by exactly one worker");
    }
}
