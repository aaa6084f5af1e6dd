//! The memory of epochs: made once, wiped after use, used again, so that rotation neither grows nor fragments memory.

use std::time::{Duration, Instant};

use crate::flows::{FlowLimits, RxEpoch, RxTable, TxEpoch, TxTable, TxTerms};
use crate::keylog::KeyLog;
use crate::keys::{EpochKey, KeyError};
use crate::spi::Epoch;

/// Free tables, and what new ones are made by.
#[derive(Debug)]
pub(super) struct Tables {
    capacity: u32,
    limits: FlowLimits,
    log: KeyLog,
    tx: Vec<TxTable>,
    rx: Vec<RxTable>,
}

impl Tables {
    /// Tables for `capacity` flows. All that the rotation needs at once is made now, so that memory stays as it is: to send, the
    /// epoch in use, the next and the last; to receive, these and all that are kept for the grace time, with room for a worker
    /// or a control thread that is late.
    pub(super) fn new(
        capacity: u32,
        (rotate, grace): (Duration, Duration),
        limits: FlowLimits,
        log: KeyLog,
    ) -> Tables {
        let leaving = grace.as_millis().div_ceil(rotate.as_millis().max(1)) as usize;
        let to_receive = (3 + leaving + leaving / 2).min(Epoch::COUNT - 1);
        Tables {
            capacity,
            limits,
            log,
            tx: (0..3 + leaving / 8).map(|_| TxTable::new(capacity)).collect(),
            rx: (0..to_receive).map(|_| RxTable::new(capacity)).collect(),
        }
    }

    /// Whether flow keys are logged.
    pub(super) fn logs_keys(&self) -> bool {
        self.log.is_on()
    }

    /// Bytes that the tables of a new site take.
    pub(super) fn initial_size(&self) -> usize {
        self.tx.len() * TxTable::size(self.capacity) + self.rx.len() * RxTable::size(self.capacity)
    }

    /// A sending epoch in free memory.
    pub(super) fn tx_epoch(
        &mut self,
        epoch: Epoch,
        key: EpochKey,
        flows: u32,
        lifetime: Duration,
        now: Instant,
    ) -> Result<Box<TxEpoch>, KeyError> {
        let table = self.tx.pop().unwrap_or_else(|| TxTable::new(self.capacity));
        let limits = self.limits;
        let terms = TxTerms {
            lane: super::site::LANE,
            flows,
            expires: now + lifetime,
            limits,
            log: self.log.clone(),
        };
        TxEpoch::new(table, epoch, key, terms).map(Box::new)
    }

    /// A receiving epoch in free memory.
    pub(super) fn rx_epoch(
        &mut self,
        epoch: Epoch,
        lane: u8,
        key: EpochKey,
    ) -> Result<Box<RxEpoch>, KeyError> {
        let table = self.rx.pop().unwrap_or_else(|| RxTable::new(self.capacity));
        RxEpoch::new(table, epoch, lane, key, self.log.clone()).map(Box::new)
    }

    /// Wipes a sending epoch.
    pub(super) fn wipe_tx(&mut self, epoch: TxEpoch) {
        self.tx.push(epoch.retire(self.capacity));
    }

    /// Wipes a receiving epoch.
    pub(super) fn wipe_rx(&mut self, epoch: RxEpoch) {
        self.rx.push(epoch.retire());
    }
}
