//! The control thread: everything but packets. It owns keys on their way, epochs, the link channel and the status.
//!
//! One loop on mio: link channel, key server's answers, worker's events, status requests, signals. The state machines
//! of [`crate::epoch`] decide; this carries out.

mod control_socket;
mod crew;
mod feed;
mod link;
mod make;
mod part;
mod path;
mod plain_side;
mod reload;
mod site;
mod tables;
mod telling;
mod witness;

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tracing::{info, warn};

use qhaul_keyfeed::SourceError;

use crate::aead::{self, EngineError};
use crate::audit::{Audit, AuditError};
use crate::config::{Config, Payload};
use crate::datapath::{self, DataPathError};
use crate::keylog::KeyLog;
use crate::link::IdentityError;
use crate::wake_latency::{NotAsked, WakeLatency};
use crate::wire::ETH_HLEN;
use crate::worker::{LinkNumber, LinkWork, Queues};
use crate::{check, secure};

use control_socket::{ControlSocket, Request};
use crew::{Crew, Work};
use make::Maker;
use part::{DataPlane, LinkPart};
use plain_side::PlainWatch;
use site::Site;

const WAKE: Token = Token(0);
const SIGNALS: Token = Token(1);
/// The control socket, and after it its connections.
const CONTROL: Token = Token(2);
const NETLINK: Token = Token(15);
/// Far from the connections' tokens.
const PLAIN_SIDE: Token = Token(usize::MAX - 1);
/// Connections of the link channels; their own tokens are [`LinkPart::first_token`] and those behind it.
const LISTENER: Token = Token(16);
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
    /// The kernel's power management.
    #[error(transparent)]
    WakeLatency(#[from] NotAsked),
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
    let _wake_latency = config.wake_latency_us.map(WakeLatency::ask).transpose()?;
    let mut poll = Poll::new().map_err(io_error("epoll"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(io_error("eventfd"))?);
    let control = ControlSocket::open(&config.control, CONTROL)?;
    let audit = match &config.audit {
        Some((path, max_bytes)) => Audit::open(path, *max_bytes)?,
        None => Audit::off(),
    };
    let registry = poll.registry().try_clone().map_err(io_error("epoll"))?;
    let audit = Rc::new(RefCell::new(audit));
    let mut maker = Maker { ports, engine, log, audit, registry, waker, made: 0 };
    let plain_side = plain_side(config, &maker.ports)?;
    let (links, works) = make_links(config, &mut maker, plain_side.as_ref())?;
    let path = datapath::open(config, &maker.ports.plain, &maker.ports.cipher)?;
    let crew = start_crew(config, &maker, path.queues, works)?;
    let plane = DataPlane { crew, programs: path.programs, cipher: config.cipher.clone() };
    let mut site = Site::new(config.clone(), maker, plane, plain_side, path.mode, links);
    let result =
        site.listen(&config.links).and_then(|()| turn_until_done(&mut poll, &signals, control, &mut site));
    site.end(result)
}

type MadeLinks = (Vec<LinkPart>, Vec<Vec<LinkWork>>);

/// All links, and for each worker its part in each of them.
fn make_links(
    config: &Config,
    maker: &mut Maker,
    plain_side: Option<&PlainWatch>,
) -> Result<MadeLinks, RunError> {
    let (mut links, mut works) = (Vec::new(), Vec::new());
    works.resize_with(config.cores.len(), Vec::new);
    for (number, link) in (0..=LinkNumber::MAX).zip(&config.links) {
        let (part, work) = maker.make(config, link, number, plain_side)?;
        links.push(part);
        works.iter_mut().zip(work).for_each(|(works, work)| works.push(work));
    }
    Ok((links, works))
}

fn start_crew(
    config: &Config,
    maker: &Maker,
    queues: Vec<Queues>,
    works: Vec<Vec<LinkWork>>,
) -> Result<Crew, RunError> {
    let works =
        queues.into_iter().zip(works).map(|(queues, links)| Work { queues, links, fit: maker.fit(config) });
    let packet = maker.ports.cipher.mtu as usize + ETH_HLEN;
    Crew::start(config, works.collect(), packet, maker.waker.clone())
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
                    Ok(Some(signal)) if signal.ssi_signo == Signal::SIGHUP as u32 => {
                        site.reload_own_file()?
                    }
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
                Request::Reload(file) => serde_json::to_vec(&site.reload(&file)?),
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

/// In mode `ip` what is on the plain side is known before the first packet comes.
fn plain_side(config: &Config, ports: &check::Ports) -> Result<Option<PlainWatch>, RunError> {
    match config.payload {
        Payload::Ethernet => Ok(None),
        Payload::Ip => PlainWatch::new(ports.plain.index).map(Some).map_err(io_error("netlink")),
    }
}
