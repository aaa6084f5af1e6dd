//! The lab's path under load: qhaul beside its controls, in turns, in one run.
//!
//! An AF_XDP generator at host a, a sink at host b, and between them the kernel's bridge, plain AF_XDP forwarding, or two
//! encryptors. On veth the kernel's share dwarfs ours: what holds is the ratio of two rows of one run.

mod alone;
pub(crate) mod cpu;
pub(crate) mod end;
pub(crate) mod forward;
pub(crate) mod frame;
pub(crate) mod latency;
mod measure;
pub(crate) mod options;
pub(crate) mod path;
mod row;
mod search;
mod subject;
mod trial;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use qhaul::lab::plan::Side;
use qhaul::lab::wait::{catch_signals, check_interrupt};
use qhaul::lab::{self, Sites};

use measure::Bench;
pub(crate) use options::Options;
use row::Table;
use subject::{Standing, Subject};

/// Above every rotation period that makes sense to measure.
const HARD_LIMIT: &str = "1h";

/// Runs the bench, prints its rows, and removes the lab.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.check()?;
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose figures mean nothing: `cargo build --release`");
    }
    catch_signals()?;
    let lab = lab::Options { prefix: options.prefix.clone(), ..lab::Options::default() };
    let mut sites = Sites::prepare(&lab)?;
    let measured = measure_all(options, &mut sites);
    // What a process said last is the reason; what failed for want of it is not.
    let measured = measured.map_err(|error| sites.check_running().err().map_or(error, Into::into));
    sites.down()?;
    measured?.print(options.json)
}

fn measure_all(options: &Options, sites: &mut Sites) -> Result<Table> {
    for side in Side::BOTH {
        sites.start_kme(side)?;
    }
    let started = Instant::now();
    let mut table = Table::default();
    let mut done = 0;
    for round in 0..options.rounds {
        for subject in Subject::ALL {
            check_interrupt()?;
            let name = subject.name();
            say(options, started, done, &format!("round {} of {}: {name}", round + 1, options.rounds));
            measure_one(options, sites, subject, &mut table)
                .with_context(|| format!("{name}, round {}", round + 1))?;
            done += 1;
        }
    }
    for rotate in &options.rotate {
        say(options, started, done, &format!("rotation every {rotate} at 90 % of the loss-free rate"));
        measure_rotation(options, sites, rotate, &mut table).with_context(|| format!("rotation {rotate}"))?;
        done += 1;
    }
    Ok(table)
}

fn measure_one(options: &Options, sites: &mut Sites, subject: Subject, table: &mut Table) -> Result<()> {
    let standing = Standing::put(sites, subject, |config| {
        (config.rotate, config.hard_limit) = ("60s".to_owned(), HARD_LIMIT.to_owned());
    })?;
    let mut bench = Bench::open(sites, options)?;
    let measured = options.sizes().iter().try_for_each(|size| {
        bench.measure(subject, &standing, size, table)?;
        bench.measure_alone(sites.topology(), (subject, &standing), size, table)
    });
    bench.close()?;
    measured?;
    if options.tcp > 0 {
        measure::tcp(sites, subject, options.tcp, table)?;
    }
    standing.remove(sites)
}

/// What rotation costs: frames lost at a rate that loses none without, and round trips beside it.
fn measure_rotation(options: &Options, sites: &mut Sites, rotate: &str, table: &mut Table) -> Result<()> {
    let standing = Standing::put(sites, Subject::Qhaul, |config| {
        (config.rotate, config.hard_limit) = (rotate.to_owned(), HARD_LIMIT.to_owned());
        config.pool = 64;
    })?;
    let mut bench = Bench::open(sites, options)?;
    let measured = bench.measure_rotation(sites, rotate, table);
    bench.close()?;
    measured?;
    standing.remove(sites)
}

/// Progress goes to standard error, so that rows can be read by programs; with the time that is left by what was done.
fn say(options: &Options, started: Instant, done: usize, what: &str) {
    let steps = options.rounds * Subject::ALL.len() + options.rotate.len();
    let spent = started.elapsed().as_secs_f64();
    let left = match done {
        0 => String::new(),
        _ => format!(", about {:.0} s left", spent / done as f64 * (steps - done) as f64),
    };
    eprintln!("[{spent:5.0} s{left}] {what}");
}
