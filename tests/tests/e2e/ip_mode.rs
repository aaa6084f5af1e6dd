//! Mode `ip`: the gateways are routers for both families, and whoever is given the keys can be the other end.

mod errors;

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use qhaul::lab::SiteConfig;
use qhaul::lab::plan::{BACKHAUL_MTU, Node, PLAIN_MTU, Side, mac_text};
use qhaul::lab::wait::{pause, wait_for};
use qhaul::spi::{Epoch, Spi};
use qhaul::wire::source_port;
use qhaul_tests::TestLab;
use qhaul_tests::backhaul::Backhaul;
use qhaul_tests::books::{dropped, drops_since};
use qhaul_tests::esp::{checksum, frame, port_of};
use qhaul_tests::key_log::{self, Entry, from_hex, to_hex};
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::namespace::inside;
use qhaul_tests::oracle::{open_all, standard_peer};
use qhaul_tests::raw_port::RawPort;
use qhaul_tests::tap::{Direction, Tap};
use qhaul_tests::traffic::Traffic;

/// Next headers of a tunnel (IANA protocol numbers).
const IPV4: u8 = 4;
const IPV6: u8 = 41;
/// A slot that no flow has reached.
const FREE_SLOT: u32 = 4000;
/// The UDP port of the standard peer's datagrams.
const PEER_PORT: u16 = 7001;

#[test]
fn four_networks_in_both_families_lose_nothing_through_three_rotations() -> Result<()> {
    let lab = routed("ipnets", |_| ())?;
    let backhaul = Backhaul::listen(lab.topology())?;
    let before = [lab.status(Side::A)?, lab.status(Side::B)?];
    let mut traffic = Vec::new();
    for side in Side::BOTH {
        for (from, to) in addresses(side).into_iter().zip(addresses(side.peer())) {
            traffic.push((from, Traffic::between(lab.topology(), side, [from, to], 60)?));
        }
    }
    for (side, before) in Side::BOTH.into_iter().zip(&before) {
        let enough = before.tx.switches + 3;
        lab.wait_status(side, "three rotations did not come", |status| status.tx.switches >= enough)?;
    }
    for (from, traffic) in traffic {
        let passed = traffic.finish()?;
        ensure!(passed.sent.len() > 60, "only {} datagrams were sent from {from}", passed.sent.len());
        ensure!(passed.lost().is_empty(), "lost from {from}: {:?} of {}", passed.lost(), passed.sent.len());
        ensure!(passed.duplicates() == 0, "{} duplicates from {from}", passed.duplicates());
    }
    let after = lab.settled()?;
    backhaul.finish()?.sealed()?;
    for (after, before) in after.iter().zip(&before) {
        let mut drops = drops_since(after, before);
        // What the hosts' kernels say to groups stays on their side.
        drops.remove("multicast");
        ensure!(drops.is_empty(), "dropped: {drops:?}");
    }
    lab.finish()
}

#[test]
fn scapy_opens_every_packet_and_finds_what_the_host_sent_one_hop_on() -> Result<()> {
    let lab = routed("ipscapy", |_| ())?;
    let left = Tap::start(lab.topology(), Node::Host(Side::A), "eth0", Direction::Out, "left")?;
    let backhaul = Tap::start(lab.topology(), Node::Backhaul, "wan-a", Direction::In, "backhaul")?;
    let pairs = addresses(Side::A).into_iter().zip(addresses(Side::B));
    let traffic = pairs
        .map(|(from, to)| Traffic::between(lab.topology(), Side::A, [from, to], 100))
        .collect::<Result<Vec<_>, _>>()?;
    pause(Duration::from_secs(2))?;
    let mut sent = 0;
    for traffic in traffic {
        let passed = traffic.finish()?;
        ensure!(passed.lost().is_empty(), "lost: {:?}", passed.lost());
        sent += passed.sent.len();
    }
    let opened = open_all(&backhaul.finish_file()?, &lab.key_log(Side::A))?;
    let mut inside = BTreeMap::<Vec<u8>, usize>::new();
    for packet in opened.iter().filter(|packet| [IPV4, IPV6].contains(&packet.next)) {
        let payload = from_hex(&packet.payload)?;
        let next = if payload[0] >> 4 == 4 { IPV4 } else { IPV6 };
        ensure!(packet.next == next, "version {} under next header {}", payload[0] >> 4, packet.next);
        *inside.entry(payload).or_default() += 1;
    }
    let datagrams: Vec<Vec<u8>> =
        left.finish()?.iter().filter_map(|frame| datagram_one_hop_on(frame)).collect();
    ensure!(datagrams.len() == sent && sent > 400, "{} of {sent} datagrams left the host", datagrams.len());
    for datagram in datagrams {
        ensure!(inside.get(&datagram) == Some(&1), "not inside exactly once: {datagram:02x?}");
    }
    lab.finish()
}

#[test]
fn a_standard_peer_with_arbitrary_ivs_is_opened_once_and_its_repeats_are_refused() -> Result<()> {
    let lab = routed("ippeer", |config| {
        config.iv = "any".into();
        (config.rotate, config.hard_limit) = ("5m".into(), "10m".into());
    })?;
    let inboxes = inside(lab.topology(), Node::Host(Side::B), || {
        let open = |address: IpAddr| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((address, PEER_PORT))?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            // They are read when all were sent.
            setsockopt(&socket, RcvBufForce, &(8 << 20))?;
            Ok(socket)
        };
        addresses(Side::B).into_iter().map(open).collect::<Result<Vec<_>>>()
    })?;
    let port = RawPort::open(lab.topology(), Node::Backhaul, "wan-b")?;
    let key = learn_key(&lab, &port)?;
    // Low numbers, then across the wrap of the half that is sent. Scapy takes a low half of 0 for none given.
    let wrap = 1 << 32;
    let sequences: Vec<u64> = (1..=300).chain(wrap - 1000..wrap).chain(wrap + 1..wrap + 500).collect();
    let frames = standard_peer(&lab.file("standard_peer.py"), &request(&key, &sequences))?;
    ensure!(frames.len() == sequences.len(), "the peer sealed {} packets", frames.len());

    let before = lab.status(Side::B)?;
    for frame in &frames {
        port.send(frame)?;
        port.send(frame)?;
        pause(Duration::from_micros(200))?;
    }
    let after = lab.settled()?[1].clone();
    let mut arrived = Vec::new();
    for inbox in &inboxes {
        let mut buffer = [0; 64];
        while let Ok(length) = inbox.recv(&mut buffer) {
            arrived.push(u64::from_be_bytes(buffer[..length].try_into()?));
        }
    }
    arrived.sort_unstable();
    let drops = drops_since(&after, &before);
    let missing: Vec<&u64> = sequences.iter().filter(|sequence| !arrived.contains(sequence)).collect();
    ensure!(missing.is_empty(), "these did not arrive: {missing:?}, dropped: {drops:?}");
    ensure!(arrived == sequences, "{} datagrams arrived of {}", arrived.len(), sequences.len());
    let repeats = drops.get("replayed").copied().unwrap_or(0);
    ensure!(repeats == sequences.len() as u64, "{repeats} repeats were refused: {drops:?}");
    ensure!(dropped(&after, "icv") == dropped(&before, "icv"), "packets of the peer did not open");
    lab.finish()
}

/// A lab in mode `ip` whose hosts reach each other, with flow keys logged at both sites.
fn routed(prefix: &str, change: impl Fn(&mut SiteConfig)) -> Result<TestLab> {
    routed_over(prefix, (PLAIN_MTU, BACKHAUL_MTU), change)
}

/// The same with the MTUs of both plain sides and of the backhaul, in bytes.
fn routed_over(
    prefix: &str,
    (plain, backhaul): (u16, u16),
    change: impl Fn(&mut SiteConfig),
) -> Result<TestLab> {
    let lab = TestLab::prepare(prefix)?;
    lab.topology().set_mtus(plain, backhaul)?;
    start_routed(lab, change)
}

/// Gives a lab that was prepared its networks, and starts it.
fn start_routed(mut lab: TestLab, change: impl Fn(&mut SiteConfig)) -> Result<TestLab> {
    lab.topology().add_networks()?;
    lab.configure(|config| {
        config.mode = "ip".into();
        change(config);
    })?;
    for side in Side::BOTH {
        lab.log_keys(side, &format!("keys-{side}.log"));
    }
    lab.sites.start_all()?;
    for (from, to) in addresses(Side::A).into_iter().zip(addresses(Side::B)) {
        let (source, target) = (from.to_string(), to.to_string());
        let argv = ["ping", "-n", "-c", "1", "-W", "1", "-I", &source, &target];
        wait_for(&format!("{from} did not reach {to}"), PATIENCE, || {
            Ok(lab.topology().exec(Node::Host(Side::A), &argv).ok())
        })?;
    }
    lab.settled()?;
    Ok(lab)
}

/// The host's address in each network of its site.
fn addresses(side: Side) -> [IpAddr; 4] {
    [side.near_v4().into(), side.near_v6().into(), side.far_v4().into(), side.far_v6().into()]
}

/// The packet of a frame with one of the traffic's datagrams, as a router sends it on.
fn datagram_one_hop_on(frame: &[u8]) -> Option<Vec<u8>> {
    let mut packet = frame.get(14..)?.to_vec();
    match (frame.get(12..14)?, packet[0] >> 4) {
        ([0x08, 0x00], 4) if packet[9] == 17 => {
            packet[8] -= 1;
            packet[10..12].fill(0);
            let sum = checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        ([0x86, 0xdd], 6) if packet[6] == 17 => packet[7] -= 1,
        _ => return None,
    }
    Some(packet)
}

/// Has site b derive, and log, the key of a slot that its peer does not use: a forged packet is enough for that.
fn learn_key(lab: &TestLab, port: &RawPort) -> Result<Entry> {
    let epoch = Epoch::try_from(lab.status(Side::A)?.tx.epoch).map_err(anyhow::Error::msg)?;
    let spi = Spi::new(epoch, 0, FREE_SLOT);
    let forged = [&spi.value().to_be_bytes()[..], &[0, 0, 0, 1], &[0; 40]].concat();
    port.send(&frame(Side::A, source_port(spi), &forged))?;
    wait_for("the key was not logged", PATIENCE, || {
        let log = key_log::read(&lab.key_log(Side::B)).unwrap_or_default();
        Ok(log.into_iter().find(|entry| entry.direction == "rx" && entry.spi == spi.value()))
    })
    .context("site b derives the key of a packet that it has not seen")
}

/// What the standard peer is told.
fn request(key: &Entry, sequences: &[u64]) -> serde_json::Value {
    let pairs: Vec<[String; 2]> = addresses(Side::A)
        .into_iter()
        .zip(addresses(Side::B))
        .map(|(from, to)| [from.to_string(), to.to_string()])
        .collect();
    let macs = [Side::A, Side::B].map(|side| mac_text(side.cipher_mac()));
    serde_json::json!({
        "spi": key.spi,
        "secret": to_hex(&[&key.key[..], &key.salt].concat()),
        "sequences": sequences,
        "outer": [Side::A.cipher_v4(), Side::B.cipher_v4()],
        "port": port_of(key.spi),
        "macs": macs,
        "inner": pairs,
    })
}
