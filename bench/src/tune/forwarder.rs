//! Knobs of the kernel path, turned at plain forwarders between the wire bench's hosts.

use anyhow::{Result, ensure};
use qhaul::lab::plan::Side;
use qhaul::lab::{Process, SiteConfig, Sites};

use crate::progress::Progress;
use crate::wire::forward;
use crate::wire::options::Size;
use crate::wire::path::Path;

use super::knob::{PathKnob, Setting};
use super::options::Options;
use super::row::{Figure, Table};
use super::turns::in_turns;

/// All of `knobs`, one after the other.
pub(super) fn measure_all(
    options: &Options,
    knobs: Vec<PathKnob>,
    sites: &Sites,
    table: &mut Table,
    progress: &mut Progress,
) -> Result<()> {
    for PathKnob { name, settings } in knobs {
        let title = |setting: &Setting| format!("{name} {}", setting.name);
        in_turns(options.rounds, settings, title, |setting, round| {
            progress.say(&format!("round {round} of {}: {}", options.rounds, title(setting)));
            for (size, value) in turn(options, sites, setting)? {
                table.add(&Figure { knob: name, size, name: "overload_pps" }, &setting.name, value);
            }
            progress.done(options.turn_seconds());
            Ok(())
        })?;
    }
    Ok(())
}

/// For each size what arrives under overload.
fn turn(options: &Options, sites: &Sites, setting: &Setting) -> Result<Vec<(String, f64)>> {
    let arguments: Vec<&str> = setting.arguments.iter().map(String::as_str).collect();
    let core = |side| SiteConfig::new(side).cores[0];
    let forwarders = Side::BOTH.map(|side| forward::start(sites.topology(), side, &[core(side)], &arguments));
    let [near, far] = forwarders;
    let mut forwarders = [near?, far?];
    let measured = measure(options, sites);
    // What a process said last is the reason; what failed for want of it is not.
    forwarders.iter_mut().try_for_each(Process::check_running)?;
    for forwarder in &mut forwarders {
        forwarder.stop()?;
    }
    measured
}

fn measure(options: &Options, sites: &Sites) -> Result<Vec<(String, f64)>> {
    let mut path = Path::open(sites, Side::BOTH.map(Side::host_mac), options.effort())?;
    let measured = options.sizes().iter().map(|size| overload(&mut path, size)).collect();
    path.close()?;
    measured
}

fn overload(path: &mut Path, size: &Size) -> Result<(String, f64)> {
    let outcome = path.overload(size)?;
    ensure!(outcome.reordered == 0, "{} frames overtook others of their flow", outcome.reordered);
    Ok((size.name.clone(), outcome.received as f64 / outcome.time.as_secs_f64()))
}
