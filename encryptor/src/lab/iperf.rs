//! iperf3 between the hosts: TCP for throughput, UDP for loss.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::error::{LabError, Result};
use super::plan::{Node, Side};
use super::process::Process;
use super::topology::Topology;

/// iperf3's repeating payload: the marker that an eavesdropper can look for.
pub const MARKER: &[u8; 20] = b"01234567890123456789";

/// A test that is running: client at host a, server at host b.
#[derive(Debug)]
pub struct Iperf {
    // Declared first: the client goes before its server.
    client: Process,
    _server: Process,
    udp: bool,
}

/// What a test is to send.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// TCP as fast as it goes, in bytes over all streams.
    TcpBytes(u64),
    /// TCP at a rate, in bit/s over all streams, for a time.
    TcpRate(u64, Duration),
    /// UDP with 1,200-byte datagrams at a rate, in bit/s over all streams, for a time.
    Udp(u64, Duration),
}

/// What both ends agree on at the end of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IperfReport {
    /// What the receiver got, in bit/s of payload.
    pub bits_per_second: f64,
    /// UDP datagrams sent; 0 for TCP.
    pub datagrams: u64,
    /// UDP datagrams that the receiver misses.
    pub lost: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
}

impl Iperf {
    /// Starts a server at host b on `port`, and a client at host a with `streams` parallel streams (each a flow of its own).
    pub fn start(topology: &Topology, target: IpAddr, port: u16, streams: u32, load: Load) -> Result<Self> {
        let port_text = port.to_string();
        let server_argv = ["iperf3", "--server", "--one-off", "--port", &port_text];
        let mut server =
            topology.start(Node::Host(Side::B), &format!("iperf3-server-{port}"), &server_argv)?;
        server.wait_listening(port, Duration::from_secs(5))?;
        let mut argv = format!(
            "iperf3 --json --repeating-payload --connect-timeout 3000 --client {target} --port {port}"
        );
        argv += &format!(" --parallel {streams}{}", load.arguments(streams));
        let argv: Vec<_> = argv.split_whitespace().collect();
        let client = topology.start(Node::Host(Side::A), &format!("iperf3-{port}"), &argv)?;
        Ok(Self { client, _server: server, udp: matches!(load, Load::Udp(..)) })
    }

    /// Waits for the end of the test.
    pub fn finish(mut self, limit: Duration) -> Result<IperfReport> {
        // On errors iperf3 exits with 1 and tells the reason in its JSON.
        self.client.wait(limit)?;
        IperfReport::parse(&self.client.output(), self.udp)
    }
}

impl Load {
    fn arguments(self, streams: u32) -> String {
        // A window that the backhaul's queues can hold: what is measured is the path, not its drops.
        const WINDOW: &str = "--window 200K";
        let each = |rate: u64| rate / u64::from(streams);
        match self {
            Self::TcpBytes(bytes) => format!(" {WINDOW} --bytes {bytes}"),
            Self::TcpRate(rate, time) => {
                format!(" {WINDOW} --bitrate {} --time {}", each(rate), time.as_secs())
            }
            Self::Udp(rate, time) => {
                format!(" --udp --length 1200 --bitrate {} --time {}", each(rate), time.as_secs())
            }
        }
    }
}

impl IperfReport {
    fn parse(json: &str, udp: bool) -> Result<Self> {
        let unreadable =
            |detail: String| LabError::Unreadable { what: "the report of iperf3".to_owned(), detail };
        let root: Value = serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))?;
        if let Some(error) = root["error"].as_str() {
            return Err(unreadable(error.to_owned()));
        }
        let (total, sent) = if udp { ("sum", "sum") } else { ("sum_received", "sum_sent") };
        let rate = &root["end"][total]["bits_per_second"];
        Ok(Self {
            bits_per_second: rate
                .as_f64()
                .ok_or_else(|| unreadable(format!("no end.{total}.bits_per_second")))?,
            datagrams: root["end"]["sum"]["packets"].as_u64().unwrap_or_default(),
            lost: root["end"]["sum"]["lost_packets"].as_u64().unwrap_or_default(),
            retransmits: root["end"][sent]["retransmits"].as_u64().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_both_protocols_are_read() {
        let tcp = r#"{"end":{"sum_sent":{"retransmits":2},"sum_received":{"bits_per_second":5e8}}}"#;
        let tcp = IperfReport::parse(tcp, false).unwrap();
        assert_eq!(tcp, IperfReport { bits_per_second: 5e8, datagrams: 0, lost: 0, retransmits: 2 });
        let udp = r#"{"end":{"sum":{"bits_per_second":1e6,"packets":900,"lost_packets":3}}}"#;
        let udp = IperfReport::parse(udp, true).unwrap();
        assert_eq!(udp, IperfReport { bits_per_second: 1e6, datagrams: 900, lost: 3, retransmits: 0 });
    }

    #[test]
    fn an_error_is_passed_on() {
        let refused = IperfReport::parse(r#"{"error":"unable to connect","end":{}}"#, false).unwrap_err();
        assert_eq!(refused.to_string(), "cannot read the report of iperf3: unable to connect");
        assert!(IperfReport::parse(r#"{"end":{}}"#, true).is_err());
    }
}
