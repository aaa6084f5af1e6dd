//! Instructions of a packet, counted by valgrind: the same on a busy machine as on a quiet one.
//!
//! A process of its own does one part of the work a number of times under `callgrind`, and once more twice as often; the difference is
//! the work alone. What is below the part, such as writing plain frames, is counted by itself and taken off.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use qhaul::BURST;
use qhaul::aead::Engine;

use super::measure::{BareAead, Length, packet_path};
use super::{EngineName, Options, engine};

/// Bursts of the first run.
const BURSTS: u32 = 32;

/// One part of the work, for valgrind to count.
#[derive(clap::Args)]
pub(crate) struct Work {
    #[arg(long)]
    part: Part,
    #[arg(long)]
    bursts: u32,
    #[arg(long)]
    engine: EngineName,
    #[arg(long)]
    size: Length,
    #[arg(long)]
    flows: u32,
}

/// How far the work goes.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    Load,
    Protect,
    RoundTrip,
    Aead,
}

/// Instructions of a packet.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    engine: &'static str,
    size: Length,
    flows: u32,
    protect: u64,
    unprotect: u64,
    aead: u64,
    added: u64,
    figure: &'static str,
    value: u64,
    control: &'static str,
    control_value: u64,
    ratio: f64,
}

pub(crate) fn work(work: &Work) -> Result<()> {
    let engine = engine(work.engine)?;
    if work.part == Part::Aead {
        let mut bare = BareAead::new(engine, work.size)?;
        (0..work.bursts).try_for_each(|_| bare.burst().map(|_| ()))?;
        bare.close();
        return Ok(());
    }
    let mut path = packet_path(engine, work.size, work.flows)?;
    for _ in 0..work.bursts {
        path.load()?;
        if work.part != Part::Load {
            path.rig().protect()?;
        }
        if work.part == Part::RoundTrip {
            path.rig().unprotect()?;
        }
    }
    path.close();
    Ok(())
}

pub(super) fn run(options: &Options, engines: &[Engine]) -> Result<()> {
    if !options.json {
        println!("\ninstructions a packet, by callgrind, which shows the engine an older processor");
        println!("engine    size   flows | protect unprotect |  AEAD added");
    }
    for &flows in &options.flows {
        for &size in &options.size {
            for &engine in engines {
                let row = measure(engine, size, flows)?;
                match options.json {
                    true => println!("{}", serde_json::to_string(&row)?),
                    false => println!(
                        "{:<8} {size:>5} {flows:>7} | {:>7} {:>9} | {:>5} {:>5}",
                        row.engine, row.protect, row.unprotect, row.aead, row.added
                    ),
                }
            }
        }
    }
    Ok(())
}

fn measure(engine: Engine, size: Length, flows: u32) -> Result<Row> {
    let count = |part| a_packet(part, engine, size, flows);
    let (load, protect, round_trip, aead) =
        (count("load")?, count("protect")?, count("round-trip")?, count("aead")?);
    let all = round_trip.saturating_sub(load);
    Ok(Row {
        bench: "soft-instructions",
        engine: engine.name(),
        size,
        flows,
        protect: protect.saturating_sub(load),
        unprotect: round_trip.saturating_sub(protect),
        aead,
        added: all.saturating_sub(aead),
        figure: "round_trip_instructions",
        value: all,
        control: "aead_instructions",
        control_value: aead,
        ratio: all as f64 / aead.max(1) as f64,
    })
}

fn a_packet(part: &str, engine: Engine, size: Length, flows: u32) -> Result<u64> {
    let [once, twice] = [BURSTS, 2 * BURSTS].map(|bursts| collected(part, bursts, engine, size, flows));
    Ok(twice?.saturating_sub(once?) / (u64::from(BURSTS) * BURST as u64))
}

/// All instructions of a process that does this.
fn collected(part: &str, bursts: u32, engine: Engine, size: Length, flows: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["soft-work", "--part", part, "--bursts", &bursts.to_string(), "--engine", engine.name()])
        .args(["--size", &size.to_string(), "--flows", &flows.to_string()])
        .output()
        .context("valgrind counts instructions; install it (apt-get install valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let Some((_, count)) = said.split_once("Collected :") else {
        bail!("valgrind did not count: {}", said.lines().last().unwrap_or_default());
    };
    let count = count.split_whitespace().next().unwrap_or_default();
    count.parse().with_context(|| format!("valgrind counted {count:?}"))
}
