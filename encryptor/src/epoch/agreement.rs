//! A site's whole part in agreeing: it hears messages and news, and returns what to do.

use std::time::Instant;

use tracing::{info, warn};

use super::{Action, Exporter, Keyring, Receiver, Sender, Terms};
use crate::keys::SessionId;
use crate::link::{Hello, Message, PROTOCOL_VERSION};
use crate::spi::Epoch;

/// The two ends have other terms; the line says which and what to change.
#[derive(Debug, thiserror::Error)]
#[error("{line}")]
pub struct Disagreement {
    line: String,
    /// Whether the peer is to be told before going, because it is we who found the difference.
    pub tell_peer: bool,
}

/// A site's part.
#[derive(Debug)]
pub struct Agreement {
    terms: Terms,
    flows: u32,
    sender: Sender,
    receiver: Receiver,
    keyring: Keyring,
    /// The peer's hello was read on the connection that stands.
    linked: bool,
    /// The peer's process that was last linked with.
    peer: Option<SessionId>,
    /// An epoch was in use at least once.
    proven: bool,
}

impl Agreement {
    /// A site without keys, with room for `flows` flows per epoch, that holds `pool` keys ahead and sends in `lanes` lanes.
    pub fn new(terms: Terms, flows: u32, pool: usize, lanes: usize) -> Agreement {
        Agreement {
            sender: Sender::new(terms.clone(), lanes),
            receiver: Receiver::new(terms.clone()),
            keyring: Keyring::new(pool),
            terms,
            flows,
            linked: false,
            peer: None,
            proven: false,
        }
    }

    /// The sending end, for status.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The receiving end, for status.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Both pools.
    pub fn keyring(&mut self) -> &mut Keyring {
        &mut self.keyring
    }

    /// Both pools, for status.
    pub fn keys(&self) -> &Keyring {
        &self.keyring
    }

    /// A connection stands; an earlier one, if any, is gone.
    pub fn connected(&mut self) -> Vec<Action> {
        self.disconnected();
        vec![Action::Say(Message::Hello(self.hello()))]
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.linked = false;
        self.sender.disconnected();
    }

    /// The peer said something; `bytes` are the message's own.
    pub fn heard(
        &mut self,
        now: Instant,
        message: Message,
        bytes: &[u8],
        exporter: &mut Exporter<'_>,
    ) -> Result<Vec<Action>, Disagreement> {
        match message {
            Message::Hello(hello) => self.greeted(&hello, now),
            Message::Bye { reason } => self.dismissed(&reason),
            _ if !self.linked => Ok(self.hang_up()),
            message => Ok(self.agreed(now, message, bytes, exporter)),
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant, exporter: &mut Exporter<'_>) -> Vec<Action> {
        let mut actions = self.receiver.tick(now);
        actions.extend(self.keyring.tick(now));
        if self.linked {
            actions.extend(self.keyring.announcement());
        }
        actions.extend(self.sender.tick(now, &mut self.keyring.send, exporter));
        actions
    }

    /// When [`Agreement::tick`] has something to do at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.sender.next_deadline(), self.receiver.next_deadline()].into_iter().flatten().min()
    }

    /// The worker sends in this epoch now.
    pub fn tx_switched(&mut self, now: Instant, epoch: Epoch) -> Vec<Action> {
        self.proven = true;
        self.sender.switched(now, epoch)
    }

    /// The worker can open this epoch's packets.
    pub fn rx_installed(&mut self, epoch: Epoch) -> Vec<Action> {
        self.receiver.installed(epoch)
    }

    /// The worker has given up this epoch's receiving keys.
    pub fn rx_retired(&mut self, epoch: Epoch) {
        self.receiver.retired(epoch);
    }

    /// The worker opened a probe of this epoch.
    pub fn probed(&mut self, epoch: Epoch) -> Vec<Action> {
        self.receiver.probed(epoch)
    }

    /// Flows in use in each of our lanes.
    pub fn set_flows_in_use(&mut self, lanes: impl Iterator<Item = u32>) {
        self.sender.set_flows_in_use(lanes);
    }

    /// A soft limit asks for the next epoch.
    pub fn rotation_wish(&mut self) {
        self.sender.rotation_wish();
    }

    fn hello(&self) -> Hello {
        let terms = &self.terms;
        Hello {
            version: PROTOCOL_VERSION,
            link: terms.link.clone(),
            sae: terms.sae.clone(),
            peer_sae: terms.peer_sae.clone(),
            combine: terms.combine,
            mode: terms.mode,
            key_source: terms.key_source.clone(),
            flows: self.flows,
            hard_limit_ms: u64::try_from(terms.hard_limit.as_millis()).unwrap_or(u64::MAX),
            session: terms.session,
            holds: self.receiver.holds(),
            sends: self.sender.committed(),
        }
    }

    fn agreed(
        &mut self,
        now: Instant,
        message: Message,
        bytes: &[u8],
        exporter: &mut Exporter<'_>,
    ) -> Vec<Action> {
        match message {
            Message::Keys { keys } => self.keyring.announced(keys),
            Message::KeyState { held, missing } => {
                self.keyring.key_state(&held, &missing);
                Vec::new()
            }
            Message::Offer { epoch, key, lanes, nonce: _ } => {
                let pool = &mut self.keyring.receive;
                self.receiver.offered(now, (epoch, lanes, key), bytes, pool, exporter)
            }
            Message::Ready { epoch } => self.sender.ready(now, epoch),
            Message::Refuse { epoch, reason } => {
                warn!("the peer refused epoch {epoch}: {reason}");
                self.sender.refused(now, epoch, &reason);
                Vec::new()
            }
            Message::Active { epoch } => self.sender.answered(epoch),
            Message::Switched { epoch } => {
                self.receiver.switched(now, epoch);
                Vec::new()
            }
            Message::Hello(_)
            | Message::Bye { .. }
            | Message::Path { .. }
            | Message::Ping
            | Message::Pong => Vec::new(),
        }
    }

    fn greeted(&mut self, hello: &Hello, now: Instant) -> Result<Vec<Action>, Disagreement> {
        if self.linked {
            // One hello a connection: a second one would reset what is under way.
            return Ok(self.hang_up());
        }
        if let Some(mismatch) = hello.mismatch(&self.hello()) {
            return self.disagreed(mismatch, true);
        }
        let restarted = self.peer.replace(hello.session) != Some(hello.session);
        if restarted {
            info!("linked with a new process of the peer: all keys are made anew");
        }
        self.keyring.connected(restarted);
        self.linked = true;
        let mut actions = self.receiver.connected(now, hello);
        actions.extend(self.sender.connected(hello));
        Ok(actions)
    }

    /// The peer ends the connection. What it says of our terms came over a connection that it is proven to own.
    fn dismissed(&mut self, reason: &str) -> Result<Vec<Action>, Disagreement> {
        if self.linked {
            info!("the peer ended the connection: {reason}");
            return Ok(self.hang_up());
        }
        self.disagreed(format!("the peer does not link with us; it says: {reason}"), false)
    }

    /// Other terms than ours are a mistake that stops a new site; one that has worked goes on trying.
    fn disagreed(&mut self, line: String, tell_peer: bool) -> Result<Vec<Action>, Disagreement> {
        if !self.proven {
            return Err(Disagreement { line, tell_peer });
        }
        warn!("{line}");
        let bye = Action::Say(Message::Bye { reason: line });
        let mut actions: Vec<Action> = tell_peer.then_some(bye).into_iter().collect();
        actions.extend(self.hang_up());
        Ok(actions)
    }

    fn hang_up(&mut self) -> Vec<Action> {
        self.disconnected();
        vec![Action::HangUp]
    }
}
