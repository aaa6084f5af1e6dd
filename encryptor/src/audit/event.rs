//! What can happen to a key, as the audit log tells it.

use qhaul_keyfeed::KeyId;
use serde::Serialize;

use crate::epoch::Supply;
use crate::spi::Epoch;

/// What happened. In the log: in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Our key server delivered keys.
    Obtained,
    /// The sender told the peer of keys.
    Announced,
    /// Both sites hold the keys.
    Confirmed,
    /// The receiver cannot have the keys.
    Missing,
    /// The sender offered an epoch.
    Offered,
    /// The receiver can open the epoch's packets.
    Ready,
    /// The receiver will not make the epoch.
    Refused,
    /// A probe proved that both ends have the same key.
    Active,
    /// Traffic uses the epoch.
    Switched,
    /// The epoch's keys are zeroized.
    Retired,
    /// Traffic uses no epoch: the peer has lost its keys.
    Withdrawn,
    /// A limit of the epoch in use; `state` says which.
    Limit,
    /// The key supply changed; `state` says to what.
    Alarm,
    /// Another policy was put in force; `reason` says how it differs.
    Policy,
    /// The encryptor started.
    Start,
    /// The encryptor was stopped.
    Stop,
}

/// A limit of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Packets or bytes ask for the next epoch.
    Soft,
    /// Packets or bytes: a flow is refused.
    Hard,
    /// Age: all traffic is stopped.
    Expired,
}

/// Seen from this site.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Plain to cipher.
    Tx,
    /// Cipher to plain.
    Rx,
}

/// One event. It names keys by key_ID,
///
/// ```
/// # use qhaul::audit::{Event, Kind};
/// # fn of(key: &qhaul_keyfeed::DeliveredKey) {
/// let _ = Event::new(Kind::Offered).key(&key.id);
/// # }
/// ```
///
/// and takes nothing else of them:
///
/// ```compile_fail,E0308
/// # use qhaul::audit::{Event, Kind};
/// # fn of(key: &qhaul_keyfeed::DeliveredKey) {
/// let _ = Event::new(Kind::Offered).key(&key.key);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Event<'a> {
    pub(super) kind: Kind,
    pub(super) state: Option<&'static str>,
    pub(super) direction: Option<Direction>,
    pub(super) epoch: Option<Epoch>,
    pub(super) key_ids: Vec<&'a KeyId>,
    pub(super) reason: Option<&'a str>,
    pub(super) link: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// An event of which no more is known.
    pub fn new(kind: Kind) -> Event<'a> {
        Event {
            kind,
            state: None,
            direction: None,
            epoch: None,
            key_ids: Vec::new(),
            reason: None,
            link: None,
        }
    }

    /// A limit was reached.
    pub fn limit(limit: Limit) -> Event<'a> {
        let state = match limit {
            Limit::Soft => "soft",
            Limit::Hard => "hard",
            Limit::Expired => "expired",
        };
        Event { state: Some(state), ..Event::new(Kind::Limit) }
    }

    /// The key supply has a new state, better or worse.
    pub fn alarm(supply: Supply) -> Event<'a> {
        let state = match supply {
            Supply::Filling => "filling",
            Supply::Plenty => "plenty",
            Supply::Low => "low",
            Supply::Critical => "critical",
            Supply::Empty => "empty",
        };
        Event { state: Some(state), ..Event::new(Kind::Alarm) }
    }

    /// In this direction.
    #[must_use]
    pub fn direction(self, direction: Direction) -> Event<'a> {
        Event { direction: Some(direction), ..self }
    }

    /// Of this epoch.
    #[must_use]
    pub fn epoch(self, epoch: Epoch) -> Event<'a> {
        Event { epoch: Some(epoch), ..self }
    }

    /// With this key, besides those named before.
    #[must_use]
    pub fn key(self, key_id: &'a KeyId) -> Event<'a> {
        self.keys([key_id])
    }

    /// With these keys, besides those named before.
    #[must_use]
    pub fn keys(mut self, key_ids: impl IntoIterator<Item = &'a KeyId>) -> Event<'a> {
        self.key_ids.extend(key_ids);
        self
    }

    /// For this reason. The log keeps its first 400 bytes: the peer words some of them.
    #[must_use]
    pub fn reason(self, reason: &'a str) -> Event<'a> {
        Event { reason: Some(reason), ..self }
    }

    /// On this link.
    #[must_use]
    pub fn link(self, link: &'a str) -> Event<'a> {
        Event { link: Some(link), ..self }
    }
}
