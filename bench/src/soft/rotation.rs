//! What packets cost while a worker makes the keys of the next epoch between bursts, beside what they cost otherwise.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use qhaul::BURST;
use qhaul::aead::Engine;
use qhaul::worker::ahead_while_busy;

use super::Options;
use super::measure::{Length, PacketPath, packet_path};
use crate::rig::Stage;

/// Turns that are looked at from the switch on: of 100,000 flows in random order most have had a packet by then.
const SWITCHED: usize = 2048;

/// Nanoseconds of a packet in each turn of a rotation, or of a spell without one, by [`Stage`].
type Turns = [Vec<f64>; 3];

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
    /// Turns that cost so much each time: in most of the rotations, or of as many spells without one.
    still_repeated: usize,
    rotating_repeated: usize,
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
            "engine    size   flows   turns |   still p50    p99 >2x     each | rotating p50    p99 >2x     each | p99 / p50"
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
        "{engine:<8} {size:>5} {flows:>7} {turns:>7} | {still_p50_ns:>11.1} {still_p99_ns:>6.1} {:>6.3}% {:>4} | {:>12.1} {:>6.1} {:>6.3}% {:>4} | {:>9.2}",
        100.0 * row.still_over_twice,
        row.still_repeated,
        row.rotating_p50_ns,
        row.rotating_p99_ns,
        100.0 * row.rotating_over_twice,
        row.rotating_repeated,
        row.ratio
    )
}

fn measure(engine: Engine, size: Length, flows: u32, rotations: u32) -> Result<Row> {
    let mut path = packet_path(engine, size, flows)?;
    path.rig().reserve(engine);
    let (mut still, mut rotating) = (Vec::<Turns>::new(), Vec::<Turns>::new());
    for _ in 0..rotations {
        let turns = rotate(&mut path)?;
        // In turns, so that a neighbour's work falls on both.
        still.push(stand_still(&mut path, &turns)?);
        rotating.push(turns);
    }
    path.close();
    let turns = count(&rotating) / rotations as usize;
    let [all_still, all_rotating] = [&still, &rotating].map(|turns| sorted(turns.as_flattened().concat()));
    let twice = 2.0 * at(&all_still, 0.5);
    let over_twice =
        |turns: &[f64]| turns.iter().filter(|ns| **ns > twice).count() as f64 / turns.len() as f64;
    let (value, control_value) = (at(&all_rotating, 0.99), at(&all_still, 0.5));
    Ok(Row {
        bench: "soft-rotation",
        engine: engine.name(),
        size,
        flows,
        rotations,
        turns,
        still_p50_ns: control_value,
        still_p99_ns: at(&all_still, 0.99),
        rotating_p50_ns: at(&all_rotating, 0.5),
        rotating_p99_ns: value,
        still_over_twice: over_twice(&all_still),
        rotating_over_twice: over_twice(&all_rotating),
        still_repeated: repeated(&still, twice),
        rotating_repeated: repeated(&rotating, twice),
        figure: "rotating_p99_ns",
        value,
        control: "still_p50_ns",
        control_value,
        ratio: value / control_value,
    })
}

/// All turns of a rotation, from the first keys on. Each makes as many keys ahead as a worker does.
fn rotate(path: &mut PacketPath) -> Result<Turns> {
    let mut turns = Turns::default();
    path.rig().begin_rotation()?;
    while turns[Stage::Switched as usize].len() < SWITCHED {
        let start = begin_turn(path)?;
        let stage = path.rig().rotate(ahead_while_busy(start.elapsed()))?;
        turns[stage as usize].push(ns_a_packet(start.elapsed()));
    }
    path.rig().end_rotation()?;
    Ok(turns)
}

/// As many turns without a rotation.
fn stand_still(path: &mut PacketPath, like: &Turns) -> Result<Turns> {
    let mut turns = Turns::default();
    // The first burst finds in the caches what wiping the old epoch left there.
    begin_turn(path)?;
    for (turns, like) in turns.iter_mut().zip(like) {
        for _ in like {
            turns.push(ns_a_packet(begin_turn(path)?.elapsed()));
        }
    }
    Ok(turns)
}

/// A burst each way; when it began.
fn begin_turn(path: &mut PacketPath) -> Result<Instant> {
    path.load()?;
    let start = Instant::now();
    path.rig().protect()?;
    path.rig().unprotect()?;
    Ok(start)
}

/// How many turns cost more than `limit` in most of the rotations. A turn is known by its number in its stage, in the second half
/// of that by its number from the end. What a rotation makes slow is slow in each of them; what a neighbour's work does is not.
fn repeated(rotations: &[Turns], limit: f64) -> usize {
    let of_stage = |stage: usize| {
        let runs: Vec<&[f64]> = rotations.iter().map(|turns| &turns[stage][..]).collect();
        let shortest = runs.iter().map(|run| run.len()).min().unwrap_or_default();
        let is_slow = |number: usize| {
            let from_end = number > shortest / 2;
            let turn = |run: &[f64]| run[if from_end { run.len() - shortest + number } else { number }];
            2 * runs.iter().filter(|run| turn(run) > limit).count() > runs.len()
        };
        (0..shortest).filter(|&number| is_slow(number)).count()
    };
    (0..3).map(of_stage).sum()
}

fn count(rotations: &[Turns]) -> usize {
    rotations.as_flattened().iter().map(Vec::len).sum()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A rotation of 1,000 turns in its first stage, of which these are slow.
    fn rotation(length: usize, slow: &[usize]) -> Turns {
        let mut turns = vec![1.0; length];
        slow.iter().for_each(|&number| turns[number] = 3.0);
        [turns, vec![1.0; 5], Vec::new()]
    }

    #[test]
    fn what_is_slow_in_most_rotations_is_found_at_both_ends() {
        let runs =
            [rotation(1000, &[3, 500, 990]), rotation(1010, &[3, 600, 1000]), rotation(1005, &[700, 995])];
        assert_eq!(repeated(&runs, 2.0), 2, "the fourth, and the tenth from the end");
        assert_eq!(repeated(&runs[..1], 2.0), 3);
    }

    #[test]
    fn nothing_is_slow_in_none() {
        assert_eq!(repeated(&[], 2.0), 0);
        assert_eq!(repeated(&[rotation(10, &[])], 2.0), 0);
    }
}
