//! The receiving side: the SPI read from a packet leads to its flow's key and replay window.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::FEW;
use crate::BURST;
use crate::aead::{AeadKey, Engine, KeyStore};
use crate::keylog::KeyLog;
use crate::keys::{EpochKey, KeyError};
use crate::ownership::Owners;
use crate::replay::{ReplayWindow, WindowBits, WindowSize, mark};
use crate::spi::{Epoch, MAX_LANES, MAX_SLOTS, Spi};
use crate::xsk::{filled, huge_pages, prefetch};

/// Marks a slot of the index that holds no flow.
const EMPTY: u32 = u32::MAX;

/// A flow's receiving state in one epoch, but for its key and the bits of its replay window.
#[derive(Debug)]
struct RxFlow {
    highest: u64,
    salt: [u8; 4],
}

/// A flow first seen in this burst.
#[derive(Debug)]
struct Fresh {
    spi: Spi,
    salt: [u8; 4],
    /// Its index in the table, once a packet of it proved genuine.
    stored: Option<usize>,
}

/// The memory of a receiving epoch, wiped and ready to be used (again).
#[derive(Debug)]
pub struct RxTable {
    index: Vec<u32>,
    flows: Vec<RxFlow>,
    window_bits: WindowBits,
    window: WindowSize,
    keys: KeyStore,
    /// Flows of this burst that may be forged; their keys beside them.
    fresh: ArrayVec<Fresh, BURST>,
    fresh_keys: KeyStore,
    /// Flows of all workers.
    capacity: u32,
    /// Of them in this table.
    room: usize,
}

impl RxTable {
    /// For a worker that owns up to `share` of `capacity` flows, in however many lanes, and probes beside; memory is taken here
    /// and never again.
    pub fn new(engine: Engine, capacity: u32, share: u32, window: WindowSize) -> RxTable {
        let capacity = capacity.min(MAX_SLOTS - 1);
        let room = share.min(capacity) as usize + MAX_LANES;
        let mut table = RxTable {
            index: filled(capacity as usize + MAX_LANES, EMPTY),
            flows: Vec::with_capacity(room),
            window_bits: WindowBits::new(room, window),
            window,
            keys: KeyStore::with_capacity(engine, room),
            fresh: ArrayVec::new(),
            fresh_keys: KeyStore::with_capacity(engine, BURST),
            capacity,
            room,
        };
        huge_pages(table.flows.spare_capacity_mut());
        table
    }

    /// Bytes of memory that such a table takes.
    pub fn size(engine: Engine, capacity: u32, share: u32, window: WindowSize) -> usize {
        let flows = share as usize + MAX_LANES;
        flows * (size_of::<RxFlow>() + KeyStore::key_size(engine))
            + window.bytes(flows)
            + BURST * KeyStore::key_size(engine)
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

/// A flow whose key is at hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowRef {
    /// It is in the table, at this index.
    Stored(u32),
    /// It was first seen in this burst, in this place of the list of such flows.
    Fresh(u32),
}

/// Where a packet's SPI leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// To a flow.
    Known(FlowRef),
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
            rx.add(Spi::new(rx.terms.epoch, lane, 0))?;
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
    #[inline]
    pub fn lookup(&self, spi: Spi) -> Lookup {
        match self.place(spi).map(|place| self.table.index[place]) {
            None => Lookup::OutOfRange,
            Some(EMPTY) => match self.terms.owners.of(spi) {
                owner if owner != self.terms.worker => Lookup::Owner(owner),
                _ => self.lookup_fresh(spi),
            },
            Some(index) => Lookup::Known(FlowRef::Stored(index)),
        }
    }

    /// Whether memory is worth asking for ahead.
    #[inline]
    pub fn has_many_flows(&self) -> bool {
        self.table.flows.len() > FEW
    }

    /// Asks for the memory that tells where the flow is.
    #[inline]
    pub fn prefetch_index(&self, spi: Spi) {
        if let Some(place) = self.place(spi) {
            prefetch(&self.table.index[place]);
        }
    }

    /// Asks for the memory that a packet of a stored flow needs, once the index is there.
    #[inline]
    pub fn prefetch_flow(&self, spi: Spi, sequence_low: u32) {
        let RxTable { index, flows, window_bits, keys, .. } = &self.table;
        if let Some(at) = self.place(spi).map(|place| index[place]).filter(|&at| at != EMPTY) {
            prefetch(&flows[at as usize]);
            window_bits.prefetch(at as usize, sequence_low);
            keys.prefetch(at as usize);
        }
    }

    fn lookup_fresh(&self, spi: Spi) -> Lookup {
        let RxTable { flows, fresh, room, .. } = &self.table;
        match fresh.iter().position(|fresh| fresh.spi == spi) {
            Some(place) => Lookup::Known(FlowRef::Fresh(place as u32)),
            None if flows.len() + fresh.len() >= *room => Lookup::Full,
            None => Lookup::Unseen,
        }
    }

    /// Derives up to `count` keys of flows that the sender had in use when it offered the epoch and will most likely carry over,
    /// which it does into the first slots of each lane. So the switch to the epoch costs no derivation at once, and forged packets
    /// have nothing to gain against these flows. Whether more are left.
    pub fn derive_ahead(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(spi) = self.next_ahead() else { return false };
            // A key that cannot be derived now is derived when its first packet comes.
            let _ = self.add(spi);
        }
        true
    }

    /// Stores a flow of ours before a packet of it came.
    fn add(&mut self, spi: Spi) -> Result<(), KeyError> {
        let (Lookup::Unseen, Some(place)) = (self.lookup(spi), self.place(spi)) else { return Ok(()) };
        let key = self.terms.key.flow_key(spi)?;
        self.terms.log.record("rx", spi, &key);
        self.table.index[place] = self.table.flows.len() as u32;
        self.table.flows.push(RxFlow { salt: key.salt(), highest: 0 });
        self.table.keys.push(&key);
        Ok(())
    }

    /// Derives the key of an unseen flow for this burst, at most [`BURST`] times before [`RxEpoch::forget_fresh`]. Nothing is
    /// stored: a forged packet must leave nothing behind.
    pub fn derive(&mut self, spi: Spi) -> Result<FlowRef, KeyError> {
        let key = self.terms.key.flow_key(spi)?;
        self.terms.log.record("rx", spi, &key);
        self.table.fresh_keys.push(&key);
        self.table.fresh.push(Fresh { spi, salt: key.salt(), stored: None });
        Ok(FlowRef::Fresh(self.table.fresh.len() as u32 - 1))
    }

    /// Stores a flow of which a packet proved genuine. Its index, and whether this stored it.
    #[inline(always)]
    pub fn store(&mut self, flow: FlowRef) -> (usize, bool) {
        let place = match flow {
            FlowRef::Stored(at) => return (at as usize, false),
            FlowRef::Fresh(place) => place as usize,
        };
        self.store_fresh(place)
    }

    #[cold]
    fn store_fresh(&mut self, place: usize) -> (usize, bool) {
        let spot = self.place(self.table.fresh[place].spi).expect("only an SPI within the table is derived");
        let RxTable { index, flows, keys, fresh, fresh_keys, .. } = &mut self.table;
        if let Some(at) = fresh[place].stored {
            return (at, false);
        }
        let at = flows.len();
        flows.push(RxFlow { salt: fresh[place].salt, highest: 0 });
        keys.push_from(fresh_keys, place);
        index[spot] = at as u32;
        fresh[place].stored = Some(at);
        (at, true)
    }

    /// Ends a burst: the keys of flows that were not stored are wiped.
    pub fn forget_fresh(&mut self) {
        self.table.fresh.clear();
        self.table.fresh_keys.clear();
    }

    /// The key of a flow.
    #[inline]
    pub fn key(&self, flow: FlowRef) -> AeadKey<'_> {
        let table = &self.table;
        match flow {
            FlowRef::Stored(at) => {
                let at = at as usize;
                AeadKey { key: table.keys.get(at), salt: table.flows[at].salt }
            }
            FlowRef::Fresh(place) => {
                let place = place as usize;
                AeadKey { key: table.fresh_keys.get(place), salt: table.fresh[place].salt }
            }
        }
    }

    /// How many sequence numbers of a flow are told apart.
    #[inline]
    pub fn window_size(&self) -> WindowSize {
        self.table.window
    }

    /// What was seen of a flow: nothing, if it is not stored.
    #[inline]
    pub fn window(&self, flow: FlowRef) -> ReplayWindow<'_> {
        match flow {
            FlowRef::Stored(at) => {
                let at = at as usize;
                ReplayWindow::new(self.table.flows[at].highest, self.table.window_bits.of(at))
            }
            FlowRef::Fresh(_) => ReplayWindow::UNSEEN,
        }
    }

    /// Marks a number of a stored flow. False: it may not come, and nothing is changed.
    #[inline(always)]
    #[must_use]
    pub fn mark(&mut self, index: usize, sequence: u64) -> bool {
        mark(&mut self.table.flows[index].highest, self.table.window_bits.of_mut(index), sequence)
    }

    /// Wipes every key and gives the memory back.
    pub fn retire(mut self) -> RxTable {
        self.forget_fresh();
        self.table.keys.clear();
        self.table.window_bits.clear(self.table.flows.len());
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

    #[inline]
    fn place(&self, spi: Spi) -> Option<usize> {
        let there = usize::from(spi.lane()) < self.terms.lanes.len() && spi.slot() < self.lane_slots;
        there.then(|| (u32::from(spi.lane()) * self.lane_slots + spi.slot()) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Arrivals;

    /// With three lanes of four flows each.
    fn epoch() -> RxEpoch {
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
        RxEpoch::new(RxTable::new(Engine::Ring, 12, 12, WindowSize::default()), terms).unwrap()
    }

    fn spi(lane: u8, slot: u32) -> Spi {
        Spi::new(Epoch::FIRST, lane, slot)
    }

    #[test]
    fn only_what_is_stored_is_known_and_retiring_forgets_it() {
        let mut rx = epoch();
        assert_eq!(rx.lookup(spi(2, 4)), Lookup::Unseen);
        let fresh = rx.derive(spi(2, 4)).unwrap();
        assert_eq!(rx.lookup(spi(2, 4)), Lookup::Known(fresh));
        assert_eq!(rx.store(fresh), (3, true));
        assert_eq!(rx.store(fresh), (3, false), "a second packet in the same burst");
        rx.forget_fresh();
        assert_eq!(rx.lookup(spi(2, 4)), Lookup::Known(FlowRef::Stored(3)));
        assert_eq!(rx.lookup(spi(1, 4)), Lookup::Unseen, "another lane's");
        let probes = [0, 1, 2].map(|lane| rx.lookup(spi(lane, 0)));
        assert_eq!(probes, [0, 1, 2].map(|at| Lookup::Known(FlowRef::Stored(at))), "the probes'");
        assert_eq!(rx.lookup(spi(2, 5)), Lookup::OutOfRange, "twelve flows are four for each of three lanes");
        assert_eq!(rx.lookup(spi(3, 1)), Lookup::OutOfRange);
        assert_eq!(rx.flow_count(), 1);
        let table = rx.retire();
        assert!(table.flows.is_empty() && table.keys.is_empty());
        assert!(table.index.iter().all(|&slot| slot == EMPTY));
    }

    #[test]
    fn a_flow_that_is_not_stored_is_forgotten_with_its_key() {
        let mut rx = epoch();
        let fresh = rx.derive(spi(0, 3)).unwrap();
        assert!(rx.window(fresh).may_come(1) && !rx.window(fresh).may_come(0));
        rx.forget_fresh();
        assert_eq!(rx.lookup(spi(0, 3)), Lookup::Unseen);
        assert_eq!(rx.flow_count(), 0);
        assert!(rx.table.fresh_keys.is_empty());
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
            let mut rx =
                RxEpoch::new(RxTable::new(Engine::Ring, 40, 40, WindowSize::default()), terms).unwrap();
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
