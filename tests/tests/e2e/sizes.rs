//! Frames of every size cross whole; what the backhaul does not carry is cut or answered; devices leave the bytes alone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use qhaul::counters::Tally;
use qhaul::lab::plan::{Node, Side};
use qhaul::status::Status;
use qhaul_tests::TestLab;
use qhaul_tests::books::{dropped, drops_since};
use qhaul_tests::frames::ethernet;
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::namespace::inside;
use qhaul_tests::raw_port::RawPort;
use qhaul_tests::tap::{Direction, Tap};

/// The largest plain MTU, and a backhaul that carries it: 9,202 and two tags need 9,292.
const JUMBO: (u16, u16) = (9202, 9300);
/// A backhaul without room for the overhead: packets of 1,424 bytes fit.
const SMALL: (u16, u16) = (1500, 1500);
const FITS: &str = "1424";

#[test]
fn frames_of_14_to_9216_bytes_cross_whole_both_ways_through_a_rotation() -> Result<()> {
    let lab = TestLab::up_with_mtus("ejumbo", JUMBO, |_| ())?;
    // What the hosts said before there were keys is no loss.
    let before = lab.settled()?;
    let tap = |side, name| Tap::start(lab.topology(), Node::Host(side), "eth0", Direction::In, name);
    let taps = [tap(Side::B, "at-b")?, tap(Side::A, "at-a")?];
    let mut sent = [Vec::new(), Vec::new()];
    for round in 0..2 {
        for (side, sent) in Side::BOTH.into_iter().zip(&mut sent) {
            let port = RawPort::open(lab.topology(), Node::Host(side), "eth0")?;
            for length in lengths() {
                let frame = patterned(side, round, length);
                port.send(&frame)?;
                sent.push(frame);
                thread::sleep(Duration::from_micros(500));
            }
        }
        let switches = lab.status(Side::A)?.tx.switches;
        lab.wait_status(Side::A, "the keys did not rotate", |status| status.tx.switches > switches)?;
    }
    for (tap, sent) in taps.into_iter().zip(sent) {
        let mut arrived = tap.finish()?;
        arrived.retain(|frame| frame[12..14] == PATTERN_TYPE.to_be_bytes());
        let first = sent.iter().zip(&arrived).position(|(one, other)| one != other);
        let lengths = first.map(|at| (sent[at].len(), arrived[at].len()));
        ensure!(first.is_none(), "frame {first:?} is another, by length {lengths:?}");
        ensure!(arrived.len() == sent.len(), "{} of {} frames arrived", arrived.len(), sent.len());
    }
    for (status, before) in lab.settled()?.iter().zip(&before) {
        let drops = drops_since(status, before);
        ensure!(drops.is_empty(), "dropped: {drops:?}");
        let path = (status.path.state.as_str(), status.path.carries);
        ensure!(path == ("full", Some(9292)), "the path was found to be {path:?}");
    }
    lab.finish()
}

/// A spread of all lengths, and each one around the borders where another buffer begins.
fn lengths() -> Vec<usize> {
    let buffer = 4096 - 256;
    let borders = [60, 1514, buffer - 64, buffer, 4096, 2 * buffer, 8192].into_iter();
    let around = borders.flat_map(|border| border - 2..=border + 2);
    (14..9216).step_by(61).chain(around).chain([9215, 9216]).collect()
}

const PATTERN_TYPE: u16 = 0x88b5;

/// A frame of an experimental EtherType whose bytes depend on sender, round and place.
fn patterned(from: Side, round: usize, length: usize) -> Vec<u8> {
    let seed = length * 7 + round * 131 + from.index();
    let payload: Vec<u8> = (14..length).map(|at| (at * 13 + at / 256 + seed) as u8).collect();
    let mut frame = ethernet(PATTERN_TYPE, &payload);
    if from == Side::B {
        let (a, b) = (Side::A.host_mac(), Side::B.host_mac());
        frame[..12].copy_from_slice(&[a, b].concat());
    }
    frame
}

#[test]
fn packets_that_do_not_fit_are_cut_or_their_senders_are_told() -> Result<()> {
    let lab = TestLab::up_with_mtus("esmall", SMALL, |_| ())?;
    let host = |script: &str| lab.topology().exec(Node::Host(Side::A), &["sh", "-c", script]);
    let (v4, v6) = (Side::B.host_v4(), Side::B.host_v6());
    // 3,000 bytes leave the host in fragments of 1,500, each of which is cut again, and so does the answer.
    let said = host(&format!("ping -c 3 -i 0.2 -W 3 -M dont -s 3000 {v4}"))?;
    ensure!(said.contains(" 0% packet loss"), "{said}");
    for status in lab.settled()? {
        ensure!(tally(&status, Tally::FragmentsAdded) >= 6, "not cut: {:?}", status.counters);
    }
    for (address, size) in [(v4.to_string(), 1472), (v6.to_string(), 1452)] {
        // The first one is lost, and says so.
        let said = host(&format!("ping -c 2 -i 0.5 -W 1 -M do -s {size} {address}; true"))?;
        let route = host(&format!("ip route get {address}"))?;
        ensure!(route.contains(&format!("mtu {FITS}")), "{address}: {route} after {said}");
        let least = host(&format!("ping -c 1 -W 3 -M do -s {} {address}", size - 76))?;
        ensure!(least.contains(" 0% packet loss"), "what fits does not pass: {least}");
    }
    let before = lab.settled()?[0].clone();
    ensure!(tally(&before, Tally::IcmpOut) >= 2, "{:?}", before.counters);
    RawPort::open(lab.topology(), Node::Host(Side::A), "eth0")?.send(&patterned(Side::A, 0, 1514))?;
    let after = lab.wait_status(Side::A, "a frame that is not IP was not dropped", |status| {
        dropped(status, "too_big") == dropped(&before, "too_big") + 1
    })?;
    ensure!(
        tally(&after, Tally::IcmpOut) == tally(&before, Tally::IcmpOut),
        "a frame that is not IP was answered"
    );
    lab.finish()
}

#[test]
fn tcp_is_told_in_both_syns_to_send_what_fits() -> Result<()> {
    let lab =
        TestLab::up_with_mtus("emss", SMALL, |config| config.more = "[sizes]\nmss_clamp = true\n".into())?;
    let tap = |side, name| Tap::start(lab.topology(), Node::Host(side), "eth0", Direction::In, name);
    let taps = [tap(Side::B, "syn")?, tap(Side::A, "syn-ack")?];
    let listener =
        inside(lab.topology(), Node::Host(Side::B), || Ok(TcpListener::bind((Side::B.host_v4(), 7070))?))?;
    let answering = thread::spawn(move || -> Result<usize> {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = Vec::new();
        Ok(stream.read_to_end(&mut bytes)?)
    });
    let mut stream = inside(lab.topology(), Node::Host(Side::A), || {
        let to = (Side::B.host_v4(), 7070).into();
        Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?)
    })?;
    stream.write_all(&[7; 100_000])?;
    drop(stream);
    ensure!(answering.join().expect("no panic")? == 100_000, "the stream was cut");
    for tap in taps {
        let frames = tap.finish()?;
        let syn = frames.iter().find(|frame| is_syn(frame)).context("no SYN arrived")?;
        // The kernel puts the option first.
        ensure!(syn[54..58] == [2, 4, 0x05, 0x68], "MSS 1384 was wanted: {:02x?}", &syn[54..58]);
    }
    let status = lab.settled()?;
    ensure!(status.iter().all(|one| dropped(one, "too_big") == 0), "TCP met the limit");
    lab.finish()
}

fn is_syn(frame: &[u8]) -> bool {
    frame.len() >= 58 && frame[12..15] == [8, 0, 0x45] && frame[23] == 6 && frame[47] & 2 != 0
}

#[test]
fn a_path_that_carries_less_than_the_ports_is_found() -> Result<()> {
    let lab = TestLab::prepare("epath")?;
    // The ports say 1,600; the switch in between carries 1,500, and tells nobody.
    for interface in ["wan-a", "wan-b", "br0"] {
        lab.topology().exec(Node::Backhaul, &["ip", "link", "set", interface, "mtu", "1500"])?;
    }
    let lab = lab.start(|_| ())?;
    for side in Side::BOTH {
        let status =
            lab.wait_status(side, "the path was not looked at", |status| status.path.state == "narrow")?;
        ensure!(status.path.wanted == 1596, "{:?}", status.path);
        // A veth end takes a VLAN tag more than its MTU (kernel: net/core/dev.c, is_skb_forwardable).
        ensure!(status.path.carries.is_some_and(|most| (1497..=1504).contains(&most)), "{:?}", status.path);
        let log = lab.sites.encryptor_log(side).context("encryptor's log")?.1;
        ensure!(log.contains("the path to the peer carries packets of"), "nobody was told: {log}");
    }
    lab.finish()
}

#[test]
fn offloads_are_off_while_it_runs_and_come_back() -> Result<()> {
    let mut lab = TestLab::prepare("eoffload")?;
    let gateway = Node::Gateway(Side::A);
    let switch = ["ethtool", "-K", "plain", "sg", "on", "tx", "on", "tso", "on", "gso", "on", "gro", "on"];
    lab.topology().exec(gateway, &switch)?;
    let on = |lab: &TestLab| -> Result<Vec<String>> {
        let told = lab.topology().exec(gateway, &["ethtool", "-k", "plain"])?;
        let names = [
            "tx-checksumming",
            "tx-tcp-segmentation",
            "generic-segmentation-offload",
            "generic-receive-offload",
        ];
        let is_on = |name: &&str| told.lines().any(|line| line.trim() == format!("{name}: on"));
        Ok(names.iter().filter(|name| is_on(name)).map(|name| (*name).to_owned()).collect())
    };
    let before = on(&lab)?;
    ensure!(before.len() == 4, "this kernel's veth has only {before:?}: the test shows nothing");
    lab.configure(|_| ())?;
    lab.sites.start_all()?;
    ensure!(on(&lab)?.is_empty(), "still on: {:?}", on(&lab)?);
    let encryptor = lab.sites.encryptor(Side::A).context("encryptor a runs")?;
    encryptor.signal(Signal::SIGTERM)?;
    encryptor.wait(PATIENCE)?;
    ensure!(on(&lab)? == before, "only {:?} came back of {before:?}", on(&lab)?);
    lab.finish_without_books()
}

fn tally(status: &Status, tally: Tally) -> u64 {
    status.counters.tallies.get(tally.name()).copied().unwrap_or_default()
}
