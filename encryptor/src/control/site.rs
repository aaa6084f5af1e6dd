//! One site at work: messages, answers and events go to the state machines, and what these decide is carried out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver as Inbox, Sender as Outbox, TryRecvError};
use mio::{Token, Waker};
use tracing::{info, warn};

use super::RunError;
use super::feed::Feed;
use super::link::{Link, LinkEvent};
use super::tables::Tables;
use super::witness::Witness;
use crate::audit::Direction;
use crate::config::Config;
use crate::counters::Counters;
use crate::datapath::Programs;
use crate::epoch::{Action, Agreement, Disagreement};
use crate::link::Message;
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
    pub(super) agreement: Agreement,
    pub(super) link: Link,
    pub(super) feed: Feed,
    pub(super) tables: Tables,
    pub(super) commands: Outbox<Command>,
    pub(super) events: Inbox<Event>,
    pub(super) worker_waker: Waker,
    pub(super) counters: Arc<Counters>,
    pub(super) programs: Programs,
    pub(super) mode: &'static str,
    pub(super) next_hop: NextHop,
    pub(super) cipher_index: u32,
    pub(super) witness: Witness,
}

/// A site at work.
pub(super) struct Site {
    pub(super) parts: SiteParts,
    pub(super) started: Instant,
    pub(super) ports: Vec<PortReport>,
    next_second: Instant,
}

impl Site {
    pub(super) fn new(parts: SiteParts) -> Site {
        let now = Instant::now();
        info!("flow tables take {:.1} MiB", parts.tables.initial_size() as f64 / f64::from(1 << 20));
        if parts.tables.logs_keys() {
            warn!("FLOW KEYS ARE WRITTEN TO A DEBUG KEY LOG: whoever reads it reads the traffic");
        }
        Site { parts, started: now, ports: Vec::new(), next_second: now }
    }

    /// When [`Site::turn`] has something to do at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.parts.agreement.next_deadline(), Some(self.next_second)].into_iter().flatten().min()
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
        let SiteParts { link, agreement, witness, .. } = &mut self.parts;
        let actions = agreement.tick(now, &mut |offer| link.export(offer));
        witness.watch(agreement.sender(), now);
        self.carry_out(actions, now)
    }

    /// Tells the worker to end.
    pub(super) fn stop_worker(&mut self) {
        self.parts.link.say(&Message::Bye { reason: "the peer is stopped".into() });
        self.command(Command::Stop);
    }

    /// Lets go of the ports, after the worker has ended. After a fault the plain port may stay shut.
    pub(super) fn end(mut self, fault: Option<String>) {
        self.parts.witness.stop(fault.as_deref().unwrap_or("a signal"));
        if fault.is_none() {
            self.parts.programs.release();
        }
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

    fn each_second(&mut self) {
        let (interface, address) = (&self.parts.config.cipher, self.parts.config.next_hop);
        let found = neighbour::lookup(interface, address);
        if found.is_none() {
            neighbour::solicit(self.parts.cipher_index, address);
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
            let SiteParts { link, agreement, witness, .. } = &mut self.parts;
            let actions = match event {
                LinkEvent::Up => agreement.connected(),
                LinkEvent::Down => {
                    agreement.disconnected();
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

    fn worker_event(&mut self, event: Event, now: Instant) -> Result<(), RunError> {
        let SiteParts { agreement, tables, witness, programs, .. } = &mut self.parts;
        let actions = match event {
            Event::TxSwitched(epoch) => {
                programs.prove();
                agreement.tx_switched(now, epoch)
            }
            Event::RxInstalled(epoch) => agreement.rx_installed(epoch),
            Event::Probed(epoch) => agreement.probed(epoch),
            Event::TxRetired(epoch) => {
                witness.retired(Direction::Tx, epoch.epoch());
                tables.wipe_tx(*epoch);
                Vec::new()
            }
            Event::RxRetired(epoch) => {
                witness.retired(Direction::Rx, epoch.epoch());
                agreement.rx_retired(epoch.epoch());
                tables.wipe_rx(*epoch);
                Vec::new()
            }
            Event::RotationWish => {
                witness.soft_limit();
                agreement.rotation_wish();
                Vec::new()
            }
            Event::Report(ports) => {
                self.ports = ports;
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
                    let made = self.parts.tables.tx_epoch(epoch, key, flows, lifetime, now);
                    let made = made.map_err(|error| RunError::Worker(error.to_string()))?;
                    self.command(Command::InstallTx(made));
                }
                Action::Probe(epoch) => self.command(Command::Probe(epoch)),
                Action::SwitchTx(epoch) => self.command(Command::SwitchTx(epoch)),
                Action::WithdrawTx => {
                    warn!("the peer has lost our keys: traffic waits for a new epoch");
                    self.parts.witness.withdrawn();
                    self.command(Command::WithdrawTx);
                }
                Action::InstallRx { epoch, lane, key } => {
                    let made = self.parts.tables.rx_epoch(epoch, lane, key);
                    let made = made.map_err(|error| RunError::Worker(error.to_string()))?;
                    self.command(Command::InstallRx(made));
                }
                Action::RetireRx(epoch) => self.command(Command::RetireRx(epoch)),
            }
        }
        Ok(())
    }

    fn command(&self, command: Command) {
        // A worker that is gone has said so by an event, which is handled in this turn or the next.
        let _ = self.parts.commands.send(command);
        let _ = self.parts.worker_waker.wake();
    }
}
