//! The receiving side: the SPI read from a packet leads to its flow's key and replay window.

use std::sync::Arc;

use crate::aead::AeadKey;
use crate::keylog::KeyLog;
use crate::keys::{EpochKey, KeyError};
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
    capacity: u32,
}

impl RxTable {
    /// Room for `capacity` flows, in however many lanes, beside the probes'; memory is taken here and never again.
    pub fn new(capacity: u32) -> RxTable {
        let capacity = capacity.min(MAX_SLOTS - 1);
        let slots = capacity as usize + MAX_LANES;
        RxTable { index: vec![EMPTY; slots], flows: Vec::with_capacity(slots), capacity }
    }

    /// Bytes of memory that `capacity` flows take in one table.
    pub fn size(capacity: u32) -> usize {
        (capacity as usize + MAX_LANES) * (size_of::<RxFlow>() + size_of::<u32>())
    }
}

/// What a receiving epoch is made by.
#[derive(Clone, Debug)]
pub struct RxTerms {
    /// Its number.
    pub epoch: Epoch,
    /// Lanes that the sender uses, from 0 on. They share the table evenly.
    pub lanes: u8,
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
}

/// Where a packet's SPI leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// To the flow at this index for [`RxEpoch::flow`].
    Known(usize),
    /// To a slot whose flow has not been seen yet.
    Unseen,
    /// To a lane or slot that this table does not have.
    OutOfRange,
}

impl RxEpoch {
    /// An epoch of which no packet has been seen. The probes' flows are stored at once: a probe must not compete with forged
    /// packets for the budget of derivations.
    pub fn new(table: RxTable, terms: RxTerms) -> Result<RxEpoch, KeyError> {
        let lane_slots = table.capacity / u32::from(terms.lanes.max(1)) + 1;
        let mut rx = RxEpoch { terms, lane_slots, table };
        for lane in 0..rx.terms.lanes {
            let probe = Spi::new(rx.terms.epoch, lane, 0);
            let flow = rx.derive(probe)?;
            rx.store(probe, flow);
        }
        Ok(rx)
    }

    /// Its number.
    pub fn epoch(&self) -> Epoch {
        self.terms.epoch
    }

    /// Flows so far, the probes' left out.
    pub fn flow_count(&self) -> usize {
        self.table.flows.len() - usize::from(self.terms.lanes)
    }

    /// Follows an SPI of this epoch.
    pub fn lookup(&self, spi: Spi) -> Lookup {
        match self.place(spi).map(|place| self.table.index[place]) {
            None => Lookup::OutOfRange,
            Some(EMPTY) => Lookup::Unseen,
            Some(index) => Lookup::Known(index as usize),
        }
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

    fn place(&self, spi: Spi) -> Option<usize> {
        let there = spi.lane() < self.terms.lanes && spi.slot() < self.lane_slots;
        there.then(|| (u32::from(spi.lane()) * self.lane_slots + spi.slot()) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_stored_is_known_and_retiring_forgets_it() {
        let key = Arc::new(EpochKey::new(&[5; 32]).unwrap());
        let terms = RxTerms { epoch: Epoch::FIRST, lanes: 3, key, log: KeyLog::off() };
        let mut rx = RxEpoch::new(RxTable::new(12), terms).unwrap();
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
}
