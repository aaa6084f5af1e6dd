//! The path between two open ends, whatever stands on it: trials, and what they are made into.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use qhaul::lab::Sites;
use qhaul::lab::plan::{Node, Side};

use super::end::{self, End};
use super::options::Size;
use super::search::Search;
use super::trial::{self, Load, Outcome};

/// Beyond what a generator of one core makes on veth.
const OVERLOAD: f64 = 5e6;
/// The interval at which a search ends, as a part of the rate.
const PRECISION: f64 = 0.02;
/// How long a fresh path may take until frames cross.
const CROSS_WITHIN: Duration = Duration::from_secs(10);

/// What is spent on a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Flows at once.
    pub(crate) flows: u16,
    /// Queues of the hosts' interfaces, which the lab was given.
    pub(crate) queues: u16,
    /// How long a trial sends.
    pub(crate) time: Duration,
    /// Trials of a search for the loss-free rate.
    pub(crate) trials: u32,
    /// Loss that a trial may have and still pass, as a part of what was sent.
    pub(crate) loss: f64,
}

/// Both ends of the path.
#[derive(Debug)]
pub(crate) struct Path {
    near: End,
    far: End,
    /// Hardware addresses that frames are sent from and to.
    macs: [[u8; 6]; 2],
    effort: Effort,
    trials: u8,
}

impl Path {
    /// Takes the hosts' interfaces, and waits until frames cross.
    pub(crate) fn open(sites: &Sites, macs: [[u8; 6]; 2], effort: Effort) -> Result<Path> {
        let [near, far] = end::cores();
        let open = |side, core| {
            End::open(&sites.topology().namespace(Node::Host(side)), "eth0", effort.queues, core)
        };
        let mut path = Path { near: open(Side::A, near)?, far: open(Side::B, far)?, macs, effort, trials: 0 };
        match path.wait_crossing() {
            Ok(()) => Ok(path),
            // The next to stand between the hosts needs their interfaces.
            Err(error) => path.close().and(Err(error)),
        }
    }

    /// Gives the interfaces back.
    pub(crate) fn close(self) -> Result<()> {
        self.near.close()?;
        self.far.close()
    }

    /// A trial with as many packets as the generator makes.
    pub(crate) fn overload(&mut self, size: &Size) -> Result<Outcome> {
        self.overload_for(size, self.effort.time)
    }

    /// The same for another time than the effort's.
    pub(crate) fn overload_for(&mut self, size: &Size, time: Duration) -> Result<Outcome> {
        self.trial(size, OVERLOAD, time, 0)
    }

    /// The loss-free rate below `most`, and what a packet cost by the clock `cpu` at the last trial that passed, in
    /// nanoseconds.
    pub(crate) fn search(
        &mut self,
        size: &Size,
        most: f64,
        cpu: impl Fn() -> Duration,
        mut seen: impl FnMut(&Outcome) -> Result<()>,
    ) -> Result<(f64, f64)> {
        let mut search = Search::new(most, PRECISION, self.effort.trials);
        let mut cpu_ns = 0.0;
        while let Some(rate) = search.next() {
            let before = cpu();
            let outcome = self.trial(size, rate, self.effort.time, 0)?;
            seen(&outcome)?;
            let lost = outcome.lost() as f64 > self.effort.loss * outcome.sent as f64;
            if !lost && outcome.received > 0 {
                cpu_ns = cpu().saturating_sub(before).as_nanos() as f64 / outcome.received as f64;
            }
            search.note(outcome.offered().min(rate), lost);
        }
        Ok((search.result(), cpu_ns))
    }

    /// One trial at `rate`; every `echo_each`-th frame comes back, none for 0.
    pub(crate) fn trial(
        &mut self,
        size: &Size,
        rate: f64,
        time: Duration,
        echo_each: u32,
    ) -> Result<Outcome> {
        self.trials = self.trials.wrapping_add(1);
        let load = Load {
            sizes: size.bytes.clone(),
            flows: self.effort.flows,
            rate: rate.max(1.0),
            time,
            echo_each,
            macs: self.macs,
        };
        trial::run(&mut self.near.line, &mut self.far.line, &load, self.trials)
    }

    fn wait_crossing(&mut self) -> Result<()> {
        let begun = Instant::now();
        let size = Size { name: "64".to_owned(), bytes: vec![64] };
        while self.trial(&size, 1000.0, Duration::from_millis(50), 0)?.received == 0 {
            ensure!(begun.elapsed() < CROSS_WITHIN, "no frame crossed within {CROSS_WITHIN:?}");
        }
        Ok(())
    }
}
