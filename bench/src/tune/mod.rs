//! Each knob of AF_XDP and of the packet path against its default, one at a time, in turns: what the defaults rest on.
//!
//! What is the kernel's is varied on plain forwarding over the wire bench's path, where no packet work hides it; what is the
//! processor's, on the packet path over memory.

mod forwarder;
mod knob;
mod memory;
mod options;
mod row;
mod turns;

use anyhow::{Result, bail};
use qhaul::lab::wait::catch_signals;
use qhaul::lab::{self, Sites};

use crate::progress::Progress;

pub(crate) use options::Options;
use row::Table;

/// Runs the bench, prints its rows, and removes the lab.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.check()?;
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose figures mean nothing: `cargo build --release`");
    }
    catch_signals()?;
    let (path, memory) = (options.path_knobs(), options.memory_knobs());
    let turns: usize = path.iter().map(|knob| knob.settings.len()).sum();
    let (turn, over_memory) = (options.turn_seconds(), options.memory_seconds());
    let mut progress =
        Progress::new((options.rounds * turns) as f64 * turn + memory.len() as f64 * over_memory);
    let mut table = Table::default();
    if !path.is_empty() {
        let lab = lab::Options { prefix: options.prefix.clone(), ..lab::Options::default() };
        let sites = Sites::prepare(&lab)?;
        let measured = forwarder::measure_all(options, path, &sites, &mut table, &mut progress);
        sites.down()?;
        measured?;
    }
    for knob in memory {
        progress.say(&format!("{}, over memory", knob.name()));
        memory::measure(options, knob, &mut table)?;
        progress.done(over_memory);
    }
    table.print(options.json)
}
