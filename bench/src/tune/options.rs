//! What the tuning bench is told.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::wire::frame::LEAST;
use crate::wire::options::Size;
use crate::wire::path::Effort;

use super::knob::{MemoryKnob, PathKnob};

/// Flows at once on the kernel path, as on the wire bench.
const PATH_FLOWS: u16 = 16;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Knobs that are turned; all, unless named.
    #[arg(long, value_delimiter = ',')]
    knob: Vec<String>,
    /// Sizes of frames on the kernel path, in bytes without FCS.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    size: Vec<usize>,
    /// Flows of the packet path over memory, visited in random order.
    #[arg(long, default_value_t = 100_000)]
    pub(super) flows: u32,
    /// Rounds; each measures all settings of a knob in turn, and the median is shown.
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: usize,
    /// Milliseconds of a trial.
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// Prefix of the lab's namespaces.
    #[arg(long, default_value = "qtn")]
    pub(super) prefix: String,
    /// One JSON object a row.
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    pub(super) fn check(&self) -> Result<()> {
        let all = PathKnob::all();
        let names: Vec<&str> =
            all.iter().map(|knob| knob.name).chain(MemoryKnob::ALL.map(MemoryKnob::name)).collect();
        for name in &self.knob {
            ensure!(names.contains(&name.as_str()), "--knob {name}: there are {}", names.join(", "));
        }
        for size in &self.size {
            ensure!((LEAST..=1514).contains(size), "--size {size}: sizes are {LEAST} to 1514 bytes");
        }
        ensure!((1..=1_000_000).contains(&self.flows), "--flows is within 1 to 1000000");
        ensure!(self.rounds > 0, "--rounds is at least 1");
        ensure!((50..=60_000).contains(&self.millis), "--millis is within 50 to 60000");
        Ok(())
    }

    pub(super) fn path_knobs(&self) -> Vec<PathKnob> {
        PathKnob::all().into_iter().filter(|knob| self.wants(knob.name)).collect()
    }

    pub(super) fn memory_knobs(&self) -> Vec<MemoryKnob> {
        MemoryKnob::ALL.into_iter().filter(|knob| self.wants(knob.name())).collect()
    }

    fn wants(&self, knob: &str) -> bool {
        self.knob.is_empty() || self.knob.iter().any(|name| name == knob)
    }

    pub(super) fn sizes(&self) -> Vec<Size> {
        self.size.iter().map(|size| Size { name: size.to_string(), bytes: vec![*size] }).collect()
    }

    /// How long a trial goes on.
    pub(super) fn time(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    /// About how long one setting takes in a round, in seconds.
    pub(super) fn turn_seconds(&self) -> f64 {
        0.8 + self.size.len() as f64 * (self.time().as_secs_f64() + 0.1)
    }

    /// About how long a knob takes over memory, in seconds.
    pub(super) fn memory_seconds(&self) -> f64 {
        2.0 + 4.0 * self.rounds as f64 * self.time().as_secs_f64()
    }

    /// No rate is searched for.
    pub(super) fn effort(&self) -> Effort {
        Effort { flows: PATH_FLOWS, queues: 1, time: self.time(), trials: 0, loss: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Options {
        Args::try_parse_from([&["tune"], arguments].concat()).unwrap().options
    }

    #[test]
    fn all_knobs_are_turned_unless_some_are_named() {
        let all = parse(&[]);
        assert!(all.check().is_ok());
        assert_eq!((all.path_knobs().len(), all.memory_knobs().len()), (PathKnob::all().len(), 2));
        let some = parse(&["--knob", "burst,prefetch"]);
        assert!(some.check().is_ok());
        assert_eq!(some.path_knobs().iter().map(|knob| knob.name).collect::<Vec<_>>(), ["burst"]);
        assert_eq!(some.memory_knobs(), [MemoryKnob::Prefetch]);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for bad in
            [["--knob", "volume"], ["--size", "59"], ["--rounds", "0"], ["--flows", "0"], ["--millis", "1"]]
        {
            assert!(parse(&bad).check().is_err(), "{bad:?}");
        }
    }
}
