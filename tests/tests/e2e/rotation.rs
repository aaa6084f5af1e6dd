//! Keys change while traffic flows, and what is left behind when an encryptor goes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use qhaul::lab::eavesdrop::{Eavesdropper, Kind};
use qhaul::lab::for_each_frame;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::{pause, wait_for};
use qhaul_tests::TestLab;
use qhaul_tests::backhaul::Backhaul;
use qhaul_tests::books::drops_since;
use qhaul_tests::esp::Packet;
use qhaul_tests::frames::ethernet;
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::raw_port::RawPort;
use qhaul_tests::tap::{Direction, Tap};
use qhaul_tests::traffic::Traffic;

#[test]
fn twelve_seconds_of_rotation_every_second_lose_no_packet() -> Result<()> {
    let lab = TestLab::up("erotate", |_| ())?;
    let backhaul = Backhaul::listen(lab.topology())?;
    let before = [lab.status(Side::A)?, lab.status(Side::B)?];
    let traffic =
        [Traffic::start(lab.topology(), Side::A, 500)?, Traffic::start(lab.topology(), Side::B, 500)?];
    pause(Duration::from_secs(12))?;
    for (side, before) in Side::BOTH.into_iter().zip(&before) {
        let enough = before.tx.switches + 10;
        lab.wait_status(side, "ten rotations did not come", |status| status.tx.switches >= enough)?;
    }
    for (side, traffic) in Side::BOTH.into_iter().zip(traffic) {
        let passed = traffic.finish()?;
        ensure!(passed.sent.len() > 1000, "only {} datagrams were sent from {side}", passed.sent.len());
        ensure!(passed.lost().is_empty(), "lost from {side}: {:?} of {}", passed.lost(), passed.sent.len());
        ensure!(passed.duplicates() == 0, "{} duplicates from {side}", passed.duplicates());
    }
    let after = lab.settled()?;
    let heard = backhaul.finish()?;
    heard.sealed()?;
    for ((file, after), before) in heard.files.iter().zip(&after).zip(&before) {
        let drops = drops_since(after, before);
        ensure!(drops.is_empty(), "dropped: {drops:?}");
        // An agreement that failed, on a machine that was busy elsewhere, has used up a number.
        let failures = u32::try_from(after.tx.failures - before.tx.failures)?;
        let epochs = epochs_in_order(file)?;
        ensure!(epochs.len() > 10, "epochs {epochs:?}");
        let renewed = |pair: &[u32]| (1..=1 + failures).contains(&((pair[1] + 31 - pair[0]) % 31));
        ensure!(epochs.windows(2).all(renewed), "an epoch came back, or one was left out: {epochs:?}");
    }
    lab.finish()
}

#[test]
fn sigterm_detaches_both_programs_and_removes_the_control_socket() -> Result<()> {
    let mut lab = TestLab::up("eterm", |_| ())?;
    ensure!(
        program(&lab, "plain")?.is_some() && program(&lab, "cipher")?.is_some(),
        "no programs while it runs"
    );
    ensure!(lab.file("a.sock").exists(), "no control socket while it runs");
    let encryptor = lab.sites.encryptor(Side::A).context("encryptor a runs")?;
    encryptor.signal(Signal::SIGTERM)?;
    let status = encryptor.wait(PATIENCE)?;
    ensure!(status.success(), "it ended with {status}");
    ensure!(
        program(&lab, "plain")?.is_none() && program(&lab, "cipher")?.is_none(),
        "a program stays attached"
    );
    ensure!(!lab.file("a.sock").exists(), "the control socket stays");
    lab.finish_without_books()
}

#[test]
fn a_killed_encryptor_leaves_its_ports_shut_until_the_next_one_takes_over() -> Result<()> {
    let mut lab = TestLab::up("eshut", |_| ())?;
    let left = [program(&lab, "plain")?, program(&lab, "cipher")?];
    lab.sites.kill_encryptor(Side::A)?;
    ensure!(
        [program(&lab, "plain")?, program(&lab, "cipher")?] == left,
        "the programs went with their process"
    );
    // A bridge stands ready to carry clear frames across: only the programs are in its way.
    lab.topology().set_clear(Side::A, true)?;
    ensure!(frames_across(&lab, "shut")? == 0, "clear frames crossed the killed encryptor");
    lab.topology().set_clear(Side::A, false)?;

    lab.sites.start_encryptor(Side::A)?;
    lab.sites.wait_active(Side::A)?;
    let next = [program(&lab, "plain")?, program(&lab, "cipher")?];
    let replaced = left.iter().zip(&next).all(|(old, new)| new.is_some() && old != new);
    ensure!(replaced, "the old programs {left:?} were not replaced: {next:?}");
    lab.settled()?;

    // The same bridge does carry frames once the programs are gone, so that nothing else held them back before.
    let encryptor = lab.sites.encryptor(Side::A).context("encryptor a runs")?;
    encryptor.signal(Signal::SIGTERM)?;
    encryptor.wait(PATIENCE)?;
    lab.topology().set_clear(Side::A, true)?;
    ensure!(frames_across(&lab, "open")? > 0, "the bridge carries nothing: this test shows nothing");
    lab.finish_without_books()
}

/// Sends frames from host a until some came out on the backhaul, or two seconds long; how many there were.
fn frames_across(lab: &TestLab, name: &str) -> Result<u64> {
    let tap = Tap::start(lab.topology(), Node::Backhaul, "wan-a", Direction::In, name)?;
    let port = RawPort::open(lab.topology(), Node::Host(Side::A), "eth0")?;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        port.send(&ethernet(0x88b5, b"clear text of host a"))?;
        pause(Duration::from_millis(10))?;
    }
    let mut eavesdropper = Eavesdropper::default();
    for_each_frame(&tap.finish_file()?, |frame| eavesdropper.look_at(frame))?;
    let seen = eavesdropper.into_sightings();
    ensure!(seen.of_kind(Kind::Esp) == 0, "somebody still encrypts");
    Ok(seen.plaintext)
}

/// The id of the XDP program at a port of gateway a, as `ip link` shows it.
fn program(lab: &TestLab, port: &str) -> Result<Option<u64>> {
    let shown = wait_for("ip link did not answer", PATIENCE, || {
        lab.topology().exec(Node::Gateway(Side::A), &["ip", "-j", "link", "show", "dev", port]).map(Some)
    })?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    Ok(shown.pointer("/0/xdp/prog/id").and_then(serde_json::Value::as_u64))
}

/// Epoch numbers of traffic by their first packet.
fn epochs_in_order(capture: &Path) -> Result<Vec<u32>> {
    ensure!(fs::metadata(capture)?.len() > 24, "nothing was captured");
    let mut epochs: Vec<u32> = Vec::new();
    for_each_frame(capture, |frame| {
        let Some(packet) = Packet::parse(frame).filter(|packet| !packet.is_probe()) else { return };
        // At a switch nothing is late on this wire: a number that comes back would be an epoch that comes back.
        if epochs.last() != Some(&packet.epoch()) {
            epochs.push(packet.epoch());
        }
    })?;
    Ok(epochs)
}
