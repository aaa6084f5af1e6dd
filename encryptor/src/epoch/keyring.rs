//! A site's keys on their way: both pools, and what is said about them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use qhaul_keyfeed::{DeliveredKey, KeyId, ReceivePool, SendPool, SourceError, Want};
use tracing::warn;

use super::Action;
use crate::link::{Message, MissingKey, OfferedKey};

/// Keys announced in one message.
const ANNOUNCE: usize = 64;

/// How long to wait before a key server that could not answer is asked again for the peer's keys.
const RETRY: Duration = Duration::from_secs(1);

/// How many keys there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyCounts {
    /// Keys that both sites hold for our sending direction.
    pub ready: usize,
    /// All keys fetched for it.
    pub fetched: usize,
    /// Keys held for the receiving direction.
    pub receive: usize,
}

/// Both pools of a site.
#[derive(Debug)]
pub struct Keyring {
    pub(super) send: SendPool,
    pub(super) receive: ReceivePool,
    capacity: usize,
    /// Keys of the peer that our key server was asked for. An answer to anything else is to a question of the past.
    under_way: HashSet<(u64, KeyId)>,
    /// Those of them that it could not answer for now, and when to ask again.
    retry: Vec<(u64, KeyId)>,
    retry_at: Option<Instant>,
    missed: bool,
}

impl Keyring {
    /// Empty pools that want `depth` keys.
    pub fn new(depth: usize) -> Keyring {
        let capacity = (4 * depth).max(4 * ANNOUNCE);
        Keyring {
            send: SendPool::new(depth),
            receive: ReceivePool::new(capacity),
            capacity,
            under_way: HashSet::new(),
            retry: Vec::new(),
            retry_at: None,
            missed: false,
        }
    }

    /// How many fresh keys to fetch.
    pub fn wants(&self) -> usize {
        self.send.want()
    }

    /// How many keys there are.
    pub fn counts(&self) -> KeyCounts {
        KeyCounts { ready: self.send.ready(), fetched: self.send.len(), receive: self.receive.len() }
    }

    /// Whether the peer could not get a key since the last call: then fetching more at once would only waste them.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// Fresh keys for our sending direction.
    pub fn fetched_new(&mut self, keys: Vec<DeliveredKey>) {
        for key in keys {
            if let Err(error) = self.send.add(key) {
                warn!("key server: {error}: the key is not used");
            }
        }
    }

    /// Keys that the peer named, or why they cannot be had. A key server that cannot answer for now is asked again: its
    /// outage must not cost the peer's key server its keys.
    pub fn fetched_by_id(
        &mut self,
        now: Instant,
        items: Vec<(u64, KeyId, Result<DeliveredKey, SourceError>)>,
    ) -> Option<Action> {
        let (mut held, mut missing) = (Vec::new(), Vec::new());
        for (place, key_id, fetched) in items {
            if !self.under_way.contains(&(place, key_id.clone())) {
                continue;
            }
            let added = match fetched {
                Err(error) if error.is_transient() => {
                    self.ask_again(now, place, key_id);
                    continue;
                }
                Err(error) => Err(error.to_string()),
                Ok(key) => self.receive.add(place, key).map_err(|error| error.to_string()),
            };
            self.under_way.remove(&(place, key_id));
            match added {
                Ok(()) => held.push(place),
                Err(reason) => missing.push(MissingKey { place, reason }),
            }
        }
        if let Some(MissingKey { place, reason }) = missing.first() {
            warn!("{} keys of the peer cannot be had; at place {place}: {reason}", missing.len());
        }
        let silent = held.is_empty() && missing.is_empty();
        (!silent).then_some(Action::Say(Message::KeyState { held, missing }))
    }

    /// Keys that there was no room to ask for now.
    pub fn not_fetched(&mut self, now: Instant, items: Vec<(u64, KeyId)>) {
        items.into_iter().for_each(|(place, key_id)| self.ask_again(now, place, key_id));
    }

    /// Lets time pass: asks again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Action> {
        if self.retry_at.is_none_or(|moment| now < moment) {
            return None;
        }
        self.retry_at = None;
        Some(Action::Fetch(std::mem::take(&mut self.retry)))
    }

    fn ask_again(&mut self, now: Instant, place: u64, key_id: KeyId) {
        self.retry.push((place, key_id));
        self.retry_at.get_or_insert(now + RETRY);
    }

    /// Keys that the peer is to be told of.
    pub(super) fn announcement(&mut self) -> Option<Action> {
        let keys = self.send.to_announce(ANNOUNCE);
        let keys: Vec<OfferedKey> =
            keys.into_iter().map(|(place, key_id)| OfferedKey { place, key_id }).collect();
        (!keys.is_empty()).then_some(Action::Say(Message::Keys { keys }))
    }

    /// The peer tells of keys of its sending direction.
    pub(super) fn announced(&mut self, keys: Vec<OfferedKey>) -> Vec<Action> {
        let (mut held, mut missing, mut fetch) = (Vec::new(), Vec::new(), Vec::new());
        for OfferedKey { place, key_id } in keys {
            match self.receive.wants(place, &key_id) {
                Want::Have => held.push(place),
                Want::Fetch if self.under_way.len() >= self.capacity => {
                    missing.push(MissingKey { place, reason: "too many keys are being fetched".into() });
                }
                // Announced again after a break, it may be under way still; its answer will be told.
                Want::Fetch if !self.under_way.insert((place, key_id.clone())) => {}
                Want::Fetch => fetch.push((place, key_id)),
                Want::Refuse(reason) => missing.push(MissingKey { place, reason: reason.to_string() }),
            }
        }
        let mut actions = Vec::new();
        if !held.is_empty() || !missing.is_empty() {
            actions.push(Action::Say(Message::KeyState { held, missing }));
        }
        if !fetch.is_empty() {
            actions.push(Action::Fetch(fetch));
        }
        actions
    }

    /// The peer tells which of our keys it holds.
    pub(super) fn key_state(&mut self, held: &[u64], missing: &[MissingKey]) {
        held.iter().for_each(|&place| self.send.held(place));
        if let Some(MissingKey { place, reason }) = missing.first() {
            warn!("the peer cannot get {} of our keys; at place {place}: {reason}", missing.len());
            self.missed = true;
        }
        missing.iter().for_each(|key| self.send.missing(key.place));
    }

    /// A connection to the peer stands. If its process is a new one, what the old one held is gone.
    pub(super) fn connected(&mut self, restarted: bool) {
        if restarted {
            self.send.peer_restarted();
            self.receive.clear();
            self.under_way.clear();
            (self.retry, self.retry_at) = (Vec::new(), None);
        } else {
            self.send.channel_lost();
        }
    }
}
