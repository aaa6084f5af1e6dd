//! What is measured on a path, with and without encryptors, in the same way.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use super::capture::{Capture, Captured};
use super::eavesdrop::{Eavesdropper, Sightings};
use super::error::{Result, io_error};
use super::iperf::{Iperf, IperfReport, Load};
use super::ledger::{Ledger, Passed};
use super::pcap::for_each_frame;
use super::ping::{Ping, PingReport};
use super::plan::{Node, Side};
use super::topology::Topology;
use super::wait::wait_for;

/// Parallel TCP streams of the throughput test.
pub(super) const TCP_STREAMS: u32 = 4;
const TCP_BYTES: u64 = 128 << 20;

/// One path's figures.
#[derive(Debug)]
pub(super) struct Figures {
    /// Round trips on an otherwise idle path.
    pub(super) rtt: PingReport,
    /// TCP as fast as it goes.
    pub(super) tcp: IperfReport,
}

/// What a stretch of traffic left behind on both sides of the encryptors.
#[derive(Debug)]
pub(super) struct Evidence {
    /// Frames by the hosts' kernels.
    pub(super) passed: Passed,
    /// What the eavesdropper made of the backhaul.
    pub(super) seen: Sightings,
    /// Frames that the capture missed.
    pub(super) missed: u64,
}

/// Waits until the hosts reach each other, so that ARP and neighbour discovery are behind us.
pub(super) fn wait_connected(topology: &Topology) -> Result<()> {
    let targets = [IpAddr::from(Side::B.host_v4()), Side::B.host_v6().into(), Side::B.vlan_v4().into()];
    targets.into_iter().try_for_each(|target| {
        let target = target.to_string();
        let argv = ["ping", "-n", "-c", "1", "-W", "1", &target];
        wait_for(&format!("host a did not reach {target}"), Duration::from_secs(8), || {
            Ok(topology.exec(Node::Host(Side::A), &argv).ok())
        })
        .map(drop)
    })
}

/// Idle round trips, then TCP throughput.
pub(super) fn measure_path(topology: &Topology) -> Result<Figures> {
    let interval = Duration::from_millis(10);
    let target = IpAddr::from(Side::B.host_v4());
    let rtt = Ping::start(topology, Node::Host(Side::A), "ping-rtt", target, interval, Some(200))?;
    let rtt = rtt.wait(Duration::from_secs(20))?;
    let tcp = Iperf::start(topology, target, 5201, TCP_STREAMS, Load::TcpBytes(TCP_BYTES))?;
    Ok(Figures { rtt, tcp: tcp.finish(Duration::from_secs(60))? })
}

/// Runs `traffic` between two settled readings of the counters, under a capture of the backhaul.
pub(super) fn observe<T>(
    topology: &Topology,
    name: &str,
    traffic: impl FnOnce(&mut Capture) -> Result<T>,
) -> Result<(T, Evidence)> {
    let mut capture = Capture::start(topology, name)?;
    let start = Ledger::settled(topology)?;
    let result = traffic(&mut capture)?;
    let passed = Ledger::settled(topology)?.since(&start);
    let captured = capture.finish()?;
    let seen = read_capture(&captured)?;
    Ok((result, Evidence { passed, seen, missed: captured.missed }))
}

/// The capture's files may be removed when space matters more than a second look.
pub(super) fn delete_capture(topology: &Topology, name: &str) -> Result<()> {
    Side::BOTH.into_iter().try_for_each(|side| {
        let path = topology.dir().join(format!("{name}-{side}.pcap"));
        fs::remove_file(&path).map_err(io_error(format!("cannot remove {}", path.display())))
    })
}

fn read_capture(captured: &Captured) -> Result<Sightings> {
    let mut eavesdropper = Eavesdropper::default();
    for file in &captured.files {
        for_each_frame(file, |frame| eavesdropper.look_at(frame))?;
    }
    Ok(eavesdropper.into_sightings())
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;
