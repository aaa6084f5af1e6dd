//! The lab's path under load: qhaul beside its controls, in turns, in one run.
//!
//! An AF_XDP generator at host a, a sink at host b, and between them the kernel's bridge, plain AF_XDP forwarding, or two
//! encryptors. On veth the kernel's share dwarfs ours: what holds is the ratio of two rows of one run.

mod alone;
pub(crate) mod cpu;
pub(crate) mod end;
pub(crate) mod forward;
pub(crate) mod frame;
pub(crate) mod idle;
pub(crate) mod latency;
mod measure;
pub(crate) mod options;
mod pace;
pub(crate) mod path;
mod presence;
mod rotation;
mod row;
mod search;
mod subject;
pub(crate) mod tcp;
mod trial;

use anyhow::{Context, Result, bail};
use qhaul::lab::plan::Side;
use qhaul::lab::wait::{catch_signals, check_interrupt};
use qhaul::lab::{self, Sites};

use crate::progress::Progress;
use measure::Bench;
pub(crate) use options::Options;
use options::queues_text;
use row::Table;
use subject::{Standing, Subject};

/// One lab and what is measured in it.
struct Run<'a> {
    options: &'a Options,
    sites: &'a mut Sites,
    queues: u16,
    progress: &'a mut Progress,
    table: &'a mut Table,
}

/// Runs the bench, for each number of queues in a lab of its own; prints its rows, and removes the lab.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.check()?;
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose figures mean nothing: `cargo build --release`");
    }
    catch_signals()?;
    let mut progress = Progress::new(options.seconds());
    options.queues.iter().try_for_each(|queues| in_lab(options, *queues, &mut progress))
}

fn in_lab(options: &Options, queues: u16, progress: &mut Progress) -> Result<()> {
    let lab = lab::Options { prefix: options.prefix.clone(), queues, ..lab::Options::default() };
    let mut sites = Sites::prepare(&lab)?;
    let mut table = Table::new(options.flows, queues);
    let measured = Run { options, sites: &mut sites, queues, progress, table: &mut table }.measure_all();
    // What a process said last is the reason; what failed for want of it is not.
    let measured = measured.map_err(|error| sites.check_running().err().map_or(error, Into::into));
    let removed = sites.down();
    // Also what was measured before something failed: it took its time.
    table.print(options.json)?;
    measured?;
    Ok(removed?)
}

impl Run<'_> {
    fn measure_all(&mut self) -> Result<()> {
        for side in Side::BOTH {
            self.sites.start_kme(side)?;
        }
        let (rounds, queues) = (self.options.rounds, queues_text(self.queues));
        for round in 1..=rounds {
            for subject in self.options.subjects() {
                check_interrupt()?;
                let name = subject.name();
                self.progress.say(&format!("{queues}, round {round} of {rounds}: {name}"));
                self.measure_one(subject).with_context(|| format!("{name}, round {round}"))?;
                self.progress.done(self.options.turn_seconds());
            }
        }
        self.measure_rotations()
    }

    fn measure_one(&mut self, subject: Subject) -> Result<()> {
        let Run { options, sites, queues, table, .. } = self;
        let standing = Standing::put(sites, subject, *queues, |config| config.rotate = "60s".to_owned())?;
        standing.engine().into_iter().for_each(|engine| table.note_engine(engine));
        let mut bench = Bench::open(sites, options, subject, *queues)?;
        let measured = options.sizes().iter().try_for_each(|size| {
            bench.measure(&standing, size, table)?;
            bench.measure_alone(sites.topology(), &standing, size, table)
        });
        bench.close()?;
        measured?;
        let idle = idle::measure(sites, || standing.cpu())?;
        table.add(subject, "ping", "rtt_idle_p50_us", idle.p50_us);
        table.add(subject, "ping", "rtt_idle_p99_us", idle.p99_us);
        if subject != Subject::Clear {
            table.add(subject, "ping", "idle_cpu", idle.share);
        }
        if options.tcp > 0 {
            table.add(subject, "tcp", "tcp_gbps", tcp::gbps(sites, options.tcp)?);
        }
        standing.remove(sites)
    }
}
