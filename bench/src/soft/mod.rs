//! The worker's packet code over memory, beside the bare AEAD of the same engine on the same bytes in the same run.

pub(crate) mod instructions;
pub(crate) mod measure;
mod rotation;

use anyhow::Result;
use serde::Serialize;

use qhaul::BURST;
use qhaul::aead::{Choice, Engine, choose};

use measure::{BareAead, Length, Pair, in_turns, packet_path};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sizes of plain frames in bytes, without FCS; "imix" is 7 of 64, 4 of 570 and 1 of 1514.
    #[arg(long, value_delimiter = ',', default_value = "60,64,128,512,imix,1400,1500,9000")]
    size: Vec<Length>,
    /// Numbers of flows, visited in random order.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1000, 100_000, 1_000_000])]
    flows: Vec<u32>,
    /// Engines; those that are not installed are left out with a line that says so.
    #[arg(long, value_delimiter = ',', default_value = "ring,ipsec-mb")]
    engine: Vec<EngineName>,
    /// Runs; the median is shown.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Milliseconds for each run of each figure.
    #[arg(long, default_value_t = 100)]
    millis: u64,
    /// Rotations to go through for each size, number of flows and engine: what a packet costs meanwhile.
    #[arg(long, default_value_t = 0)]
    rotations: u32,
    /// Also count instructions with valgrind, which takes a minute for each size, number of flows and engine.
    #[arg(long)]
    instructions: bool,
    /// One JSON object a row.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum EngineName {
    Ring,
    IpsecMb,
}

/// One row: medians over the runs, in nanoseconds a packet where the name says so.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    engine: &'static str,
    size: Length,
    flows: u32,
    protect_ns: f64,
    unprotect_ns: f64,
    round_trip_ns: f64,
    seal_ns: f64,
    open_ns: f64,
    aead_ns: f64,
    figure: &'static str,
    value: f64,
    control: &'static str,
    control_value: f64,
    /// Of each run by itself, as what the path adds to the bare AEAD; the medians of these.
    ratio: f64,
    added_ns: f64,
    /// Packets that one core takes through both directions, in millions a second.
    mpps: f64,
    /// Bits of plain frames, likewise.
    gbit_s: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let engines = engines(options)?;
    if !options.json {
        println!("ns a packet, median of {} runs; one core, bursts of {BURST}", options.runs);
        println!(
            "engine    size   flows | protect unprotect round trip | bare AEAD | ratio added |  Mpps Gbit/s"
        );
    }
    for &flows in &options.flows {
        for &size in &options.size {
            for &engine in &engines {
                let row = measure(options, engine, size, flows)?;
                match options.json {
                    true => println!("{}", serde_json::to_string(&row)?),
                    false => println!("{}", line(&row)),
                }
            }
        }
    }
    if options.rotations > 0 {
        rotation::run(options, &engines)?;
    }
    if options.instructions {
        instructions::run(options, &engines)?;
    }
    Ok(())
}

fn engines(options: &Options) -> Result<Vec<Engine>> {
    let mut engines = Vec::new();
    for name in &options.engine {
        match engine(*name) {
            Ok(engine) => engines.push(engine),
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    anyhow::ensure!(!engines.is_empty(), "no engine is left to measure");
    Ok(engines)
}

fn engine(name: EngineName) -> Result<Engine> {
    let choice = match name {
        EngineName::Ring => Choice::Ring,
        EngineName::IpsecMb => Choice::IpsecMb,
    };
    Ok(choose(choice)?.engine)
}

fn line(row: &Row) -> String {
    let Row { engine, size, flows, protect_ns, unprotect_ns, round_trip_ns, aead_ns, .. } = row;
    format!(
        "{engine:<8} {size:>5} {flows:>7} | {protect_ns:>7.1} {unprotect_ns:>9.1} {round_trip_ns:>10.1} | \
         {aead_ns:>9.1} | {:>5.2} {:>5.1} | {:>5.2} {:>6.2}",
        row.ratio, row.added_ns, row.mpps, row.gbit_s
    )
}

fn measure(options: &Options, engine: Engine, size: Length, flows: u32) -> Result<Row> {
    let span = std::time::Duration::from_millis(options.millis);
    let mut packets = packet_path(engine, size, flows)?;
    let mut bare = BareAead::new(engine, size)?;
    let runs: Result<Vec<Pair>> =
        (0..options.runs).map(|_| in_turns(&mut packets, &mut bare, span)).collect();
    packets.close();
    bare.close();
    let runs = runs?;
    let median = |part: fn(&Pair) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(part).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (protect_ns, unprotect_ns) = (median(|run| run.path.0), median(|run| run.path.1));
    let (seal_ns, open_ns) = (median(|run| run.bare.0), median(|run| run.bare.1));
    let (round_trip_ns, aead_ns) = (median(Pair::round_trip), median(Pair::aead));
    Ok(Row {
        bench: "soft",
        engine: engine.name(),
        size,
        flows,
        protect_ns,
        unprotect_ns,
        round_trip_ns,
        seal_ns,
        open_ns,
        aead_ns,
        figure: "round_trip_ns",
        value: round_trip_ns,
        control: "aead_ns",
        control_value: aead_ns,
        ratio: median(|run| run.round_trip() / run.aead()),
        added_ns: median(|run| run.round_trip() - run.aead()),
        mpps: 1000.0 / round_trip_ns,
        gbit_s: 8.0 * size.mean() / round_trip_ns,
    })
}
