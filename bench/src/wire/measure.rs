//! The measurements at one subject: loss-free rate, overload, round trips, processor time, TCP, rotation.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qhaul::lab::Sites;
use qhaul::lab::iperf::{Iperf, Load as TcpLoad};
use qhaul::lab::plan::{Node, Side};

use super::end::End;
use super::latency::percentiles;
use super::options::{Options, Size};
use super::row::{Rotation, Table};
use super::search::Search;
use super::subject::{Standing, Subject};
use super::trial::{self, Load, Outcome};

/// Beyond what a generator of one core makes on veth.
const OVERLOAD: f64 = 5e6;
/// The interval at which a search ends, as a part of the rate.
const PRECISION: f64 = 0.02;
/// Packets per second of the idle round trips.
const IDLE_RATE: f64 = 500.0;
/// The size under which rotation is measured, in bytes.
const ROTATION_SIZE: usize = 512;
/// How long a fresh path may take until frames cross.
const CROSS_WITHIN: Duration = Duration::from_secs(10);

/// Both ends of the path.
pub(super) struct Bench<'a> {
    near: End,
    far: End,
    options: &'a Options,
    trials: u8,
}

impl<'a> Bench<'a> {
    /// Takes the hosts' interfaces, and waits until frames cross.
    pub(super) fn open(sites: &Sites, options: &'a Options) -> Result<Bench<'a>> {
        let open = |side| End::open(&sites.topology().namespace(Node::Host(side)), "eth0");
        let (near, far) = (open(Side::A)?, open(Side::B)?);
        let mut bench = Bench { near, far, options, trials: 0 };
        let begun = Instant::now();
        let size = Size { name: "64".to_owned(), bytes: vec![64] };
        while bench.trial(&size, 1000.0, Duration::from_millis(50), 0)?.received == 0 {
            anyhow::ensure!(begun.elapsed() < CROSS_WITHIN, "no frame crossed within {CROSS_WITHIN:?}");
        }
        Ok(bench)
    }

    /// Gives the interfaces back.
    pub(super) fn close(self) -> Result<()> {
        self.near.close()?;
        self.far.close()
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
        let overload = self.trial(size, OVERLOAD, self.options.trial(), 0)?;
        let most = overload.received as f64 / overload.time.as_secs_f64();
        table.add(subject, name, "offered_pps", overload.offered());
        table.add(subject, name, "overload_pps", most);
        let (loss_free, cpu) = self.search(standing, size, most * 1.2)?;
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

    /// The loss-free rate, and what a packet cost on the cores, both boxes together, at the last trial that passed.
    fn search(&mut self, standing: &Standing, size: &Size, most: f64) -> Result<(f64, f64)> {
        let mut search = Search::new(most, PRECISION, self.options.trials);
        let mut cpu_ns = 0.0;
        while let Some(rate) = search.next() {
            let before = standing.cpu();
            let outcome = self.trial(size, rate, self.options.trial(), 0)?;
            let lost = outcome.lost() as f64 > self.options.loss * outcome.sent as f64;
            if !lost && outcome.received > 0 {
                let spent = standing.cpu().saturating_sub(before);
                cpu_ns = spent.as_nanos() as f64 / outcome.received as f64;
            }
            search.note(outcome.offered().min(rate), lost);
        }
        Ok((search.result(), cpu_ns))
    }

    fn trial(&mut self, size: &Size, rate: f64, time: Duration, echo_each: u32) -> Result<Outcome> {
        self.trials = self.trials.wrapping_add(1);
        let load = Load {
            sizes: size.bytes.clone(),
            flows: self.options.flows,
            rate: rate.max(1.0),
            time,
            echo_each,
            macs: [Side::A.host_mac(), Side::B.host_mac()],
        };
        let outcome = trial::run(&mut self.near.line, &mut self.far.line, &load, self.trials)?;
        anyhow::ensure!(outcome.reordered == 0, "{} frames overtook others of their flow", outcome.reordered);
        Ok(outcome)
    }
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
