//! What the wire bench is told.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use qhaul::config::Config;
use qhaul::lab::SiteConfig;
use qhaul::lab::plan::Side;

use super::frame::LEAST;
use super::idle;
use super::path::Effort;
use super::rotation;
use super::subject::{HARD_LIMIT, Subject};

/// The 7:4:1 mixture that is called IMIX, spread evenly; sizes without FCS.
const IMIX: [usize; 12] = [60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 590, 60];

/// About how long it takes to put a subject in place and to take it away, in seconds.
const SETUP: f64 = 3.0;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sizes of frames in bytes without FCS, or `imix`.
    #[arg(long, value_delimiter = ',', default_value = "64,128,512,1400,imix")]
    size: Vec<String>,
    /// Flows at once.
    #[arg(long, default_value_t = 16)]
    pub(super) flows: u16,
    /// Queues at every end of the path, each with a worker and a core of its own; for each number everything is measured.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(super) queues: Vec<u16>,
    /// How qhaul's workers wait for packets; each is a subject of its own.
    #[arg(long, value_delimiter = ',', default_value = "adaptive")]
    polling: Vec<Polling>,
    /// Rounds; each measures all subjects in turn, and the median is shown.
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: usize,
    /// Milliseconds of a trial.
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// Trials of a search for the loss-free rate.
    #[arg(long, default_value_t = 9)]
    trials: u32,
    /// Loss that a trial may have and still pass, as a part of what was sent; 0 is RFC 2544's.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Seconds of TCP by iperf3, each subject and round; 0 for none.
    #[arg(long, default_value_t = 2)]
    pub(super) tcp: u64,
    /// Rotation periods under which qhaul's loss and round trips are measured; `none` for none.
    #[arg(long, value_delimiter = ',', default_value = "1s,100ms")]
    pub(super) rotate: Vec<String>,
    /// Seconds of a turn with or without rotation.
    #[arg(long, default_value_t = 10)]
    pub(super) rotate_seconds: u64,
    /// Turns with and as many without rotation for each period.
    #[arg(long, default_value_t = 3)]
    pub(super) rotate_rounds: usize,
    /// Prefix of the lab's namespaces.
    #[arg(long, default_value = "qhb")]
    pub(super) prefix: String,
    /// One JSON object a row.
    #[arg(long)]
    pub(super) json: bool,
}

/// A period that the encryptors would refuse is not to be found out after all rounds.
fn check_period(period: &str) -> Result<()> {
    let site = SiteConfig {
        rotate: period.to_owned(),
        hard_limit: HARD_LIMIT.to_owned(),
        ..SiteConfig::new(Side::A)
    };
    match Config::parse(&site.to_toml(), Path::new("")) {
        Ok(_) => Ok(()),
        Err(problem) => bail!("--rotate {period}: {problem}"),
    }
}

/// So many queues, in words.
pub(super) fn queues_text(queues: u16) -> String {
    match queues {
        1 => "1 queue".to_owned(),
        _ => format!("{queues} queues"),
    }
}

/// How workers wait for packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Polling {
    /// They look again for a while, then sleep.
    Adaptive,
    /// The same, and no core of the machine halts meanwhile (`worker.wake_latency_us = 0`).
    Awake,
    /// They never sleep.
    Busy,
}

/// A size, or a mixture of sizes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    /// As it was asked for.
    pub(crate) name: String,
    /// In bytes without FCS, taken in turn.
    pub(crate) bytes: Vec<usize>,
}

impl Options {
    pub(super) fn check(&self) -> Result<()> {
        for name in &self.size {
            let known = name == "imix" || name.parse().is_ok_and(|size| (LEAST..=1514).contains(&size));
            ensure!(known, "--size {name}: sizes are {LEAST} to 1514 bytes, or imix");
        }
        ensure!((1..=1024).contains(&self.flows), "--flows is within 1 to 1024");
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for queues in &self.queues {
            let fits = (1..=cores).contains(&usize::from(*queues));
            ensure!(fits, "--queues {queues}: each needs a core, and there are {cores}");
        }
        ensure!(self.rounds > 0 && self.trials > 0, "--rounds and --trials are at least 1");
        ensure!((50..=60_000).contains(&self.millis), "--millis is within 50 to 60000");
        ensure!((0.0..0.5).contains(&self.loss), "--loss is a part of what was sent, below 0.5");
        let start = self.rotate.is_empty() || self.size.contains(&rotation::SIZE.to_string());
        ensure!(start, "--rotate needs {} in --size; `--rotate none` leaves rotation out", rotation::SIZE);
        self.rotate.iter().try_for_each(|period| check_period(period))?;
        ensure!(self.rotate_rounds > 0, "--rotate-rounds is at least 1");
        // The turns without rotation must end before the one that never comes is due.
        ensure!((1..=600).contains(&self.rotate_seconds), "--rotate-seconds is within 1 to 600");
        Ok(())
    }

    /// Controls first.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let measured = |subject: &Subject| match subject {
            Subject::Clear | Subject::Forward => true,
            Subject::Qhaul => self.polling.contains(&Polling::Adaptive),
            Subject::QhaulAwake => self.polling.contains(&Polling::Awake),
            Subject::QhaulBusy => self.polling.contains(&Polling::Busy),
        };
        Subject::ALL.into_iter().filter(measured).collect()
    }

    /// As qhaul comes, unless only others are measured: then the first of them.
    pub(super) fn subject_of_rotation(&self) -> Subject {
        self.subjects().into_iter().find(|subject| subject.encrypts()).unwrap_or(Subject::Qhaul)
    }

    pub(super) fn rotate_time(&self) -> Duration {
        Duration::from_secs(self.rotate_seconds)
    }

    pub(super) fn sizes(&self) -> Vec<Size> {
        let bytes = |name: &str| match name.parse() {
            Ok(size) => vec![size],
            Err(_) => IMIX.to_vec(),
        };
        self.size.iter().map(|name| Size { name: name.clone(), bytes: bytes(name) }).collect()
    }

    pub(super) fn effort(&self, queues: u16) -> Effort {
        let time = Duration::from_millis(self.millis);
        Effort { flows: self.flows, queues, time, trials: self.trials, loss: self.loss }
    }

    /// About how long one subject takes in a round, in seconds.
    pub(super) fn turn_seconds(&self) -> f64 {
        let trials = f64::from(self.trials + 1) * (self.millis as f64 / 1000.0 + 0.1);
        // Round trips under load, and one gateway alone.
        self.size.len() as f64 * (trials + 1.2 + 2.3) + idle::SECONDS + 1.5 * self.tcp as f64 + SETUP
    }

    /// About how long it takes to find a rate that holds.
    pub(super) fn sustained_seconds(&self) -> f64 {
        3.0 * self.rotate_seconds as f64 + SETUP
    }

    /// About how long a turn with or without rotation takes.
    pub(super) fn rotation_seconds(&self) -> f64 {
        self.rotate_seconds as f64 + SETUP
    }

    /// About how long all turns with and without rotation take in one lab.
    pub(super) fn rotations_seconds(&self) -> f64 {
        (2 * self.rotate.len() * self.rotate_rounds) as f64 * self.rotation_seconds()
    }

    /// About how long everything takes.
    pub(super) fn seconds(&self) -> f64 {
        let turns = (self.rounds * self.subjects().len()) as f64 * self.turn_seconds();
        let sustained = if self.rotate.is_empty() { 0.0 } else { self.sustained_seconds() };
        self.queues.len() as f64 * (turns + sustained + self.rotations_seconds())
    }

    /// `--rotate none` leaves rotation out.
    pub(crate) fn normal(mut self) -> Options {
        self.rotate.retain(|period| period != "none");
        self
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
        Args::try_parse_from([&["wire"], arguments].concat()).unwrap().options.normal()
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        assert!(parse(&[]).check().is_ok());
        assert!(parse(&["--rotate", "none", "--size", "64"]).check().is_ok());
        for bad in [
            ["--size", "59"],
            ["--size", "64"],
            ["--queues", "0"],
            ["--queues", "9999"],
            ["--rotate", "1ms"],
            ["--rotate", "often"],
            ["--rotate", "3h"],
            ["--rotate-rounds", "0"],
        ] {
            assert!(parse(&bad).check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn each_way_to_wait_is_a_subject() {
        let names = |options: &Options| options.subjects().into_iter().map(Subject::name).collect::<Vec<_>>();
        assert_eq!(names(&parse(&[])), ["clear", "forward", "qhaul"]);
        let all = parse(&["--polling", "busy,awake,adaptive"]);
        assert_eq!(names(&all), ["clear", "forward", "qhaul", "qhaul-awake", "qhaul-busy"]);
        assert_eq!(all.subject_of_rotation(), Subject::Qhaul);
        let busy = parse(&["--polling", "busy"]);
        assert_eq!(names(&busy), ["clear", "forward", "qhaul-busy"]);
        assert_eq!(busy.subject_of_rotation(), Subject::QhaulBusy);
    }

    #[test]
    fn all_steps_together_take_the_time_that_is_told_first() {
        let options = parse(&["--queues", "1,2", "--rounds", "2", "--rotate", "1s", "--rotate-rounds", "3"]);
        let lab =
            6.0 * options.turn_seconds() + options.sustained_seconds() + 6.0 * options.rotation_seconds();
        assert!((options.seconds() - 2.0 * lab).abs() < 1e-6);
    }

    #[test]
    fn imix_is_seven_to_four_to_one() {
        let count = |size| IMIX.iter().filter(|one| **one == size).count();
        assert_eq!([count(60), count(590), count(1514)], [7, 4, 1]);
    }
}
