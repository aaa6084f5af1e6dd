//! One site at work: messages, answers and events go to the state machines, and what these decide is carried out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver as Inbox, Sender as Outbox, TryRecvError};
use mio::{Token, Waker};
use tracing::{debug, info, warn};

use super::RunError;
use super::keyring::Keyring;
use super::link::{Link, LinkEvent};
use super::tables::Tables;
use crate::config::Config;
use crate::counters::Counters;
use crate::datapath::Programs;
use crate::epoch::{Receiver, ReceiverAction, Sender, SenderAction, Terms};
use crate::link::{Hello, Message, PROTOCOL_VERSION};
use crate::neighbour;
use crate::protect::NextHop;
use crate::worker::{Command, Event, PortReport};

/// The lane of the one worker.
pub(super) const LANE: u8 = 0;
/// How often the neighbour table is read and the ports are asked.
const SECOND: Duration = Duration::from_secs(1);

/// What a site is made of.
pub(super) struct SiteParts {
    pub(super) config: Config,
    pub(super) terms: Terms,
    pub(super) link: Link,
    pub(super) keyring: Keyring,
    pub(super) tables: Tables,
    pub(super) commands: Outbox<Command>,
    pub(super) events: Inbox<Event>,
    pub(super) worker_waker: Waker,
    pub(super) counters: Arc<Counters>,
    pub(super) programs: Programs,
    pub(super) mode: &'static str,
    pub(super) next_hop: NextHop,
}

/// A site at work.
pub(super) struct Site {
    pub(super) parts: SiteParts,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) started: Instant,
    pub(super) ports: Vec<PortReport>,
    /// The peer's hello was read on the connection that stands.
    linked: bool,
    /// The peer's process that was last linked with.
    peer: Option<crate::keys::SessionId>,
    /// An epoch was active at least once.
    proven: bool,
    next_second: Instant,
}

impl Site {
    pub(super) fn new(parts: SiteParts) -> Site {
        let now = Instant::now();
        info!("flow tables take {:.1} MiB", parts.tables.initial_size() as f64 / f64::from(1 << 20));
        if parts.tables.logs_keys() {
            warn!("FLOW KEYS ARE WRITTEN TO A DEBUG KEY LOG: whoever reads it reads the traffic");
        }
        Site {
            sender: Sender::new(parts.terms.clone(), LANE),
            receiver: Receiver::new(parts.terms.clone()),
            parts,
            started: now,
            ports: Vec::new(),
            linked: false,
            peer: None,
            proven: false,
            next_second: now,
        }
    }

    /// When [`Site::turn`] has something to do at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.sender.next_deadline(), self.receiver.next_deadline(), Some(self.next_second)].into_iter().flatten().min()
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
        loop {
            match self.parts.events.try_recv() {
                Ok(event) => self.worker_event(event, now)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(RunError::Worker("the log says why".into())),
            }
        }
        if now >= self.next_second {
            self.next_second = now + SECOND;
            self.each_second();
        }
        self.keys(now)?;
        let retired = self.receiver.tick(now);
        self.receive(retired);
        let SiteParts { link, keyring, .. } = &mut self.parts;
        let decided = self.sender.tick(now, &mut keyring.send, &mut |offer| link.export(offer));
        self.send(decided, now)
    }

    /// Tells the worker to end.
    pub(super) fn stop_worker(&mut self) {
        self.parts.link.say(&Message::Bye { reason: "the peer is stopped".into() });
        self.command(Command::Stop);
    }

    fn keys(&mut self, now: Instant) -> Result<(), RunError> {
        for message in self.parts.keyring.collect(now) {
            self.parts.link.say(&message);
        }
        self.parts.keyring.tick(now);
        if self.linked
            && let Some(message) = self.parts.keyring.announcement()
        {
            self.parts.link.say(&message);
        }
        let startup = self.parts.config.kme.as_ref().map_or(Duration::ZERO, |kme| kme.startup);
        if !self.parts.keyring.answered() && now >= self.started + startup {
            let reason = self.parts.keyring.trouble().unwrap_or("it did not answer").to_string();
            return Err(RunError::NoKeys { waited: startup, reason });
        }
        Ok(())
    }

    fn each_second(&mut self) {
        let (interface, address) = (&self.parts.config.cipher, self.parts.config.next_hop);
        let found = neighbour::lookup(interface, address);
        if found.is_none() {
            neighbour::solicit(self.parts.config.address, address);
            self.next_second = Instant::now() + SECOND / 10;
        }
        if found.is_some() && found != self.parts.next_hop.get() {
            info!("next hop {address} is at {}", found.map(|mac| mac.to_string()).unwrap_or_default());
        }
        self.parts.next_hop.set(found);
        self.command(Command::Report);
    }

    fn link_events(&mut self, events: Vec<LinkEvent>, now: Instant) -> Result<(), RunError> {
        for event in events {
            match event {
                LinkEvent::Up => {
                    self.unlink();
                    let hello = self.hello();
                    self.parts.link.say(&Message::Hello(hello));
                }
                LinkEvent::Down => self.unlink(),
                LinkEvent::Said(message, bytes) => self.heard(message, &bytes, now)?,
            }
        }
        Ok(())
    }

    fn unlink(&mut self) {
        self.linked = false;
        self.sender.disconnected();
    }

    fn hello(&self) -> Hello {
        let terms = &self.parts.terms;
        Hello {
            version: PROTOCOL_VERSION,
            link: terms.link.clone(),
            sae: terms.sae.clone(),
            peer_sae: terms.peer_sae.clone(),
            combine: terms.combine,
            key_source: terms.key_source.clone(),
            flows: self.parts.config.flows,
            hard_limit_ms: u64::try_from(terms.hard_limit.as_millis()).unwrap_or(u64::MAX),
            session: terms.session,
            holds: self.receiver.holds(),
            sends: self.sender.active(),
        }
    }

    fn heard(&mut self, message: Message, bytes: &[u8], now: Instant) -> Result<(), RunError> {
        match message {
            Message::Hello(hello) => return self.greeted(&hello, now),
            Message::Bye { reason } => return self.dismissed(&reason),
            _ if !self.linked => {
                debug!("link channel: a message before hello");
                self.parts.link.hang_up();
                self.unlink();
            }
            Message::Keys { keys } => {
                if let Some(answer) = self.parts.keyring.announced(keys) {
                    self.parts.link.say(&answer);
                }
            }
            Message::KeyState { held, missing } => self.parts.keyring.key_state(&held, &missing),
            Message::Offer { epoch, key, lane, nonce: _ } => {
                let SiteParts { link, keyring, .. } = &mut self.parts;
                let pool = &mut keyring.receive;
                let export = &mut |offer: &[u8]| link.export(offer);
                let decided = self.receiver.offered(now, (epoch, lane, key), bytes, pool, export);
                self.receive(decided);
            }
            Message::Ready { epoch } => {
                let decided = self.sender.ready(now, epoch);
                return self.send(decided, now);
            }
            Message::Refuse { epoch, reason } => {
                warn!("the peer refused epoch {epoch}: {reason}");
                self.sender.refused(now, epoch, &reason);
            }
            Message::Active { epoch } => {
                let decided = self.sender.answered(epoch);
                return self.send(decided, now);
            }
            Message::Switched { epoch } => self.receiver.switched(now, epoch),
            Message::Ping | Message::Pong => {}
        }
        Ok(())
    }

    fn greeted(&mut self, hello: &Hello, now: Instant) -> Result<(), RunError> {
        if let Some(mismatch) = hello.mismatch(&self.hello()) {
            self.parts.link.say(&Message::Bye { reason: mismatch.clone() });
            return self.disagreed(mismatch);
        }
        if self.peer.replace(hello.session).is_some_and(|last| last != hello.session) {
            info!("the peer has restarted: all keys are made anew");
            self.parts.keyring.peer_restarted();
        } else {
            self.parts.keyring.send.channel_lost();
        }
        self.linked = true;
        let retired = self.receiver.connected(now, hello);
        self.receive(retired);
        let decided = self.sender.connected(hello);
        self.send(decided, now)
    }

    /// The peer ends the connection. What it says of our terms was said over a connection that it is proven to own.
    fn dismissed(&mut self, reason: &str) -> Result<(), RunError> {
        if self.linked {
            info!("the peer ended the connection: {reason}");
            self.parts.link.hang_up();
            self.unlink();
            return Ok(());
        }
        self.disagreed(format!("the peer does not link with us; it says: {reason}"))
    }

    /// Other terms than ours are a mistake that stops a new site; one that has worked goes on trying.
    fn disagreed(&mut self, line: String) -> Result<(), RunError> {
        if !self.proven {
            return Err(RunError::Terms(line));
        }
        warn!("{line}");
        self.parts.link.hang_up();
        self.unlink();
        Ok(())
    }

    fn worker_event(&mut self, event: Event, now: Instant) -> Result<(), RunError> {
        match event {
            Event::TxSwitched(epoch) => {
                self.proven = true;
                let decided = self.sender.switched(now, epoch);
                return self.send(decided, now);
            }
            Event::TxRetired(epoch) => self.parts.tables.wipe_tx(*epoch),
            Event::RxInstalled(epoch) => {
                let decided = self.receiver.installed(epoch);
                self.receive(decided);
            }
            Event::RxRetired(epoch) => {
                self.receiver.retired(epoch.epoch());
                self.parts.tables.wipe_rx(*epoch);
            }
            Event::Probed(epoch) => {
                let decided = self.receiver.probed(epoch);
                self.receive(decided);
            }
            Event::RotationWish => self.sender.rotation_wish(),
            Event::Report(ports) => self.ports = ports,
            Event::Failed(reason) => return Err(RunError::Worker(reason)),
        }
        Ok(())
    }

    fn send(&mut self, actions: Vec<SenderAction>, now: Instant) -> Result<(), RunError> {
        for action in actions {
            match action {
                SenderAction::Say(message) => self.parts.link.say(&message),
                SenderAction::SayOffer(record) => self.parts.link.say_record(&record),
                SenderAction::Install { epoch, key, flows, lifetime } => {
                    match self.parts.tables.tx_epoch(epoch, key, flows, lifetime, now) {
                        Ok(made) => self.command(Command::InstallTx(made)),
                        Err(error) => return Err(RunError::Worker(error.to_string())),
                    }
                }
                SenderAction::Probe(epoch) => self.command(Command::Probe(epoch)),
                SenderAction::Switch(epoch) => self.command(Command::SwitchTx(epoch)),
                SenderAction::Withdraw => {
                    warn!("the peer has lost our keys: traffic waits for a new epoch");
                    self.command(Command::WithdrawTx);
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, actions: Vec<ReceiverAction>) {
        for action in actions {
            match action {
                ReceiverAction::Say(message) => self.parts.link.say(&message),
                ReceiverAction::Install { epoch, lane, key } => {
                    let made = self.parts.tables.rx_epoch(epoch, lane, key);
                    self.command(Command::InstallRx(made));
                }
                ReceiverAction::Retire(epoch) => self.command(Command::RetireRx(epoch)),
            }
        }
    }

    fn command(&self, command: Command) {
        // A worker that is gone has said so by an event, which is handled in this turn or the next.
        let _ = self.parts.commands.send(command);
        let _ = self.parts.worker_waker.wake();
    }
}
