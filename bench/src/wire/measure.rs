//! The measurements at one subject: loss-free rate, overload, round trips, processor time, TCP, rotation.

use std::time::Duration;

use anyhow::{Context, Result};
use qhaul::lab::Sites;
use qhaul::lab::iperf::{Iperf, Load as TcpLoad};
use qhaul::lab::plan::Side;

use super::latency::percentiles;
use super::options::{Options, Size};
use super::path::Path;
use super::row::{Rotation, Table};
use super::subject::{Standing, Subject};
use super::trial::Outcome;

/// Packets per second of the idle round trips.
const IDLE_RATE: f64 = 500.0;
/// The size under which rotation is measured, in bytes.
const ROTATION_SIZE: usize = 512;

/// The path, and what is to be measured on it.
pub(super) struct Bench<'a> {
    pub(super) path: Path,
    options: &'a Options,
}

impl<'a> Bench<'a> {
    /// Takes the hosts' interfaces, and waits until frames cross.
    pub(super) fn open(sites: &Sites, options: &'a Options) -> Result<Bench<'a>> {
        let macs = Side::BOTH.map(Side::host_mac);
        Ok(Bench { path: Path::open(sites, macs, options.effort())?, options })
    }

    /// Gives the interfaces back.
    pub(super) fn close(self) -> Result<()> {
        self.path.close()
    }

    /// All figures of one size.
    pub(super) fn measure(
        &mut self,
        subject: Subject,
        standing: &Standing,
        size: &Size,
        table: &mut Table,
    ) -> Result<()> {
        let name = size.name.as_str();
        let overload = self.path.overload(size)?;
        in_order(&overload)?;
        let most = overload.received as f64 / overload.time.as_secs_f64();
        table.add(subject, name, "offered_pps", overload.offered());
        table.add(subject, name, "overload_pps", most);
        let (loss_free, cpu) = self.path.search(size, most * 1.2, || standing.cpu(), in_order)?;
        table.add(subject, name, "loss_free_pps", loss_free);
        table.add(subject, name, "packet_ns", if loss_free > 0.0 { 1e9 / loss_free } else { f64::INFINITY });
        if subject != Subject::Clear {
            table.add(subject, name, "cpu_ns", cpu);
        }
        let idle = self.trial(size, IDLE_RATE, Duration::from_secs(1), 1)?;
        let half = loss_free / 2.0;
        let busy = self.trial(size, half, Duration::from_secs(1), (half / 1000.0).ceil() as u32)?;
        for (outcome, names) in [(idle, IDLE), (busy, HALF)] {
            let Some(times) = percentiles(outcome.round_trips) else { continue };
            for (figure, value) in names.into_iter().zip([times.p50, times.p99, times.p999]) {
                table.add(subject, name, figure, value);
            }
        }
        Ok(())
    }

    /// Under a rotation period that is set: a long trial at 90 % of the loss-free rate that was found.
    pub(super) fn measure_rotation(&mut self, sites: &Sites, rotate: &str, table: &mut Table) -> Result<()> {
        let size = Size { name: ROTATION_SIZE.to_string(), bytes: vec![ROTATION_SIZE] };
        let found = table.median(Subject::Qhaul, &size.name, "loss_free_pps");
        let rate = 0.9 * found.context("the loss-free rate at 512 bytes is wanted: leave 512 in --size")?;
        let before = sites.status(Side::A)?.switches;
        let time = Duration::from_secs(self.options.rotate_seconds);
        let outcome = self.trial(&size, rate, time, (rate / 1000.0).ceil() as u32)?;
        let rotations = sites.status(Side::A)?.switches - before;
        let lost = outcome.lost();
        let offered = outcome.offered();
        let times = percentiles(outcome.round_trips).context("no frame came back")?;
        table.add_rotation(Rotation {
            bench: "wire-rotation",
            rotate: rotate.to_owned(),
            size: size.name,
            rate_pps: offered,
            rotations,
            lost,
            blocked_us: lost as f64 / offered * 1e6 / rotations.max(1) as f64,
            rtt_p50_us: times.p50,
            rtt_p99_us: times.p99,
            rtt_p999_us: times.p999,
        });
        Ok(())
    }

    fn trial(&mut self, size: &Size, rate: f64, time: Duration, echo_each: u32) -> Result<Outcome> {
        let outcome = self.path.trial(size, rate, time, echo_each)?;
        in_order(&outcome)?;
        Ok(outcome)
    }
}

fn in_order(outcome: &Outcome) -> Result<()> {
    anyhow::ensure!(outcome.reordered == 0, "{} frames overtook others of their flow", outcome.reordered);
    Ok(())
}

const IDLE: [&str; 3] = ["rtt_idle_p50_us", "rtt_idle_p99_us", "rtt_idle_p999_us"];
const HALF: [&str; 3] = ["rtt_half_p50_us", "rtt_half_p99_us", "rtt_half_p999_us"];

/// TCP between the hosts' kernels, in Gbit/s of payload.
pub(super) fn tcp(sites: &Sites, subject: Subject, seconds: u64, table: &mut Table) -> Result<()> {
    // As fast as it goes: about this many bytes in the time that was asked for on a path of 4 Gbit/s.
    let bytes = seconds * (256 << 20);
    let target = Side::B.host_v4().into();
    let iperf = Iperf::start(sites.topology(), target, 5201, 4, TcpLoad::TcpBytes(bytes))?;
    let report = iperf.finish(Duration::from_secs(20 + 30 * seconds))?;
    table.add(subject, "tcp", "tcp_gbps", report.bits_per_second / 1e9);
    Ok(())
}
