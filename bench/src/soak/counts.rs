//! Everything that counts frames, at one moment: the encryptors, the kernel at the hosts, and the taps on the wire.

use anyhow::Result;
use qhaul::counters::is_tx;
use qhaul::drops::DropReason;
use qhaul::lab::books::imbalance;
use qhaul::lab::ledger::{Ledger, udp_dropped_by_host};
use qhaul::lab::plan::Side;
use qhaul::lab::{Sites, Topology};
use qhaul::status::{Rows, Status, ask};

use super::tap::{OnWire, WireTap};

/// Counts since the lab was made.
#[derive(Clone, Default, Debug)]
pub(super) struct Counts {
    /// Of each site, all its lives together; see [`flatten`].
    pub(super) sites: [Rows; 2],
    /// Of what each site put on the wire.
    pub(super) wire: [OnWire; 2],
    pub(super) hosts: [HostCounts; 2],
}

/// Frames at a host, by its kernel.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct HostCounts {
    pub(super) sent: u64,
    /// Of these, what its own queue dropped.
    pub(super) dropped: u64,
    pub(super) received: u64,
    /// Of these, what its full socket dropped.
    pub(super) refused: u64,
}

/// Reads them all.
pub(super) struct Meter {
    taps: [WireTap; 2],
    /// What the lives counted that are over.
    past: [Rows; 2],
}

impl Meter {
    /// For before anything is sent.
    pub(super) fn start(topology: &Topology) -> Result<Meter> {
        let [a, b] = Side::BOTH.map(|side| WireTap::start(topology, side));
        Ok(Meter { taps: [a?, b?], past: Default::default() })
    }

    pub(super) fn tap(&self, side: Side) -> &WireTap {
        &self.taps[side.index()]
    }

    /// A site's life is over, and these were its last books.
    pub(super) fn close_life(&mut self, side: Side, last: &Counts) {
        self.past[side.index()] = last.sites[side.index()].clone();
    }

    /// Reads everything, or says whose books do not balance. Frames and probes may be under way meanwhile: what does not
    /// add up is to be read again.
    pub(super) fn read(&self, sites: &Sites) -> Result<std::result::Result<Counts, String>> {
        let topology = sites.topology();
        let wire = self.taps.each_ref().map(WireTap::seen);
        let mut counts = Counts { wire, ..Counts::default() };
        for side in Side::BOTH {
            let Ok(status) = status(topology, side) else {
                return Ok(Err(format!("{side} gives no status")));
            };
            if let Some(wrong) = imbalance(&status) {
                return Ok(Err(format!("{side}: {wrong}")));
            }
            let mut rows = self.past[side.index()].clone();
            flatten(&status).into_iter().for_each(|(name, count)| *rows.entry(name).or_default() += count);
            counts.sites[side.index()] = rows;
        }
        counts.hosts = hosts(topology)?;
        Ok(Ok(counts))
    }
}

impl Counts {
    /// Before the sites are started: all zero but for what the hosts have said by themselves.
    pub(super) fn before(topology: &Topology) -> Result<Counts> {
        Ok(Counts { hosts: hosts(topology)?, ..Counts::default() })
    }
}

fn hosts(topology: &Topology) -> Result<[HostCounts; 2]> {
    let ledger = Ledger::read(topology)?;
    let [a, b] = Side::BOTH.map(|side| -> Result<HostCounts> {
        Ok(HostCounts {
            sent: ledger.sent_by(side),
            dropped: ledger.dropped_by(side),
            received: ledger.received_by(side),
            refused: udp_dropped_by_host(topology, side)?,
        })
    });
    Ok([a?, b?])
}

/// What a site says of itself.
pub(super) fn status(topology: &Topology, side: Side) -> std::io::Result<Status> {
    ask(&topology.dir().join(format!("{side}.sock")))
}

/// One row for each place that counts: tallies by their names, `tx:REASON` and `rx:REASON` for the workers' drops,
/// `plain:NAME` and `cipher:NAME` for the programs, `tx:kernel:NAME` and `rx:kernel:NAME` for drops in front of the worker.
fn flatten(status: &Status) -> Rows {
    let mut rows = status.counters.tallies.clone();
    for reason in DropReason::ALL {
        let way = if is_tx(*reason) { "tx" } else { "rx" };
        let count = status.counters.drops.get(reason.name()).copied().unwrap_or_default();
        rows.insert(format!("{way}:{}", reason.name()), count);
    }
    for (port, counted) in &status.xdp {
        rows.extend(counted.iter().map(|(name, count)| (format!("{port}:{name}"), *count)));
    }
    for (queue, counted) in &status.queues {
        let way = if queue.starts_with("plain/") { "tx" } else { "rx" };
        for name in ["kernel_rx_dropped", "kernel_rx_ring_full", "rx_no_jumbo", "rx_too_long", "rx_invalid"] {
            let count = counted.get(name).copied().unwrap_or_default();
            *rows.entry(format!("{way}:kernel:{name}")).or_default() += count;
        }
    }
    rows
}
