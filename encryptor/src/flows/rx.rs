//! The receiving side: the SPI read from a packet leads to its flow's key and replay window.

use crate::aead::AeadKey;
use crate::keylog::KeyLog;
use crate::keys::{EpochKey, KeyError};
use crate::replay::ReplayWindow;
use crate::spi::{Epoch, MAX_SLOTS, Spi};

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

/// The memory of a receiving epoch, wiped and ready to be used (again). One per lane of the sender that is in use.
#[derive(Debug)]
pub struct RxTable {
    index: Vec<u32>,
    flows: Vec<RxFlow>,
}

impl RxTable {
    /// Room for `capacity` flows beside the probe's; memory is taken here and never again.
    pub fn new(capacity: u32) -> RxTable {
        let slots = capacity.min(MAX_SLOTS - 1) as usize + 1;
        RxTable { index: vec![EMPTY; slots], flows: Vec::with_capacity(slots) }
    }

    /// Bytes of memory that `capacity` flows take in one table.
    pub fn size(capacity: u32) -> usize {
        (capacity as usize + 1) * (size_of::<RxFlow>() + size_of::<u32>())
    }
}

/// The flows of one receiving epoch.
#[derive(Debug)]
pub struct RxEpoch {
    epoch: Epoch,
    lane: u8,
    key: EpochKey,
    table: RxTable,
    log: KeyLog,
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
    /// An epoch of which no packet has been seen. `lane` is the one that the sender uses. The probe's flow is stored at
    /// once: a probe must not compete with forged packets for the budget of derivations.
    pub fn new(
        table: RxTable,
        epoch: Epoch,
        lane: u8,
        key: EpochKey,
        log: KeyLog,
    ) -> Result<RxEpoch, KeyError> {
        let mut rx = RxEpoch { epoch, lane, key, table, log };
        let probe = Spi::new(epoch, lane, 0);
        let flow = rx.derive(probe)?;
        rx.store(probe, flow);
        Ok(rx)
    }

    /// Its number.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Flows so far, the probe's included.
    pub fn flow_count(&self) -> usize {
        self.table.flows.len()
    }

    /// Follows an SPI of this epoch.
    pub fn lookup(&self, spi: Spi) -> Lookup {
        match self.table.index.get(spi.slot() as usize) {
            _ if spi.lane() != self.lane => Lookup::OutOfRange,
            None => Lookup::OutOfRange,
            Some(&EMPTY) => Lookup::Unseen,
            Some(&index) => Lookup::Known(index as usize),
        }
    }

    /// Derives the state of an unseen flow without storing it: a forged packet must leave nothing behind.
    pub fn derive(&self, spi: Spi) -> Result<RxFlow, KeyError> {
        let key = self.key.flow_key(spi)?;
        self.log.record("rx", spi, &key);
        Ok(RxFlow { key: AeadKey::new(&key), window: ReplayWindow::new() })
    }

    /// The index that the next stored flow gets.
    pub fn next_index(&self) -> usize {
        self.table.flows.len()
    }

    /// Stores a flow whose first packet proved genuine.
    pub fn store(&mut self, spi: Spi, flow: RxFlow) {
        self.table.index[spi.slot() as usize] = self.next_index() as u32;
        self.table.flows.push(flow);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_stored_is_known_and_retiring_forgets_it() {
        let key = EpochKey::new(&[5; 32]).unwrap();
        let mut rx = RxEpoch::new(RxTable::new(4), Epoch::FIRST, 2, key, KeyLog::off()).unwrap();
        let spi = |slot| Spi::new(Epoch::FIRST, 2, slot);
        let flow = rx.derive(spi(4)).unwrap();
        assert_eq!(rx.lookup(spi(4)), Lookup::Unseen);
        rx.store(spi(4), flow);
        assert_eq!(rx.lookup(spi(4)), Lookup::Known(1));
        assert_eq!(rx.lookup(spi(0)), Lookup::Known(0), "the probe's");
        assert_eq!(rx.lookup(spi(5)), Lookup::OutOfRange);
        assert_eq!(rx.lookup(Spi::new(Epoch::FIRST, 1, 4)), Lookup::OutOfRange);
        let table = rx.retire();
        assert!(table.flows.is_empty() && table.index.iter().all(|&slot| slot == EMPTY));
    }
}
