//! The eavesdropper's tap: tcpdump on both ports of the backhaul's bridge, at what each site sends into it.
//!
//! AF_PACKET sees nothing of what AF_XDP sends on an interface itself, so the tap is one hop further, as a carrier's
//! would be. Listening to arrivals only takes each frame once, even those that the bridge would not pass on.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::error::{LabError, Result};
use super::plan::{Node, Side};
use super::process::Process;
use super::topology::Topology;
use super::wait::{pause, wait_for};

/// The kernel's buffer per tap, in KiB.
const BUFFER_KIB: &str = "65536";

/// Two tcpdumps at work.
#[derive(Debug)]
pub struct Capture {
    taps: Vec<(Process, PathBuf)>,
}

/// What they wrote.
#[derive(Clone, Debug)]
pub struct Captured {
    /// One pcap file per site.
    pub files: Vec<PathBuf>,
    /// Frames that the tap itself missed.
    pub missed: u64,
}

impl Capture {
    /// Starts capturing whole frames into `NAME-a.pcap` and `NAME-b.pcap`, and waits until both taps listen.
    pub fn start(topology: &Topology, name: &str) -> Result<Self> {
        let mut taps = Vec::new();
        for side in Side::BOTH {
            let (tap, port) = (format!("{name}-{side}"), format!("wan-{side}"));
            let file = topology.dir().join(format!("{tap}.pcap"));
            let path = file.display().to_string();
            // Root writes the file itself (-Z): the directory is for nobody else.
            let options = ["-n", "-Z", "root", "-Q", "in", "-s", "262144", "-B", BUFFER_KIB];
            let argv = [&["tcpdump", "-i", &port, "-w", &path][..], &options].concat();
            let before = fs_len(topology, &tap);
            let mut process = topology.start(Node::Backhaul, &tap, &argv)?;
            wait_for("tcpdump did not listen", Duration::from_secs(10), || {
                process.check_running()?;
                let log = process.log();
                Ok(log.get(before..).is_some_and(|log| log.contains("listening on")).then_some(()))
            })?;
            taps.push((process, file));
        }
        Ok(Self { taps })
    }

    /// Fails if a tap has ended, for want of space for instance.
    pub fn check_running(&mut self) -> Result<()> {
        self.taps.iter_mut().try_for_each(|(tap, _)| tap.check_running())
    }

    /// Stops both taps once they have written what they heard.
    pub fn finish(mut self) -> Result<Captured> {
        // The kernel hands its blocks over within a second (libpcap's read timeout).
        pause(Duration::from_millis(1200))?;
        self.check_running()?;
        let mut captured = Captured { files: Vec::new(), missed: 0 };
        for (mut tap, file) in self.taps {
            tap.signal(Signal::SIGINT)?;
            tap.finish(Duration::from_secs(10))?;
            captured.missed += parse_missed(&tap.log())?;
            captured.files.push(file);
        }
        Ok(captured)
    }
}

fn fs_len(topology: &Topology, tap: &str) -> usize {
    let log = topology.dir().join(format!("{tap}.log"));
    std::fs::metadata(log).map_or(0, |data| usize::try_from(data.len()).unwrap_or(usize::MAX))
}

/// tcpdump ends with `N packets dropped by kernel`; logs are added to, so the last such line counts.
fn parse_missed(log: &str) -> Result<u64> {
    let line = log.lines().rev().find_map(|line| line.strip_suffix(" dropped by kernel"));
    let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    count.ok_or_else(|| LabError::Unreadable {
        what: "the summary of tcpdump".to_owned(),
        detail: "no line `N packets dropped by kernel`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcpdumps_own_losses_are_read() {
        let log = "listening on wan-a\n7 packets captured\n9 packets received by filter\n2 packets dropped by kernel\n";
        assert_eq!(parse_missed(log).unwrap(), 2);
        assert!(parse_missed("tcpdump: wan-a: No such device exists\n").is_err());
    }
}
