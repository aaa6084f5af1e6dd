//! The sending side: flows get slots in the order in which they appear, each with its own key and sequence.

use std::sync::Arc;
use std::time::Instant;

use super::index::FlowIndex;
use super::{FEW, FlowHash, FlowLimits, Use};
use crate::aead::{AeadKey, Engine, KeyStore};
use crate::classify::FlowId;
use crate::keylog::KeyLog;
use crate::keys::{EpochKey, KeyError};
use crate::spi::{Epoch, MAX_SLOTS, Spi};
use crate::xsk::{huge_pages, prefetch};

/// A flow's sending state in one epoch, but for its key: a cache line.
#[derive(Debug)]
#[repr(align(64))]
struct TxFlow {
    /// Whose it is; of no meaning for the probe's, which the index does not know.
    owner: FlowId,
    bytes: u64,
    /// At most [`FlowLimits::hard_packets`], which fit.
    packets: u32,
    salt: [u8; 4],
}

/// What became of a packet's wish to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It may be sealed.
    Granted {
        /// Index for [`TxEpoch::key`].
        index: usize,
        /// The flow's SPI.
        spi: Spi,
        /// Its sequence number, never given before under this key.
        sequence: u64,
    },
    /// Its flow's key is used up.
    FlowExhausted,
    /// It is the first of a flow, and no slot is left.
    TableFull,
}

/// The memory of a sending epoch, wiped and ready to be used (again).
#[derive(Debug)]
pub struct TxTable {
    index: FlowIndex,
    flows: Vec<TxFlow>,
    keys: KeyStore,
    capacity: usize,
}

impl TxTable {
    /// Room for `capacity` flows beside the probe's; memory is taken here and never again.
    pub fn new(engine: Engine, capacity: u32) -> TxTable {
        let capacity = capacity.min(MAX_SLOTS - 1) as usize;
        let mut table = TxTable {
            index: FlowIndex::new(capacity),
            flows: Vec::with_capacity(capacity + 1),
            keys: KeyStore::with_capacity(engine, capacity + 1),
            capacity,
        };
        huge_pages(table.flows.spare_capacity_mut());
        table
    }

    /// Bytes of memory that `capacity` flows take in one table.
    pub fn size(engine: Engine, capacity: u32) -> usize {
        let flow = size_of::<TxFlow>() + KeyStore::key_size(engine);
        (capacity as usize + 1) * flow + FlowIndex::size(capacity as usize)
    }
}

/// The terms on which an epoch may be used.
#[derive(Clone, Debug)]
pub struct TxTerms {
    /// The lane that this worker sends in.
    pub lane: u8,
    /// Flows in this lane at the most; the smaller of both sites' shares.
    pub flows: u32,
    /// When the epoch's hard age limit strikes.
    pub expires: Instant,
    /// Limits of each flow key.
    pub limits: FlowLimits,
    /// Where flow keys are logged to, in a debug run.
    pub log: KeyLog,
}

/// The flows of one sending epoch. Slot 0 is the probe's.
#[derive(Debug)]
pub struct TxEpoch {
    epoch: Epoch,
    /// The probe's.
    spi: Spi,
    key: Arc<EpochKey>,
    table: TxTable,
    terms: TxTerms,
    wants_rotation: bool,
    /// Flows that were in use in the epoch before.
    carried: usize,
    /// Where the flow of the last packet is: the next one is often of the same. 0 before the first.
    last: usize,
}

impl TxEpoch {
    /// An epoch with no flow but the probe's.
    pub fn new(
        table: TxTable,
        epoch: Epoch,
        key: Arc<EpochKey>,
        terms: TxTerms,
    ) -> Result<TxEpoch, KeyError> {
        let spi = Spi::new(epoch, terms.lane, 0);
        let mut tx = TxEpoch { epoch, spi, key, table, terms, wants_rotation: false, carried: 0, last: 0 };
        tx.table.capacity = tx.table.capacity.min(tx.terms.flows as usize);
        tx.push_flow(FlowId::default())?;
        Ok(tx)
    }

    /// Its number.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Flows so far, the probe's left out.
    pub fn flow_count(&self) -> usize {
        self.table.flows.len() - 1
    }

    /// Whether its hard age limit has struck.
    pub fn expired(&self, now: Instant) -> bool {
        now >= self.terms.expires
    }

    /// Whether a soft limit asks for the next epoch. True once per epoch.
    pub fn take_rotation_wish(&mut self) -> bool {
        std::mem::take(&mut self.wants_rotation)
    }

    /// Takes over the flow in `slot` (from 1 on) of the epoch in use: gives it a slot and a key before its next packet needs
    /// them. A flow without a packet in that epoch is idle, and is left behind: that is how flows age out.
    pub fn carry(&mut self, from: &TxEpoch, slot: usize) {
        let table = &from.table;
        let Some(flow) = table.flows.get(slot) else { return };
        let hash = self.hash(&flow.owner);
        if flow.packets > 0 && self.add(&flow.owner, hash).is_some() {
            self.carried += 1;
        }
    }

    /// The key of the flow at an index that was granted.
    #[inline]
    pub fn key(&self, index: usize) -> AeadKey<'_> {
        AeadKey { key: self.table.keys.get(index), salt: self.table.flows[index].salt }
    }

    /// A flow's hash in this epoch, for a packet that is [admitted](TxEpoch::admit) soon.
    #[inline]
    pub fn hash(&self, flow: &FlowId) -> FlowHash {
        self.table.index.hash(flow)
    }

    /// Whether memory is worth asking for ahead.
    #[inline]
    pub fn has_many_flows(&self) -> bool {
        self.table.flows.len() > FEW
    }

    /// Asks for the memory that tells where the flow is.
    #[inline]
    pub fn prefetch_index(&self, hash: FlowHash) {
        self.table.index.prefetch(hash);
    }

    /// Asks for the memory of the flow and its key, once the index is there.
    #[inline]
    pub fn prefetch_flow(&self, hash: FlowHash) {
        let TxTable { index, flows, keys, .. } = &self.table;
        if let Some(slot) = index.find(hash, |_| true) {
            prefetch(&flows[slot as usize]);
            keys.prefetch(slot as usize);
        }
    }

    /// Asks for a packet of `flow` with `bytes` of plaintext to be sent.
    #[inline]
    pub fn admit(&mut self, flow: &FlowId, bytes: usize) -> Admission {
        let last = self.last;
        match last != 0 && self.table.flows[last].owner == *flow {
            true => self.next_sequence(last, bytes),
            false => self.admit_hashed(flow, self.hash(flow), bytes),
        }
    }

    /// The same for a flow whose hash is known.
    #[inline]
    pub fn admit_hashed(&mut self, flow: &FlowId, hash: FlowHash, bytes: usize) -> Admission {
        let TxTable { index, flows, .. } = &self.table;
        let index = match index.find(hash, |slot| flows[slot as usize].owner == *flow) {
            Some(slot) => slot as usize,
            None => match self.add(flow, hash) {
                Some(index) => {
                    self.watch_slots();
                    index
                }
                None => return Admission::TableFull,
            },
        };
        self.last = index;
        self.next_sequence(index, bytes)
    }

    /// Asks for a probe of `bytes` to be sent.
    pub fn admit_probe(&mut self, bytes: usize) -> Admission {
        self.next_sequence(0, bytes)
    }

    /// Wipes every key and gives the memory back.
    pub fn retire(mut self, full_capacity: u32) -> TxTable {
        self.table.keys.clear();
        self.table.flows.clear();
        self.table.index.clear();
        self.table.capacity = full_capacity.min(MAX_SLOTS - 1) as usize;
        self.table
    }

    #[inline]
    fn next_sequence(&mut self, index: usize, bytes: usize) -> Admission {
        let flow = &mut self.table.flows[index];
        let (before, total) = (u64::from(flow.packets), flow.bytes + bytes as u64);
        let sequence = before + 1;
        // The hard limit is checked before the counter moves, so that it can never be passed.
        match self.terms.limits.judge(sequence, total) {
            Use::Fine => {}
            Use::Exhausted => return Admission::FlowExhausted,
            Use::Soft if before > 0 && self.terms.limits.judge(before, flow.bytes) == Use::Fine => {
                self.wants_rotation = true;
            }
            Use::Soft => {}
        }
        flow.packets += 1;
        flow.bytes = total;
        Admission::Granted { index, spi: self.spi.in_slot(index as u32), sequence }
    }

    fn add(&mut self, flow: &FlowId, hash: FlowHash) -> Option<usize> {
        if self.flow_count() >= self.table.capacity {
            return None;
        }
        let index = self.push_flow(*flow).ok()?;
        self.table.index.insert(hash, index as u32);
        Some(index)
    }

    /// Asks for rotation when slots run low. What was carried over is in use: only of the other slots can a rotation set any free.
    fn watch_slots(&mut self) {
        let spare = self.table.capacity - self.carried;
        if self.flow_count() == self.table.capacity - spare / 4 {
            self.wants_rotation = true;
        }
    }

    fn push_flow(&mut self, owner: FlowId) -> Result<usize, KeyError> {
        let index = self.table.flows.len();
        let spi = self.spi.in_slot(index as u32);
        let key = self.key.flow_key(spi)?;
        self.terms.log.record("tx", spi, &key);
        self.table.keys.push(&key);
        self.table.flows.push(TxFlow { owner, salt: key.salt(), packets: 0, bytes: 0 });
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Granularity, classify};
    use crate::wire::View;
    use std::time::Duration;

    fn flow(number: u16) -> FlowId {
        let frame = [&[0; 12][..], &number.to_be_bytes()].concat();
        classify(&View::of_frame(&frame).unwrap(), Granularity::FiveTuple)
    }

    fn epoch(capacity: u32, limits: FlowLimits) -> TxEpoch {
        let expires = Instant::now() + Duration::from_secs(60);
        let terms = TxTerms { lane: 3, flows: capacity, expires, limits, log: KeyLog::off() };
        let key = Arc::new(EpochKey::new(&[5; 32]).unwrap());
        TxEpoch::new(TxTable::new(Engine::Ring, capacity), Epoch::FIRST, key, terms).unwrap()
    }

    fn granted(slot: u32, sequence: u64) -> Admission {
        Admission::Granted { index: slot as usize, spi: Spi::new(Epoch::FIRST, 3, slot), sequence }
    }

    #[test]
    fn sequences_start_at_one_per_flow_and_slots_are_never_shared() {
        let mut tx = epoch(3, FlowLimits::default());
        for round in 1..=3 {
            for number in 1..=3 {
                assert_eq!(tx.admit(&flow(number), 100), granted(number.into(), round));
            }
        }
        assert_eq!(tx.admit(&flow(4), 100), Admission::TableFull);
        assert_eq!(tx.admit_probe(16), granted(0, 1));
    }

    #[test]
    fn a_packet_behind_one_of_its_flow_is_admitted_as_any_other() {
        let mut tx = epoch(3, FlowLimits { soft_packets: 2, hard_packets: 3, ..FlowLimits::default() });
        assert_eq!(tx.admit(&FlowId::default(), 1), granted(1, 1), "the probe's slot is nobody's flow");
        let (one, two) = (flow(1), flow(2));
        let sent = [&one, &one, &two, &one, &two].map(|flow| tx.admit(flow, 1));
        assert_eq!(sent, [granted(2, 1), granted(2, 2), granted(3, 1), granted(2, 3), granted(3, 2)]);
        assert_eq!(tx.admit_probe(1), granted(0, 1));
        assert_eq!(tx.admit(&two, 1), granted(3, 3));
        assert_eq!(tx.admit(&two, 1), Admission::FlowExhausted);
        assert_eq!(tx.admit(&flow(3), 1), Admission::TableFull);
        assert_eq!(tx.admit(&one, 1), Admission::FlowExhausted);
    }

    #[test]
    fn the_hard_limit_refuses_before_the_counter_moves() {
        let limits =
            FlowLimits { soft_packets: 2, hard_packets: 3, soft_bytes: 1 << 20, hard_bytes: 1 << 20 };
        let mut tx = epoch(8, limits);
        for sequence in 1..=3 {
            assert_eq!(tx.admit(&flow(1), 1), granted(1, sequence));
            assert_eq!(tx.take_rotation_wish(), sequence == 3);
        }
        for _ in 0..3 {
            assert_eq!(tx.admit(&flow(1), 1), Admission::FlowExhausted);
        }
        assert_eq!(tx.admit(&flow(2), 1), granted(2, 1));
    }

    #[test]
    fn a_table_that_runs_low_asks_for_rotation_once() {
        let mut tx = epoch(8, FlowLimits::default());
        let wishes: Vec<bool> = (1..=8)
            .map(|number| {
                tx.admit(&flow(number), 1);
                tx.take_rotation_wish()
            })
            .collect();
        assert_eq!(wishes, [false, false, false, false, false, true, false, false]);
    }

    #[test]
    fn flows_in_use_are_carried_over_and_idle_ones_age_out() {
        let (mut old, mut new) = (epoch(8, FlowLimits::default()), epoch(8, FlowLimits::default()));
        (1..=3).for_each(|number| {
            old.admit(&flow(number), 1);
        });
        (1..=4).for_each(|slot| new.carry(&old, slot));
        assert_eq!(new.flow_count(), 3);
        assert_eq!(new.admit(&flow(3), 1), granted(3, 1));
        let mut newest = epoch(8, FlowLimits::default());
        (1..=3).for_each(|slot| newest.carry(&new, slot));
        assert_eq!(newest.flow_count(), 1, "the others were idle for a whole epoch");
        assert_eq!(newest.admit(&flow(1), 1), granted(2, 1));
        assert_eq!(newest.admit(&flow(3), 1), granted(1, 1));
    }

    #[test]
    fn a_table_full_of_carried_flows_does_not_ask_for_rotation() {
        let (mut old, mut new) = (epoch(8, FlowLimits::default()), epoch(8, FlowLimits::default()));
        (1..=8).for_each(|number| {
            old.admit(&flow(number), 1);
        });
        (1..=8).for_each(|slot| new.carry(&old, slot));
        assert!(!new.take_rotation_wish(), "a rotation would set no slot free");
        assert_eq!(new.admit(&flow(9), 1), Admission::TableFull);
    }

    #[test]
    fn a_retired_table_is_empty_and_serves_again() {
        let mut tx = epoch(4, FlowLimits::default());
        tx.admit(&flow(1), 1);
        let table = tx.retire(4);
        assert!(table.flows.is_empty() && table.index.is_empty() && table.keys.is_empty());
        assert!(table.flows.capacity() >= 5);
        let terms = TxTerms {
            lane: 0,
            flows: 2,
            expires: Instant::now(),
            limits: FlowLimits::default(),
            log: KeyLog::off(),
        };
        let key = Arc::new(EpochKey::new(&[6; 32]).unwrap());
        let mut again = TxEpoch::new(table, Epoch::FIRST.next(), key, terms).unwrap();
        assert!(again.expired(Instant::now()));
        let first = Admission::Granted { index: 1, spi: Spi::new(Epoch::FIRST.next(), 0, 1), sequence: 1 };
        assert_eq!(again.admit(&flow(9), 1), first);
        again.admit(&flow(10), 1);
        assert_eq!(again.admit(&flow(11), 1), Admission::TableFull, "the peer's smaller table binds");
    }
}
