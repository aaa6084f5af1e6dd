//! What the bench of the peers is told.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::wire::frame::LEAST;
use crate::wire::options::Size;
use crate::wire::path::Effort;

use super::peer::{Peer, is_control};

/// MTU of the hosts and of all tunnels, in bytes: what fits into [`WAN_MTU`] with the overhead of any of them, qhaul's with the
/// Ethernet header included.
pub(super) const INNER_MTU: u16 = 1400;
/// MTU of the backhaul, in bytes.
pub(super) const WAN_MTU: u16 = 1500;
const MOST: usize = INNER_MTU as usize + 14;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Who is measured beside qhaul and the kernel in clear; all that are there, unless named.
    #[arg(long, value_delimiter = ',')]
    peer: Vec<String>,
    /// Sizes of frames in bytes without FCS.
    #[arg(long, value_delimiter = ',', default_value = "64,512,1400")]
    size: Vec<usize>,
    /// Flows at once.
    #[arg(long, default_value_t = 16)]
    pub(super) flows: u16,
    /// Rounds; each measures all in turn, and the median is shown.
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: usize,
    /// Milliseconds of a trial.
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// Trials of a search for the loss-free rate.
    #[arg(long, default_value_t = 12)]
    trials: u32,
    /// Loss that a trial may have and still pass, as a part of what was sent; 0 is RFC 2544's.
    #[arg(long, default_value_t = 0.001)]
    loss: f64,
    /// Seconds of TCP by iperf3, each and every round; 0 for none.
    #[arg(long, default_value_t = 3)]
    pub(super) tcp: u64,
    /// Prefix of the lab's namespaces.
    #[arg(long, default_value = "qpe")]
    pub(super) prefix: String,
    /// One JSON object a row.
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    pub(super) fn check(&self, everyone: &[Box<dyn Peer>]) -> Result<()> {
        let names: Vec<&str> = everyone.iter().map(|peer| peer.name()).collect();
        for name in &self.peer {
            ensure!(names.contains(&name.as_str()), "--peer {name}: there are {}", names.join(", "));
        }
        for size in &self.size {
            ensure!((LEAST..=MOST).contains(size), "--size {size}: sizes are {LEAST} to {MOST} bytes");
        }
        ensure!((1..=1024).contains(&self.flows), "--flows is within 1 to 1024");
        ensure!(self.rounds > 0 && self.trials > 0, "--rounds and --trials are at least 1");
        ensure!((50..=60_000).contains(&self.millis), "--millis is within 50 to 60000");
        ensure!((0.0..0.5).contains(&self.loss), "--loss is a part of what was sent, below 0.5");
        Ok(())
    }

    /// Whether `name` is to be measured; the two that the others stand beside always are.
    pub(super) fn wants(&self, name: &str) -> bool {
        is_control(name) || self.peer.is_empty() || self.peer.iter().any(|peer| peer == name)
    }

    pub(super) fn sizes(&self) -> Vec<Size> {
        self.size.iter().map(|size| Size { name: size.to_string(), bytes: vec![*size] }).collect()
    }

    pub(super) fn effort(&self) -> Effort {
        let time = Duration::from_millis(self.millis);
        Effort { flows: self.flows, queues: 1, time, trials: self.trials, loss: self.loss }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::peers::everyone;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Options {
        Args::try_parse_from([&["peers"], arguments].concat()).unwrap().options
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        assert!(parse(&[]).check(&everyone()).is_ok());
        for bad in [["--size", "59"], ["--size", "1415"], ["--rounds", "0"], ["--peer", "carrier-pigeon"]] {
            assert!(parse(&bad).check(&everyone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_controls_are_measured_whoever_is_named() {
        let options = parse(&["--peer", "openvpn"]);
        let wanted = ["clear", "qhaul", "openvpn", "wireguard-go"].map(|name| options.wants(name));
        assert_eq!(wanted, [true, true, true, false]);
        assert!(parse(&[]).wants("wireguard-go"));
    }
}
