//! One site at work: messages, answers and events go to the state machines, and what these decide is carried out.

use std::io;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use tracing::{info, warn};

use super::RunError;
use super::crew::Crew;
use super::feed::Feed;
use super::link::{Link, LinkEvent};
use super::path::{Path, PathCheck};
use super::plain_side::PlainWatch;
use super::tables::Tables;
use super::witness::Witness;
use crate::aead::Engine;
use crate::audit::Direction;
use crate::config::Config;
use crate::counters::Gauge;
use crate::datapath::{LiveEpochs, Programs};
use crate::epoch::{Action, Agreement, Disagreement};
use crate::link::Message;
use crate::neighbour::NextHopWatch;
use crate::protect::NextHop;
use crate::worker::{Command, Event, PortReport};

/// How often the ports are asked.
const SECOND: Duration = Duration::from_secs(1);

/// What a site is made of.
pub(super) struct SiteParts {
    pub(super) config: Config,
    pub(super) agreement: Agreement,
    pub(super) link: Link,
    pub(super) feed: Feed,
    pub(super) tables: Tables,
    pub(super) crew: Crew,
    pub(super) programs: Programs,
    pub(super) mode: &'static str,
    pub(super) engine: Engine,
    pub(super) next_hop: NextHop,
    pub(super) next_hop_watch: NextHopWatch,
    pub(super) plain_side: Option<PlainWatch>,
    pub(super) witness: Witness,
    pub(super) path: PathCheck,
}

/// A site at work.
pub(super) struct Site {
    pub(super) parts: SiteParts,
    pub(super) started: Instant,
    /// By worker.
    pub(super) ports: Vec<Vec<PortReport>>,
    next_second: Instant,
    /// As the cipher port's program has them.
    live: LiveEpochs,
}

impl Site {
    pub(super) fn new(parts: SiteParts) -> Site {
        let now = Instant::now();
        info!("{}", parts.tables.memory());
        if parts.tables.logs_keys() {
            warn!("FLOW KEYS ARE WRITTEN TO A DEBUG KEY LOG: whoever reads it reads the traffic");
        }
        let ports = vec![Vec::new(); parts.crew.len()];
        Site { parts, started: now, ports, next_second: now, live: LiveEpochs::default() }
    }

    /// When [`Site::turn`] has something to do at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let SiteParts { agreement, path, next_hop_watch, plain_side, .. } = &self.parts;
        let always = [self.next_second, next_hop_watch.next_deadline()].map(Some);
        let plain_side = plain_side.as_ref().map(PlainWatch::next_deadline);
        let deadlines = [agreement.next_deadline(), path.next_deadline(), plain_side];
        deadlines.into_iter().chain(always).flatten().min()
    }

    /// Has `token` told of when there is something to follow on the plain side.
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let Some(plain_side) = &self.parts.plain_side else { return Ok(()) };
        registry.register(&mut SourceFd(&plain_side.fd()), token, Interest::READABLE)
    }

    /// Handles readiness of a connection.
    pub(super) fn link_ready(&mut self, token: Token, now: Instant) -> Result<(), RunError> {
        let mut events = Vec::new();
        self.parts.link.ready(token, now, &mut events);
        self.link_events(events, now)
    }

    /// Everything that is due.
    pub(super) fn turn(&mut self, now: Instant) -> Result<(), RunError> {
        let mut events = Vec::new();
        self.parts.link.tick(now, &mut events);
        self.link_events(events, now)?;
        while let Some((worker, event)) = self.parts.crew.next_event()? {
            self.worker_event(worker, event, now)?;
        }
        self.parts.next_hop_watch.turn(now);
        if now >= self.next_second {
            self.next_second = now + SECOND;
            self.parts.crew.tell_all(|| Command::Report);
        }
        if let Some(side) = self.parts.plain_side.as_mut().and_then(|plain_side| plain_side.turn(now)) {
            self.parts.crew.tell_all(|| Command::PlainSide(side.clone()));
        }
        self.keys(now)?;
        self.check_path(now);
        let SiteParts { link, agreement, witness, crew, .. } = &mut self.parts;
        agreement
            .set_flows_in_use(crew.counters().map(|(_, counters)| counters.gauge(Gauge::TxFlows) as u32));
        let actions = agreement.tick(now, &mut |offer| link.export(offer));
        witness.watch(agreement.sender(), now);
        self.carry_out(actions, now)
    }

    /// Has the workers end, and then lets go of the ports. After a fault the plain port may stay shut.
    pub(super) fn end(mut self, result: Result<(), RunError>) -> Result<(), RunError> {
        self.parts.link.say(&Message::Bye { reason: "the peer is stopped".into() });
        let SiteParts { crew, mut witness, programs, .. } = self.parts;
        crew.tell_all(|| Command::Stop);
        let joined = crew.join();
        let result = result.and(joined);
        let fault = result.as_ref().err().map(ToString::to_string);
        witness.stop(fault.as_deref().unwrap_or("a signal"));
        if fault.is_none() {
            programs.release();
        }
        result
    }

    fn keys(&mut self, now: Instant) -> Result<(), RunError> {
        let SiteParts { feed, agreement, witness, .. } = &mut self.parts;
        let actions = feed.turn(now, agreement.keyring(), witness);
        self.carry_out(actions, now)?;
        let startup = self.parts.config.feed.as_ref().map_or(Duration::ZERO, |feed| feed.startup);
        if !self.parts.feed.answered() && now >= self.started + startup {
            let reason = self.parts.feed.trouble().unwrap_or("it did not answer").to_string();
            return Err(RunError::NoKeys { waited: startup, reason });
        }
        Ok(())
    }

    fn check_path(&mut self, now: Instant) {
        let before = self.parts.path.path();
        if let Some(bytes) = self.parts.path.turn(now) {
            // One worker's packets tell as much as those of all.
            self.parts.crew.tell_each([Command::ProbePath(bytes)]);
        }
        self.tell_path(before);
    }

    /// Says what was found, when it was.
    fn tell_path(&self, before: Path) {
        let (wanted, cipher) = (self.parts.path.wanted(), &self.parts.config.cipher);
        match self.parts.path.path() {
            path if path == before => {}
            Path::Checking => {}
            Path::Full => {
                info!("the path to the peer carries packets of {wanted} bytes, which is what is needed")
            }
            Path::Narrow(most) => warn!(
                "the path to the peer carries packets of {most} bytes, not the {wanted} that are needed: larger ones are lost. \
                 Raise the backhaul's MTU, or `ip link set {cipher} mtu {most}` and start again, so that sizes.oversize holds"
            ),
            Path::Unknown => warn!("the peer saw no probe of the path's size: nothing is known of its MTU"),
        }
    }

    fn link_events(&mut self, events: Vec<LinkEvent>, now: Instant) -> Result<(), RunError> {
        for event in events {
            let SiteParts { link, agreement, witness, .. } = &mut self.parts;
            let actions = match event {
                LinkEvent::Up => agreement.connected(),
                LinkEvent::Down => {
                    agreement.disconnected();
                    Vec::new()
                }
                LinkEvent::Said(Message::Path { bytes }, _) => {
                    let before = self.parts.path.path();
                    self.parts.path.heard(now, bytes);
                    self.tell_path(before);
                    Vec::new()
                }
                // After hanging up the rest of what came in is of no interest.
                LinkEvent::Said(..) if !link.is_up() => Vec::new(),
                LinkEvent::Said(message, bytes) => {
                    witness.heard(&message);
                    let heard = agreement.heard(now, message, &bytes, &mut |offer| link.export(offer));
                    heard.map_err(|disagreement| self.farewell(&disagreement))?
                }
            };
            self.carry_out(actions, now)?;
        }
        Ok(())
    }

    fn farewell(&mut self, disagreement: &Disagreement) -> RunError {
        let reason = disagreement.to_string();
        if disagreement.tell_peer {
            self.parts.link.say(&Message::Bye { reason: reason.clone() });
        }
        RunError::Terms(reason)
    }

    fn worker_event(&mut self, worker: u8, event: Event, now: Instant) -> Result<(), RunError> {
        let SiteParts { agreement, tables, witness, programs, crew, link, path, plain_side, .. } =
            &mut self.parts;
        let actions = match event {
            Event::TxSwitched(epoch) => {
                programs.prove();
                path.start(now);
                if crew.all_switched(epoch) { agreement.tx_switched(now, epoch) } else { Vec::new() }
            }
            Event::RxInstalled(epoch) if crew.all_installed(epoch) => agreement.rx_installed(epoch),
            Event::RxInstalled(_) => Vec::new(),
            Event::Probed(epoch) => agreement.probed(epoch),
            Event::TxRetired(epoch) => {
                if crew.all_gave_back_tx(epoch.epoch()) {
                    witness.retired(Direction::Tx, epoch.epoch());
                }
                tables.wipe_tx(*epoch);
                Vec::new()
            }
            Event::RxRetired(epoch) => {
                let number = epoch.epoch();
                tables.wipe_rx(*epoch);
                if crew.all_gave_back_rx(number) {
                    self.live = self.live.without(number);
                    programs.set_live_epochs(0, self.live)?;
                    witness.retired(Direction::Rx, number);
                    agreement.rx_retired(number);
                }
                Vec::new()
            }
            Event::RotationWish => {
                witness.soft_limit();
                agreement.rotation_wish();
                Vec::new()
            }
            Event::PolicyReplaced(_) => {
                info!("worker {worker} goes by the policy that was loaded");
                Vec::new()
            }
            Event::PathSeen(bytes) => {
                link.say(&Message::Path { bytes });
                Vec::new()
            }
            Event::Wanted(address) => {
                plain_side.iter_mut().for_each(|plain_side| plain_side.ask(address, now));
                Vec::new()
            }
            // Dropping them here frees them.
            Event::PlainSideRetired(_) => Vec::new(),
            Event::Report(ports) => {
                self.ports[usize::from(worker)] = ports;
                Vec::new()
            }
            Event::Failed(reason) => return Err(RunError::Worker(reason)),
        };
        self.carry_out(actions, now)
    }

    fn carry_out(&mut self, actions: Vec<Action>, now: Instant) -> Result<(), RunError> {
        for action in actions {
            match action {
                Action::Say(message) => {
                    self.parts.witness.said(&message);
                    self.parts.link.say(&message);
                }
                Action::SayOffer { offer, record } => {
                    self.parts.witness.said(&offer);
                    self.parts.link.say_record(&record);
                }
                Action::HangUp => self.parts.link.hang_up(),
                Action::Fetch(items) => {
                    let SiteParts { feed, agreement, .. } = &mut self.parts;
                    feed.fetch(now, items, agreement.keyring());
                }
                Action::InstallTx { epoch, key, flows, lifetime } => {
                    let made = self.parts.tables.tx_epochs(epoch, key, flows, now + lifetime);
                    let made = made.map_err(|error| RunError::Worker(error.to_string()))?;
                    self.parts.crew.tell_each(made.into_iter().map(Box::new).map(Command::InstallTx));
                }
                Action::Probe(epoch) => self.parts.crew.tell_all(|| Command::Probe(epoch)),
                Action::SwitchTx(epoch) => {
                    self.parts.crew.begin_switch(epoch);
                    self.parts.crew.tell_all(|| Command::SwitchTx(epoch));
                }
                Action::WithdrawTx => {
                    warn!("the peer has lost our keys: traffic waits for a new epoch");
                    self.parts.witness.withdrawn();
                    self.parts.crew.tell_all(|| Command::WithdrawTx);
                }
                Action::InstallRx { epoch, lanes, key } => {
                    let made = self.parts.tables.rx_epochs(epoch, &lanes, key);
                    let made = made.map_err(|error| RunError::Worker(error.to_string()))?;
                    self.parts.crew.begin_rx(epoch);
                    // Before the peer is told that it may send.
                    self.live = self.live.with(epoch);
                    self.parts.programs.set_live_epochs(0, self.live)?;
                    self.parts.crew.tell_each(made.into_iter().map(Box::new).map(Command::InstallRx));
                }
                Action::RetireRx(epoch) => self.parts.crew.tell_all(|| Command::RetireRx(epoch)),
            }
        }
        Ok(())
    }
}
