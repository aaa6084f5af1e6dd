//! One link at work: messages, answers and events go to its state machines, and what these decide is carried out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Token;
use mio::net::TcpStream;
use tracing::{Span, info, warn};

use super::RunError;
use super::crew::{Crew, Rolls};
use super::feed::Feed;
use super::link::{Link, LinkEvent};
use super::path::{Path, PathCheck};
use super::tables::Tables;
use super::witness::Witness;
use crate::audit::Direction;
use crate::config::LinkConfig;
use crate::counters::{Counters, Gauge};
use crate::datapath::{LiveEpochs, Programs};
use crate::epoch::{Action, Agreement, Disagreement};
use crate::link::Message;
use crate::neighbour::NextHopWatch;
use crate::protect::NextHop;
use crate::worker::{Command, LinkCommand, LinkEvent as WorkerEvent, LinkNumber};

/// Tokens of one link's connections: more than it ever makes.
const TOKENS: u32 = 32;

/// What carries a site's packets.
pub(super) struct DataPlane {
    pub(super) crew: Crew,
    pub(super) programs: Programs,
    /// Name of the cipher port.
    pub(super) cipher: String,
}

/// What a link is made of.
pub(super) struct Pieces {
    /// What stands for it with the workers and the cipher port's program.
    pub(super) number: LinkNumber,
    /// No other link of this process ever has it.
    pub(super) serial: u32,
    pub(super) config: LinkConfig,
    pub(super) agreement: Agreement,
    pub(super) link: Link,
    pub(super) feed: Feed,
    pub(super) tables: Tables,
    pub(super) rolls: Rolls,
    pub(super) next_hop: NextHop,
    pub(super) next_hop_watch: NextHopWatch,
    pub(super) witness: Witness,
    pub(super) path: PathCheck,
    /// What each worker counts of it.
    pub(super) counters: Vec<Arc<Counters>>,
}

/// A link at work.
pub(super) struct LinkPart {
    pub(super) pieces: Pieces,
    /// As the cipher port's program has them.
    live: LiveEpochs,
    started: Instant,
    /// What its log lines begin with, where there are several links.
    span: Span,
    /// What was told about the peer's terms and about our key server, and is not told again while keys do not change.
    told: Vec<String>,
}

impl LinkPart {
    pub(super) fn new(pieces: Pieces, span: Span) -> LinkPart {
        let (live, started) = (LiveEpochs::default(), Instant::now());
        LinkPart { pieces, live, started, span, told: Vec::new() }
    }

    /// The first token of a link's connections.
    pub(super) fn first_token(serial: u32) -> Token {
        Token((serial as usize) << TOKENS)
    }

    /// Whether a token is one of its connections'.
    pub(super) fn owns(&self, token: Token) -> bool {
        token.0 >> TOKENS == self.pieces.serial as usize
    }

    /// When [`LinkPart::turn`] has something to do at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let Pieces { agreement, path, next_hop_watch, .. } = &self.pieces;
        let deadlines =
            [agreement.next_deadline(), path.next_deadline(), Some(next_hop_watch.next_deadline())];
        deadlines.into_iter().flatten().min()
    }

    /// Takes a connection that came in from its peer's address.
    pub(super) fn take(&mut self, stream: TcpStream) {
        let _inside = self.span.clone().entered();
        self.pieces.link.take(stream);
    }

    /// Handles readiness of a connection.
    pub(super) fn ready(
        &mut self,
        token: Token,
        now: Instant,
        plane: &mut DataPlane,
    ) -> Result<(), RunError> {
        let _inside = self.span.clone().entered();
        let mut events = Vec::new();
        self.pieces.link.ready(token, now, &mut events);
        self.link_events(events, now, plane)
    }

    /// Everything that is due.
    pub(super) fn turn(&mut self, now: Instant, plane: &mut DataPlane) -> Result<(), RunError> {
        let _inside = self.span.clone().entered();
        let mut events = Vec::new();
        self.pieces.link.tick(now, &mut events);
        self.link_events(events, now, plane)?;
        self.pieces.next_hop_watch.turn(now);
        self.keys(now, plane)?;
        self.check_path(now, plane);
        let Pieces { link, agreement, witness, counters, .. } = &mut self.pieces;
        agreement.set_flows_in_use(counters.iter().map(|counters| counters.gauge(Gauge::TxFlows) as u32));
        let actions = agreement.tick(now, &mut |offer| link.export(offer));
        witness.watch(agreement.sender(), now);
        self.carry_out(actions, now, plane)
    }

    /// Says farewell to the peer, and begins nothing new.
    pub(super) fn hang_up(&mut self, reason: &str) {
        self.pieces.link.say(&Message::Bye { reason: reason.into() });
        self.pieces.link.hang_up();
        self.pieces.agreement.disconnected();
    }

    /// Among several links a peer of other terms, or a key server that says nothing, is no reason to end: the others have theirs.
    pub(super) fn bear(&mut self, fault: RunError) -> Result<(), RunError> {
        let _inside = self.span.clone().entered();
        match &fault {
            RunError::Terms(_) => {
                self.pieces.link.hang_up();
                self.pieces.agreement.disconnected();
            }
            RunError::NoKeys { .. } => {}
            _ => return Err(fault),
        }
        let line = fault.to_string();
        if !self.told.contains(&line) {
            warn!("{line}; it is tried again");
            // Reasons are few; should a peer make up ever new ones, they are told, and not kept.
            self.told.truncate(16);
            self.told.insert(0, line);
        }
        Ok(())
    }

    fn keys(&mut self, now: Instant, plane: &mut DataPlane) -> Result<(), RunError> {
        let Pieces { feed, agreement, witness, .. } = &mut self.pieces;
        let actions = feed.turn(now, agreement.keyring(), witness);
        self.carry_out(actions, now, plane)
    }

    /// That the key server has not answered within its time, if it has not.
    pub(super) fn check_feed(&self, now: Instant) -> Result<(), RunError> {
        let startup = self.pieces.config.feed.as_ref().map_or(Duration::ZERO, |feed| feed.startup);
        if !self.pieces.feed.answered() && now >= self.started + startup {
            let reason = self.pieces.feed.trouble().unwrap_or("it did not answer").to_string();
            return Err(RunError::NoKeys { waited: startup, reason });
        }
        Ok(())
    }

    fn check_path(&mut self, now: Instant, plane: &DataPlane) {
        let before = self.pieces.path.path();
        if let Some(bytes) = self.pieces.path.turn(now) {
            // One worker's packets tell as much as those of all.
            plane.crew.tell_each([self.command(LinkCommand::ProbePath(bytes))]);
        }
        self.tell_path(before, plane);
    }

    /// Says what was found, when it was.
    fn tell_path(&self, before: Path, plane: &DataPlane) {
        let (wanted, cipher) = (self.pieces.path.wanted(), &plane.cipher);
        match self.pieces.path.path() {
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

    fn link_events(
        &mut self,
        events: Vec<LinkEvent>,
        now: Instant,
        plane: &mut DataPlane,
    ) -> Result<(), RunError> {
        for event in events {
            let Pieces { link, agreement, witness, .. } = &mut self.pieces;
            let actions = match event {
                LinkEvent::Up => agreement.connected(),
                LinkEvent::Down => {
                    agreement.disconnected();
                    Vec::new()
                }
                LinkEvent::Said(Message::Path { bytes }, _) => {
                    let before = self.pieces.path.path();
                    self.pieces.path.heard(now, bytes);
                    self.tell_path(before, plane);
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
            self.carry_out(actions, now, plane)?;
        }
        Ok(())
    }

    fn farewell(&mut self, disagreement: &Disagreement) -> RunError {
        let reason = disagreement.to_string();
        if disagreement.tell_peer {
            self.pieces.link.say(&Message::Bye { reason: reason.clone() });
        }
        RunError::Terms(reason)
    }

    /// What a worker says of this link.
    pub(super) fn worker_event(
        &mut self,
        event: WorkerEvent,
        now: Instant,
        plane: &mut DataPlane,
    ) -> Result<(), RunError> {
        let _inside = self.span.clone().entered();
        let Pieces { number, agreement, rolls, tables, witness, link, path, .. } = &mut self.pieces;
        let actions = match event {
            WorkerEvent::TxSwitched(epoch) => {
                plane.programs.prove();
                path.start(now);
                self.told.clear();
                if rolls.all_switched(epoch) { agreement.tx_switched(now, epoch) } else { Vec::new() }
            }
            WorkerEvent::RxInstalled(epoch) if rolls.all_installed(epoch) => agreement.rx_installed(epoch),
            WorkerEvent::RxInstalled(_) => Vec::new(),
            WorkerEvent::Probed(epoch) => agreement.probed(epoch),
            WorkerEvent::TxRetired(epoch) => {
                if rolls.all_gave_back_tx(epoch.epoch()) {
                    witness.retired(Direction::Tx, epoch.epoch());
                }
                tables.wipe_tx(*epoch);
                Vec::new()
            }
            WorkerEvent::RxRetired(epoch) => {
                let gone = epoch.epoch();
                tables.wipe_rx(*epoch);
                if rolls.all_gave_back_rx(gone) {
                    self.live = self.live.without(gone);
                    plane.programs.set_live_epochs(*number, self.live)?;
                    witness.retired(Direction::Rx, gone);
                    agreement.rx_retired(gone);
                }
                Vec::new()
            }
            WorkerEvent::RotationWish => {
                witness.soft_limit();
                agreement.rotation_wish();
                Vec::new()
            }
            WorkerEvent::PathSeen(bytes) => {
                link.say(&Message::Path { bytes });
                Vec::new()
            }
        };
        self.carry_out(actions, now, plane)
    }

    fn carry_out(
        &mut self,
        actions: Vec<Action>,
        now: Instant,
        plane: &mut DataPlane,
    ) -> Result<(), RunError> {
        let crew = &plane.crew;
        for action in actions {
            match action {
                Action::Say(message) => {
                    self.pieces.witness.said(&message);
                    self.pieces.link.say(&message);
                }
                Action::SayOffer { offer, record } => {
                    self.pieces.witness.said(&offer);
                    self.pieces.link.say_record(&record);
                }
                Action::HangUp => self.pieces.link.hang_up(),
                Action::Fetch(items) => {
                    let Pieces { feed, agreement, .. } = &mut self.pieces;
                    feed.fetch(now, items, agreement.keyring());
                }
                Action::InstallTx { epoch, key, flows, lifetime } => {
                    let made = self.pieces.tables.tx_epochs(epoch, key, flows, now + lifetime);
                    let made = made.map_err(|error| RunError::Worker(error.to_string()))?;
                    let installs = made.into_iter().map(Box::new).map(LinkCommand::InstallTx);
                    crew.tell_each(installs.map(|install| self.command(install)));
                }
                Action::Probe(epoch) => crew.tell_all(|| self.command(LinkCommand::Probe(epoch))),
                Action::SwitchTx(epoch) => {
                    self.pieces.rolls.begin_switch(epoch);
                    crew.tell_all(|| self.command(LinkCommand::SwitchTx(epoch)));
                }
                Action::WithdrawTx => {
                    warn!("the peer has lost our keys: traffic waits for a new epoch");
                    self.pieces.witness.withdrawn();
                    crew.tell_all(|| self.command(LinkCommand::WithdrawTx));
                }
                Action::InstallRx { epoch, lanes, key } => {
                    let made = self.pieces.tables.rx_epochs(epoch, &lanes, key);
                    let made = made.map_err(|error| RunError::Worker(error.to_string()))?;
                    self.pieces.rolls.begin_rx(epoch);
                    // Before the peer is told that it may send.
                    self.live = self.live.with(epoch);
                    plane.programs.set_live_epochs(self.pieces.number, self.live)?;
                    let installs = made.into_iter().map(Box::new).map(LinkCommand::InstallRx);
                    crew.tell_each(installs.map(|install| self.command(install)));
                }
                Action::RetireRx(epoch) => crew.tell_all(|| self.command(LinkCommand::RetireRx(epoch))),
            }
        }
        Ok(())
    }

    fn command(&self, command: LinkCommand) -> Command {
        Command::Link(self.pieces.number, command)
    }
}
