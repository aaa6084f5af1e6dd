//! What a user would pick instead of qhaul, on the wire bench's topology and under its traffic, in turns, in one run.
//!
//! The peers route packets where qhaul carries frames: the generator's frames are for gateway a's hardware address, and host b
//! gets them from gateway b's. In clear the same two gateways route with the same routes.

mod clear;
mod macsec;
mod measure;
mod openvpn;
mod options;
mod peer;
mod private;
mod qhaul;
mod routes;
mod row;
mod secgw;
mod standing;
mod strongswan;
mod tools;
mod watch;
mod wireguard;
mod xfrm;

use std::time::Instant;

use ::qhaul::lab::plan::Side;
use ::qhaul::lab::wait::{catch_signals, check_interrupt};
use ::qhaul::lab::{self, Sites};
use anyhow::Result;

pub(crate) use options::Options;
use options::{INNER_MTU, WAN_MTU};
use peer::{Contender, Peer, is_control};
use row::Table;

/// Runs the bench, prints its rows, and removes the lab.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.check(&everyone())?;
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: what it says of qhaul and of the generator means nothing");
    }
    catch_signals()?;
    let lab = lab::Options { prefix: options.prefix.clone(), ..lab::Options::default() };
    let mut sites = Sites::prepare(&lab)?;
    let measured = measure_all(options, &mut sites);
    sites.down()?;
    measured?.print(options.json)
}

/// The two that the others stand beside come first.
fn everyone() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(clear::Clear),
        Box::new(qhaul::Qhaul),
        Box::new(wireguard::Go),
        Box::new(openvpn::OpenVpn),
        Box::new(strongswan::StrongSwan),
        Box::new(secgw::Secgw),
        Box::new(wireguard::Kernel),
        Box::new(xfrm::Xfrm),
        Box::new(macsec::Macsec),
    ]
}

fn measure_all(options: &Options, sites: &mut Sites) -> Result<Table> {
    sites.topology().set_mtus(INNER_MTU, WAN_MTU)?;
    let mut field = present(options, sites)?;
    for side in Side::BOTH {
        sites.start_kme(side)?;
    }
    let started = Instant::now();
    let mut table = Table::new(options.flows);
    for round in 1..=options.rounds {
        let mut still = Vec::new();
        for contender in field {
            check_interrupt()?;
            let name = contender.peer.name();
            let spent = started.elapsed().as_secs_f64();
            eprintln!("[{spent:5.0} s] round {round} of {}: {name}", options.rounds);
            let measured = measure::turn(options, sites, &contender, &mut table);
            match measured {
                Ok(()) => still.push(contender),
                Err(error) if is_control(name) => {
                    return Err(error.context(format!("{name}, round {round}")));
                }
                // An hour's run is not to end because one of the others does.
                Err(error) => {
                    check_interrupt()?;
                    eprintln!("{name}: left out from round {round} on: {error:#}");
                }
            }
        }
        field = still;
    }
    Ok(table)
}

/// Who is there; a line for each, with its version and configuration or with what is missing.
fn present(options: &Options, sites: &Sites) -> Result<Vec<Contender>> {
    let mut field = Vec::new();
    for peer in everyone().into_iter().filter(|peer| options.wants(peer.name())) {
        let lacks = tools::missing(peer.tools()).or_else(|| peer.lacks(sites.topology()));
        if let Some(lacks) = lacks {
            eprintln!("{}: left out: {lacks}", peer.name());
            continue;
        }
        let version = peer.version()?;
        eprintln!("{} {version}: {}", peer.name(), peer.configuration());
        field.push(Contender { peer, version });
    }
    Ok(field)
}
