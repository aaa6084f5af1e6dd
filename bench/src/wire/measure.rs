//! The measurements at one subject: loss-free rate, overload, round trips, processor time.

use std::time::Duration;

use anyhow::{Result, ensure};
use qhaul::lab::Sites;
use qhaul::lab::plan::Side;
use qhaul::lab::wait::check_interrupt;

use super::latency::percentiles;
use super::options::{Options, Size};
use super::path::Path;
use super::row::Table;
use super::subject::{Standing, Subject};
use super::trial::Outcome;

const HALF: [&str; 3] = ["rtt_half_p50_us", "rtt_half_p99_us", "rtt_half_p999_us"];
/// How long round trips are measured.
const ROUND_TRIPS: Duration = Duration::from_secs(1);

/// The path and the subject on it.
pub(super) struct Bench {
    pub(super) path: Path,
    pub(super) subject: Subject,
    queues: u16,
    /// Frames that arrived after later ones of their flow.
    overtaken: u64,
}

impl Bench {
    /// Takes the hosts' interfaces, and waits until frames cross.
    pub(super) fn open(sites: &Sites, options: &Options, subject: Subject, queues: u16) -> Result<Bench> {
        let macs = Side::BOTH.map(Side::host_mac);
        let path = Path::open(sites, macs, options.effort(queues))?;
        Ok(Bench { path, subject, queues, overtaken: 0 })
    }

    /// Gives the interfaces back.
    pub(super) fn close(self) -> Result<()> {
        self.path.close()
    }

    /// All figures of one size.
    pub(super) fn measure(&mut self, standing: &Standing, size: &Size, table: &mut Table) -> Result<()> {
        self.overtaken = 0;
        let loss_free = self.measure_rates(standing, size, table)?;
        let half = self.trial(size, loss_free / 2.0, ROUND_TRIPS)?;
        if let Some(times) = percentiles(half.round_trips) {
            for (figure, value) in HALF.into_iter().zip([times.p50, times.p99, times.p999]) {
                table.add(self.subject, &size.name, figure, value);
            }
        }
        if self.queues > 1 {
            table.add(self.subject, &size.name, "reordered", self.overtaken as f64);
        }
        Ok(())
    }

    /// A trial from which about 1,000 frames a second come back, or all.
    pub(super) fn trial(&mut self, size: &Size, rate: f64, time: Duration) -> Result<Outcome> {
        let outcome = self.path.trial(size, rate, time, (rate / 1000.0).ceil() as u32)?;
        self.overtaken += overtaken(&outcome, self.queues)?;
        Ok(outcome)
    }

    /// What is carried at the most; the loss-free rate of it.
    fn measure_rates(&mut self, standing: &Standing, size: &Size, table: &mut Table) -> Result<f64> {
        let (subject, name, queues) = (self.subject, size.name.as_str(), self.queues);
        let overload = self.path.overload(size)?;
        self.overtaken += overtaken(&overload, queues)?;
        let most = overload.received as f64 / overload.time.as_secs_f64();
        table.add(subject, name, "offered_pps", overload.offered());
        table.add(subject, name, "overload_pps", most);
        let sum = &mut self.overtaken;
        let seen = |outcome: &Outcome| {
            *sum += overtaken(outcome, queues)?;
            Ok(check_interrupt()?)
        };
        let (loss_free, cpu) = self.path.search(size, most * 1.2, || standing.cpu(), seen)?;
        table.add(subject, name, "loss_free_pps", loss_free);
        table.add(subject, name, "packet_ns", if loss_free > 0.0 { 1e9 / loss_free } else { f64::INFINITY });
        if subject != Subject::Clear {
            table.add(subject, name, "cpu_ns", cpu);
        }
        Ok(loss_free)
    }
}

/// Frames that overtook others of their flow. On one queue none may; of several workers one may be late with a flow's last packet
/// when another gets the flow.
fn overtaken(outcome: &Outcome, queues: u16) -> Result<u64> {
    let reordered = outcome.reordered;
    ensure!(queues > 1 || reordered == 0, "{reordered} frames overtook others of their flow");
    Ok(reordered)
}
