//! Whoever owns the backhaul replays, cuts, changes and forges: each attempt ends under its own counter, and in silence.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qhaul::lab::eavesdrop::Kind;
use qhaul::lab::for_each_frame;
use qhaul::lab::ledger::Ledger;
use qhaul::lab::plan::{CHANNEL_PORT, Node, Side};
use qhaul::lab::wait::wait_for;
use qhaul::status::Status;
use qhaul_tests::TestLab;
use qhaul_tests::backhaul::sealed;
use qhaul_tests::esp::{ESP_AT, ETHERNET, Packet, frame, port_of, seal, with_trailer};
use qhaul_tests::frames::ethernet;
use qhaul_tests::key_log::{self, Entry};
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::raw_port::RawPort;
use qhaul_tests::tap::{Direction, Tap};
use qhaul_tests::traffic::Traffic;

/// Each forged frame is sent so often: one drop could be somebody else's.
const COPIES: u64 = 5;
/// A slot that no flow has reached, so that numbers in it disturb no traffic.
const FREE_SLOT: u32 = 4000;
/// TCP's flags (RFC 9293 section 3.1).
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[test]
fn forged_packets_fall_under_their_own_counters_and_are_never_answered() -> Result<()> {
    let mut lab = TestLab::prepare("ewire")?;
    lab.configure(|config| (config.rotate, config.hard_limit) = ("5m".into(), "10m".into()))?;
    for side in Side::BOTH {
        lab.log_keys(side, &format!("keys-{side}.log"));
    }
    // From before the first packet on: everything that gateway b ever sends.
    let answers = Tap::start(lab.topology(), Node::Backhaul, "wan-b", Direction::In, "answers")?;
    lab.sites.start_all()?;
    let ledger = Ledger::settled(lab.topology())?;
    let traffic =
        [Traffic::start(lab.topology(), Side::A, 300)?, Traffic::start(lab.topology(), Side::B, 300)?];
    let captured = capture_genuine(&lab)?;
    let mut attack = Attack { port: RawPort::open(lab.topology(), Node::Backhaul, "wan-b")?, lab: &lab };

    attack.captured_and_changed(&captured)?;
    attack.strangers(&captured)?;
    let key = attack.learn_key(Packet::parse(&captured).context("it was ESP")?.epoch())?;
    let accepted = attack.authored(&key)?;

    for traffic in traffic {
        let passed = traffic.finish()?;
        ensure!(
            passed.lost().is_empty() && passed.duplicates() == 0,
            "traffic was harmed: {:?}",
            passed.lost()
        );
    }
    let passed = Ledger::settled(lab.topology())?.since(&ledger);
    ensure!(passed.lost == 0, "{} frames were lost", passed.lost);
    ensure!(passed.surplus == accepted, "{} frames too many reached a host, not {accepted}", passed.surplus);
    check_answers(&lab, answers)?;
    lab.finish()
}

/// One packet of traffic from a to b, as it went over the wire.
fn capture_genuine(lab: &TestLab) -> Result<Vec<u8>> {
    let received = |status: &Status| status.counters.tallies["plain_out"] > 200;
    let tap = Tap::start(lab.topology(), Node::Backhaul, "wan-a", Direction::In, "genuine")?;
    let before = lab.wait_status(Side::B, "no traffic arrived", received)?.counters.tallies["plain_out"];
    lab.wait_status(Side::B, "no traffic arrived", |status| {
        status.counters.tallies["plain_out"] > before + 50
    })?;
    let mut found = None;
    for_each_frame(&tap.stop()?, |frame| {
        let is_traffic =
            Packet::parse(frame).is_some_and(|packet| !packet.is_probe() && packet.body.len() > 300);
        if is_traffic && found.is_none() {
            found = Some(frame.to_vec());
        }
    })?;
    found.context("no packet of traffic was captured")
}

/// All that gateway b sent is what it sends anyway: packets of its own hosts' frames and probes, the link channel, ARP.
fn check_answers(lab: &TestLab, answers: Tap) -> Result<()> {
    let [_, b] = lab.settled()?;
    let seen = sealed(&[answers.finish_file()?])?;
    let kinds: Vec<Kind> = seen.kinds.keys().copied().collect();
    ensure!(
        kinds.iter().all(|kind| matches!(kind, Kind::Esp | Kind::Channel | Kind::Arp)),
        "it sent {:?}",
        seen.kinds
    );
    let own = b.counters.tallies["cipher_out"] + b.counters.tallies["probes_out"];
    ensure!(
        seen.of_kind(Kind::Esp) == own,
        "{} ESP packets, of which {own} its own",
        seen.of_kind(Kind::Esp)
    );
    Ok(())
}

struct Attack<'a> {
    lab: &'a TestLab,
    port: RawPort,
}

impl Attack<'_> {
    /// Sends a frame to gateway b some times, and expects all of them, and nothing else, under one counter.
    fn expect(&mut self, counter: &str, what: &str, frame: &[u8]) -> Result<()> {
        self.expect_times(COPIES, counter, what, frame)
    }

    fn expect_times(&mut self, times: u64, counter: &str, what: &str, frame: &[u8]) -> Result<()> {
        let before = drops(&self.lab.status(Side::B)?);
        for _ in 0..times {
            self.port.send(frame).with_context(|| what.to_owned())?;
        }
        let mut grown = BTreeMap::new();
        let all = wait_for("not all were counted", Duration::from_secs(10), || {
            let Ok(status) = self.lab.status(Side::B) else { return Ok(None) };
            let grew = |(name, count): (String, u64)| {
                let grown = count - before.get(&name).copied().unwrap_or_default();
                (grown > 0).then_some((name, grown))
            };
            grown = drops(&status).into_iter().filter_map(grew).collect();
            Ok((grown.values().sum::<u64>() >= times).then_some(()))
        });
        let right = all.is_ok() && grown == BTreeMap::from([(counter.to_owned(), times)]);
        ensure!(right, "{what}: sent {times} and expected {counter}, counted {grown:?}");
        Ok(())
    }

    /// Sends a packet once that must be taken.
    fn accept(&mut self, what: &str, frame: &[u8]) -> Result<()> {
        let before = self.lab.status(Side::B)?;
        self.port.send(frame)?;
        // Traffic passes meanwhile, so that what was received grows anyway: nothing may be dropped until it did.
        let moved = |status: &Status| {
            status.counters.tallies["cipher_in"] > before.counters.tallies["cipher_in"] + 20
        };
        let after = self.lab.wait_status(Side::B, "traffic stands still", moved)?;
        ensure!(drops(&after) == drops(&before), "{what} was dropped: {:?}", drops(&after));
        Ok(())
    }

    /// A captured packet again, and with each part of its headers changed. None comes as far as the key: it was seen before.
    fn captured_and_changed(&mut self, genuine: &[u8]) -> Result<()> {
        self.expect("replayed", "the packet again", genuine)?;
        self.expect("replayed", "its body changed: the number was seen", &flipped(genuine, 60, 1))?;
        self.expect("xdp:malformed", "cut in the middle", &genuine[..genuine.len() / 2])?;
        self.expect("xdp:malformed", "cut within the UDP header", &genuine[..38])?;
        self.expect("xdp:malformed", "cut by a byte", &genuine[..genuine.len() - 1])?;
        self.expect("xdp:other", "another EtherType", &flipped(genuine, 13, 0x40))?;
        self.expect("xdp:malformed", "IP options", &flipped(genuine, 14, 3))?;
        self.expect("xdp:malformed", "another IP version", &flipped(genuine, 14, 0x20))?;
        self.expect("xdp:malformed", "another IP length", &flipped(genuine, 17, 1))?;
        self.expect("xdp:fragment", "the more-fragments bit", &flipped(genuine, 20, 0x20))?;
        self.expect("xdp:fragment", "a fragment offset", &flipped(genuine, 21, 8))?;
        self.expect("xdp:other", "another protocol", &flipped(genuine, 23, 1))?;
        self.expect("xdp:foreign_source", "another source", &flipped(genuine, 29, 0x80))?;
        self.expect("xdp:not_for_us", "another destination", &flipped(genuine, 33, 0x80))?;
        self.expect("source_port", "another source port", &flipped(genuine, 35, 1))?;
        self.expect("xdp:other", "another destination port", &flipped(genuine, 37, 1))?;
        self.expect("xdp:malformed", "another UDP length", &flipped(genuine, 39, 1))?;
        self.expect("xdp:epoch_not_live", "bit 31 of the SPI", &flipped(genuine, ESP_AT, 0x80))?;
        self.expect("source_port", "another slot from the same port", &flipped(genuine, ESP_AT + 3, 1))
    }

    /// What no packet of the peer looks like.
    fn strangers(&mut self, genuine: &[u8]) -> Result<()> {
        let spi = Packet::parse(genuine).context("it was ESP")?.spi;
        let packet = |spi: u32| {
            let esp = [&spi.to_be_bytes()[..], &genuine[ESP_AT + 4..]].concat();
            frame(Side::A, port_of(spi), &esp)
        };
        let other_epoch = spi & 0x3ff_ffff | ((spi >> 26) % 31 + 1) << 26;
        self.expect("xdp:epoch_not_live", "an epoch without keys", &packet(other_epoch))?;
        self.expect("xdp:epoch_not_live", "epoch 0", &packet(spi & 0x3ff_ffff))?;
        self.expect("xdp:epoch_not_live", "IKE's marker", &packet(0))?;
        self.expect("bad_spi", "a lane that nobody has", &packet(spi | 3 << 21))?;
        self.expect("bad_spi", "a slot beyond the table", &packet(spi | 0x1f_ffff))?;
        self.expect("icv", "a slot that was never seen", &packet(spi & !0x1f_ffff | (FREE_SLOT - 1)))?;
        let short = frame(Side::A, port_of(spi), &genuine[ESP_AT..ESP_AT + 16 + 17]);
        self.expect("truncated", "too short for trailer and ICV, with lengths that agree", &short)?;
        let empty = frame(Side::A, port_of(spi), &[]);
        self.expect("xdp:malformed", "no ESP in the UDP", &empty)?;
        let unseen = spi & !0x1f_ffff | (FREE_SLOT - 2);
        let largest = [&unseen.to_be_bytes()[..], &vec![0x5a; 1568]].concat();
        let largest = frame(Side::A, port_of(unseen), &largest);
        self.expect("icv", "as large as the backhaul takes", &largest)?;

        let segment = |source: u8, ports: [u16; 2], flags: u8| {
            let mut segment = genuine[..74].to_vec();
            (segment[16], segment[17], segment[23], segment[29], segment[47]) = (0, 60, 6, source, flags);
            segment[34..36].copy_from_slice(&ports[0].to_be_bytes());
            segment[36..38].copy_from_slice(&ports[1].to_be_bytes());
            segment
        };
        let (peer, stranger, any) = (1, 9, 50_000);
        let answer = segment(stranger, [CHANNEL_PORT, any], ACK);
        self.expect("xdp:foreign_source", "a stranger answers on the link channel", &answer)?;
        let call = segment(peer, [any, CHANNEL_PORT], SYN);
        self.expect("xdp:other", "somebody calls the site that does the calling", &call)?;
        let call = segment(peer, [CHANNEL_PORT, CHANNEL_PORT], SYN);
        self.expect("xdp:other", "the same from the link channel's port", &call)?;
        self.expect("xdp:other", "somebody calls another service", &segment(peer, [any, 22], SYN))?;
        self.expect("xdp:other", "a plain frame of a host", &ethernet(0x88b5, &[0; 46]))
    }

    /// A forged packet makes gateway b derive the key of its SPI, which the debug log then tells: with it, the test can write
    /// packets that are genuine and wrong.
    fn learn_key(&mut self, epoch: u32) -> Result<Entry> {
        let spi = epoch << 26 | FREE_SLOT;
        let forged = [&spi.to_be_bytes()[..], &1_u32.to_be_bytes(), &1_u64.to_be_bytes(), &[0; 48]].concat();
        self.expect("icv", "a forged packet", &frame(Side::A, port_of(spi), &forged))?;
        let log = self.lab.key_log(Side::B);
        wait_for("the key was not logged", PATIENCE, || {
            let entries = key_log::read(&log).unwrap_or_default();
            Ok(entries.into_iter().find(|entry| entry.direction == "rx" && entry.spi == spi))
        })
        .context("key log")
    }

    /// Packets under a true key. How many of them are taken.
    fn authored(&mut self, key: &Entry) -> Result<u64> {
        let inner = ethernet(0x88b5, &[0x77; 100]);
        let genuine =
            |number: u64| seal(Side::A, key, number as u32, number, &with_trailer(&inner, ETHERNET));
        let packet = genuine(1);
        let last = packet.len() - 1;
        let places =
            [("sequence number", 49), ("IV, high half", 53), ("IV, low half", 57), ("first byte", 58)];
        for (part, at) in
            places.into_iter().chain([("middle", 100), ("ICV's first byte", last - 15), ("last byte", last)])
        {
            self.expect_times(
                1,
                "icv",
                &format!("a bit of a fresh packet's {part}"),
                &flipped(&packet, at, 4),
            )?;
        }
        let cut = frame(Side::A, port_of(key.spi), &packet[ESP_AT..last]);
        self.expect("icv", "a fresh packet cut by a byte, with lengths that agree", &cut)?;
        self.accept("the fresh packet itself: forgeries in front of it changed nothing", &packet)?;
        self.expect("replayed", "the fresh packet again", &packet)?;

        self.accept("a number far ahead", &genuine(5000))?;
        self.expect("replayed", "a number behind the window", &genuine(5000 - 1024))?;
        self.accept("the oldest number in the window", &genuine(5000 - 1023))?;
        self.accept("a number beyond 32 bits", &genuine((1 << 32) + 7))?;
        self.expect("replayed", "the same in its low half alone", &genuine(7))?;

        let sealed = |number: u64, text: &[u8]| seal(Side::A, key, number as u32, number, text);
        let mut number = (1 << 32) + 100;
        let mut wrong = |attack: &mut Self, counter: &str, what: &str, text: &[u8]| {
            number += 1;
            attack.expect_times(1, counter, what, &sealed(number, text))
        };
        wrong(self, "next_header", "an IPv4 tunnel packet", &with_trailer(&inner, 4))?;
        wrong(
            self,
            "padding",
            "padding that does not count up",
            &[&inner[..], &[1, 2, 4, 3, ETHERNET]].concat(),
        )?;
        wrong(self, "padding", "more padding than text", &[&[1, 2, 3, 9, ETHERNET][..]].concat())?;
        wrong(self, "inner_size", "a frame shorter than its header", &with_trailer(&inner[..13], ETHERNET))?;
        let long = ethernet(0x88b5, &[0x77; 1509]);
        wrong(
            self,
            "inner_size",
            "a frame longer than the plain port takes",
            &with_trailer(&long, ETHERNET),
        )?;
        let two_numbers = seal(Side::A, key, 1, (1 << 32) + 200, &with_trailer(&inner, ETHERNET));
        self.expect("sequence_mismatch", "two sequence numbers", &two_numbers)?;
        Ok(4)
    }
}

fn flipped(frame: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let mut changed = frame.to_vec();
    changed[at] ^= bits;
    changed
}

/// Every drop that gateway b counts on its cipher side: the worker's by their names, the program's with `xdp:` in front.
fn drops(status: &Status) -> BTreeMap<String, u64> {
    let is_drop = |name: &str| !name.starts_with("to_") && name != "received";
    let program = status.xdp["cipher"].iter().filter(|(name, count)| is_drop(name) && **count > 0);
    let program = program.map(|(name, count)| (format!("xdp:{name}"), *count));
    program.chain(status.counters.drops.clone()).collect()
}
