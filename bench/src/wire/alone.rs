//! One gateway alone: what it sends is counted where the wire enters the backhaul, and nobody takes it any further. So the figure is
//! one box's, and not that of the slower of two.

use std::time::Duration;

use anyhow::{Context, Result};
use qhaul::lab::Topology;
use qhaul::lab::plan::{Node, Side};
use serde_json::Value;

use super::cpu;
use super::measure::Bench;
use super::options::Size;
use super::row::Table;
use super::subject::Standing;

/// How long is sent: the kernel counts a process's time in hundredths of a second.
const TIME: Duration = Duration::from_secs(2);

impl Bench {
    /// Packets a second that gateway a sends when it gets more than it can, and what one costs it in user space and in the kernel.
    pub(super) fn measure_alone(
        &mut self,
        topology: &Topology,
        standing: &Standing,
        size: &Size,
        table: &mut Table,
    ) -> Result<()> {
        topology.exec(Node::Backhaul, &["ip", "link", "set", "wan-b", "nomaster"])?;
        let measured = self.flow_out(topology, standing, size, table);
        topology.exec(Node::Backhaul, &["ip", "link", "set", "wan-b", "master", "br0"])?;
        measured
    }

    fn flow_out(
        &mut self,
        topology: &Topology,
        standing: &Standing,
        size: &Size,
        table: &mut Table,
    ) -> Result<()> {
        let before = (entered(topology)?, standing.pid(Side::A).map(cpu::split));
        let outcome = self.path.overload_for(size, TIME)?;
        let packets = (entered(topology)? - before.0) as f64;
        table.add(self.subject, &size.name, "alone_pps", packets / outcome.time.as_secs_f64());
        if let (Some(now), Some(then)) = (standing.pid(Side::A).map(cpu::split), before.1) {
            for (figure, now, then) in
                [("alone_user_ns", now[0], then[0]), ("alone_kernel_ns", now[1], then[1])]
            {
                let spent = now.saturating_sub(then).as_nanos() as f64;
                table.add(self.subject, &size.name, figure, spent / packets.max(1.0));
            }
        }
        Ok(())
    }
}

/// Packets that came from gateway a so far.
fn entered(topology: &Topology) -> Result<u64> {
    let told = topology.exec(Node::Backhaul, &["ip", "-json", "-statistics", "link", "show", "wan-a"])?;
    packets_in(&told).context("`ip` does not tell what wan-a received")
}

fn packets_in(told: &str) -> Option<u64> {
    let links: Value = serde_json::from_str(told).ok()?;
    links.get(0)?.get("stats64")?.get("rx")?.get("packets")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_from_what_ip_tells() {
        let told = r#"[{"ifname":"wan-a","stats64":{"rx":{"bytes":9,"packets":7},"tx":{"packets":5}}}]"#;
        assert_eq!(packets_in(told), Some(7));
        assert_eq!(packets_in("[]"), None);
        assert_eq!(packets_in("wan-a: no such device"), None);
    }
}
