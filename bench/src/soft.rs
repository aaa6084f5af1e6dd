//! The worker's packet code over memory, beside the bare AEAD on the same bytes in the same run.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use qhaul::BURST;
use qhaul::aead::{AeadKey, OpenJob, SealJob, open_burst, seal_burst};
use qhaul::esp::tail_len;
use qhaul::keys::EpochKey;
use qhaul::spi::{Epoch, Spi};

use crate::rig::Rig;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sizes of plain frames in bytes, without FCS.
    #[arg(long, value_delimiter = ',', default_values_t = [60, 64, 128, 512, 1400, 1514])]
    size: Vec<usize>,
    /// Numbers of flows, visited in random order.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1000])]
    flows: Vec<u32>,
    /// Runs; the median is shown.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Milliseconds for each run of each figure.
    #[arg(long, default_value_t = 200)]
    millis: u64,
    /// One JSON object a row.
    #[arg(long)]
    json: bool,
}

/// One row: medians over the runs, in nanoseconds a packet.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    engine: &'static str,
    size: usize,
    flows: u32,
    protect_ns: f64,
    unprotect_ns: f64,
    round_trip_ns: f64,
    seal_ns: f64,
    open_ns: f64,
    aead_ns: f64,
    ratio: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.json {
        println!("ns a packet, median of {} runs; ring, one core, bursts of {BURST}", options.runs);
        println!("  size   flows | protect unprotect  round trip |   seal    open  bare AEAD | ratio");
    }
    for &size in &options.size {
        for &flows in &options.flows {
            let row = measure(options, size, flows)?;
            match options.json {
                true => println!("{}", serde_json::to_string(&row)?),
                false => println!(
                    "{size:>6} {flows:>7} | {:>7.1} {:>9.1} {:>11.1} | {:>6.1} {:>7.1} {:>10.1} | {:.2}",
                    row.protect_ns,
                    row.unprotect_ns,
                    row.round_trip_ns,
                    row.seal_ns,
                    row.open_ns,
                    row.aead_ns,
                    row.ratio
                ),
            }
        }
    }
    Ok(())
}

fn measure(options: &Options, size: usize, flows: u32) -> Result<Row> {
    let span = Duration::from_millis(options.millis);
    let (mut path, mut bare) = (Vec::new(), Vec::new());
    // In turns, so that a neighbour's burst of work falls on both.
    for _ in 0..options.runs {
        path.push(packet_path(size, flows, span)?);
        bare.push(bare_aead(size, span)?);
    }
    let median_of = |runs: &[(f64, f64)], part: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(part).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (protect_ns, unprotect_ns) = (median_of(&path, |run| run.0), median_of(&path, |run| run.1));
    let (seal_ns, open_ns) = (median_of(&bare, |run| run.0), median_of(&bare, |run| run.1));
    let (round_trip_ns, aead_ns) = (protect_ns + unprotect_ns, seal_ns + open_ns);
    let ratio = round_trip_ns / aead_ns;
    let (bench, engine) = ("soft", "ring");
    Ok(Row {
        bench,
        engine,
        size,
        flows,
        protect_ns,
        unprotect_ns,
        round_trip_ns,
        seal_ns,
        open_ns,
        aead_ns,
        ratio,
    })
}

/// Protect and unprotect. Writing the plain frames anew is not timed.
fn packet_path(size: usize, flows: u32, span: Duration) -> Result<(f64, f64)> {
    let mut rig = Rig::new(flows)?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut any_flow = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % u64::from(flows)) as u32
    };
    let mut next = 0..flows;
    while !next.is_empty() {
        rig.load(size, || next.next().unwrap_or_default())?;
        rig.protect()?;
        rig.unprotect()?;
    }
    let (mut protect, mut unprotect, mut bursts) = (Duration::ZERO, Duration::ZERO, 0u32);
    while protect + unprotect < span {
        rig.load(size, &mut any_flow)?;
        let start = Instant::now();
        rig.protect()?;
        let middle = Instant::now();
        rig.unprotect()?;
        protect += middle - start;
        unprotect += middle.elapsed();
        bursts += 1;
    }
    rig.close();
    let packets = f64::from(bursts) * BURST as f64;
    Ok((protect.as_nanos() as f64 / packets, unprotect.as_nanos() as f64 / packets))
}

/// The engine alone, on as many bytes as the packet path gives it.
fn bare_aead(size: usize, span: Duration) -> Result<(f64, f64)> {
    let spi = Spi::new(Epoch::FIRST, 0, 1);
    let key = AeadKey::new(&EpochKey::new(&[7; 32])?.flow_key(spi)?);
    let mut bodies = vec![vec![0x5a; size + tail_len(size)]; BURST];
    let (mut seal, mut open, mut sequence, mut bursts) = (Duration::ZERO, Duration::ZERO, 0u64, 0u32);
    while seal + open < span {
        let first = sequence + 1;
        let start = Instant::now();
        let mut jobs: Vec<SealJob<'_>> = Vec::with_capacity(BURST);
        for body in &mut bodies {
            sequence += 1;
            jobs.push(SealJob { key: &key, spi, sequence, body });
        }
        seal_burst(black_box(&mut jobs));
        let middle = Instant::now();
        let mut jobs: Vec<OpenJob<'_>> = Vec::with_capacity(BURST);
        for (iv, body) in (first..).zip(&mut bodies) {
            let (sequence_high, sequence_low) = ((iv >> 32) as u32, iv as u32);
            jobs.push(OpenJob { key: &key, spi, iv, sequence_high, sequence_low, body, genuine: false });
        }
        open_burst(black_box(&mut jobs));
        seal += middle - start;
        open += middle.elapsed();
        anyhow::ensure!(jobs.iter().all(|job| job.genuine), "the engine opens what it sealed");
        bursts += 1;
    }

    let packets = f64::from(bursts) * BURST as f64;
    Ok((seal.as_nanos() as f64 / packets, open.as_nanos() as f64 / packets))
}
