use std::fs;
use std::path::PathBuf;
use std::time::Duration;

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

    /// Stops once nothing has been written for half a second; gives the frames in the order in which they came.
    pub fn finish(self) -> Result<Vec<Vec<u8>>> {
        let file = self.finish_file()?;
        let mut frames = Vec::new();
        for_each_frame(&file, |frame| frames.push(frame.to_vec()))?;
        Ok(frames)
    }

    /// The same; gives the pcap file.
    pub fn finish_file(mut self) -> Result<PathBuf> {
        let mut length = None;
        wait_for("the tap did not fall silent", Duration::from_secs(30), || {
            self.process.check_running()?;
            let now = fs::metadata(&self.file).ok().map(|data| data.len());
            let still = now == std::mem::replace(&mut length, now);
            pause(Duration::from_millis(500))?;
            Ok(still.then_some(()))
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
