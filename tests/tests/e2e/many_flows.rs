//! A hundred thousand flows at once, through rotations.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::pause;
use qhaul_tests::TestLab;
use qhaul_tests::books::drops_since;
use qhaul_tests::esp::checksum;
use qhaul_tests::frames::ethernet;
use qhaul_tests::namespace::inside;
use qhaul_tests::raw_port::RawPort;

const FLOWS: u32 = 100_000;
/// Source ports of each source address.
const PORTS: u32 = 50_000;
const PORT: u16 = 7001;
/// Datagrams that are sent before a pause of a millisecond: a debug build takes so many.
const GO: u32 = 10;

#[test]
fn a_hundred_thousand_flows_pass_through_three_rotations() -> Result<()> {
    let mut lab = TestLab::prepare("emany")?;
    // No key log: a line for each of a million keys is no part of what is tested.
    lab.configure(|config| {
        (config.rotate, config.hard_limit) = ("20s".into(), "5m".into());
        // Three quarters of the slots hold all flows: else the link rotates early, in the midst of a pass.
        config.flows = 160_000;
    })?;
    lab.sites.start_all()?;
    let memory = |lab: &mut TestLab| resident(lab.sites.encryptor(Side::B).context("b runs")?.pid());
    // What the hosts said before there were keys is no loss.
    let before = lab.settled()?;
    let first = &before[0];
    let mut memories = vec![memory(&mut lab)?];
    for round in 0..=3 {
        let enough = first.tx.switches + round;
        lab.wait_status(Side::A, "no rotation came", |status| status.tx.switches >= enough)?;
        let derived = lab.status(Side::B)?.counters.tallies["derivations"];
        let missing = pass(&lab)?;
        ensure!(missing == 0, "round {round}: {missing} of {FLOWS} flows did not arrive");
        let [_, b] = lab.settled()?;
        ensure!(b.rx.flows >= u64::from(FLOWS), "round {round}: {} flows", b.rx.flows);
        // From the second epoch on the flows' keys were there before their packets, all but the last ones that a debug build
        // is not through with within the second that a new epoch waits.
        let late = b.counters.tallies["derivations"] - derived;
        ensure!(
            round == 0 || late < u64::from(FLOWS) / 10,
            "round {round}: {late} keys were made in a hurry"
        );
        memories.push(memory(&mut lab)?);
    }
    for (now, then) in lab.settled()?.iter().zip(&before) {
        let drops = drops_since(now, then);
        ensure!(drops.is_empty(), "dropped: {drops:?}");
    }
    let (_, log) = lab.sites.encryptor_log(Side::B).context("b has a log")?;
    let tables = log.lines().find(|line| line.contains("bytes a flow")).context("no memory was told")?;
    println!("{tables}\nresident at b, in KiB, at the start and after each round: {memories:?}");
    ensure!(memories[1..].iter().all(|now| *now < memories[1] + 8192), "memory grew: {memories:?}");
    lab.finish()
}

/// Sends a datagram of each flow from host a; how many of the flows did not arrive at host b.
fn pass(lab: &TestLab) -> Result<u32> {
    let inbox = inside(lab.topology(), Node::Host(Side::B), || {
        let socket = UdpSocket::bind((Side::B.host_v4(), PORT))?;
        socket.set_read_timeout(Some(Duration::from_millis(1500)))?;
        setsockopt(&socket, RcvBufForce, &(128 << 20))?;
        Ok(socket)
    })?;
    let receiver = thread::spawn(move || {
        let (mut seen, mut buffer) = (vec![false; FLOWS as usize], [0; 64]);
        let mut missing = FLOWS;
        while missing > 0 && inbox.recv(&mut buffer).is_ok() {
            let flow = buffer.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)) as usize;
            missing -= u32::from(!std::mem::replace(&mut seen[flow], true));
        }
        missing
    });
    let port = RawPort::open(lab.topology(), Node::Host(Side::A), "eth0")?;
    let begun = Instant::now();
    for flow in 0..FLOWS {
        port.send(&datagram(flow))?;
        if flow % GO == 0 {
            pause(Duration::from_millis(1))?;
        }
    }
    println!("{FLOWS} datagrams were sent in {:.1} s", begun.elapsed().as_secs_f64());
    receiver.join().map_err(|_| anyhow!("the receiver panicked"))
}

fn datagram(flow: u32) -> Vec<u8> {
    let source = [10, 77, 0, 50 + (flow / PORTS) as u8];
    let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip.extend(source);
    ip.extend(Side::B.host_v4().octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [(flow % PORTS) as u16 + 10_000, PORT, 12, 0].iter().for_each(|word| ip.extend(word.to_be_bytes()));
    ip.extend(flow.to_be_bytes());
    ethernet(0x0800, &ip)
}

/// Memory of a process that is not on loan, in KiB.
fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS")
}
