//! The status of a site, put together from its parts.

use std::collections::BTreeMap;
use std::time::Instant;

use super::path::Path;
use super::site::Site;
use crate::counters::{Counters, Gauge, Tally};
use crate::drops::DropReason;
use crate::spi::Epoch;
use crate::status::{KeyStatus, PathStatus, Rows, RxStatus, Status, TxStatus, WorkerCounters, WorkerStatus};

impl Site {
    /// All that there is to tell.
    pub(super) fn status(&self, now: Instant) -> Status {
        let (tx, rx) = (self.tx_status(now), self.rx_status());
        let state = match &*tx.state {
            "active" | "overdue" if rx.epochs.is_empty() => "receive-waiting".to_string(),
            "overdue" => "active".to_string(),
            state => state.to_string(),
        };
        let parts = &self.parts;
        Status {
            link: parts.config.link.clone(),
            state,
            pid: std::process::id(),
            uptime_s: now.saturating_duration_since(self.started).as_secs(),
            mode: parts.mode.to_string(),
            engine: parts.engine.name().to_string(),
            key_log: parts.tables.logs_keys(),
            channel: parts.link.is_up(),
            next_hop: parts.next_hop.get().map(|mac| mac.to_string()),
            path: self.path_status(),
            flows: tx.flows.max(rx.flows),
            tx,
            rx,
            keys: self.key_status(),
            counters: self.worker_counters(),
            workers: self.workers().collect(),
            xdp: self.program_counters(),
            queues: self.queue_counters(),
        }
    }

    fn path_status(&self) -> PathStatus {
        let path = &self.parts.path;
        let wanted = path.wanted();
        let (state, carries) = match path.path() {
            Path::Unknown => ("unknown", None),
            Path::Checking => ("checking", None),
            Path::Full => ("full", Some(wanted)),
            Path::Narrow(most) => ("narrow", Some(most)),
        };
        PathStatus { state: state.to_string(), wanted, carries }
    }

    fn tx_status(&self, now: Instant) -> TxStatus {
        let sender = self.parts.agreement.sender();
        let (state, age) = sender.state(now);
        let (failures, last_failure) = sender.failures();
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        TxStatus {
            epoch: sender.active().map_or(0, Epoch::into),
            state: state.to_string(),
            age_ms: age.map(millis),
            stops_in_ms: age.map(|age| millis(sender.hard_limit().saturating_sub(age))),
            switches: sender.switches(),
            failures,
            last_failure: last_failure.map(str::to_string),
            flows: self.gauge(Gauge::TxFlows),
        }
    }

    fn rx_status(&self) -> RxStatus {
        let epochs = self.parts.agreement.receiver().holds().into_iter().map(Epoch::into).collect();
        RxStatus { epochs, flows: self.gauge(Gauge::RxFlows) }
    }

    fn key_status(&self) -> KeyStatus {
        let counts = self.parts.agreement.keys().counts();
        let trouble = self.parts.feed.trouble().map(str::to_string);
        let supply = self.parts.agreement.sender().supply().to_string();
        KeyStatus { ready: counts.ready, fetched: counts.fetched, receive: counts.receive, supply, trouble }
    }

    fn gauge(&self, gauge: Gauge) -> u64 {
        self.parts.crew.counters().map(|(_, counters)| counters.gauge(gauge)).sum()
    }

    /// What all workers counted in all.
    fn worker_counters(&self) -> WorkerCounters {
        let mut total = WorkerCounters::default();
        for worker in self.workers() {
            let WorkerCounters { tallies, drops } = worker.counters;
            tallies.into_iter().for_each(|(name, count)| *total.tallies.entry(name).or_default() += count);
            drops.into_iter().for_each(|(name, count)| *total.drops.entry(name).or_default() += count);
        }
        total
    }

    fn workers(&self) -> impl Iterator<Item = WorkerStatus> {
        self.parts.crew.counters().map(|(core, counters)| WorkerStatus {
            core,
            tx_flows: counters.gauge(Gauge::TxFlows),
            rx_flows: counters.gauge(Gauge::RxFlows),
            counters: counted(counters),
        })
    }

    fn program_counters(&self) -> BTreeMap<String, Rows> {
        let Ok((plain, cipher)) = self.parts.programs.counters() else { return BTreeMap::new() };
        let (plain, cipher) = (rows(plain.rows()), rows(cipher.rows()));
        BTreeMap::from([(self.parts.config.plain.clone(), plain), (self.parts.config.cipher.clone(), cipher)])
    }

    fn queue_counters(&self) -> BTreeMap<String, Rows> {
        let named = self.ports.iter().flatten().map(|report| {
            let kernel = report.kernel.rows().map(|(name, count)| (format!("kernel_{name}"), count));
            let port = report.port.rows().map(|(name, count)| (name.to_string(), count));
            (format!("{}/{}", report.interface, report.queue), port.chain(kernel).collect())
        });
        named.collect()
    }
}

fn rows(rows: impl Iterator<Item = (&'static str, u64)>) -> Rows {
    rows.map(|(name, count)| (name.to_string(), count)).collect()
}

fn counted(counters: &Counters) -> WorkerCounters {
    let tallies = Tally::ALL.iter().map(|&tally| (tally.name().to_string(), counters.tally(tally)));
    let drops = DropReason::ALL.iter().map(|&reason| (reason.name().to_string(), counters.dropped(reason)));
    WorkerCounters { tallies: tallies.collect(), drops: drops.filter(|(_, count)| *count > 0).collect() }
}
