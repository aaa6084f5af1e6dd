//! What the wire bench is told.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::frame::LEAST;
use super::path::Effort;

/// The 7:4:1 mixture that is called IMIX, spread evenly; sizes without FCS.
const IMIX: [usize; 12] = [60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 590, 60];

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sizes of frames in bytes without FCS, or `imix`.
    #[arg(long, value_delimiter = ',', default_value = "64,128,512,1400,imix")]
    size: Vec<String>,
    /// Flows at once.
    #[arg(long, default_value_t = 16)]
    flows: u16,
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
    #[arg(long, value_delimiter = ',', default_value = "60s,1s,100ms")]
    pub(super) rotate: Vec<String>,
    /// Seconds of a measurement under rotation.
    #[arg(long, default_value_t = 10)]
    pub(super) rotate_seconds: u64,
    /// Prefix of the lab's namespaces.
    #[arg(long, default_value = "qhb")]
    pub(super) prefix: String,
    /// One JSON object a row.
    #[arg(long)]
    pub(super) json: bool,
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
        ensure!(self.rounds > 0 && self.trials > 0, "--rounds and --trials are at least 1");
        ensure!((50..=60_000).contains(&self.millis), "--millis is within 50 to 60000");
        ensure!((0.0..0.5).contains(&self.loss), "--loss is a part of what was sent, below 0.5");
        Ok(())
    }

    pub(super) fn sizes(&self) -> Vec<Size> {
        let bytes = |name: &str| match name.parse() {
            Ok(size) => vec![size],
            Err(_) => IMIX.to_vec(),
        };
        self.size.iter().map(|name| Size { name: name.clone(), bytes: bytes(name) }).collect()
    }

    pub(super) fn effort(&self) -> Effort {
        let time = Duration::from_millis(self.millis);
        Effort { flows: self.flows, time, trials: self.trials, loss: self.loss }
    }

    /// `--rotate none` leaves rotation out.
    pub(crate) fn normal(mut self) -> Options {
        self.rotate.retain(|period| period != "none");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imix_is_seven_to_four_to_one() {
        let count = |size| IMIX.iter().filter(|one| **one == size).count();
        assert_eq!([count(60), count(590), count(1514)], [7, 4, 1]);
    }
}
