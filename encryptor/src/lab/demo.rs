//! `lab demo`: the whole product in a minute, measured from outside of it.

use nix::sys::statvfs::statvfs;

use super::Options;
use super::error::{LabError, Result, io_error};
use super::measure::{Evidence, Figures, delete_capture, measure_path, observe, wait_connected};
use super::mixture::{MixtureReport, UDP_RATE, UDP_STREAMS, run_mixture};
use super::plan::{Side, VLAN};
use super::progress::Progress;
use super::report::{failure_line, result_line, table};
use super::sites::Sites;
use super::wait::catch_signals;

/// MiB that the capture may take, with room to spare.
const CAPTURE_MIB: u64 = 384;

/// Everything that the demo found out.
#[derive(Debug)]
pub(super) struct Findings {
    /// Without encryption: figures, and what the eavesdropper read.
    pub(super) clear: (Figures, Evidence),
    /// With it.
    pub(super) figures: Figures,
    pub(super) mixture: MixtureReport,
    pub(super) evidence: Evidence,
    /// Switches to a new epoch while traffic ran, by each encryptor.
    pub(super) switches: [u64; 2],
    /// Rotations that had to be seen.
    pub(super) wanted_rotations: u64,
    /// Drops that the encryptors counted meanwhile, by reason.
    pub(super) drops: Vec<(Side, String, u64)>,
}

/// Brings the lab up, shows traffic without and with encryption, prints what was found and removes everything. The last
/// line printed is for scripts: `demo: pass sent=N ...` or `demo: FAIL REASON sent=N ...`. Returns true for a pass.
pub fn demo(options: &Options) -> Result<bool> {
    catch_signals()?;
    let progress = Progress::start();
    let findings = Sites::prepare(options).and_then(|mut sites| {
        // When a process has ended, its last words are the reason; what failed for want of it is not.
        let found = show(&mut sites, options, progress).map_err(|error| match error {
            LabError::Interrupted => error,
            other => sites.check_running().err().unwrap_or(other),
        });
        if options.keep {
            println!("logs, configurations and captures stay in {}", sites.keep_files().display());
        } else if found.is_err() {
            print_last_logs(&mut sites);
        }
        progress.say("removing everything");
        sites.down().and(found)
    });
    let (line, passed) = match findings {
        Ok(findings) => {
            println!("\n{}", table(&findings));
            result_line(&findings)
        }
        Err(error) => (failure_line(&error.to_string()), false),
    };
    println!("{line}");
    Ok(passed)
}

fn show(sites: &mut Sites, options: &Options, progress: Progress) -> Result<Findings> {
    check_space(sites)?;
    if sites.topology().vlan_is_tap() {
        progress.say(format!("this kernel has no 802.1Q: VLAN {VLAN} is tagged in user space"));
    }
    progress.say("without encryption first, to compare: ping and TCP from host a to host b");
    let clear = show_clear(sites)?;
    progress
        .say(format!("the eavesdropper read {} of {} frames", clear.1.seen.plaintext, clear.1.seen.frames));

    progress.say("now with encryptors: key servers up, first keys under way");
    sites.start_all()?;
    wait_connected(sites.topology())?;
    progress.say("both sites are active; the backhaul is being captured");
    let before = Side::BOTH.map(|side| sites.status(side));
    let [before_a, before_b] = before;
    let before = [before_a?, before_b?];
    let (found, evidence) = observe(sites.topology(), "backhaul", |capture| {
        let figures = measure_path(sites.topology())?;
        progress.say(format!(
            "ping and TCP measured; now at once: {UDP_STREAMS} UDP streams of {} Mbit/s together, TCP over IPv6, files \
             over HTTP, pings over IPv4, IPv6 and VLAN {VLAN}",
            UDP_RATE / 1_000_000
        ));
        let mixture = run_mixture(sites.topology(), capture, || {
            let switches = switches_since(sites, &before)?;
            progress.say(format!("key rotations so far: a to b {}, b to a {}", switches[0], switches[1]));
            Ok(switches.into_iter().all(|count| count >= options.rotations))
        })?;
        Ok((figures, mixture))
    })?;
    progress.say(format!(
        "traffic has ended; {} captured frames were searched for plaintext",
        evidence.seen.frames
    ));
    let switches = switches_since(sites, &before)?;
    let mut drops = Vec::new();
    for side in Side::BOTH {
        let (now, then) = (sites.status(side)?.drops, &before[side.index()].drops);
        let grown =
            now.into_iter().map(|(name, count)| (count - then.get(&name).unwrap_or(&0).min(&count), name));
        drops.extend(grown.filter(|(count, _)| *count > 0).map(|(count, name)| (side, name, count)));
    }
    let (figures, mixture) = found;
    Ok(Findings { clear, figures, mixture, evidence, switches, wanted_rotations: options.rotations, drops })
}

/// The gateways as plain bridges: the figures to compare with, and the proof that the eavesdropper can read.
pub(super) fn show_clear(sites: &Sites) -> Result<(Figures, Evidence)> {
    let topology = sites.topology();
    Side::BOTH.into_iter().try_for_each(|side| topology.set_clear(side, true))?;
    wait_connected(topology)?;
    let found = observe(topology, "clear", |_| measure_path(topology))?;
    delete_capture(topology, "clear")?;
    Side::BOTH.into_iter().try_for_each(|side| topology.set_clear(side, false))?;
    Ok(found)
}

fn switches_since(sites: &Sites, before: &[super::Status; 2]) -> Result<[u64; 2]> {
    let mut switches = [0; 2];
    for side in Side::BOTH {
        let now = sites.status(side)?.switches;
        switches[side.index()] = now.saturating_sub(before[side.index()].switches);
    }
    Ok(switches)
}

fn check_space(sites: &Sites) -> Result<()> {
    let dir = sites.topology().dir();
    let stat = statvfs(dir).map_err(|e| io_error(format!("cannot examine {}", dir.display()))(e.into()))?;
    let free_mib = (stat.blocks_available() * stat.fragment_size()) >> 20;
    if free_mib < CAPTURE_MIB {
        return Err(LabError::Space { dir: dir.to_owned(), free_mib, needed_mib: CAPTURE_MIB });
    }
    Ok(())
}

fn print_last_logs(sites: &mut Sites) {
    for side in Side::BOTH {
        let logs = [sites.kme(side).map(|kme| (kme.name().to_owned(), kme.log())), sites.encryptor_log(side)];
        for (name, log) in logs.into_iter().flatten() {
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(5)..];
            tail.iter().for_each(|line| println!("    {name}: {line}"));
        }
    }
}
