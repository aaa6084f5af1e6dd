//! A hostile backhaul at work: forged packets of every kind at a rate, beside legitimate traffic that must not feel them.

mod forge;
mod sender;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qhaul::lab::capture::Capture;
use qhaul::lab::footprint::Footprint;
use qhaul::lab::for_each_frame;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::traffic::Traffic;
use qhaul::lab::wait::{catch_signals, pause};
use qhaul::lab::{self, SiteConfig, Sites};
use qhaul::status::{Rows, Status, ask};
use serde::Serialize;

pub(crate) use forge::{Forger, Kind, is_traffic};
pub(crate) use sender::send;

/// Queues of each port, and workers of each site.
pub(crate) const QUEUES: u16 = 2;

/// What is forged.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kinds of forged packets; all, unless named.
    #[arg(long, value_enum, value_delimiter = ',')]
    kind: Vec<Kind>,
    /// Forged packets per second; 0: as many as this machine makes.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Seconds of each kind.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Legitimate packets per second.
    #[arg(long, default_value_t = 1000)]
    traffic: u32,
    /// Prefix of the lab's namespaces.
    #[arg(long, default_value = "qfl")]
    prefix: String,
    /// One JSON object a row.
    #[arg(long)]
    json: bool,
}

/// What became of one flood.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    kind: Kind,
    /// Packets that were forged, and how many a second.
    forged: u64,
    forged_pps: f64,
    /// Legitimate packets that were sent, and that did not arrive.
    sent: u64,
    lost: u64,
    /// Packets, forged or not, that found a queue full: of a socket, a ring or a worker's box.
    overflowed: u64,
    /// Memory of the encryptor under attack, in KiB.
    memory_before: u64,
    memory_after: u64,
    /// What the encryptor under attack dropped, by reason; the program's reasons behind "xdp:".
    drops: Rows,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    catch_signals()?;
    let lab = lab::Options { prefix: options.prefix.clone(), queues: QUEUES, ..lab::Options::default() };
    let mut sites = Sites::prepare(&lab)?;
    for side in Side::BOTH {
        let mut config = SiteConfig::new(side);
        config.cores = (0..usize::from(QUEUES)).collect();
        (config.rotate, config.hard_limit) = ("10m".to_owned(), "30m".to_owned());
        sites.configure(&config)?;
    }
    let flooded = sites.start_all().map_err(Into::into).and_then(|()| flood(options, &mut sites));
    sites.down()?;
    flooded
}

fn flood(options: &Options, sites: &mut Sites) -> Result<()> {
    let genuine = capture_genuine(sites, options.traffic)?;
    let kinds = if options.kind.is_empty() { Kind::ALL.to_vec() } else { options.kind.clone() };
    let mut harmed = Vec::new();
    for kind in kinds {
        let row = flood_one(options, sites, kind, &genuine)?;
        if row.lost > row.overflowed {
            harmed.push(kind);
        }
        if options.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            println!(
                "{:<16} {:>9} forged ({:>9.0} a second), legitimate {:>7} sent, {} lost; {} overflowed; memory {} KiB, then {}; {:?}",
                format!("{kind:?}"),
                row.forged,
                row.forged_pps,
                row.sent,
                row.lost,
                row.overflowed,
                row.memory_before,
                row.memory_after,
                row.drops
            );
        }
    }
    ensure!(harmed.is_empty(), "legitimate packets were lost, and not to full queues, under {harmed:?}");
    Ok(())
}

fn flood_one(options: &Options, sites: &mut Sites, kind: Kind, genuine: &[u8]) -> Result<Row> {
    let before = status(sites)?;
    let memory_before = Footprint::of(before.pid)?.resident_kib;
    let traffic = Traffic::start(sites.topology(), Side::A, options.traffic)?;
    pause(Duration::from_millis(200))?;
    let backhaul = sites.topology().namespace(Node::Backhaul);
    let mut forger = Forger::new(kind, genuine)?;
    let time = Duration::from_secs(options.seconds);
    let (forged, took) = send(&backhaul, "wan-b", &mut forger, options.rate, time, |_| Ok(()))?;
    pause(Duration::from_millis(200))?;
    let passed = traffic.finish()?;
    let after = status(sites)?;
    let (then, now) = (drops(&before), drops(&after));
    let grown = now.into_iter().map(|(name, count)| (count - then.get(&name).copied().unwrap_or(0), name));
    let drops: Rows = grown.filter(|(count, _)| *count > 0).map(|(count, name)| (name, count)).collect();
    Ok(Row {
        bench: "flood",
        kind,
        forged,
        forged_pps: forged as f64 / took.as_secs_f64(),
        sent: passed.sent.len() as u64,
        lost: passed.lost().len() as u64,
        overflowed: drops.iter().filter(|(name, _)| is_overflow(name)).map(|(_, count)| count).sum(),
        memory_before,
        memory_after: Footprint::of(after.pid)?.resident_kib,
        drops,
    })
}

/// Whether a counter of drops is one of a full queue: of a socket, a ring or a worker's box.
pub(crate) fn is_overflow(name: &str) -> bool {
    ["handover_full", "ring_full", "kernel_rx"].iter().any(|part| name.contains(part))
}

/// One packet of traffic, as an eavesdropper gets it.
fn capture_genuine(sites: &Sites, rate: u32) -> Result<Vec<u8>> {
    let capture = Capture::start(sites.topology(), "genuine")?;
    let traffic = Traffic::start(sites.topology(), Side::A, rate)?;
    pause(Duration::from_millis(500))?;
    traffic.finish()?;
    let captured = capture.finish()?;
    let mut found = None;
    for_each_frame(&captured.files[0], |frame| {
        if is_traffic(frame) && found.is_none() {
            found = Some(frame.to_vec());
        }
    })?;
    found.context("no packet of traffic was captured")
}

fn status(sites: &Sites) -> Result<Status> {
    ask(&sites.topology().dir().join("b.sock")).context("the status of site b")
}

/// Every drop at the cipher side: the workers', the program's and the kernel's at the sockets.
fn drops(status: &Status) -> Rows {
    let mut rows = status.counters.drops.clone();
    for (name, count) in &status.xdp["cipher"] {
        if !name.starts_with("to_") && name != "received" {
            rows.insert(format!("xdp:{name}"), *count);
        }
    }
    for (queue, counts) in status.queues.iter().filter(|(queue, _)| queue.starts_with("cipher/")) {
        for name in ["kernel_rx_dropped", "kernel_rx_ring_full"] {
            rows.insert(format!("{name}:{queue}"), counts.get(name).copied().unwrap_or(0));
        }
    }
    rows
}
