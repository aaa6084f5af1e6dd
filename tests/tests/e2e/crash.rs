//! An encryptor dies without a word: what passes meanwhile, and what comes after.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qhaul::lab::eavesdrop::Kind;
use qhaul::lab::for_each_frame;
use qhaul::lab::plan::Side;
use qhaul::lab::wait::{pause, wait_for};
use qhaul_tests::TestLab;
use qhaul_tests::backhaul::Backhaul;
use qhaul_tests::esp::Packet;
use qhaul_tests::key_log::{self, Entry};
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::traffic::{Passed, Traffic};

/// The promise of the issue, and the only time that any test asserts.
const RESUMES_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn encryptor_a_killed_and_started_again_resumes_within_5_s_on_new_keys() -> Result<()> {
    crash("ecrasha", Side::A)
}

#[test]
fn encryptor_b_killed_and_started_again_resumes_within_5_s_on_new_keys() -> Result<()> {
    crash("ecrashb", Side::B)
}

fn crash(prefix: &str, victim: Side) -> Result<()> {
    let mut lab = TestLab::up(prefix, |_| ())?;
    let backhaul = Backhaul::listen(lab.topology())?;
    let traffic =
        [Traffic::start(lab.topology(), Side::A, 300)?, Traffic::start(lab.topology(), Side::B, 300)?];
    for traffic in &traffic {
        wait_for("traffic did not flow", PATIENCE, || Ok((traffic.received() > 300).then_some(())))?;
    }
    lab.sites.kill_encryptor(victim)?;
    let killed = Instant::now();
    pause(Duration::from_secs(1))?;
    let again = "keys-again.log";
    lab.log_keys(victim, again);
    let started = Instant::now();
    lab.sites.start_encryptor(victim)?;
    let received = traffic.each_ref().map(Traffic::received);
    for (traffic, received) in traffic.iter().zip(received) {
        wait_for("traffic did not resume", PATIENCE, || {
            Ok((traffic.received() > received + 300).then_some(()))
        })?;
    }
    for passed in traffic.map(Traffic::finish) {
        check_traffic(&passed?, killed, started)?;
    }
    let heard = backhaul.finish()?;
    let seen = heard.sealed()?;
    ensure!(seen.of_kind(Kind::Esp) > 1000, "the capture is too small to show anything: {:?}", seen.kinds);
    let logs = [lab.key_log(Side::A), lab.key_log(Side::B), lab.file(again)];
    check_keys(&heard.files, &logs, victim)?;
    lab.finish()
}

/// Nothing passed while it was dead, nothing was lost before, and all is well again in time.
fn check_traffic(passed: &Passed, killed: Instant, started: Instant) -> Result<()> {
    let resumed = passed.resumed_after(started).context("traffic did not resume")?;
    println!("traffic resumed {resumed:?} after the start");
    ensure!(resumed < RESUMES_WITHIN, "resumed {resumed:?} after the start");
    ensure!(passed.duplicates() == 0, "{} duplicates", passed.duplicates());
    let lost = passed.lost();
    // Datagrams may be under way when the encryptor dies.
    let early = lost.iter().filter(|number| passed.sent[**number as usize] + Duration::from_secs(1) < killed);
    ensure!(early.count() == 0, "lost before the crash");
    let through = passed.through(killed, started);
    ensure!(through == 0, "{through} datagrams passed a dead encryptor");
    Ok(())
}

/// No flow key was ever made twice, and no sequence number was used twice under a key. Which key a packet was sealed with is
/// found by opening it: the SPIs of the two lives are alike.
fn check_keys(captures: &[PathBuf; 2], logs: &[PathBuf; 3], victim: Side) -> Result<()> {
    let entries = logs.iter().map(|log| key_log::read(log)).collect::<Result<Vec<_>>>()?;
    let sent_keys = |log: usize| entries[log].iter().filter(|entry| entry.direction == "tx");
    let mut keys = HashSet::new();
    let repeated = (0..3).flat_map(sent_keys).find(|entry| !keys.insert(entry.key));
    ensure!(
        repeated.is_none(),
        "a key was made twice, again with SPI {:08x}",
        repeated.map_or(0, |entry| entry.spi)
    );
    ensure!(sent_keys(2).count() > 0, "the second life logged no keys");

    // By the index of the sending side, and the SPI.
    let mut by_spi = HashMap::<(usize, u32), Vec<&Entry>>::new();
    for (log, side) in [(0, Side::A), (1, Side::B), (2, victim)] {
        sent_keys(log).for_each(|entry| by_spi.entry((side.index(), entry.spi)).or_default().push(entry));
    }
    let mut used = HashSet::new();
    let (mut reused, mut unknown, mut lives) = (0, 0, HashMap::<(usize, u32), HashSet<[u8; 32]>>::new());
    for (side, capture) in Side::BOTH.into_iter().zip(captures) {
        for_each_frame(capture, |frame| {
            let Some(packet) = Packet::parse(frame) else { return };
            let place = (side.index(), packet.spi);
            let candidates = by_spi.get(&place).map_or(&[][..], Vec::as_slice);
            match candidates.iter().find(|entry| packet.open(entry).is_some()) {
                Some(entry) => {
                    reused += u64::from(!used.insert((entry.key, packet.iv)));
                    lives.entry(place).or_default().insert(entry.key);
                }
                None => unknown += 1,
            }
        })?;
    }
    ensure!(unknown == 0, "{unknown} packets open with no logged key");
    ensure!(reused == 0, "{reused} packets repeat a sequence number under its key");
    let both = lives.iter().filter(|((side, _), keys)| *side == victim.index() && keys.len() > 1).count();
    ensure!(both > 0, "the two lives never used one SPI: this shows nothing of reuse");
    Ok(())
}
