//! The memory of epochs: made once, wiped after use, used again, so that rotation neither grows nor fragments memory.

use std::sync::Arc;
use std::time::Instant;

use crate::aead::Engine;
use crate::config::LinkConfig;
use crate::flows::{FlowLimits, RxEpoch, RxTable, RxTerms, TxEpoch, TxTable, TxTerms};
use crate::keylog::KeyLog;
use crate::keys::{EpochKey, KeyError};
use crate::ownership::{self, Arrivals};
use crate::replay::WindowSize;
use crate::spi::Epoch;

/// Free tables, and what new ones are made by.
#[derive(Debug)]
pub(super) struct Tables {
    engine: Engine,
    workers: u32,
    capacity: u32,
    window: WindowSize,
    limits: FlowLimits,
    arrivals: Arrivals,
    log: KeyLog,
    tx: Vec<TxTable>,
    rx: Vec<RxTable>,
}

impl Tables {
    /// All that the rotation needs at once is made now, so that memory stays as it is: to send, the epoch in use, the next and
    /// the last; to receive, these and all that are kept for the grace time, with room for a worker or a control thread that is
    /// late. `arrivals` tells where the flows of a new epoch belong.
    pub(super) fn new(
        engine: Engine,
        config: &LinkConfig,
        workers: usize,
        arrivals: Arrivals,
        log: KeyLog,
    ) -> Tables {
        let leaving = config.grace.as_millis().div_ceil(config.rotate.as_millis().max(1)) as usize;
        let to_receive = (3 + leaving + leaving / 2).min(Epoch::COUNT - 1);
        let mut tables = Tables {
            engine,
            workers: workers as u32,
            capacity: config.flows,
            window: config.replay_window,
            limits: config.limits,
            arrivals,
            log,
            tx: Vec::new(),
            rx: Vec::new(),
        };
        tables.tx = (0..workers * (3 + leaving / 8)).map(|_| tables.new_tx()).collect();
        tables.rx = (0..workers * to_receive).map(|_| tables.new_rx()).collect();
        tables
    }

    /// What the tables take, for people.
    pub(super) fn memory(&self) -> String {
        let (tx, rx) = (
            TxTable::size(self.engine, self.share()),
            RxTable::size(self.engine, self.capacity, self.rx_share(), self.window),
        );
        let all = self.tx.len() * tx + self.rx.len() * rx;
        format!(
            "tables for {} flows in each direction take {:.1} MiB: {} to send of {} bytes a flow, {} to receive of {} bytes a flow",
            self.capacity,
            all as f64 / f64::from(1 << 20),
            self.tx.len() as u32 / self.workers,
            tx as u32 / self.share().max(1),
            self.rx.len() as u32 / self.workers,
            rx * self.workers as usize / self.capacity as usize,
        )
    }

    /// A sending epoch for each worker, in free memory. `flows`: those that the receiver has room for in all.
    pub(super) fn tx_epochs(
        &mut self,
        epoch: Epoch,
        key: EpochKey,
        flows: u32,
        expires: Instant,
    ) -> Result<Vec<TxEpoch>, KeyError> {
        let key = Arc::new(key);
        let (workers, flows) = (self.workers, flows / self.workers);
        let make = |lane| {
            let table = self.tx.pop().unwrap_or_else(|| self.new_tx());
            let terms = TxTerms { lane, flows, expires, limits: self.limits, log: self.log.clone() };
            TxEpoch::new(table, epoch, key.clone(), terms)
        };
        (0..workers as u8).map(make).collect()
    }

    /// A receiving epoch for each worker, in free memory. `lanes`: flows that the sender has in use in each of its lanes.
    pub(super) fn rx_epochs(
        &mut self,
        epoch: Epoch,
        lanes: &[u32],
        key: EpochKey,
    ) -> Result<Vec<RxEpoch>, KeyError> {
        let workers = self.workers;
        let (lanes, key, owners) = (lanes.into(), Arc::new(key), self.arrivals.owners());
        let first = RxTerms { epoch, lanes, key, worker: 0, owners, log: self.log.clone() };
        let make = |worker| {
            let table = self.rx.pop().unwrap_or_else(|| self.new_rx());
            RxEpoch::new(table, RxTerms { worker, ..first.clone() })
        };
        (0..workers as u8).map(make).collect()
    }

    /// Wipes a sending epoch.
    pub(super) fn wipe_tx(&mut self, epoch: TxEpoch) {
        self.tx.push(epoch.retire(self.share()));
    }

    /// Wipes a receiving epoch.
    pub(super) fn wipe_rx(&mut self, epoch: RxEpoch) {
        self.rx.push(epoch.retire());
    }

    /// Flows that each worker sends at the most.
    fn share(&self) -> u32 {
        self.capacity / self.workers
    }

    fn new_tx(&self) -> TxTable {
        TxTable::new(self.engine, self.share())
    }

    fn new_rx(&self) -> RxTable {
        RxTable::new(self.engine, self.capacity, self.rx_share(), self.window)
    }

    /// Flows that each worker owns at the most.
    fn rx_share(&self) -> u32 {
        ownership::share(self.capacity, self.workers)
    }
}
