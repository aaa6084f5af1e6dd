//! What packets cost while a worker makes the keys of the next epoch between bursts, beside what they cost otherwise.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use qhaul::BURST;
use qhaul::aead::Engine;
use qhaul::worker::ahead_while_busy;

use super::Options;
use super::measure::{Length, PacketPath, packet_path};

/// Turns of the worker's loop, a burst each way in every one; nanoseconds of a packet's round trip.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    engine: &'static str,
    size: Length,
    flows: u32,
    rotations: u32,
    /// Turns in a rotation.
    turns: usize,
    still_p50_ns: f64,
    still_p99_ns: f64,
    rotating_p50_ns: f64,
    rotating_p99_ns: f64,
    /// Share of turns whose packets cost more than twice `still_p50_ns`: on a machine with neighbours there are some without a rotation too.
    still_over_twice: f64,
    rotating_over_twice: f64,
    figure: &'static str,
    value: f64,
    control: &'static str,
    control_value: f64,
    ratio: f64,
}

pub(super) fn run(options: &Options, engines: &[Engine]) -> Result<()> {
    if !options.json {
        println!(
            "\nns a packet in each turn of the worker's loop, without and during {} rotations",
            options.rotations
        );
        println!(
            "engine    size   flows   turns |   still p50    p99 >2x    | rotating p50    p99 >2x    | p99 / p50"
        );
    }
    for &flows in &options.flows {
        for &size in &options.size {
            for &engine in engines {
                let row = measure(engine, size, flows, options.rotations)?;
                match options.json {
                    true => println!("{}", serde_json::to_string(&row)?),
                    false => println!("{}", line(&row)),
                }
            }
        }
    }
    Ok(())
}

fn line(row: &Row) -> String {
    let Row { engine, size, flows, turns, still_p50_ns, still_p99_ns, .. } = row;
    format!(
        "{engine:<8} {size:>5} {flows:>7} {turns:>7} | {still_p50_ns:>11.1} {still_p99_ns:>6.1} {:>6.3}% | {:>12.1} {:>6.1} {:>6.3}% | {:>9.2}",
        100.0 * row.still_over_twice,
        row.rotating_p50_ns,
        row.rotating_p99_ns,
        100.0 * row.rotating_over_twice,
        row.ratio
    )
}

fn measure(engine: Engine, size: Length, flows: u32, rotations: u32) -> Result<Row> {
    let mut path = packet_path(engine, size, flows)?;
    path.rig().reserve(engine);
    let (mut still, mut rotating) = (Vec::new(), Vec::new());
    for _ in 0..rotations {
        let before = rotating.len();
        path.rig().begin_rotation()?;
        while !turn(&mut path, true, &mut rotating)? {}
        path.rig().end_rotation()?;
        // In turns, so that a neighbour's work falls on both.
        for _ in before..rotating.len() {
            turn(&mut path, false, &mut still)?;
        }
    }
    path.close();
    let turns = rotating.len() / rotations as usize;
    let (still, rotating) = (sorted(still), sorted(rotating));
    let twice = 2.0 * at(&still, 0.5);
    let over_twice =
        |turns: &[f64]| turns.iter().filter(|ns| **ns > twice).count() as f64 / turns.len() as f64;
    let (value, control_value) = (at(&rotating, 0.99), at(&still, 0.5));
    Ok(Row {
        bench: "soft-rotation",
        engine: engine.name(),
        size,
        flows,
        rotations,
        turns,
        still_p50_ns: control_value,
        still_p99_ns: at(&still, 0.99),
        rotating_p50_ns: at(&rotating, 0.5),
        rotating_p99_ns: value,
        still_over_twice: over_twice(&still),
        rotating_over_twice: over_twice(&rotating),
        figure: "rotating_p99_ns",
        value,
        control: "still_p50_ns",
        control_value,
        ratio: value / control_value,
    })
}

/// One turn, when `rotating` with as many keys ahead as a worker makes. True: the rotation is ready to be switched.
fn turn(path: &mut PacketPath, rotating: bool, turns: &mut Vec<f64>) -> Result<bool> {
    path.load()?;
    let start = Instant::now();
    path.rig().protect()?;
    path.rig().unprotect()?;
    let done = rotating && path.rig().rotate(ahead_while_busy(start.elapsed()));
    turns.push(ns_a_packet(start.elapsed()));
    Ok(done)
}

fn ns_a_packet(time: Duration) -> f64 {
    time.as_nanos() as f64 / BURST as f64
}

fn sorted(mut turns: Vec<f64>) -> Vec<f64> {
    turns.sort_by(f64::total_cmp);
    turns
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}
