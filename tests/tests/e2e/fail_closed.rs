//! Without keys nothing passes, and everything that does not is counted under its reason.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qhaul::lab::SiteConfig;
use qhaul::lab::eavesdrop::Kind;
use qhaul::lab::plan::Side;
use qhaul::lab::wait::{pause, wait_for};
use qhaul_tests::TestLab;
use qhaul_tests::backhaul::Backhaul;
use qhaul_tests::books::{dropped, drops_since};
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::traffic::Traffic;

/// Long enough that the countdown is seen by whoever looks now and then.
const HARD_LIMIT_MS: u64 = 6000;

#[test]
fn before_the_first_epoch_nothing_of_the_hosts_passes() -> Result<()> {
    let mut lab = TestLab::prepare("efirst")?;
    for side in Side::BOTH {
        let patient = SiteConfig::new(side).to_toml().replacen("timeout = \"2s\"", "startup = \"5m\"", 1);
        ensure!(patient.contains("startup"), "the configuration has no timeout to stand beside");
        lab.sites.write(&format!("site-{side}.toml"), &patient)?;
    }
    let backhaul = Backhaul::listen(lab.topology())?;
    lab.sites.start_kme(Side::A)?;
    for side in Side::BOTH {
        lab.sites.start_encryptor(side)?;
    }
    let traffic =
        [Traffic::start(lab.topology(), Side::A, 200)?, Traffic::start(lab.topology(), Side::B, 200)?];
    for side in Side::BOTH {
        let linked = |status: &qhaul::status::Status| status.channel && dropped(status, "no_epoch") > 400;
        let status = lab.wait_status(side, "no frames were dropped over an idle channel", linked)?;
        ensure!(status.state != "active" && status.tx.epoch == 0, "{side} is {}", status.state);
    }
    ensure!(traffic.iter().all(|traffic| traffic.received() == 0), "datagrams passed without keys");
    for traffic in traffic {
        ensure!(traffic.finish()?.arrivals.is_empty(), "datagrams passed without keys");
    }
    for status in lab.settled()? {
        let all = status.counters.tallies["plain_in"];
        ensure!(
            dropped(&status, "no_epoch") == all,
            "of {all} frames {:?} were dropped",
            status.counters.drops
        );
    }
    let seen = backhaul.finish()?.sealed()?;
    ensure!(seen.of_kind(Kind::Esp) + seen.of_kind(Kind::Icmp) == 0, "on the backhaul: {:?}", seen.kinds);
    ensure!(seen.of_kind(Kind::Channel) > 0, "the taps were deaf: {:?}", seen.kinds);

    // The missing key server alone was in the way.
    lab.sites.start_kme(Side::B)?;
    for side in Side::BOTH {
        lab.wait_status(side, "it did not become active", |status| status.state == "active")?;
    }
    let traffic = Traffic::start(lab.topology(), Side::A, 200)?;
    wait_for("no traffic passed", PATIENCE, || Ok((traffic.received() > 200).then_some(())))?;
    ensure!(traffic.finish()?.lost().is_empty(), "datagrams were lost");
    lab.finish()
}

#[test]
fn without_key_servers_traffic_stops_at_the_hard_limit_and_returns_with_them() -> Result<()> {
    let mut lab = TestLab::up("ehard", |config| {
        config.hard_limit = format!("{HARD_LIMIT_MS}ms");
        config.pool = 2;
    })?;
    let backhaul = Backhaul::listen(lab.topology())?;
    let before = [lab.status(Side::A)?, lab.status(Side::B)?];
    let traffic = Traffic::start(lab.topology(), Side::A, 300)?;
    wait_for("no traffic passed", PATIENCE, || Ok((traffic.received() > 300).then_some(())))?;
    for side in Side::BOTH {
        lab.sites.kme(side).context("the key server runs")?.kill()?;
    }
    watch_until_expired(&lab)?;
    for side in Side::BOTH {
        lab.wait_status(side, "it did not expire", |status| status.state == "expired")?;
    }
    let stopped = Instant::now();
    pause(Duration::from_secs(1))?;
    let (restarted, received) = (Instant::now(), traffic.received());
    for side in Side::BOTH {
        lab.sites.start_kme(side)?;
    }
    for side in Side::BOTH {
        lab.wait_status(side, "it did not recover", |status| status.state == "active")?;
    }
    wait_for("traffic did not return", PATIENCE, || Ok((traffic.received() > received + 300).then_some(())))?;
    let passed = traffic.finish()?;
    let through = passed.through(stopped, restarted);
    ensure!(through == 0, "{through} datagrams passed on expired keys");
    let after = lab.settled()?;
    for (now, then) in after.iter().zip(&before) {
        let drops = drops_since(now, then);
        ensure!(drops.keys().all(|reason| reason == "epoch_expired"), "dropped: {drops:?}");
    }
    let (lost, expired) = (passed.lost().len() as u64, dropped(&after[0], "epoch_expired"));
    // Host a itself may have asked for a neighbour or a group meanwhile.
    let all = lost > 0 && (lost..lost + 20).contains(&expired);
    ensure!(all, "{lost} datagrams were lost, {expired} frames were dropped as expired");
    let seen = backhaul.finish()?.sealed()?;
    ensure!(seen.of_kind(Kind::Esp) > 1000, "the taps were deaf: {:?}", seen.kinds);
    lab.finish()
}

/// Follows site a's status until frames are dropped: before that the countdown runs and nothing is dropped, and when it
/// comes, the countdown of a whole hard limit is nearly over.
fn watch_until_expired(lab: &TestLab) -> Result<()> {
    let mut counted_down = false;
    let expired = wait_for("no frame was dropped as expired", PATIENCE, || {
        let status = lab.status(Side::A).ok();
        Ok(status.filter(|status| {
            let left = status.tx.stops_in_ms.unwrap_or(u64::MAX);
            let keeps = dropped(status, "epoch_expired") == 0;
            // Past the rotation's second, and still at work: the countdown is what an operator sees.
            counted_down |= keeps && left < HARD_LIMIT_MS - 1000;
            !keeps
        }))
    })?;
    ensure!(counted_down, "traffic stopped before the epoch was overdue");
    // The worker counts from the installation, the status from the switch, which is a probe's round trip later.
    let left = expired.tx.stops_in_ms.context("an epoch was active")?;
    ensure!(left < 2000, "frames are dropped {left} ms before the hard limit");
    Ok(())
}
