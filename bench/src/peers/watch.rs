//! Whether the backhaul sees the hosts' packets: what does not encrypt is to be in no row but the clear one.

use std::time::Duration;

use anyhow::{Result, ensure};
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::{pause, wait_for};
use qhaul::lab::{Process, Topology};

/// How long a packet may take to be told by the tap.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
/// How long nothing must be told until nothing was there.
const SILENT_FOR: Duration = Duration::from_millis(500);

/// A tap at the backhaul that ends with the first packet for host b that it can read.
pub(super) struct Watch(Process);

impl Watch {
    /// Begins to listen where site a sends into the backhaul.
    pub(super) fn start(topology: &Topology, name: &str) -> Result<Watch> {
        let host = Side::B.host_v4().to_string();
        let options = ["-n", "--immediate-mode", "-Q", "in", "-c", "1", "dst", "host", &host];
        let argv = [&["tcpdump", "-i", "wan-a"][..], &options].concat();
        let name = format!("watch-{name}");
        let before = std::fs::read(topology.dir().join(format!("{name}.log"))).map_or(0, |log| log.len());
        let mut process = topology.start(Node::Backhaul, &name, &argv)?;
        wait_for("tcpdump did not listen", Duration::from_secs(10), || {
            process.check_running()?;
            let log = process.log();
            Ok(log.get(before..).is_some_and(|log| log.contains("listening on")).then_some(()))
        })?;
        Ok(Watch(process))
    }

    /// After packets have crossed: fails unless they were readable if they are meant to be, and only then.
    pub(super) fn judge(mut self, clear: bool) -> Result<()> {
        if clear {
            self.0.finish(TOLD_WITHIN)?;
            return Ok(());
        }
        pause(SILENT_FOR)?;
        ensure!(self.0.try_wait()?.is_none(), "packets cross the backhaul in clear: {}", self.0.output());
        Ok(())
    }
}
