//! Two sites at work for as long as it takes to see what goes wrong slowly or seldom: rotations, floods, restarts and cuts
//! under traffic, with an account of each frame and an eye on memory and open files.

mod account;
mod counts;
mod judge;
mod memory;
mod play;
mod report;
mod schedule;
mod tap;
mod watch;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::traffic::Traffic;
use qhaul::lab::wait::{catch_signals, pause};
use qhaul::lab::{self, LabError, SiteConfig, Sites};

use crate::flood::{Kind, QUEUES};
use account::{Account, Licence};
use counts::{Counts, Meter};
use judge::judge;
use play::Stage;
use report::{Row, Verdict};
use schedule::{Phase, Schedule, Sort};
use watch::Watch;

/// How long what is under way may take to arrive and be counted.
const SETTLES: Duration = Duration::from_secs(20);

/// What is soaked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long; each phase is played once, however short that is.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Sorts of phases beside steady traffic; all, unless named.
    #[arg(long, value_enum, value_delimiter = ',')]
    phase: Vec<Sort>,
    /// Kinds of forged packets; all, unless named.
    #[arg(long, value_enum, value_delimiter = ',')]
    flood: Vec<Kind>,
    /// Frames per second in each direction.
    #[arg(long, default_value_t = 500)]
    traffic: u32,
    /// Flows in each direction.
    #[arg(long, default_value_t = 64)]
    flows: usize,
    /// Forged packets per second.
    #[arg(long, default_value_t = 2000)]
    flood_rate: u32,
    /// Time between rotations of the keys.
    #[arg(long, default_value = "1s")]
    rotate: String,
    /// How long a receiver keeps an old epoch: what waits for a core for longer is lost.
    #[arg(long, default_value = "3s")]
    grace: String,
    /// Write what each look at memory and open files shows into this file.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Prefix of the lab's namespaces.
    #[arg(long, default_value = "qsk")]
    prefix: String,
    /// One JSON object for each phase, and one for the verdict.
    #[arg(long)]
    json: bool,
}

/// Plays phases until the time is up, prints a line for each and the verdict, and removes the lab.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!((1..=1024).contains(&options.flows), "--flows is within 1 to 1024");
    ensure!((0.0..100_000.0).contains(&options.minutes), "--minutes is a number of minutes");
    catch_signals()?;
    let watch = Watch::start(options.csv.as_deref())?;
    let mut verdict = Verdict::default();
    let started = Instant::now();
    let soaked = soak(options, &watch, &mut verdict, started);
    verdict.minutes = started.elapsed().as_secs_f64() / 60.0;
    if let Err(error) = &soaked {
        verdict.reason.get_or_insert(format!("{error:#}"));
    }
    verdict.judge(&watch.finish()?);
    if options.json {
        println!("{}", serde_json::to_string(&verdict)?);
    } else {
        verdict.lives.iter().for_each(|life| println!("{}", life.line()));
        println!("{}", verdict.line());
    }
    ensure!(verdict.pass, "the soak failed");
    Ok(())
}

fn soak(options: &Options, watch: &Watch, verdict: &mut Verdict, started: Instant) -> Result<()> {
    let lab = lab::Options { prefix: options.prefix.clone(), queues: QUEUES, ..lab::Options::default() };
    let mut sites = Sites::prepare(&lab)?;
    let played = play_all(options, &mut sites, watch, verdict, started).map_err(|error| {
        let interrupted = matches!(error.downcast_ref(), Some(LabError::Interrupted));
        // What a process said last is the reason; what failed for want of it is not.
        if interrupted { error } else { sites.check_running().err().map_or(error, Into::into) }
    });
    Side::BOTH.into_iter().for_each(|side| watch.ends(side));
    sites.down()?;
    played
}

fn play_all(
    options: &Options,
    sites: &mut Sites,
    watch: &Watch,
    verdict: &mut Verdict,
    started: Instant,
) -> Result<()> {
    prepare(options, sites)?;
    let (meter, base) = (Meter::start(sites.topology())?, Counts::before(sites.topology())?);
    sites.start_all()?;
    for side in Side::BOTH {
        watch.born(side, sites.encryptor(side).context("the encryptor runs")?.pid());
    }
    let total = Duration::from_secs_f64(options.minutes * 60.0);
    let step = (total / 60).clamp(Duration::from_secs(2), Duration::from_secs(10));
    let mut schedule = Schedule::new(total, &options.phase, &options.flood);
    let mut soak = Soak { options, sites, meter, watch, step, base };
    while let Some(phase) = schedule.next(started.elapsed()) {
        let mut row = soak.phase(phase).with_context(|| format!("{phase}"))?;
        row.at = started.elapsed().as_secs();
        row.left = schedule.left(started.elapsed()).as_secs();
        row.hold(watch);
        verdict.add(&row);
        verdict.restarts += u64::from(matches!(phase, Phase::Terminate(_) | Phase::Kill(_)));
        println!("{}", if options.json { serde_json::to_string(&row)? } else { row.line() });
    }
    Ok(())
}

/// The hosts say nothing by themselves: what is not traffic of the soak's would be taken for it.
fn prepare(options: &Options, sites: &Sites) -> Result<()> {
    let topology = sites.topology();
    topology.introduce_hosts()?;
    for side in Side::BOTH {
        let quiet = ["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"];
        topology.exec(Node::Host(side), &quiet)?;
        let mut config = SiteConfig::new(side);
        config.cores = (0..usize::from(QUEUES)).collect();
        config.rotate.clone_from(&options.rotate);
        config.grace.clone_from(&options.grace);
        config.pool = 32;
        sites.configure(&config)?;
    }
    Ok(())
}

struct Soak<'a> {
    options: &'a Options,
    sites: &'a mut Sites,
    meter: Meter,
    watch: &'a Watch,
    step: Duration,
    /// At the end of the last phase.
    base: Counts,
}

impl Soak<'_> {
    /// Plays one phase under traffic, and accounts for each frame.
    fn phase(&mut self, phase: Phase) -> Result<Row> {
        self.watch.phase(&phase.to_string());
        let (flows, rate, topology) = (self.options.flows, self.options.traffic, self.sites.topology());
        let [a, b] = Side::BOTH.map(|side| Traffic::of_flows(topology, side, flows, rate));
        let traffic = [a?, b?];
        let mut stage = Stage {
            sites: self.sites,
            watch: self.watch,
            tap: self.meter.tap(Side::A),
            traffic: &traffic,
            step: self.step,
            flood_rate: self.options.flood_rate,
        };
        let played = stage.play(phase)?;
        if played.disturbed.is_some() {
            // Traffic that must be whole again.
            pause(self.step)?;
        }
        let [a, b] = traffic.map(Traffic::finish);
        let passed = [a?, b?];
        let mut licence = Licence { forged: played.forged, cut: phase == Phase::Cut, down: None };
        if let Phase::Terminate(side) | Phase::Kill(side) = phase {
            self.meter.close_life(side, &self.base);
            licence.down = Some(side);
        }
        let account = self.settle(licence)?;
        let switches = Side::BOTH.map(|side| self.meter.tap(side).switches());
        Ok(judge(phase, played, &passed, account, &switches))
    }

    /// Reads all counters until they add up, which they do once nothing is under way.
    fn settle(&mut self, licence: Licence) -> Result<Account> {
        let end = Instant::now() + SETTLES;
        loop {
            let late = Instant::now() >= end;
            match self.meter.read(self.sites)? {
                Ok(counts) => {
                    let account = Account::between(&self.base, &counts, licence);
                    if account.unexplained == 0 || late {
                        self.base = counts;
                        return Ok(account);
                    }
                }
                Err(wrong) if late => bail!("the books do not balance: {wrong}"),
                Err(_) => self.sites.check_running()?,
            }
            pause(Duration::from_millis(50))?;
        }
    }
}
