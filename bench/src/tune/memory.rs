//! Knobs of the packet path over memory, with many flows in random order.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::prctl::set_thp_disable;
use qhaul::AHEAD;
use qhaul::aead::{Choice, Engine, choose};

use crate::soft::measure::{Length, PacketPath, packet_path};

use super::knob::MemoryKnob;
use super::options::Options;
use super::row::{Figure, Table};
use super::turns::in_turns;

/// Bytes of a plain frame: the less there is to encrypt, the more memory counts.
const SIZE: usize = 64;
/// Beside the default, in packets.
const DISTANCES: [usize; 4] = [0, 4, 8, 32];

/// One knob, with the engine that a worker would choose.
pub(super) fn measure(options: &Options, knob: MemoryKnob, table: &mut Table) -> Result<()> {
    let engine = choose(Choice::Auto)?.engine;
    match knob {
        MemoryKnob::Prefetch => prefetch(options, engine, table),
        MemoryKnob::TablePages => table_pages(options, engine, table),
    }
}

/// One path for all distances: the same tables at the same places.
fn prefetch(options: &Options, engine: Engine, table: &mut Table) -> Result<()> {
    let mut path = packet_path(engine, Length::Fixed(SIZE), options.flows)?;
    let distances = std::iter::once(AHEAD).chain(DISTANCES).collect();
    let title = |distance: &usize| format!("prefetch {distance}");
    in_turns(options.rounds, distances, title, |distance, _| {
        path.rig().set_prefetch(*distance);
        add(options, MemoryKnob::Prefetch, &distance.to_string(), &mut path, table)
    })?;
    path.close();
    Ok(())
}

fn table_pages(options: &Options, engine: Engine, table: &mut Table) -> Result<()> {
    let make = || packet_path(engine, Length::Fixed(SIZE), options.flows);
    let before = huge_kib()?;
    let huge = make()?;
    if huge_kib()? <= before {
        eprintln!("table-pages: left out: this kernel gives no huge pages");
        huge.close();
        return Ok(());
    }
    // Off until the end, for else the kernel might put huge pages behind the small ones at any time.
    set_thp_disable(true).context("switching huge pages off")?;
    let mut paths = [huge, make()?];
    let settings = vec![(0, "2 MiB"), (1, "4 KiB")];
    let title = |(_, name): &(usize, &str)| format!("table-pages {name}");
    in_turns(options.rounds, settings, title, |(number, name), _| {
        add(options, MemoryKnob::TablePages, name, &mut paths[*number], table)
    })?;
    paths.into_iter().for_each(PacketPath::close);
    set_thp_disable(false).context("switching huge pages on")
}

fn add(
    options: &Options,
    knob: MemoryKnob,
    setting: &str,
    path: &mut PacketPath,
    table: &mut Table,
) -> Result<()> {
    let (protect, unprotect) = path.run(options.time())?;
    let figure = Figure { knob: knob.name(), size: SIZE.to_string(), name: "round_trip_ns" };
    table.add(&figure, setting, protect + unprotect);
    Ok(())
}

/// KiB of this process's memory on huge pages.
fn huge_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").context("/proc/self/smaps_rollup")?;
    Ok(anonymous_huge(&text).unwrap_or_default())
}

fn anonymous_huge(smaps: &str) -> Option<u64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_read_from_what_the_kernel_tells() {
        assert_eq!(
            anonymous_huge("Rss: 9 kB\nAnonHugePages:      6144 kB\nShmemPmdMapped: 0 kB\n"),
            Some(6144)
        );
        assert_eq!(anonymous_huge("Rss: 9 kB\n"), None);
    }

    #[test]
    fn the_default_distance_is_measured_once() {
        assert!(!DISTANCES.contains(&AHEAD));
    }
}
