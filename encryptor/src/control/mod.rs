//! The control thread: everything but packets. It owns keys on their way, epochs, the link channel and the status.
//!
//! One loop on mio: link channel, key server's answers, worker's events, status requests, signals. The state machines
//! of [`crate::epoch`] decide; this carries out.

mod control_socket;
mod crew;
mod feed;
mod link;
mod path;
mod plain_side;
mod reload;
mod site;
mod tables;
mod telling;
mod witness;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tracing::{info, warn};

use qhaul_keyfeed::{Feeder, SourceError};

use crate::aead::{self, EngineError};
use crate::audit::{Audit, AuditError};
use crate::budget::Budget;
use crate::config::{Config, Payload};
use crate::datapath::{self, DataPathError};
use crate::epoch::{Agreement, Terms};
use crate::fit::Fit;
use crate::keylog::KeyLog;
use crate::keys::{Psk, SessionId};
use crate::link::{ChannelIdentity, IdentityError};
use crate::neighbour::NextHopWatch;
use crate::ownership::Arrivals;
use crate::plan::Plan;
use crate::protect::{Inside, NextHop, Protect};
use crate::tunnel::{Egress, Gateway, Ingress};
use crate::unprotect::Unprotect;
use crate::wire::{ClassMap, ETH_HLEN, MacAddr, OuterTemplate};
use crate::worker::Transforms;
use crate::{check, secure};

use control_socket::{ControlSocket, Request};
use crew::Crew;
use feed::Feed;
use link::Link;
use path::PathCheck;
use plain_side::PlainWatch;
use site::{Site, SiteParts};
use tables::Tables;
use witness::Witness;

const WAKE: Token = Token(0);
const SIGNALS: Token = Token(1);
/// The control socket, and after it its connections.
const CONTROL: Token = Token(2);
const NETLINK: Token = Token(15);
/// Far from the connections' tokens.
const PLAIN_SIDE: Token = Token(usize::MAX - 1);
const LINK: Token = Token(16);
/// Derivations for flows that were not seen, each second: about a fifth of a core, so that a flood of forged packets has
/// to be far larger before the flows of a new epoch wait for theirs.
const DERIVATIONS: u32 = 200_000;
/// The loop turns at least this often.
const TURN: Duration = Duration::from_millis(100);

/// Why the encryptor does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host cannot carry the configuration out.
    #[error("{0}")]
    Host(String),
    /// The engine is not there, or broken.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Memory cannot be locked.
    #[error(transparent)]
    Memory(#[from] secure::NotLocked),
    /// Certificates of the link channel.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key server.
    #[error("key server: {0}")]
    KeySource(#[from] SourceError),
    /// The key server never answered.
    #[error("key server: no key within {} s of starting: {reason}", .waited.as_secs())]
    NoKeys {
        /// How long was waited (`kme.startup`).
        waited: Duration,
        /// What it said last.
        reason: String,
    },
    /// The data path.
    #[error(transparent)]
    DataPath(#[from] DataPathError),
    /// The kernel's part of it.
    #[error(transparent)]
    Programs(#[from] qhaul_ebpf::Error),
    /// The peer has other terms.
    #[error("{0}")]
    Terms(String),
    /// A worker died.
    #[error("a worker stopped: {0}")]
    Worker(String),
    /// The kernel refused something.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
}

fn io_error(action: &str) -> impl FnOnce(io::Error) -> RunError {
    let action = action.to_string();
    move |source| RunError::Io { action, source }
}

/// Runs a site until a signal ends it.
pub fn run(config: &Config, log: KeyLog) -> Result<(), RunError> {
    let aead::Chosen { engine, line } = aead::choose(config.engine)?;
    info!("{line}");
    let signals = take_signals()?;
    let ports = host(config)?;
    secure::lock_memory()?;
    let mut poll = Poll::new().map_err(io_error("epoll"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(io_error("eventfd"))?);
    let feeder = feeder(config, &waker)?;
    let link = open_link(config, &poll)?;
    let control = ControlSocket::open(&config.control, CONTROL)?;
    let audit = match &config.audit {
        Some((path, max_bytes)) => Audit::open(path, *max_bytes)?,
        None => Audit::off(),
    };
    let terms = terms(config)?;
    let path = datapath::open(config, &ports.plain, &ports.cipher)?;
    let next_hop = NextHop::default();
    let next_hop_watch =
        NextHopWatch::open(ports.cipher.index, config.ends, config.next_hop, next_hop.clone())
            .map_err(io_error("netlink"))?;
    let plain_side = plain_side(config, &ports)?;
    let arrivals = Arrivals::new(config.cores.len());
    let works = (0..).zip(path.queues).map(|(number, queues)| {
        let transforms = transforms(config, &ports, &next_hop, number, &arrivals);
        (queues, routed(transforms, &ports, plain_side.as_ref()))
    });
    let crew = Crew::start(config, works.collect(), ports.cipher.mtu as usize + ETH_HLEN, waker)?;
    let mut site = Site::new(SiteParts {
        config: config.clone(),
        agreement: Agreement::new(terms, config.flows, config.pool, config.cores.len()),
        link,
        feed: Feed::new(feeder),
        tables: Tables::new(engine, config, arrivals, log),
        crew,
        programs: path.programs,
        mode: path.mode,
        engine,
        next_hop,
        next_hop_watch,
        plain_side,
        witness: Witness::new(audit, &config.link),
        path: PathCheck::new(path_wanted(config, &ports)),
    });
    info!("{}", Plan::new(&config.plan_input()).verdict());
    info!(
        "link \"{}\": {} to {}, combine = \"{}\"",
        config.link,
        config.ends.own(),
        config.ends.peer(),
        config.combine
    );
    let result = turn_until_done(&mut poll, &signals, control, &mut site);
    site.end(result)
}

fn turn_until_done(
    poll: &mut Poll,
    signals: &SignalFd,
    mut control: ControlSocket,
    site: &mut Site,
) -> Result<(), RunError> {
    let registry = poll.registry();
    registry
        .register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)
        .and_then(|()| control.register(registry))
        .and_then(|()| {
            let netlink = site.parts.next_hop_watch.as_fd().as_raw_fd();
            registry.register(&mut SourceFd(&netlink), NETLINK, Interest::READABLE)
        })
        .and_then(|()| site.register(registry, PLAIN_SIDE))
        .map_err(io_error("epoll"))?;
    let mut events = Events::with_capacity(64);
    loop {
        let now = Instant::now();
        let wait =
            site.next_deadline().map_or(TURN, |moment| moment.saturating_duration_since(now).min(TURN));
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(io_error("epoll")(error)),
            _ => {}
        }
        let now = Instant::now();
        for event in &events {
            match event.token() {
                WAKE | NETLINK | PLAIN_SIDE => {}
                SIGNALS => match signals.read_signal() {
                    Ok(Some(signal)) if signal.ssi_signo == Signal::SIGHUP as u32 => site.reload_own_file(),
                    Ok(Some(signal)) => {
                        info!("signal {}: stopping", signal.ssi_signo);
                        return Ok(());
                    }
                    _ => {}
                },
                token if control.owns(token) => control.ready(token, now),
                token => site.link_ready(token, now)?,
            }
        }
        for (client, request) in control.requests(now) {
            client.answer(match request {
                Request::Status => serde_json::to_vec(&site.status(now)),
                Request::Reload(file) => serde_json::to_vec(&site.reload(&file)),
            });
        }
        site.turn(now)?;
    }
}

/// SIGHUP reloads. Signals that end the process become events, so that every exit that can be caught takes the same way.
fn take_signals() -> Result<SignalFd, RunError> {
    let mask = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
    mask.thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .map_err(|errno| io_error("signalfd")(errno.into()))
}

fn host(config: &Config) -> Result<check::Ports, RunError> {
    let (findings, ports) = check::host(config);
    for finding in &findings {
        match finding.grade {
            check::Grade::Fault => return Err(RunError::Host(finding.line.clone())),
            check::Grade::Warning => warn!("{}", finding.line),
            check::Grade::Fine => {}
        }
    }
    ports.ok_or_else(|| RunError::Host("the interfaces cannot be read".into()))
}

fn feeder(config: &Config, waker: &Arc<Waker>) -> Result<Option<Feeder>, RunError> {
    let Some(feed) = &config.feed else { return Ok(None) };
    let waker = waker.clone();
    let wake = move || {
        let _ = waker.wake();
    };
    let maker = feed.source.clone().prepare()?;
    Ok(Some(Feeder::start(|| maker.make(), wake)?))
}

fn open_link(config: &Config, poll: &Poll) -> Result<Link, RunError> {
    let identity = ChannelIdentity::load(&config.channel)?;
    let ends = (
        SocketAddr::new(config.ends.own(), config.channel_port),
        SocketAddr::new(config.ends.peer(), config.channel_port),
    );
    let registry = poll.registry().try_clone().map_err(io_error("epoll"))?;
    let action = format!("listening on {} for the link channel", ends.0);
    Link::new(identity, ends, config.listens(), registry, LINK).map_err(io_error(&action))
}

fn terms(config: &Config) -> Result<Terms, RunError> {
    let mut session = [0; 16];
    aws_lc_rs::rand::fill(&mut session)
        .map_err(|_| RunError::Host("the system's random number generator failed".into()))?;
    Ok(Terms {
        link: config.link.clone(),
        sae: config.sae.to_string(),
        peer_sae: config.peer_sae.to_string(),
        mode: config.payload,
        key_source: config.key_source().to_string(),
        combine: config.combine,
        psk: config.psk.as_deref().map(Psk::load).transpose().map_err(RunError::Host)?.map(Arc::new),
        session: SessionId(session),
        rotate: config.rotate,
        grace: config.grace,
        hard_limit: config.hard_limit,
    })
}

/// In mode `ip` what is on the plain side is known before the first packet comes.
fn plain_side(config: &Config, ports: &check::Ports) -> Result<Option<PlainWatch>, RunError> {
    match config.payload {
        Payload::Ethernet => Ok(None),
        Payload::Ip => PlainWatch::new(ports.plain.index).map(Some).map_err(io_error("netlink")),
    }
}

fn transforms(
    config: &Config,
    ports: &check::Ports,
    next_hop: &NextHop,
    number: u8,
    arrivals: &Arrivals,
) -> Transforms {
    let mac = MacAddr(ports.cipher.mac);
    let classes = ClassMap::new(&config.dscp, config.ecn);
    let template = OuterTemplate::new(mac, config.ends, config.encap, config.ttl, classes);
    let plain_frame = ports.plain.mtu as usize + ETH_HLEN + 8;
    let budget = Budget::new(config.flows.max(DERIVATIONS), config.flows.max(DERIVATIONS));
    let mut protect = Protect::new(template, next_hop.clone(), ports.cipher.mtu as usize);
    let mut unprotect = Unprotect::new(config.outer_shape(), config.nat, plain_frame, budget)
        .with_iv(config.iv)
        .with_ecn(config.ecn);
    if config.cores.len() > 1 {
        unprotect.share(number, arrivals.clone());
    }
    let policy = Arc::new(config.policy.clone());
    protect.set_policy(policy.clone());
    unprotect.set_policy(policy);
    // A router takes the link layer's header off before it encrypts.
    let stripped = if config.payload == Payload::Ip { ETH_HLEN } else { 0 };
    let fit = Fit::new(config.sizes, (protect.largest_frame() + stripped).min(plain_frame));
    Transforms { protect, unprotect, fit }
}

/// Bytes of the largest packet that leaves: what the plain side's MTU needs, or the cipher port's MTU where that is less.
fn path_wanted(config: &Config, ports: &check::Ports) -> u32 {
    datapath::cipher_mtu_needed(config.payload, ports.plain.mtu, config.outer_shape()).min(ports.cipher.mtu)
}

/// In mode `ip` the transforms of a router.
fn routed(transforms: Transforms, ports: &check::Ports, plain_side: Option<&PlainWatch>) -> Transforms {
    let Some(plain_side) = plain_side else { return transforms };
    let (mac, mtu) = (MacAddr(ports.plain.mac), ports.plain.mtu as usize);
    let gateway = Gateway { mac, mtu, side: plain_side.current() };
    let ingress = Inside::Packets(Box::new(Ingress::new(gateway.clone())));
    let Transforms { protect, unprotect, fit } = transforms;
    let (protect, unprotect) = (protect.carrying(ingress), unprotect.through(Egress::new(gateway)));
    Transforms { protect, unprotect, fit }
}
