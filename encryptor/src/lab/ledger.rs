//! Counts frames by the kernel's counters of the hosts' interfaces, independently of what the encryptors say.

use std::time::Duration;

use serde_json::Value;

use super::command::words;
use super::error::{LabError, Result};
use super::plan::{Node, Side};
use super::topology::Topology;
use super::wait::{pause, wait_for};

/// What the two hosts had sent and received at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    hosts: [HostFrames; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct HostFrames {
    sent: u64,
    dropped: u64,
    received: u64,
}

/// What passed between two moments, over both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames that a host sent.
    pub sent: u64,
    /// Frames that the other host received.
    pub received: u64,
    /// Frames sent and not received, summed per direction.
    pub lost: u64,
    /// Frames received that were not sent, summed per direction: copies or strangers.
    pub surplus: u64,
}

impl Ledger {
    /// Waits until the hosts' counters stand still for 300 ms, so that no frame is under way, and reads them.
    pub fn settled(topology: &Topology) -> Result<Self> {
        let mut last = Self::read(topology)?;
        wait_for("the hosts did not fall silent", Duration::from_secs(10), || {
            pause(Duration::from_millis(300))?;
            let now = Self::read(topology)?;
            Ok((std::mem::replace(&mut last, now) == now).then_some(now))
        })
    }

    /// What passed since `start`.
    pub fn since(&self, start: &Self) -> Passed {
        Side::BOTH.into_iter().fold(Passed::default(), |total, side| {
            let (from, to) = (side.index(), side.peer().index());
            let sent = self.hosts[from].sent - start.hosts[from].sent;
            let received = self.hosts[to].received - start.hosts[to].received;
            Passed {
                sent: total.sent + sent,
                received: total.received + received,
                lost: total.lost + sent.saturating_sub(received),
                surplus: total.surplus + received.saturating_sub(sent),
            }
        })
    }

    /// Frames that a host has sent.
    pub fn sent_by(&self, side: Side) -> u64 {
        self.hosts[side.index()].sent
    }

    /// Those of them that the host's own queue or cable dropped.
    pub fn dropped_by(&self, side: Side) -> u64 {
        self.hosts[side.index()].dropped
    }

    /// Frames that a host has received.
    pub fn received_by(&self, side: Side) -> u64 {
        self.hosts[side.index()].received
    }

    /// Reads the counters as they are.
    pub fn read(topology: &Topology) -> Result<Self> {
        let host = |side| HostFrames::read(&topology.namespace(Node::Host(side)));
        Ok(Self { hosts: [host(Side::A)?, host(Side::B)?] })
    }
}

impl HostFrames {
    fn read(namespace: &str) -> Result<Self> {
        let link = first_object(&words(&format!("ip -n {namespace} -s -j link show dev eth0"))?)?;
        let qdisc = first_object(&words(&format!("tc -n {namespace} -s -j qdisc show dev eth0"))?)?;
        let count = |value: &Value, pointer: &str| {
            value.pointer(pointer).and_then(Value::as_u64).ok_or_else(|| unreadable(format!("no {pointer}")))
        };
        // What the host's own queue or cable dropped was sent as well: it counts as lost.
        let dropped = count(&link, "/stats64/tx/dropped")? + count(&qdisc, "/drops")?;
        Ok(Self {
            sent: count(&link, "/stats64/tx/packets")? + dropped,
            dropped,
            received: count(&link, "/stats64/rx/packets")?,
        })
    }
}

fn first_object(json: &str) -> Result<Value> {
    let root: Value = serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))?;
    root.get(0).cloned().ok_or_else(|| unreadable("no interface".to_owned()))
}

fn unreadable(detail: String) -> LabError {
    LabError::Unreadable { what: "the counters of eth0".to_owned(), detail }
}

/// UDP datagrams that a host's kernel received and dropped, because the program's socket buffer was full or the datagram bad.
pub fn udp_dropped_by_host(topology: &Topology, side: Side) -> Result<u64> {
    parse_udp_drops(&topology.exec(Node::Host(side), &["cat", "/proc/net/snmp"])?)
}

/// `/proc/net/snmp` has two `Udp:` lines, names and values (net/ipv4/proc.c).
fn parse_udp_drops(text: &str) -> Result<u64> {
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
    let errors = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "InErrors");
    let count = errors.and_then(|(_, value)| value.parse().ok());
    count.ok_or_else(|| unreadable("no Udp InErrors in /proc/net/snmp".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(a: (u64, u64), b: (u64, u64)) -> Ledger {
        Ledger { hosts: [a, b].map(|(sent, received)| HostFrames { sent, dropped: 0, received }) }
    }

    #[test]
    fn a_loss_one_way_is_not_made_good_by_a_copy_the_other_way() {
        let start = ledger((10, 20), (30, 40));
        assert_eq!(start.since(&start), Passed::default());
        let end = ledger((110, 70), (80, 139));
        assert_eq!(end.since(&start), Passed { sent: 150, received: 149, lost: 1, surplus: 0 });
        let end = ledger((110, 71), (80, 139));
        assert_eq!(end.since(&start), Passed { sent: 150, received: 150, lost: 1, surplus: 1 });
    }

    #[test]
    fn udp_errors_are_found_by_name() {
        let text = "Tcp: A\nTcp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 5 6 7 8\nUdpLite: InErrors\n";
        assert_eq!(parse_udp_drops(text).unwrap(), 7);
        assert!(parse_udp_drops("Tcp: A\nTcp: 1\n").is_err());
    }
}
