//! The demo's everyday traffic, all at once, for as long as it takes the keys to rotate often enough.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::capture::Capture;
use super::error::Result;
use super::fetch::FileServer;
use super::iperf::{Iperf, IperfReport, Load};
use super::ledger::udp_dropped_by_host;
use super::ping::{Ping, PingReport};
use super::plan::{Node, Side};
use super::topology::Topology;
use super::wait::pause;

/// UDP offered, in bit/s of payload, over [`UDP_STREAMS`] streams.
pub(super) const UDP_RATE: u64 = 60_000_000;
/// Parallel UDP streams.
pub(super) const UDP_STREAMS: u32 = 4;
const TCP_V6_RATE: u64 = 20_000_000;
const BULK_TIME: Duration = Duration::from_secs(6);
/// Patience with a rotation that does not come.
const LIMIT: Duration = Duration::from_secs(40);

/// What the programs on the hosts saw.
#[derive(Debug)]
pub(super) struct MixtureReport {
    pub(super) ping_v4: PingReport,
    pub(super) ping_v6: PingReport,
    pub(super) ping_vlan: PingReport,
    pub(super) udp: IperfReport,
    /// UDP datagrams that arrived and that host b's kernel dropped at the program's full socket buffer.
    pub(super) udp_dropped_by_host: u64,
    /// Files fetched, and how many of them were identical.
    pub(super) files: (u32, u32),
}

/// Pings over IPv4, IPv6 and the VLAN; meanwhile UDP, TCP over IPv6 and files over HTTP. `enough` is asked every other
/// second, and may report progress.
pub(super) fn run_mixture(
    topology: &Topology,
    capture: &mut Capture,
    mut enough: impl FnMut() -> Result<bool>,
) -> Result<MixtureReport> {
    let server = FileServer::start(topology)?;
    let ping = |name: &str, target: IpAddr| {
        Ping::start(topology, Node::Host(Side::A), name, target, Duration::from_millis(20), None)
    };
    let ping_v4 = ping("ping-v4", Side::B.host_v4().into())?;
    let ping_v6 = ping("ping-v6", Side::B.host_v6().into())?;
    let ping_vlan = ping("ping-vlan", Side::B.vlan_v4().into())?;
    let dropped_before = udp_dropped_by_host(topology, Side::B)?;
    let udp_load = Load::Udp(UDP_RATE, BULK_TIME);
    let udp = Iperf::start(topology, Side::B.host_v4().into(), 5202, UDP_STREAMS, udp_load)?;
    let tcp_load = Load::TcpRate(TCP_V6_RATE, BULK_TIME);
    let tcp = Iperf::start(topology, Side::B.host_v6().into(), 5203, 2, tcp_load)?;

    let start = Instant::now();
    let mut files = (0, 0);
    while !enough()? && start.elapsed() < LIMIT || start.elapsed() < BULK_TIME {
        capture.check_running()?;
        files.0 += 1;
        files.1 += u32::from(server.fetch(topology)?.finish()?);
        pause(Duration::from_secs(2))?;
    }
    tcp.finish(Duration::from_secs(20))?;
    Ok(MixtureReport {
        udp: udp.finish(Duration::from_secs(20))?,
        udp_dropped_by_host: udp_dropped_by_host(topology, Side::B)? - dropped_before,
        ping_v4: ping_v4.finish()?,
        ping_v6: ping_v6.finish()?,
        ping_vlan: ping_vlan.finish()?,
        files,
    })
}
