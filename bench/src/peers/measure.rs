//! One turn of one contender: in place, measured by all sizes, by TCP, and away again.

use anyhow::Result;
use qhaul::lab::Sites;
use qhaul::lab::plan::Side;
use qhaul::lab::wait::check_interrupt;

use crate::wire::idle;
use crate::wire::options::Size;
use crate::wire::path::Path;
use crate::wire::tcp;

use super::clear;
use super::options::Options;
use super::peer::{Contender, Peer};
use super::routes;
use super::row::Table;
use super::standing::Standing;
use super::watch::Watch;

/// A size, a figure's name and its value.
type Figure = (String, &'static str, f64);

/// Measures and takes away, also what failed; that has no figures.
pub(super) fn turn(
    options: &Options,
    sites: &mut Sites,
    contender: &Contender,
    table: &mut Table,
) -> Result<()> {
    let peer = contender.peer.as_ref();
    let mut standing = Standing::default();
    let measured = put_and_measure(options, sites, peer, &mut standing);
    // What a process said last is the reason; what failed for want of it is not.
    let measured = measured.map_err(|error| standing.check_running().err().unwrap_or(error));
    let taken = peer.take(sites);
    let removed = standing.remove();
    let figures = measured?;
    taken.and(removed)?;
    for (size, figure, value) in figures {
        table.add(contender, &size, figure, value);
    }
    Ok(())
}

fn put_and_measure(
    options: &Options,
    sites: &mut Sites,
    peer: &dyn Peer,
    standing: &mut Standing,
) -> Result<Vec<Figure>> {
    if peer.routes() {
        routes::open(sites.topology(), standing)?;
    }
    peer.put(sites, standing)?;
    let watch = Watch::start(sites.topology(), peer.name())?;
    let mut path = Path::open(sites, macs(sites, peer)?, options.effort())?;
    let mut figures = Vec::new();
    let sizes = options.sizes();
    let measured = watch
        .judge(peer.name() == clear::NAME)
        .and_then(|()| sizes.iter().try_for_each(|size| measure(&mut path, standing, size, &mut figures)));
    path.close()?;
    measured?;
    let idle = idle::measure(sites, || standing.cpu())?;
    figures.push(("ping".to_owned(), "rtt_idle_p50_us", idle.p50_us));
    figures.push(("ping".to_owned(), "rtt_idle_p99_us", idle.p99_us));
    if standing.has_processes() {
        figures.push(("ping".to_owned(), "idle_cpu", idle.share));
    }
    if options.tcp > 0 {
        figures.push(("tcp".to_owned(), "tcp_gbps", tcp::gbps(sites, options.tcp)?));
    }
    standing.check_running()?;
    Ok(figures)
}

/// A frame is for the gateway if that routes, and for the other host if not.
fn macs(sites: &Sites, peer: &dyn Peer) -> Result<[[u8; 6]; 2]> {
    let to = match peer.routes() {
        true => routes::plain_mac(sites.topology(), Side::A)?,
        false => Side::B.host_mac(),
    };
    Ok([Side::A.host_mac(), to])
}

fn measure(path: &mut Path, standing: &Standing, size: &Size, figures: &mut Vec<Figure>) -> Result<()> {
    let mut add = |figure, value| figures.push((size.name.clone(), figure, value));
    let overload = path.overload(size)?;
    add("offered_pps", overload.offered());
    add("overload_pps", overload.received as f64 / overload.time.as_secs_f64());
    let mut reordered = overload.reordered;
    // Under overload some carry less than the rate at which they lose nothing, so that is no bound.
    let (loss_free, cpu) = path.search(
        size,
        overload.offered(),
        || standing.cpu(),
        |outcome| {
            reordered += outcome.reordered;
            Ok(check_interrupt()?)
        },
    )?;
    add("loss_free_pps", loss_free);
    if standing.has_processes() && cpu > 0.0 {
        add("cpu_ns", cpu);
    }
    add("reordered", reordered as f64);
    Ok(())
}
