//! What is on the backhaul is ESP that other people's software opens, and inside is exactly what the host sent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qhaul::lab::plan::{Node, Side};
use qhaul_tests::TestLab;
use qhaul_tests::esp::{ETHERNET, NO_NEXT_HEADER};
use qhaul_tests::frames::{Sample, of_every_kind};
use qhaul_tests::key_log::{self, from_hex};
use qhaul_tests::oracle::{Opened, by_spi, open_all, tshark_inner_udp};
use qhaul_tests::raw_port::RawPort;
use qhaul_tests::tap::{Direction, Tap};

#[test]
fn independent_decoders_find_the_hosts_frames_byte_for_byte() -> Result<()> {
    let lab = TestLab::up("eoracle", |_| ())?;
    let tap = |node, interface, direction, name| Tap::start(lab.topology(), node, interface, direction, name);
    // First to start, last to stop: what the hosts' kernels say of their own is in each tap that is in front of another.
    let left = tap(Node::Host(Side::A), "eth0", Direction::Out, "left")?;
    let backhaul = tap(Node::Backhaul, "wan-a", Direction::In, "backhaul")?;
    let arrived = tap(Node::Host(Side::B), "eth0", Direction::In, "arrived")?;
    let samples = send_rounds(&lab)?;
    let arrived = arrived.finish()?;
    let backhaul = backhaul.finish_file()?;
    let left = left.finish()?;
    let opened = open_all(&backhaul, &lab.key_log(Side::A))?;
    let inside: Vec<&Opened> = opened.iter().filter(|packet| packet.next == ETHERNET).collect();
    let payloads = inside.iter().map(|packet| from_hex(&packet.payload)).collect::<Result<Vec<_>>>()?;

    let sent: Vec<Vec<u8>> = samples.iter().map(|sample| sample.frame.clone()).collect();
    within("the test sent", &sent, "host b received", &arrived)?;
    within("host b received", &arrived, "the packets hold", &payloads)?;
    within("the packets hold", &payloads, "host a sent", &left)?;
    check_packets(&opened)?;
    check_flows(&samples, &inside, &payloads)?;
    check_tshark(&backhaul, &lab.key_log(Side::A), &inside)?;
    lab.finish()
}

/// The fixed set three times, so that keys rotate in between.
fn send_rounds(lab: &TestLab) -> Result<Vec<Sample>> {
    let port = RawPort::open(lab.topology(), Node::Host(Side::A), "eth0")?;
    let mut samples = Vec::new();
    for round in 0..3 {
        let switches = lab.status(Side::A)?.tx.switches;
        for sample in of_every_kind(round) {
            port.send(&sample.frame)?;
            samples.push(sample);
            thread::sleep(Duration::from_millis(1));
        }
        lab.wait_status(Side::A, "the keys did not rotate", |status| status.tx.switches > switches)?;
    }
    Ok(samples)
}

/// Fails with the first of `these` frames that is not, or not as often, among `those`.
fn within(these_are: &str, these: &[Vec<u8>], those_are: &str, those: &[Vec<u8>]) -> Result<()> {
    let those = census(those);
    let missing = census(these).into_iter().find(|(frame, count)| those.get(frame).unwrap_or(&0) < count);
    ensure!(
        missing.is_none(),
        "what {these_are} is not what {those_are}: {:02x?}",
        missing.map(|(frame, _)| frame)
    );
    Ok(())
}

/// How often each frame occurs.
fn census(frames: &[Vec<u8>]) -> BTreeMap<Vec<u8>, usize> {
    let mut census = BTreeMap::new();
    frames.iter().for_each(|frame| *census.entry(frame.clone()).or_default() += 1);
    census
}

/// Numbers start at 1 under each key and go up by one; probes are dummies in slot 0; padding is as documented.
///
/// Of the epoch that was in use when the tap came, and of the next one's probes, packets may have gone before it.
fn check_packets(opened: &[Opened]) -> Result<()> {
    let epoch = |packet: &Opened| packet.spi >> 26;
    let begun =
        opened.iter().find(|packet| packet.next == ETHERNET).map(epoch).context("no frame was captured")?;
    let mut last = HashMap::<&str, u64>::new();
    for packet in opened {
        let may_be_late = epoch(packet) == begun || epoch(packet) == begun + 1 && packet.spi & 0x1f_ffff == 0;
        let before_tap = if may_be_late { packet.sequence - 1 } else { 0 };
        let number = last.entry(&packet.key).or_insert(before_tap);
        ensure!(
            packet.sequence == *number + 1,
            "SPI {:08x}: {} follows {number}",
            packet.spi,
            packet.sequence
        );
        *number = packet.sequence;
        let is_probe = packet.spi & 0x1f_ffff == 0;
        let next = if is_probe { NO_NEXT_HEADER } else { ETHERNET };
        ensure!(packet.next == next, "SPI {:08x} carries next header {}", packet.spi, packet.next);
        let text = packet.payload.len() / 2 + packet.padding + 2;
        ensure!(text % 16 == 0, "a plaintext of {text} bytes");
    }
    Ok(())
}

/// Within an epoch flows and SPIs belong to each other one to one, and no two SPIs share a key.
fn check_flows(samples: &[Sample], inside: &[&Opened], payloads: &[Vec<u8>]) -> Result<()> {
    let flow_of: HashMap<&[u8], &str> = samples.iter().map(|one| (&one.frame[..], &one.flow[..])).collect();
    let (mut spi_of, mut flow_at) = (HashMap::new(), HashMap::new());
    for (packet, payload) in inside.iter().zip(payloads) {
        let Some(flow) = flow_of.get(&payload[..]) else { continue };
        let epoch = packet.spi >> 26;
        let spi = *spi_of.entry((epoch, *flow)).or_insert(packet.spi);
        ensure!(spi == packet.spi, "{flow} has SPIs {spi:08x} and {:08x} in one epoch", packet.spi);
        let other = *flow_at.entry(packet.spi).or_insert(*flow);
        ensure!(other == *flow, "SPI {spi:08x} carries {flow} and {other}");
    }
    let epochs: HashSet<u32> = flow_at.keys().map(|spi| spi >> 26).collect();
    ensure!(epochs.len() >= 3, "three rounds were sent in {} epochs", epochs.len());
    let keys: HashSet<(&str, u32)> = inside.iter().map(|packet| (&packet.key[..], packet.spi)).collect();
    let distinct: HashSet<&str> = keys.iter().map(|(key, _)| *key).collect();
    ensure!(distinct.len() == keys.len(), "{} SPIs share {} keys", keys.len(), distinct.len());
    Ok(())
}

/// tshark is asked for the flow with the most packets, whose payloads it must find as they were sent.
fn check_tshark(capture: &Path, log: &Path, inside: &[&Opened]) -> Result<()> {
    let is_udp4 = |packet: &&Opened| {
        packet.payload[24..].starts_with("080045b8") && packet.payload[46..].starts_with("11")
    };
    let packets: Vec<Opened> = inside.iter().copied().filter(is_udp4).cloned().collect();
    let groups = by_spi(&packets);
    let flow = groups.values().max_by_key(|group| group.len()).context("no UDP flow was captured")?;
    let entry =
        key_log::read(log)?.into_iter().find(|entry| entry.direction == "tx" && entry.spi == flow[0].spi);
    let read = tshark_inner_udp(capture, &entry.context("its key is not logged")?)?;
    ensure!(
        read.len() == flow.len() && flow.len() > 5,
        "tshark reads {} of {} packets",
        read.len(),
        flow.len()
    );
    for (packet, udp_payload) in flow.iter().zip(read) {
        let frame = from_hex(&packet.payload)?;
        let is_whole = frame.get(42..).is_some_and(|sent| sent == udp_payload);
        ensure!(is_whole, "tshark reads another payload of sequence number {}", packet.sequence);
    }
    Ok(())
}
