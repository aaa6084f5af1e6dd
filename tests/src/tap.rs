use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use qhaul::lab::plan::Node;
use qhaul::lab::wait::{pause, wait_for};
use qhaul::lab::{Process, Topology, for_each_frame};

/// A tcpdump at one interface, listening to one direction.
#[derive(Debug)]
pub struct Tap {
    process: Process,
    file: PathBuf,
}

/// Which frames of an interface a tap takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Those that arrive there.
    In,
    /// Those that leave there.
    Out,
}

impl Tap {
    /// Starts listening, into the file `NAME.pcap` of the lab's directory; `name` is used once per lab.
    pub fn start(
        topology: &Topology,
        node: Node,
        interface: &str,
        direction: Direction,
        name: &str,
    ) -> Result<Tap> {
        let file = topology.dir().join(format!("{name}.pcap"));
        let path = file.display().to_string();
        let direction = if direction == Direction::In { "in" } else { "out" };
        let options =
            ["-n", "-U", "--immediate-mode", "-Z", "root", "-s", "262144", "-B", "32768", "-Q", direction];
        let argv = [&["tcpdump", "-i", interface, "-w", &path][..], &options].concat();
        let mut process = topology.start(node, name, &argv)?;
        wait_for("tcpdump did not listen", Duration::from_secs(20), || {
            process.check_running()?;
            Ok(process.log().contains("listening on").then_some(()))
        })?;
        Ok(Tap { process, file })
    }

    /// Stops once everything that passed before this call is written; gives the frames in the order in which they came.
    pub fn finish(self) -> Result<Vec<Vec<u8>>> {
        let file = self.finish_file()?;
        let mut frames = Vec::new();
        for_each_frame(&file, |frame| frames.push(frame.to_vec()))?;
        Ok(frames)
    }

    /// The same; gives the pcap file.
    pub fn finish_file(mut self) -> Result<PathBuf> {
        let began = SystemTime::now();
        let mut written = None;
        wait_for("the tap did not catch up", Duration::from_secs(60), || {
            self.process.check_running()?;
            let file = fs::read(&self.file).unwrap_or_default();
            let still = Some(file.len()) == written.replace(file.len());
            // Frames are written in their order: one that came later stands behind all that are waited for. A wire with keys
            // under way may never be silent; one without anything is.
            let caught_up = still || last_heard(&file).is_some_and(|heard| heard > began);
            if !caught_up {
                pause(Duration::from_millis(500))?;
            }
            Ok(caught_up.then_some(()))
        })?;
        self.stop()
    }

    /// Stops at once, while frames still pass.
    pub fn stop(mut self) -> Result<PathBuf> {
        self.process.signal(Signal::SIGINT)?;
        self.process.finish(Duration::from_secs(10))?;
        let log = self.process.log();
        let summary = log.lines().find(|line| line.ends_with("dropped by kernel"));
        let summary = summary.context("tcpdump gave no summary")?;
        ensure!(summary.starts_with("0 packets"), "the tap itself missed frames: {summary}");
        Ok(self.file)
    }
}

/// When the last whole record of a pcap file came, as tcpdump writes it: in microseconds, in this machine's byte order.
fn last_heard(file: &[u8]) -> Option<SystemTime> {
    let word =
        |record: &[u8], at: usize| record.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
    let mut rest = file.get(24..)?;
    let mut heard = None;
    while let Some(length) = word(rest, 8) {
        let Some(behind) = rest.get(16 + length as usize..) else { break };
        let (seconds, micros) = (word(rest, 0)?, word(rest, 4)?);
        heard = Some(UNIX_EPOCH + Duration::from_secs(seconds.into()) + Duration::from_micros(micros.into()));
        rest = behind;
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_record_tells_the_time() {
        let mut file = vec![0; 24];
        assert_eq!(last_heard(&file), None);
        for second in [5_u32, 7] {
            file.extend([second, 250_000, 3, 60].iter().flat_map(|word| word.to_ne_bytes()));
            file.extend([1, 2, 3]);
        }
        let at = |second: u64| Some(UNIX_EPOCH + Duration::from_millis(second * 1000 + 250));
        assert_eq!(last_heard(&file), at(7));
        assert_eq!(last_heard(&file[..file.len() - 1]), at(5), "the second one is not whole");
        assert_eq!(last_heard(&file[..30]), None);
    }
}
