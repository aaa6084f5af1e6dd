//! Pings, each with its round-trip time.

use std::net::IpAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::error::{LabError, Result};
use super::plan::Node;
use super::process::Process;
use super::topology::Topology;

/// Fills the payload of every ping, so that an eavesdropper can look for it; exactly `ping -p`'s 16 bytes.
pub const MARKER: &[u8; 16] = b"qhaul-plaintext!";

/// A `ping` that is running.
#[derive(Debug)]
pub struct Ping {
    process: Process,
}

/// What a `ping` saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u64,
    /// Replies that came back.
    pub received: u64,
    /// Round-trip times in microseconds, ascending.
    pub rtt_us: Vec<f64>,
}

impl Ping {
    /// Starts pinging from a node; without `count`, until [`Ping::finish`].
    pub fn start(
        topology: &Topology,
        node: Node,
        name: &str,
        target: IpAddr,
        interval: Duration,
        count: Option<u32>,
    ) -> Result<Self> {
        let pattern = MARKER.map(|byte| format!("{byte:02x}")).concat();
        let interval = format!("{:.3}", interval.as_secs_f64());
        let (count, target) = (count.unwrap_or(0).to_string(), target.to_string());
        let mut argv = vec!["ping", "-n", "-i", &interval, "-W", "1", "-s", "120", "-p", &pattern];
        if count != "0" {
            argv.extend(["-c", &count]);
        }
        argv.push(&target);
        Ok(Self { process: topology.start(node, name, &argv)? })
    }

    /// Waits until its count is reached.
    pub fn wait(mut self, limit: Duration) -> Result<PingReport> {
        // Exit code 1 means that replies are missing: that is a result, which the report states.
        self.process.wait(limit)?;
        PingReport::parse(&self.process.output())
    }

    /// Stops it, and waits for the replies that are under way.
    pub fn finish(mut self) -> Result<PingReport> {
        self.process.check_running()?;
        self.process.signal(Signal::SIGINT)?;
        self.wait(Duration::from_secs(5))
    }
}

impl PingReport {
    /// The round-trip time that `percent` of the pings stayed under, in microseconds.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let rank = (self.rtt_us.len() * percent).div_ceil(100).saturating_sub(1);
        self.rtt_us.get(rank).copied()
    }

    /// The mean round-trip time in microseconds.
    pub fn mean(&self) -> Option<f64> {
        let count = u32::try_from(self.rtt_us.len()).ok().filter(|&count| count > 0)?;
        Some(self.rtt_us.iter().sum::<f64>() / f64::from(count))
    }

    /// Requests without a reply.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// Reads what iputils' ping prints: a line per reply with `time=0.064 ms`, then `5 packets transmitted, 5 received`.
    fn parse(text: &str) -> Result<Self> {
        let time = |line: &str| line.split_once(" time=")?.1.split_whitespace().next()?.parse::<f64>().ok();
        let mut rtt_us: Vec<f64> = text.lines().filter_map(time).map(|ms| ms * 1000.0).collect();
        rtt_us.sort_by(f64::total_cmp);
        let summary = text.lines().find(|line| line.contains(" packets transmitted, "));
        let count = |part: &str| part.split_whitespace().next()?.parse().ok();
        let counts = summary.and_then(|line| {
            let mut parts = line.split(", ");
            Some((count(parts.next()?)?, count(parts.next()?)?))
        });
        let (sent, received) = counts.ok_or_else(|| LabError::Unreadable {
            what: "the output of ping".to_owned(),
            detail: "no summary line".to_owned(),
        })?;
        Ok(Self { sent, received, rtt_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_percentiles_come_from_what_ping_prints() {
        let report = PingReport::parse(
            "PATTERN: 0x71\nPING 10.77.0.2 (10.77.0.2) 120(148) bytes of data.\n\
             128 bytes from 10.77.0.2: icmp_seq=1 ttl=64 time=0.300 ms\n\
             128 bytes from 10.77.0.2: icmp_seq=3 ttl=64 time=0.100 ms\n\n--- 10.77.0.2 ping statistics ---\n\
             3 packets transmitted, 2 received, 33% packet loss, time 2044ms\nrtt min/avg/max/mdev = 0.1/0.2/0.3/0.1 ms\n",
        )
        .unwrap();
        assert_eq!((report.sent, report.received, report.lost()), (3, 2, 1));
        assert_eq!(report.percentile(50), Some(100.0));
        assert_eq!(report.percentile(99), Some(300.0));
        assert_eq!(report.mean(), Some(200.0));
        assert!(PingReport::parse("connect: Network is unreachable\n").is_err());
        assert_eq!(PingReport::default().percentile(50), None);
    }
}
