//! The status of a site, put together from its parts.

use std::collections::BTreeMap;
use std::time::Instant;

use super::site::Site;
use crate::counters::{Gauge, Tally};
use crate::drops::DropReason;
use crate::spi::Epoch;
use crate::status::{KeyStatus, Rows, RxStatus, Status, TxStatus, WorkerCounters};

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
            key_log: parts.tables.logs_keys(),
            channel: parts.link.is_up(),
            next_hop: parts.next_hop.get().map(|mac| mac.to_string()),
            flows: tx.flows.max(rx.flows),
            tx,
            rx,
            keys: self.key_status(),
            counters: self.worker_counters(),
            xdp: self.program_counters(),
            queues: self.queue_counters(),
        }
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
            flows: self.parts.counters.gauge(Gauge::TxFlows),
        }
    }

    fn rx_status(&self) -> RxStatus {
        let epochs = self.parts.agreement.receiver().holds().into_iter().map(Epoch::into).collect();
        // Slot 0 is the probe's, not a flow.
        RxStatus { epochs, flows: self.parts.counters.gauge(Gauge::RxFlows).saturating_sub(1) }
    }

    fn key_status(&self) -> KeyStatus {
        let counts = self.parts.agreement.keys().counts();
        let trouble = self.parts.feed.trouble().map(str::to_string);
        let supply = self.parts.agreement.sender().supply().to_string();
        KeyStatus { ready: counts.ready, fetched: counts.fetched, receive: counts.receive, supply, trouble }
    }

    fn worker_counters(&self) -> WorkerCounters {
        let counters = &self.parts.counters;
        let tallies = Tally::ALL.iter().map(|&tally| (tally.name().to_string(), counters.tally(tally)));
        let drops =
            DropReason::ALL.iter().map(|&reason| (reason.name().to_string(), counters.dropped(reason)));
        WorkerCounters { tallies: tallies.collect(), drops: drops.filter(|(_, count)| *count > 0).collect() }
    }

    fn program_counters(&self) -> BTreeMap<String, Rows> {
        let Ok((plain, cipher)) = self.parts.programs.counters() else { return BTreeMap::new() };
        let (plain, cipher) = (rows(plain.rows()), rows(cipher.rows()));
        BTreeMap::from([(self.parts.config.plain.clone(), plain), (self.parts.config.cipher.clone(), cipher)])
    }

    fn queue_counters(&self) -> BTreeMap<String, Rows> {
        let named = self.ports.iter().map(|report| {
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
