//! Key servers come and go while traffic flows: what the pool rides out, what it does not, and that all of it heals by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qhaul::lab::eavesdrop::Kind;
use qhaul::lab::footprint::Footprint;
use qhaul::lab::plan::Side;
use qhaul::lab::wait::{pause, wait_for};
use qhaul::lab::{SiteConfig, kme_toml};
use qhaul::status::Status;
use qhaul_tests::TestLab;
use qhaul_tests::backhaul::Backhaul;
use qhaul_tests::books::{dropped, drops_since};
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::traffic::{Passed, Traffic};

/// Datagrams a second in each direction.
const RATE: u32 = 300;

#[test]
fn key_servers_cut_for_a_minute_cost_no_frame() -> Result<()> {
    let lab = up("ewcut", "", |config| config.pool = 120)?;
    let full = |status: &Status| status.keys.ready >= 115 && status.keys.trouble.is_none();
    let before = both(&lab, "the pool did not fill", full)?;
    let traffic = traffic(&lab)?;
    for side in Side::BOTH {
        let weather = lab.sites.weather(side, &["set", "down"])?;
        ensure!(weather.contains("\"down\""), "the weather of {side} is {weather}");
    }
    pause(Duration::from_secs(60))?;
    for (side, before) in Side::BOTH.into_iter().zip(&before) {
        let enough =
            |status: &Status| status.keys.trouble.is_some() && status.tx.switches >= before.tx.switches + 50;
        lab.wait_status(side, "there were no 50 rotations without key servers", enough)?;
    }
    for side in Side::BOTH {
        lab.sites.weather(side, &["clear", "down"])?;
    }
    both(&lab, "the key servers did not return", |status| status.keys.trouble.is_none())?;
    both(&lab, "the pool did not fill again", full)?;
    for passed in traffic {
        whole(&passed.finish()?, 60 * RATE as usize / 2)?;
    }
    nothing_dropped(&lab, &before)?;
    lab.finish()
}

#[test]
fn an_exhausted_pool_stops_traffic_at_the_limit_and_returns_by_itself() -> Result<()> {
    let lab = up("ewdry", "", |config| {
        config.pool = 8;
        config.hard_limit = "6s".into();
    })?;
    let backhaul = Backhaul::listen(lab.topology())?;
    let before =
        both(&lab, "the pool did not fill", |status| status.keys.ready == 8 && status.state == "active")?;
    let traffic = traffic(&lab)?;
    for side in Side::BOTH {
        lab.sites.weather(side, &["set", "down"])?;
    }
    runs_dry(&lab)?;
    both(&lab, "it did not expire", |status| status.state == "expired")?;
    let stopped = Instant::now();
    pause(Duration::from_secs(1))?;
    let restarted = Instant::now();
    for side in Side::BOTH {
        lab.sites.weather(side, &["clear", "down"])?;
    }
    both(&lab, "it did not recover", |status| status.state == "active" && status.keys.supply == "plenty")?;
    passes(&traffic)?;
    for passed in traffic {
        let passed = passed.finish()?;
        let (through, lost) = (passed.through(stopped, restarted), passed.lost());
        ensure!(through == 0, "{through} datagrams passed on expired keys");
        // All that was sent before the limit passed, and so did all that was sent after the return.
        let (first, last) = lost.first().zip(lost.last()).context("nothing was lost")?;
        ensure!(last - first + 1 == lost.len() as u64, "lost in more than one gap: {lost:?}");
    }
    for (now, before) in lab.settled()?.iter().zip(&before) {
        let drops = drops_since(now, before);
        ensure!(drops.keys().eq(["epoch_expired"]), "dropped: {drops:?}");
    }
    let seen = backhaul.finish()?.sealed()?;
    ensure!(seen.of_kind(Kind::Esp) > 1000, "the taps were deaf: {:?}", seen.kinds);
    lab.finish()
}

#[test]
fn a_thousand_rotations_at_a_tenth_of_a_second() -> Result<()> {
    let mut lab = up("ewfast", "rate = 50.0\n", |config| {
        config.rotate = "100ms".into();
        config.pool = 64;
    })?;
    let traffic = traffic(&lab)?;
    // By then every buffer has grown to the size that the work needs.
    pause(Duration::from_secs(20))?;
    let before = both(&lab, "it is not active", |status| status.state == "active")?;
    let early = footprints(&mut lab)?;
    pause(Duration::from_secs(84))?;
    for (side, before) in Side::BOTH.into_iter().zip(&before) {
        let all = before.tx.switches.max(200) + 800;
        let done = |status: &Status| status.tx.switches >= all;
        lab.wait_status_for(5 * PATIENCE, side, "a thousand rotations did not come", done)?;
    }
    for (early, late) in early.into_iter().zip(footprints(&mut lab)?) {
        println!("from {early:?} to {late:?}");
        ensure!(late.resident_kib < early.resident_kib + 2048, "memory grew from {early:?} to {late:?}");
        ensure!(late.files <= early.files, "open files grew from {early:?} to {late:?}");
    }
    for passed in traffic {
        whole(&passed.finish()?, 100 * RATE as usize / 2)?;
    }
    nothing_dropped(&lab, &before)?;
    lab.finish()
}

#[test]
fn any_order_of_restarts_returns_to_traffic() -> Result<()> {
    use Part::{Encryptor, Kme};
    use Side::{A, B};
    // What is killed, at once and in this order, and in which order it is started again.
    let orders: [(&[Part], &[Part]); 6] = [
        (&[Encryptor(A), Encryptor(B)], &[Encryptor(B), Encryptor(A)]),
        (&[Kme(A), Kme(B)], &[Kme(B), Kme(A)]),
        (&[Encryptor(A), Kme(B)], &[Encryptor(A), Kme(B)]),
        (&[Kme(A), Encryptor(A)], &[Kme(A), Encryptor(A)]),
        (&[Kme(A), Kme(B), Encryptor(A), Encryptor(B)], &[Encryptor(A), Kme(B), Encryptor(B), Kme(A)]),
        (&[Encryptor(B), Kme(A), Encryptor(A), Kme(B)], &[Kme(A), Encryptor(B), Kme(B), Encryptor(A)]),
    ];
    let mut lab = up("ewany", "", |_| ())?;
    let backhaul = Backhaul::listen(lab.topology())?;
    let traffic = traffic(&lab)?;
    healed(&lab, &traffic)?;
    for (killed, started) in orders {
        for part in killed {
            part.kill(&mut lab)?;
        }
        pause(Duration::from_secs(1))?;
        for part in started {
            part.start(&mut lab)?;
            pause(Duration::from_millis(500))?;
        }
        healed(&lab, &traffic).with_context(|| format!("killed {killed:?}, started {started:?}"))?;
    }
    for passed in traffic {
        let passed = passed.finish()?;
        ensure!(passed.duplicates() == 0, "{} duplicates", passed.duplicates());
    }
    let seen = backhaul.finish()?.sealed()?;
    ensure!(seen.of_kind(Kind::Esp) > 1000, "the taps were deaf: {:?}", seen.kinds);
    lab.finish()
}

/// Something that can be restarted.
#[derive(Clone, Copy, Debug)]
enum Part {
    Encryptor(Side),
    Kme(Side),
}

impl Part {
    fn kill(self, lab: &mut TestLab) -> Result<()> {
        match self {
            Part::Encryptor(side) => lab.sites.kill_encryptor(side)?,
            Part::Kme(side) => lab.sites.kill_kme(side)?,
        }
        Ok(())
    }

    fn start(self, lab: &mut TestLab) -> Result<()> {
        match self {
            Part::Encryptor(side) => lab.sites.start_encryptor(side)?,
            Part::Kme(side) => lab.sites.start_kme(side)?,
        }
        Ok(())
    }
}

fn footprints(lab: &mut TestLab) -> Result<[Footprint; 2]> {
    let [a, b] = Side::BOTH.map(|side| footprint(lab, side));
    Ok([a?, b?])
}

/// The least of a second: a connection to the key server and one to the status socket come and go.
fn footprint(lab: &mut TestLab, side: Side) -> Result<Footprint> {
    let pid = lab.sites.encryptor(side).context("the encryptor runs")?.pid();
    let mut least = Footprint::of(pid)?;
    for _ in 0..20 {
        pause(Duration::from_millis(50))?;
        let now = Footprint::of(pid)?;
        least.resident_kib = least.resident_kib.min(now.resident_kib);
        least.files = least.files.min(now.files);
    }
    Ok(least)
}

/// A lab at work whose flow keys nobody logs, as in operation; `keys` are lines of the key servers' `[keys]` section.
fn up(prefix: &str, keys: &str, change: impl Fn(&mut SiteConfig)) -> Result<TestLab> {
    let mut lab = TestLab::prepare(prefix)?;
    lab.configure(change)?;
    for side in Side::BOTH {
        lab.sites.write(&format!("kme-{side}.toml"), &kme_toml(side, keys))?;
    }
    lab.sites.start_all()?;
    Ok(lab)
}

fn traffic(lab: &TestLab) -> Result<[Traffic; 2]> {
    let [a, b] = Side::BOTH.map(|side| Traffic::start(lab.topology(), side, RATE));
    let traffic = [a?, b?];
    passes(&traffic)?;
    Ok(traffic)
}

/// Waits until a second's worth of datagrams has come out at both ends.
fn passes(traffic: &[Traffic; 2]) -> Result<()> {
    for traffic in traffic {
        let enough = traffic.received() + u64::from(RATE);
        wait_for("no traffic passed", PATIENCE, || Ok((traffic.received() > enough).then_some(())))?;
    }
    Ok(())
}

/// [`TestLab::wait_status`] at both sites.
fn both(lab: &TestLab, failure: &str, wanted: impl Fn(&Status) -> bool) -> Result<[Status; 2]> {
    let [a, b] = Side::BOTH
        .map(|side| lab.wait_status(side, failure, &wanted).with_context(|| format!("site {side}")));
    Ok([a?, b?])
}

/// Both sites active, keys in plenty from servers that ail nothing, rotation going on, and traffic both ways.
fn healed(lab: &TestLab, traffic: &[Traffic; 2]) -> Result<()> {
    let well = |status: &Status| {
        let keys = &status.keys;
        status.state == "active" && status.channel && keys.supply == "plenty" && keys.trouble.is_none()
    };
    let then = both(lab, "it did not heal", well)?;
    for (side, then) in Side::BOTH.into_iter().zip(&then) {
        let on = |status: &Status| well(status) && status.tx.switches >= then.tx.switches + 3;
        lab.wait_status(side, "rotation did not go on", on)?;
    }
    passes(traffic)
}

/// Every datagram arrived, once.
fn whole(passed: &Passed, at_least: usize) -> Result<()> {
    ensure!(passed.sent.len() > at_least, "only {} datagrams were sent", passed.sent.len());
    ensure!(passed.lost().is_empty(), "lost: {:?} of {}", passed.lost(), passed.sent.len());
    ensure!(passed.duplicates() == 0, "{} duplicates", passed.duplicates());
    Ok(())
}

fn nothing_dropped(lab: &TestLab, before: &[Status; 2]) -> Result<()> {
    for (now, before) in lab.settled()?.iter().zip(before) {
        let drops = drops_since(now, before);
        ensure!(drops.is_empty(), "dropped: {drops:?}");
    }
    Ok(())
}

/// Follows both sites until they drop frames. The supply falls from state to state and skips none, as the log tells, and when
/// frames are dropped, the epoch in use is as old as the hard limit of 6 s.
fn runs_dry(lab: &TestLab) -> Result<()> {
    let mut ages = [None; 2];
    wait_for("no frame was dropped as expired", PATIENCE, || {
        for (side, age) in Side::BOTH.into_iter().zip(&mut ages) {
            let Some(status) = lab.status(side).ok().filter(|_| age.is_none()) else { continue };
            *age = status.tx.age_ms.filter(|_| dropped(&status, "epoch_expired") > 0);
        }
        Ok(ages.iter().all(Option::is_some).then_some(()))
    })?;
    for (side, age) in Side::BOTH.into_iter().zip(ages) {
        let (_, log) = lab.sites.encryptor_log(side).context("it logged")?;
        let told = log.lines().filter_map(|line| line.split_once("key supply: ")?.1.split(',').next());
        let mut states: Vec<&str> = told.collect();
        states.dedup();
        ensure!(states.ends_with(&["plenty", "low", "critical", "empty"]), "the supply was {states:?}");
        // The worker counts from the installation, the status from the switch, which is a probe's round trip later.
        ensure!(age >= Some(5500), "frames are dropped {age:?} ms after the last switch");
    }
    Ok(())
}
