//! The sending end of a direction: offers epochs, probes them, and switches traffic when a probe was answered.

use std::fmt;
use std::time::{Duration, Instant};

use qhaul_keyfeed::SendPool;
use tracing::{info, warn};

use super::{Action, Direction, Exporter, STEP_TIMEOUT, Supply, Terms, derive};
use crate::keys::{EpochKey, SessionId};
use crate::link::{Hello, Message, OfferedKey, encode};
use crate::spi::Epoch;

/// An epoch is used for this long at the least.
const EARLIEST: Duration = Duration::from_secs(1);
/// A probe is repeated this often until it is answered: one of them may be lost on the way.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(2);

/// How far the agreement on the next epoch is.
#[derive(Debug)]
enum Attempt {
    None,
    Offered {
        epoch: Epoch,
        key: Box<EpochKey>,
        deadline: Instant,
    },
    Probing {
        epoch: Epoch,
        deadline: Instant,
        next_probe: Instant,
    },
    /// The worker has been told, which cannot be taken back: this outlives the connection.
    Switching {
        epoch: Epoch,
    },
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
    lanes: Vec<u32>,
    peer: Option<PeerTerms>,
    last_session: Option<SessionId>,
    active: Option<(Epoch, Instant)>,
    attempt: Attempt,
    next_number: Epoch,
    /// When the next offer is due: a period after the one before, so that agreeing takes no time off the rate.
    due: Option<Instant>,
    not_before: Option<Instant>,
    /// An agreement was cut off since the last tick.
    interrupted: bool,
    backoff: Duration,
    wish: bool,
    supply: Supply,
    /// Of the epoch that was installed last: the shorter of both ends'.
    hard_limit: Duration,
    switches: u64,
    failures: u64,
    last_failure: Option<String>,
}

impl Sender {
    /// A sender without epochs, for as many workers as there are `lanes`.
    pub fn new(terms: Terms, lanes: usize) -> Sender {
        Sender {
            hard_limit: terms.hard_limit,
            terms,
            lanes: vec![0; lanes],
            peer: None,
            last_session: None,
            active: None,
            attempt: Attempt::None,
            next_number: Epoch::FIRST,
            due: None,
            not_before: None,
            interrupted: false,
            backoff: FIRST_BACKOFF,
            wish: false,
            supply: Supply::Filling,
            switches: 0,
            failures: 0,
            last_failure: None,
        }
    }

    /// A connection to the peer stands and its terms are ours.
    pub fn connected(&mut self, hello: &Hello) -> Vec<Action> {
        let restarted = self.last_session.replace(hello.session).is_some_and(|last| last != hello.session);
        let hard_limit = self.terms.hard_limit.min(Duration::from_millis(hello.hard_limit_ms));
        self.supply = Supply::Filling;
        self.peer = Some(PeerTerms { session: hello.session, flows: hello.flows, hard_limit });
        if self.committed().is_some_and(|epoch| restarted || !hello.holds.contains(&epoch)) {
            self.active = None;
            self.attempt = Attempt::None;
            self.due = None;
            return vec![Action::WithdrawTx];
        }
        self.give_up_attempt();
        Vec::new()
    }

    /// The connection is gone. What is in use stays in use until its hard limit.
    pub fn disconnected(&mut self) {
        self.peer = None;
        self.give_up_attempt();
    }

    /// Flows in use in each lane, to be told in the next offer.
    pub fn set_flows_in_use(&mut self, lanes: impl Iterator<Item = u32>) {
        self.lanes.iter_mut().zip(lanes).for_each(|(lane, flows)| *lane = flows);
    }

    /// A soft limit asks for the next epoch.
    pub fn rotation_wish(&mut self) {
        self.wish = true;
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant, pool: &mut SendPool, exporter: &mut Exporter<'_>) -> Vec<Action> {
        if std::mem::take(&mut self.interrupted) {
            self.pause(now);
        }
        self.watch_supply(pool);
        let due = self.is_due(now);
        match &mut self.attempt {
            Attempt::Offered { epoch, deadline, .. } if now >= *deadline => {
                let reason = format!("the peer did not answer the offer of epoch {epoch}");
                self.fail(now, reason);
            }
            Attempt::Probing { epoch, deadline, .. } if now >= *deadline => {
                let reason =
                    format!("no probe of epoch {epoch} came through: the keys differ or the path is broken");
                self.fail(now, reason);
            }
            Attempt::Probing { epoch, next_probe, .. } if now >= *next_probe => {
                *next_probe = now + PROBE_INTERVAL;
                return vec![Action::Probe(*epoch)];
            }
            Attempt::None if due => return self.offer(now, pool, exporter),
            _ => {}
        }
        Vec::new()
    }

    /// The receiver can open the epoch's packets.
    pub fn ready(&mut self, now: Instant, ready: Epoch) -> Vec<Action> {
        match std::mem::replace(&mut self.attempt, Attempt::None) {
            Attempt::Offered { epoch, key, .. } if epoch == ready => {
                let next_probe = now + PROBE_INTERVAL;
                self.attempt = Attempt::Probing { epoch, deadline: now + STEP_TIMEOUT, next_probe };
                let (flows, lifetime) =
                    self.peer.map_or((0, Duration::ZERO), |peer| (peer.flows, peer.hard_limit));
                self.hard_limit = lifetime;
                vec![Action::InstallTx { epoch, key: *key, flows, lifetime }, Action::Probe(epoch)]
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
    pub fn answered(&mut self, answered: Epoch) -> Vec<Action> {
        match &self.attempt {
            Attempt::Probing { epoch, .. } if *epoch == answered => {
                self.attempt = Attempt::Switching { epoch: answered };
                vec![Action::SwitchTx(answered)]
            }
            _ => Vec::new(),
        }
    }

    /// The worker uses the epoch now.
    pub fn switched(&mut self, now: Instant, switched: Epoch) -> Vec<Action> {
        if !matches!(&self.attempt, Attempt::Switching { epoch } if *epoch == switched) {
            // It was withdrawn meanwhile.
            return Vec::new();
        }
        self.attempt = Attempt::None;
        (self.not_before, self.backoff) = (None, FIRST_BACKOFF);
        self.active = Some((switched, now));
        self.switches += 1;
        self.wish = false;
        vec![Action::Say(Message::Switched { epoch: switched })]
    }

    /// When [`Sender::tick`] has something to do at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.attempt {
            Attempt::Offered { deadline, .. } => Some(*deadline),
            Attempt::Switching { .. } => None,
            Attempt::Probing { next_probe, deadline, .. } => Some(*next_probe.min(deadline)),
            Attempt::None if self.peer.is_none() => None,
            Attempt::None => self.replace_at().max(self.not_before),
        }
    }

    /// How the supply of keys stands.
    pub fn supply(&self) -> Supply {
        self.supply
    }

    /// The epoch in use.
    pub fn active(&self) -> Option<Epoch> {
        self.active.map(|(epoch, _)| epoch)
    }

    /// The epoch in use, or the one that the worker was told to use, which cannot be taken back: for `hello`.
    pub fn committed(&self) -> Option<Epoch> {
        match self.attempt {
            Attempt::Switching { epoch } => Some(epoch),
            _ => self.active(),
        }
    }

    /// The receiver's process that was last linked with.
    #[cfg(test)]
    pub(super) fn last_session(&self) -> Option<SessionId> {
        self.last_session
    }

    /// Where the direction stands, and how long ago it last switched.
    pub fn state(&self, now: Instant) -> (SenderState, Option<Duration>) {
        let Some((_, since)) = self.active else { return (SenderState::Waiting, None) };
        let age = now.saturating_duration_since(since);
        let state = match age {
            age if age >= self.hard_limit => SenderState::Expired,
            age if age >= self.supply.period(self.terms.rotate, self.hard_limit) + STEP_TIMEOUT => {
                SenderState::Overdue
            }
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

    fn watch_supply(&mut self, pool: &SendPool) {
        if !self.terms.combine.needs_qkd() || self.peer.is_none() {
            return;
        }
        let state = self.supply.next(pool.ready(), pool.depth());
        if state == std::mem::replace(&mut self.supply, state) {
            return;
        }
        let period = state.period(self.terms.rotate, self.terms.hard_limit);
        let line = format!(
            "key supply: {state}, {} of {} keys: a new epoch every {period:?}",
            pool.ready(),
            pool.depth()
        );
        if state.alarms() { warn!("{line}") } else { info!("{line}") }
    }

    fn is_due(&self, now: Instant) -> bool {
        let rested = self.not_before.is_none_or(|moment| now >= moment);
        self.peer.is_some() && rested && self.replace_at().is_none_or(|moment| now >= moment)
    }

    /// When the epoch in use is to be replaced; none: at once. A wish is granted, but not so fast that keys run out or
    /// numbers come round while the receiver still holds them.
    fn replace_at(&self) -> Option<Instant> {
        let (_, since) = self.active?;
        let wished = since + self.terms.grace.max(EARLIEST);
        self.due.map(|due| if self.wish { due.min(wished) } else { due })
    }

    fn offer(&mut self, now: Instant, pool: &mut SendPool, exporter: &mut Exporter<'_>) -> Vec<Action> {
        let Some(peer) = self.peer else { return Vec::new() };
        let taken = if self.terms.combine.needs_qkd() {
            let Some((place, key)) = pool.take() else {
                self.not_before = Some(now + FIRST_BACKOFF);
                return Vec::new();
            };
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
        let offer = Message::Offer { epoch, key, nonce, lanes: self.lanes.clone() };
        let record = encode(&offer);
        let direction = Direction {
            sender: (&self.terms.sae, self.terms.session),
            receiver: (&self.terms.peer_sae, peer.session),
        };
        let qkd = taken.as_ref().map(|(offered, key)| (offered, key.key.as_bytes()));
        match derive(&self.terms, &direction, epoch, qkd, &record[4..], exporter) {
            Ok(key) => {
                let deadline = now + STEP_TIMEOUT;
                self.due = Some(now + self.supply.period(self.terms.rotate, self.terms.hard_limit));
                self.attempt = Attempt::Offered { epoch, key: Box::new(key), deadline };
                vec![Action::SayOffer { offer, record }]
            }
            Err(error) => {
                self.fail(now, error.to_string());
                Vec::new()
            }
        }
    }

    /// An agreement that the connection was lost under is made anew after a pause, since each one costs a key and whoever
    /// owns the wire can break connections at will. A switch cannot be taken back.
    fn give_up_attempt(&mut self) {
        if matches!(self.attempt, Attempt::Offered { .. } | Attempt::Probing { .. }) {
            self.attempt = Attempt::None;
            self.due = None;
            self.interrupted = true;
        }
    }

    fn pause(&mut self, now: Instant) {
        self.not_before = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
    }

    /// Tries again after a pause, with a fresh key and the next number.
    fn fail(&mut self, now: Instant, reason: String) {
        self.attempt = Attempt::None;
        self.due = None;
        self.pause(now);
        self.failures += 1;
        self.last_failure = Some(reason);
    }
}
