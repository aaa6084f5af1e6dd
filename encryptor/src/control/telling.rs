//! The status of a site, put together from its parts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::part::{LinkPart, Pieces};
use super::path::Path;
use super::site::Site;
use crate::counters::{Counters, Gauge, Tally};
use crate::drops::DropReason;
use crate::spi::Epoch;
use crate::status::{
    KeyStatus, LinkStatus, PathStatus, Rows, RxStatus, Status, TxStatus, WorkerCounters, WorkerStatus,
};

impl Site {
    /// All that there is to tell.
    pub(super) fn status(&self, now: Instant) -> Status {
        let links: Vec<LinkStatus> = self.links.iter().map(|part| part.status(now)).collect();
        let first = links.first().cloned().expect("a site has a link");
        let bad = links.iter().find(|link| link.state != "active").unwrap_or(&first);
        let names: Vec<&str> = links.iter().map(|link| &*link.link).collect();
        let workers: Vec<WorkerStatus> = self.workers().collect();
        let flows = links.iter().map(|link| link.flows).sum();
        Status {
            link: names.join(", "),
            state: bad.state.clone(),
            pid: std::process::id(),
            uptime_s: now.saturating_duration_since(self.started).as_secs(),
            mode: self.mode.to_string(),
            engine: self.maker.engine.name().to_string(),
            key_log: self.maker.log.is_on(),
            channel: links.iter().all(|link| link.channel),
            next_hop: first.next_hop,
            path: first.path,
            flows,
            tx: first.tx,
            rx: first.rx,
            keys: first.keys,
            counters: summed(workers.iter().map(|worker| worker.counters.clone())),
            no_link: self.no_link(),
            links,
            workers,
            xdp: self.program_counters(),
            queues: self.queue_counters(),
        }
    }

    /// Links that are leaving count as gone.
    fn no_link(&self) -> WorkerCounters {
        let leaving = self.leaving.iter().map(|(part, _)| part.counters());
        let workers = 0..self.config.cores.len();
        let rest = workers.flat_map(|worker| self.plane.crew.rest(worker)).map(counted);
        let mut all = summed(rest.chain(leaving));
        all.tallies.retain(|_, count| *count > 0);
        all
    }

    fn workers(&self) -> impl Iterator<Item = WorkerStatus> {
        self.plane.crew.cores().enumerate().map(|(worker, core)| {
            let parts = self.links.iter().chain(self.leaving.iter().map(|(part, _)| part));
            let links: Vec<&Counters> = parts.map(|part| &*part.pieces.counters[worker]).collect();
            let flows = |gauge| links.iter().map(|counters| counters.gauge(gauge)).sum();
            let rest = self.plane.crew.rest(worker).into_iter();
            WorkerStatus {
                core,
                tx_flows: flows(Gauge::TxFlows),
                rx_flows: flows(Gauge::RxFlows),
                counters: summed(links.iter().copied().chain(rest).map(counted)),
            }
        })
    }

    fn program_counters(&self) -> BTreeMap<String, Rows> {
        let Ok((plain, cipher)) = self.plane.programs.counters() else { return BTreeMap::new() };
        let (plain, cipher) = (rows(plain.rows()), rows(cipher.rows()));
        BTreeMap::from([(self.config.plain.clone(), plain), (self.config.cipher.clone(), cipher)])
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

impl LinkPart {
    fn status(&self, now: Instant) -> LinkStatus {
        let (tx, rx) = (self.tx_status(now), self.rx_status());
        let state = match &*tx.state {
            "active" | "overdue" if rx.epochs.is_empty() => "receive-waiting",
            "overdue" => "active",
            state => state,
        };
        let Pieces { config, link, next_hop, .. } = &self.pieces;
        LinkStatus {
            link: config.name.clone(),
            state: state.to_string(),
            peer: config.ends.peer(),
            channel: link.is_up(),
            next_hop: next_hop.get().map(|mac| mac.to_string()),
            path: self.path_status(),
            flows: tx.flows.max(rx.flows),
            keys: self.key_status(),
            counters: self.counters(),
            tx,
            rx,
        }
    }

    fn path_status(&self) -> PathStatus {
        let path = &self.pieces.path;
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
        let sender = self.pieces.agreement.sender();
        let (state, age) = sender.state(now);
        let (failures, last_failure) = sender.failures();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
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
        let epochs = self.pieces.agreement.receiver().holds().into_iter().map(Epoch::into).collect();
        RxStatus { epochs, flows: self.gauge(Gauge::RxFlows) }
    }

    fn key_status(&self) -> KeyStatus {
        let counts = self.pieces.agreement.keys().counts();
        let trouble = self.pieces.feed.trouble().map(str::to_string);
        let supply = self.pieces.agreement.sender().supply().to_string();
        KeyStatus { ready: counts.ready, fetched: counts.fetched, receive: counts.receive, supply, trouble }
    }

    fn gauge(&self, gauge: Gauge) -> u64 {
        self.pieces.counters.iter().map(|counters| counters.gauge(gauge)).sum()
    }

    fn counters(&self) -> WorkerCounters {
        summed(self.pieces.counters.iter().map(|counters| counted(counters)))
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

fn summed(parts: impl Iterator<Item = WorkerCounters>) -> WorkerCounters {
    let mut total = WorkerCounters::default();
    for WorkerCounters { tallies, drops } in parts {
        tallies.into_iter().for_each(|(name, count)| *total.tallies.entry(name).or_default() += count);
        drops.into_iter().for_each(|(name, count)| *total.drops.entry(name).or_default() += count);
    }
    total
}
