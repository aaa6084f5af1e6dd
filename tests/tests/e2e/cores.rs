//! Two workers on two queues: nothing is lost, mixed up or taken twice, whatever queue a packet comes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::{pause, wait_for};
use qhaul::lab::{SiteConfig, for_each_frame};
use qhaul::status::Status;
use qhaul_tests::TestLab;
use qhaul_tests::books::{dropped, drops_since};
use qhaul_tests::esp::{ETHERNET, Packet, frame, port_of, seal, with_trailer};
use qhaul_tests::frames::ethernet;
use qhaul_tests::key_log;
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::queue_port::QueuePort;
use qhaul_tests::tap::{Direction, Tap};
use qhaul_tests::traffic::Traffic;

/// A slot that no flow has reached.
const FREE_SLOT: u32 = 1500;

fn two_cores(config: &mut SiteConfig) {
    config.cores = vec![0, 1];
}

#[test]
fn rotation_every_second_on_two_workers_loses_no_packet_and_keeps_order() -> Result<()> {
    let lab = TestLab::up_with_queues("ecores", 2, two_cores)?;
    let before = [lab.status(Side::A)?, lab.status(Side::B)?];
    // Packets of a flow are 128 ms apart: a worker that waits for its core for less is not overtaken at a switch.
    let traffic = Side::BOTH.map(|side| Traffic::of_flows(lab.topology(), side, 64, 500));
    pause(Duration::from_secs(10))?;
    for (side, before) in Side::BOTH.into_iter().zip(&before) {
        let enough = before.tx.switches + 8;
        lab.wait_status(side, "eight rotations did not come", |status| status.tx.switches >= enough)?;
    }
    for (side, traffic) in Side::BOTH.into_iter().zip(traffic) {
        let passed = traffic?.finish()?;
        let (lost, sent) = (passed.lost(), passed.sent.len());
        ensure!(lost.is_empty() && sent > 1000, "lost from {side}: {lost:?} of {sent}");
        ensure!(passed.duplicates() == 0 && passed.in_order(), "from {side}: twice, or out of order");
    }
    for (side, (after, before)) in Side::BOTH.into_iter().zip(lab.settled()?.iter().zip(&before)) {
        let drops = drops_since(after, before);
        ensure!(drops.is_empty(), "dropped at {side}: {drops:?}");
        ensure!(after.workers.len() == 2, "{} workers", after.workers.len());
        for worker in &after.workers {
            let busy = ["plain_in", "cipher_out", "cipher_in"].map(|name| worker.counters.tallies[name]);
            ensure!(
                busy.iter().all(|count| *count > 0),
                "core {} of {side} stood idle: {busy:?}",
                worker.core
            );
        }
        for (name, total) in &after.counters.tallies {
            let sum: u64 = after.workers.iter().map(|worker| worker.counters.tallies[name]).sum();
            ensure!(sum == *total, "{name}: the workers' {sum} are not the site's {total}");
        }
        println!(
            "{side}: handed over {} of {} packets",
            handed_over(after),
            after.counters.tallies["cipher_in"]
        );
    }
    lab.finish()
}

#[test]
fn a_packet_is_taken_once_whatever_queue_it_comes_on() -> Result<()> {
    let lab = TestLab::up_with_queues("equeues", 2, |config| {
        two_cores(config);
        (config.rotate, config.hard_limit) = ("5m".into(), "10m".into());
    })?;
    let mut queues = [0, 1].map(|queue| QueuePort::open(lab.topology(), Node::Backhaul, "wan-b", queue));
    let mut send = |queue: usize, frame: &[u8]| match &mut queues[queue] {
        Ok(port) => port.send(frame),
        Err(error) => anyhow::bail!("queue {queue}: {error}"),
    };

    let traffic = Traffic::start(lab.topology(), Side::A, 300)?;
    let genuine = capture_genuine(&lab)?;
    let before = lab.status(Side::B)?;
    (0..10).try_for_each(|number| send(number % 2, &genuine))?;
    lab.wait_status(Side::B, "not all replays were refused", |status| {
        dropped(status, "replayed") == dropped(&before, "replayed") + 10
    })?;
    let passed = traffic.finish()?;
    ensure!(passed.lost().is_empty() && passed.duplicates() == 0 && passed.in_order(), "traffic was harmed");

    // Packets of a flow of our own: a forged one makes the receiver derive the key, which the debug log then tells.
    let epoch = Packet::parse(&genuine).context("it was ESP")?.epoch();
    let spi = epoch << 26 | FREE_SLOT;
    let forged = [&spi.to_be_bytes()[..], &1_u32.to_be_bytes(), &1_u64.to_be_bytes(), &[0; 48]].concat();
    send(0, &frame(Side::A, port_of(spi), &forged))?;
    let key = wait_for("the key was not logged", PATIENCE, || {
        let entries = key_log::read(&lab.key_log(Side::B)).unwrap_or_default();
        Ok(entries.into_iter().find(|entry| entry.direction == "rx" && entry.spi == spi))
    })?;
    let [_, before] = lab.settled()?;
    let inner = with_trailer(&ethernet(0x88b5, &[0x77; 100]), ETHERNET);
    let packets: Vec<Vec<u8>> =
        (1..=200_u64).map(|number| seal(Side::A, &key, number as u32, number, &inner)).collect();
    for (number, packet) in packets.iter().enumerate() {
        send(number % 2, packet)?;
    }
    let taken = |status: &Status| status.counters.tallies["plain_out"] - before.counters.tallies["plain_out"];
    lab.wait_status(Side::B, "not all packets were taken", |status| taken(status) == 200)?;
    for packet in &packets {
        [0, 1].into_iter().try_for_each(|queue| send(queue, packet))?;
    }
    let replayed = |status: &Status| dropped(status, "replayed") - dropped(&before, "replayed");
    lab.wait_status(Side::B, "not all replays were refused", |status| replayed(status) == 400)?;
    let [_, after] = lab.settled()?;
    ensure!(taken(&after) == 200, "{} packets of 200 were taken", taken(&after));
    let (handed, drops) = (handed_over(&after) - handed_over(&before), drops_since(&after, &before));
    ensure!(
        handed == 300,
        "of 600 packets, half of which came on the other worker's queue, {handed} were handed over"
    );
    ensure!(drops.len() == 1, "dropped: {drops:?}");
    drop(queues);
    lab.finish()
}

#[test]
fn a_port_with_too_few_queues_is_told_with_the_remedy() -> Result<()> {
    let lab = TestLab::prepare("eoneq")?;
    lab.configure(two_cores)?;
    let config = lab.sites.config_path(Side::A).display().to_string();
    let argv = [&*lab.binary("qhaul"), "run", "--config", &config];
    let told = lab.topology().exec(Node::Gateway(Side::A), &argv);
    let told = told.err().context("it runs")?.to_string();
    ensure!(told.contains("ethtool -L plain combined 2"), "{told}");
    lab.finish_without_books()
}

#[test]
fn both_workers_end_in_order_on_a_signal() -> Result<()> {
    let mut lab = TestLab::up_with_queues("ecend", 2, two_cores)?;
    let encryptor = lab.sites.encryptor(Side::A).context("encryptor a runs")?;
    encryptor.signal(Signal::SIGTERM)?;
    let status = encryptor.wait(PATIENCE)?;
    ensure!(status.success(), "it ended with {status}");
    lab.finish_without_books()
}

fn handed_over(status: &Status) -> u64 {
    status.counters.tallies["handed_over"]
}

/// One packet of traffic from a to b, as it went over the wire.
fn capture_genuine(lab: &TestLab) -> Result<Vec<u8>> {
    let arrived = |status: &Status| status.counters.tallies["plain_out"];
    let tap = Tap::start(lab.topology(), Node::Backhaul, "wan-a", Direction::In, "genuine")?;
    let before = arrived(&lab.status(Side::B)?);
    lab.wait_status(Side::B, "no traffic arrived", |status| arrived(status) > before + 100)?;
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
