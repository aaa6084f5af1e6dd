//! The policy decides which frames cross encrypted, in which flows, which cross in clear, and which do not; and it can change
//! while traffic flows.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::{pause, wait_for};
use qhaul_tests::TestLab;
use qhaul_tests::books::{dropped, xdp};
use qhaul_tests::esp::checksum;
use qhaul_tests::frames::ethernet;
use qhaul_tests::key_log::from_hex;
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::oracle::open_all;
use qhaul_tests::raw_port::RawPort;
use qhaul_tests::tap::{Direction, Tap};
use qhaul_tests::traffic::Traffic;

const RULES: &str = r#"
[[policy]]
name = "clock"
action = "bypass"
frame = "ptp"

[[policy]]
name = "beacon"
action = "bypass"
ethertype = 0x88b5

[[policy]]
name = "users"
action = "protect"
protocol = "udp"
port = 2152
granularity = "teid+qfi"

[[policy]]
name = "rest"
action = "protect"
ethertype = ["ipv4", "ipv6", "arp", "mpls"]
"#;

#[test]
fn mobile_traffic_has_a_key_for_each_flow_and_only_what_a_rule_names_crosses_in_clear() -> Result<()> {
    let lab = TestLab::up("epolicy", |config| {
        (config.rotate, config.hard_limit) = ("60s".into(), "600s".into());
        config.more = RULES.into();
    })?;
    let arrived = Tap::start(lab.topology(), Node::Host(Side::B), "eth0", Direction::In, "arrived")?;
    let backhaul = Tap::start(lab.topology(), Node::Backhaul, "wan-a", Direction::In, "backhaul")?;
    let port = RawPort::open(lab.topology(), Node::Host(Side::A), "eth0")?;
    let (protected, beacons, refused) = (mobile_frames(), frames_of(0x88b5), frames_of(0x88b6));
    for frame in protected.iter().map(|(_, frame)| frame).chain(&beacons).chain(&refused) {
        port.send(frame)?;
        pause(Duration::from_millis(2))?;
    }
    let arrived = arrived.finish()?;
    let capture = backhaul.finish_file()?;
    let mut seen = Vec::new();
    qhaul::lab::for_each_frame(&capture, |frame| seen.push(frame.to_vec()))?;

    for frame in &beacons {
        ensure!(seen.contains(frame) && arrived.contains(frame), "a beacon did not cross in clear");
    }
    for frame in &refused {
        ensure!(!seen.contains(frame) && !arrived.contains(frame), "a frame without a rule crossed");
    }
    for (flow, frame) in &protected {
        ensure!(arrived.contains(frame), "{flow}: a frame did not arrive");
        let inside = frame.get(34..).context("a short frame")?;
        let shown = seen.iter().any(|one| one.windows(inside.len()).any(|window| window == inside));
        ensure!(!shown, "{flow}: a frame was to be read on the backhaul");
    }
    let opened = open_all(&capture, &lab.key_log(Side::A))?;
    let mut flows = HashMap::<&str, HashSet<(u32, &str)>>::new();
    for packet in &opened {
        let payload = from_hex(&packet.payload)?;
        if let Some((flow, _)) = protected.iter().find(|(_, frame)| *frame == payload) {
            flows.entry(flow).or_default().insert((packet.spi, &packet.key));
        }
    }
    ensure!(flows.len() == 10, "of ten flows these were found: {:?}", flows.keys());
    let several = flows.iter().find(|(_, keys)| keys.len() != 1);
    ensure!(several.is_none(), "a flow has several keys: {several:?}");
    let spis: HashSet<u32> = flows.values().flatten().map(|(spi, _)| *spi).collect();
    let keys: HashSet<&str> = flows.values().flatten().map(|(_, key)| *key).collect();
    ensure!((spis.len(), keys.len()) == (10, 10), "flows share keys: {flows:?}");

    let [a, b] = lab.settled()?;
    ensure!(dropped(&a, "policy_discard") >= refused.len() as u64, "{:?}", a.counters.drops);
    let crossed = (a.counters.tallies["bypass_out"], b.counters.tallies["bypass_in"]);
    ensure!(crossed == (beacons.len() as u64, beacons.len() as u64), "{crossed:?} beacons crossed");
    lab.finish()
}

#[test]
fn in_clear_from_the_backhaul_comes_only_what_a_rule_names_with_keys_or_without() -> Result<()> {
    let mut lab = TestLab::prepare("eclear")?;
    lab.configure(|config| config.more = RULES.into())?;
    // A veth's far end takes what is redirected to it only if it polls, which it does for GRO.
    lab.topology().exec(Node::Host(Side::B), &["ethtool", "-K", "eth0", "gro", "on"])?;
    for side in Side::BOTH {
        lab.sites.start_kme(side)?;
    }
    lab.sites.start_encryptor(Side::B)?;
    lab.wait_status(Side::B, "it did not start", |_| true)?;
    let arrived = Tap::start(lab.topology(), Node::Host(Side::B), "eth0", Direction::In, "arrived")?;
    let wire = RawPort::open(lab.topology(), Node::Backhaul, "wan-b")?;
    let (beacons, forged) = (frames_of(0x88b5), frames_of(0x88b6));
    // The tag lets it pass the program, which looks no deeper.
    let tagged: Vec<Vec<u8>> = forged.iter().map(|frame| retyped(frame, &[0x81, 0, 0, 5])).collect();
    let clock = frames_of(0x88f7);
    for frame in beacons.iter().chain(&forged).chain(&tagged).chain(&clock) {
        wire.send(frame)?;
        pause(Duration::from_millis(2))?;
    }
    let arrived = arrived.finish()?;
    let came = |frames: &[Vec<u8>]| frames.iter().filter(|frame| arrived.contains(frame)).count();
    ensure!(came(&beacons) == beacons.len(), "{} beacons of {} came", came(&beacons), beacons.len());
    ensure!(came(&clock) == clock.len(), "{} PTP frames of {} came", came(&clock), clock.len());
    ensure!(came(&forged) + came(&tagged) == 0, "a frame without a rule came in");
    let status = lab.wait_status(Side::B, "the books did not balance", |status| {
        qhaul_tests::books::imbalance(status).is_none()
    })?;
    ensure!(dropped(&status, "policy_clear") >= tagged.len() as u64, "{:?}", status.counters.drops);
    ensure!(status.counters.tallies["bypass_in"] == beacons.len() as u64, "{:?}", status.counters.tallies);
    ensure!(xdp(&status, "cipher", "other") >= forged.len() as u64, "{:?}", status.xdp);
    ensure!(xdp(&status, "cipher", "ptp_forwarded") == clock.len() as u64, "{:?}", status.xdp);
    lab.finish_without_books()
}

#[test]
fn a_policy_that_names_nothing_in_clear_leaves_no_clear_frame() -> Result<()> {
    let rules = "[[policy]]\naction = \"protect\"\nethertype = \"ipv4\"\n";
    let lab = TestLab::up("enoclear", |config| config.more = rules.into())?;
    let wire = RawPort::open(lab.topology(), Node::Backhaul, "wan-b")?;
    let port = RawPort::open(lab.topology(), Node::Host(Side::A), "eth0")?;
    let arrived = Tap::start(lab.topology(), Node::Host(Side::B), "eth0", Direction::In, "arrived")?;
    let (beacons, clock) = (frames_of(0x88b5), frames_of(0x88f7));
    for frame in beacons.iter().chain(&clock) {
        wire.send(frame)?;
        port.send(frame)?;
    }
    let arrived = arrived.finish()?;
    ensure!(!beacons.iter().chain(&clock).any(|frame| arrived.contains(frame)), "a clear frame crossed");
    let [a, b] = lab.settled()?;
    ensure!(dropped(&a, "policy_discard") >= 10, "{:?}", a.counters.drops);
    ensure!(xdp(&b, "cipher", "other") >= 10, "{:?}", b.xdp);
    lab.finish()
}

#[test]
fn a_reload_under_traffic_loses_nothing_and_a_refused_one_changes_nothing() -> Result<()> {
    let mut lab = TestLab::up("ereload", |_| ())?;
    let traffic = Traffic::start(lab.topology(), Side::A, 2000)?;
    wait_for("no traffic passed", PATIENCE, || Ok((traffic.received() > 500).then_some(())))?;
    for round in 0..10 {
        let more = if round % 2 == 0 { RULES } else { "" };
        lab.configure(|config| config.more = more.into())?;
        for side in Side::BOTH {
            let said = reload(&lab, side)?;
            let (mark, other) =
                if round % 2 == 0 { ("+ 1. clock: bypass", '-') } else { ("- 1. clock", '+') };
            ensure!(said.contains(mark) && said.contains(other), "round {round}: {said}");
        }
        pause(Duration::from_millis(100))?;
    }
    refusals_change_nothing(&mut lab)?;
    let passed = traffic.finish()?;
    ensure!(passed.sent.len() > 2000, "only {} datagrams were sent", passed.sent.len());
    ensure!(passed.lost().is_empty(), "{} of {} datagrams lost", passed.lost().len(), passed.sent.len());
    lab.finish()
}

/// A bad file, and one of which a part waits for a restart; then a signal does what the command does.
fn refusals_change_nothing(lab: &mut TestLab) -> Result<()> {
    lab.configure(|config| config.more = "[[policy]]\naction = \"bypass\"\n".into())?;
    let Err(refused) = reload(lab, Side::A) else { bail!("a rule that opens everything was taken") };
    let refused = format!("{refused:#}");
    ensure!(refused.contains("without a condition"), "{refused}");
    lab.configure(|config| {
        config.grace = "2s".into();
        config.more = RULES.into();
    })?;
    let said = reload(lab, Side::A)?;
    ensure!(said.contains("only after a restart: keys.grace"), "{said}");
    lab.configure(|_| ())?;
    let site = lab.sites.encryptor(Side::A).context("site a does not run")?;
    site.signal(Signal::SIGHUP)?;
    wait_for("SIGHUP did not reload", PATIENCE, || {
        let log = lab.sites.encryptor_log(Side::A).map(|(_, log)| log).unwrap_or_default();
        let reloads = log.matches("reload of ").count();
        Ok((reloads == 12 && log.matches("goes by the policy").count() == 12).then_some(()))
    })?;
    Ok(())
}

fn reload(lab: &TestLab, side: Side) -> Result<String> {
    let config = lab.sites.config_path(side).display().to_string();
    let argv = [&lab.binary("qhaul"), "reload", "--config", &config];
    Ok(lab.topology().exec(Node::Gateway(side), &argv)?)
}

/// Three frames of each of ten flows, with the flow's name.
fn mobile_frames() -> Vec<(String, Vec<u8>)> {
    let mut made = Vec::new();
    for number in 0..3_u8 {
        for teid in [0x1001_u32, 0x1002] {
            for qfi in [1_u8, 9] {
                made.push((format!("teid {teid:x} qfi {qfi}"), ethernet(0x0800, &gtpu(teid, qfi, number))));
            }
        }
        for tag in [0xaaaa_0001_u32, 0xaaaa_0002] {
            let ports = [0x8e, 0x3c, 0x8e, 0x3c];
            let segment = [&ports[..], &tag.to_be_bytes(), &filler(number, tag)].concat();
            made.push((format!("sctp {tag:x}"), ethernet(0x0800, &v4(132, &segment))));
        }
        for label in [16_u32, 17] {
            let entry = (label << 12 | 0x1ff).to_be_bytes();
            let packet = v4(17, &udp(6000, 6000, &filler(number, label)));
            made.push((format!("mpls {label}"), ethernet(0x8847, &[&entry[..], &packet].concat())));
        }
        for vlan in [100_u8, 101] {
            let tags = [0, 7, 0x81, 0, 0, vlan, 0x08, 0];
            let packet = v4(17, &udp(6000, 6000, &filler(number, vlan.into())));
            made.push((format!("qinq {vlan}"), ethernet(0x88a8, &[&tags[..], &packet].concat())));
        }
    }
    made
}

/// A G-PDU from a source port that varies, as base stations do it.
fn gtpu(teid: u32, qfi: u8, number: u8) -> Vec<u8> {
    let inner = filler(number, teid ^ u32::from(qfi));
    let length = (inner.len() as u16 + 8).to_be_bytes();
    let [a, b, c, d] = teid.to_be_bytes();
    let head = [0x34, 255, length[0], length[1], a, b, c, d, 0, 0, 0, 0x85, 1, 0, qfi, 0];
    v4(17, &udp(40_000 + u16::from(number), 2152, &[&head[..], &inner].concat()))
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let words = [source, destination, payload.len() as u16 + 8, 0].map(u16::to_be_bytes);
    [words.as_flattened(), payload].concat()
}

fn v4(protocol: u8, segment: &[u8]) -> Vec<u8> {
    let length = (segment.len() as u16 + 20).to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
    let mut packet = [&head[..], &Side::A.host_v4().octets(), &Side::B.host_v4().octets()].concat();
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    [packet, segment.to_vec()].concat()
}

/// Bytes that no other frame has.
fn filler(number: u8, flow: u32) -> Vec<u8> {
    let start = [&[number][..], &flow.to_be_bytes()].concat();
    start.into_iter().chain((0..).map(|at: usize| (at * 11 + 3) as u8)).take(100).collect()
}

fn frames_of(ethertype: u16) -> Vec<Vec<u8>> {
    (0..5).map(|number| ethernet(ethertype, &filler(number, ethertype.into()))).collect()
}

/// With bytes put between addresses and type.
fn retyped(frame: &[u8], tag: &[u8]) -> Vec<u8> {
    [&frame[..12], tag, &frame[12..]].concat()
}
