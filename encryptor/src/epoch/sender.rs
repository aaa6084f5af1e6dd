//! The sending end of a direction: offers epochs, probes them, and switches traffic when a probe was answered.

use std::fmt;
use std::time::{Duration, Instant};

use qhaul_keyfeed::SendPool;

use super::{Direction, Exporter, STEP_TIMEOUT, Terms, derive};
use crate::keys::{EpochKey, SessionId};
use crate::link::{Hello, Message, OfferedKey, encode};
use crate::spi::Epoch;

/// A probe is repeated this often until it is answered: one of them may be lost on the way.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(2);

/// What the sender wants done.
#[derive(Debug)]
pub enum SenderAction {
    /// Send a message.
    Say(Message),
    /// Send these bytes of an offer, which the key was derived for.
    SayOffer(Vec<u8>),
    /// Install an epoch for probing.
    Install {
        /// Its number.
        epoch: Epoch,
        /// Its key.
        key: EpochKey,
        /// Flows that the receiver has room for.
        flows: u32,
        /// Age at which it is no longer used, counted from now.
        lifetime: Duration,
    },
    /// Send a probe of the installed epoch.
    Probe(Epoch),
    /// Use the installed epoch.
    Switch(Epoch),
    /// Use no epoch at all: the peer has lost its keys.
    Withdraw,
}

/// How far the agreement on the next epoch is.
#[derive(Debug)]
enum Attempt {
    None,
    Offered { epoch: Epoch, key: Box<EpochKey>, deadline: Instant },
    Probing { epoch: Epoch, deadline: Instant, next_probe: Instant },
    /// The worker has been told, which cannot be taken back: this outlives the connection.
    Switching { epoch: Epoch },
}

/// What the receiver at the other end said of itself.
#[derive(Clone, Copy, Debug)]
struct PeerTerms {
    session: SessionId,
    flows: u32,
    hard_limit: Duration,
}

/// For status: where the direction stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SenderState {
    /// No epoch was ever active, or the peer lost its keys.
    Waiting,
    /// An epoch is in use.
    Active,
    /// The epoch passed its age and waits for a successor; its hard limit has not struck.
    Overdue,
    /// The epoch's hard limit has struck: frames are dropped.
    Expired,
}

impl fmt::Display for SenderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SenderState::Waiting => "waiting",
            SenderState::Active => "active",
            SenderState::Overdue => "overdue",
            SenderState::Expired => "expired",
        })
    }
}

/// The sending end.
#[derive(Debug)]
pub struct Sender {
    terms: Terms,
    lane: u8,
    peer: Option<PeerTerms>,
    last_session: Option<SessionId>,
    active: Option<(Epoch, Instant)>,
    attempt: Attempt,
    next_number: Epoch,
    not_before: Option<Instant>,
    backoff: Duration,
    wish: bool,
    /// Of the epoch that was installed last: the shorter of both ends'.
    hard_limit: Duration,
    switches: u64,
    failures: u64,
    last_failure: Option<String>,
}

impl Sender {
    /// A sender without epochs, for the worker of `lane`.
    pub fn new(terms: Terms, lane: u8) -> Sender {
        Sender {
            hard_limit: terms.hard_limit,
            terms,
            lane,
            peer: None,
            last_session: None,
            active: None,
            attempt: Attempt::None,
            next_number: Epoch::FIRST,
            not_before: None,
            backoff: FIRST_BACKOFF,
            wish: false,
            switches: 0,
            failures: 0,
            last_failure: None,
        }
    }

    /// A connection to the peer stands and its terms are ours.
    pub fn connected(&mut self, hello: &Hello) -> Vec<SenderAction> {
        let restarted = self.last_session.replace(hello.session).is_some_and(|last| last != hello.session);
        let hard_limit = self.terms.hard_limit.min(Duration::from_millis(hello.hard_limit_ms));
        self.peer = Some(PeerTerms { session: hello.session, flows: hello.flows, hard_limit });
        (self.not_before, self.backoff) = (None, FIRST_BACKOFF);
        let switching = match self.attempt {
            Attempt::Switching { epoch } => Some(epoch),
            _ => None,
        };
        let used = switching.or(self.active());
        if used.is_some_and(|epoch| restarted || !hello.holds.contains(&epoch)) {
            self.active = None;
            self.attempt = Attempt::None;
            return vec![SenderAction::Withdraw];
        }
        if switching.is_none() {
            self.attempt = Attempt::None;
        }
        Vec::new()
    }

    /// The connection is gone. What is in use stays in use until its hard limit.
    pub fn disconnected(&mut self) {
        self.peer = None;
        if !matches!(self.attempt, Attempt::Switching { .. }) {
            self.attempt = Attempt::None;
        }
    }

    /// A soft limit asks for the next epoch.
    pub fn rotation_wish(&mut self) {
        self.wish = true;
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant, pool: &mut SendPool, exporter: &mut Exporter<'_>) -> Vec<SenderAction> {
        let due = self.is_due(now);
        match &mut self.attempt {
            Attempt::Offered { epoch, deadline, .. } if now >= *deadline => {
                let reason = format!("the peer did not answer the offer of epoch {epoch}");
                self.fail(now, reason);
            }
            Attempt::Probing { epoch, deadline, .. } if now >= *deadline => {
                let reason = format!("no probe of epoch {epoch} came through: the keys differ or the path is broken");
                self.fail(now, reason);
            }
            Attempt::Probing { epoch, next_probe, .. } if now >= *next_probe => {
                *next_probe = now + PROBE_INTERVAL;
                return vec![SenderAction::Probe(*epoch)];
            }
            Attempt::None if due => return self.offer(now, pool, exporter),
            _ => {}
        }
        Vec::new()
    }

    /// The receiver can open the epoch's packets.
    pub fn ready(&mut self, now: Instant, ready: Epoch) -> Vec<SenderAction> {
        match std::mem::replace(&mut self.attempt, Attempt::None) {
            Attempt::Offered { epoch, key, .. } if epoch == ready => {
                let next_probe = now + PROBE_INTERVAL;
                self.attempt = Attempt::Probing { epoch, deadline: now + STEP_TIMEOUT, next_probe };
                let (flows, lifetime) = self.peer.map_or((0, Duration::ZERO), |peer| (peer.flows, peer.hard_limit));
                self.hard_limit = lifetime;
                vec![SenderAction::Install { epoch, key: *key, flows, lifetime }, SenderAction::Probe(epoch)]
            }
            other => {
                self.attempt = other;
                Vec::new()
            }
        }
    }

    /// The receiver will not make the epoch.
    pub fn refused(&mut self, now: Instant, refused: Epoch, reason: &str) {
        if let Attempt::Offered { epoch, .. } | Attempt::Probing { epoch, .. } = &self.attempt
            && *epoch == refused
        {
            self.fail(now, format!("the peer refused epoch {refused}: {reason}"));
        }
    }

    /// A probe of the epoch came through.
    pub fn answered(&mut self, answered: Epoch) -> Vec<SenderAction> {
        match &self.attempt {
            Attempt::Probing { epoch, .. } if *epoch == answered => {
                self.attempt = Attempt::Switching { epoch: answered };
                vec![SenderAction::Switch(answered)]
            }
            _ => Vec::new(),
        }
    }

    /// The worker uses the epoch now.
    pub fn switched(&mut self, now: Instant, switched: Epoch) -> Vec<SenderAction> {
        if !matches!(&self.attempt, Attempt::Switching { epoch } if *epoch == switched) {
            // It was withdrawn meanwhile.
            return Vec::new();
        }
        self.attempt = Attempt::None;
        (self.not_before, self.backoff) = (None, FIRST_BACKOFF);
        self.active = Some((switched, now));
        self.switches += 1;
        self.wish = false;
        vec![SenderAction::Say(Message::Switched { epoch: switched })]
    }

    /// When [`Sender::tick`] has something to do at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.attempt {
            Attempt::Offered { deadline, .. } => Some(*deadline),
            Attempt::Switching { .. } => None,
            Attempt::Probing { next_probe, deadline, .. } => Some(*next_probe.min(deadline)),
            Attempt::None if self.peer.is_none() => None,
            Attempt::None => {
                let due = self.active.filter(|_| !self.wish).map(|(_, since)| since + self.terms.rotate);
                due.max(self.not_before)
            }
        }
    }

    /// The epoch in use.
    pub fn active(&self) -> Option<Epoch> {
        self.active.map(|(epoch, _)| epoch)
    }

    /// Where the direction stands, and how long ago it last switched.
    pub fn state(&self, now: Instant) -> (SenderState, Option<Duration>) {
        let Some((_, since)) = self.active else { return (SenderState::Waiting, None) };
        let age = now.saturating_duration_since(since);
        let state = match age {
            age if age >= self.hard_limit => SenderState::Expired,
            age if age >= self.terms.rotate + STEP_TIMEOUT => SenderState::Overdue,
            _ => SenderState::Active,
        };
        (state, Some(age))
    }

    /// Age at which the epoch in use is no longer used.
    pub fn hard_limit(&self) -> Duration {
        self.hard_limit
    }

    /// How often traffic was switched to a new epoch.
    pub fn switches(&self) -> u64 {
        self.switches
    }

    /// How many agreements failed, and why the last one did.
    pub fn failures(&self) -> (u64, Option<&str>) {
        (self.failures, self.last_failure.as_deref())
    }

    fn is_due(&self, now: Instant) -> bool {
        let rested = self.not_before.is_none_or(|moment| now >= moment);
        let old = self.active.is_none_or(|(_, since)| now >= since + self.terms.rotate);
        self.peer.is_some() && rested && (old || self.wish)
    }

    fn offer(&mut self, now: Instant, pool: &mut SendPool, exporter: &mut Exporter<'_>) -> Vec<SenderAction> {
        let Some(peer) = self.peer else { return Vec::new() };
        let taken = if self.terms.combine.needs_qkd() {
            let Some((place, key)) = pool.take() else { return Vec::new() };
            Some((OfferedKey { place, key_id: key.id.clone() }, key))
        } else {
            None
        };
        let epoch = self.next_number;
        self.next_number = epoch.next();
        let mut nonce = [0; 16];
        if aws_lc_rs::rand::fill(&mut nonce).is_err() {
            self.fail(now, "the system's random number generator failed".into());
            return Vec::new();
        }
        let nonce = SessionId(nonce).to_string();
        let key = taken.as_ref().map(|(offered, _)| offered.clone());
        let record = encode(&Message::Offer { epoch, key, nonce, lane: self.lane });
        let direction =
            Direction { sender: (&self.terms.sae, self.terms.session), receiver: (&self.terms.peer_sae, peer.session) };
        let qkd = taken.as_ref().map(|(offered, key)| (offered, key.key.as_bytes()));
        match derive(&self.terms, &direction, epoch, qkd, &record[4..], exporter) {
            Ok(key) => {
                let deadline = now + STEP_TIMEOUT;
                self.attempt = Attempt::Offered { epoch, key: Box::new(key), deadline };
                vec![SenderAction::SayOffer(record)]
            }
            Err(error) => {
                self.fail(now, error.to_string());
                Vec::new()
            }
        }
    }

    /// Tries again after a pause, with a fresh key and the next number.
    fn fail(&mut self, now: Instant, reason: String) {
        self.attempt = Attempt::None;
        self.not_before = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
        self.failures += 1;
        self.last_failure = Some(reason);
    }
}
