//! The site's keys: fetched ahead from the key server, announced to the peer, and matched by place and key_ID.

use std::time::{Duration, Instant};

use qhaul_keyfeed::{FeedReply, Feeder, KeyId, ReceivePool, SendPool, SourceError, Want};
use tracing::{info, warn};

use crate::link::{MissingKey, Message, OfferedKey};

/// Keys announced in one message.
const ANNOUNCE: usize = 64;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// Both pools and the feeder that fills them.
pub(super) struct Keyring {
    feeder: Option<Feeder>,
    pub(super) send: SendPool,
    pub(super) receive: ReceivePool,
    not_before: Option<Instant>,
    backoff: Duration,
    answered: bool,
    trouble: Option<String>,
}

/// How the key feed does, for status.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct KeyStatus {
    /// Keys that both sites hold for our sending direction.
    pub ready: usize,
    /// All keys fetched for it.
    pub fetched: usize,
    /// Keys held for the receiving direction.
    pub receive: usize,
    /// What ails the key server, if anything.
    pub trouble: Option<String>,
}

impl Keyring {
    /// Empty pools of `depth` keys. Without a feeder, for policies that need no keys of a server, they stay so.
    pub(super) fn new(feeder: Option<Feeder>, depth: usize) -> Keyring {
        let receive_capacity = (4 * depth).max(4 * ANNOUNCE);
        Keyring {
            feeder,
            send: SendPool::new(depth),
            receive: ReceivePool::new(receive_capacity),
            not_before: None,
            backoff: FIRST_BACKOFF,
            answered: false,
            trouble: None,
        }
    }

    /// Whether the key server has ever answered, or need not.
    pub(super) fn answered(&self) -> bool {
        self.answered || self.feeder.is_none()
    }

    /// What ails the key server.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn status(&self) -> KeyStatus {
        KeyStatus {
            ready: self.send.ready(),
            fetched: self.send.len(),
            receive: self.receive.len(),
            trouble: self.trouble.clone(),
        }
    }

    /// The peer's process is a new one: what the old one held is gone.
    pub(super) fn peer_restarted(&mut self) {
        self.send.peer_restarted();
        self.receive.clear();
    }

    /// Asks for keys if some are wanted.
    pub(super) fn tick(&mut self, now: Instant) {
        let Some(feeder) = &self.feeder else { return };
        let rested = self.not_before.is_none_or(|moment| now >= moment);
        if rested && self.send.want() > 0 {
            feeder.ask_new(self.send.want());
        }
    }

    /// Takes in what the key server answered. Gives messages for the peer.
    pub(super) fn collect(&mut self, now: Instant) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(reply) = self.feeder.as_ref().and_then(Feeder::poll) {
            match reply {
                FeedReply::New(Ok(keys)) => {
                    for key in keys {
                        if let Err(error) = self.send.add(key) {
                            warn!("key server: {error}: the key is not used");
                        }
                    }
                    self.recovered();
                }
                FeedReply::New(Err(error)) => self.failed(now, &error),
                FeedReply::ById(items) => messages.push(self.fetched(items)),
                FeedReply::Status(_) => {}
            }
        }
        messages
    }

    /// Keys that the peer is to be told of.
    pub(super) fn announcement(&mut self) -> Option<Message> {
        let keys = self.send.to_announce(ANNOUNCE);
        let keys: Vec<OfferedKey> = keys.into_iter().map(|(place, key_id)| OfferedKey { place, key_id }).collect();
        (!keys.is_empty()).then_some(Message::Keys { keys })
    }

    /// The peer tells of keys of its sending direction.
    pub(super) fn announced(&mut self, keys: Vec<OfferedKey>) -> Option<Message> {
        let (mut held, mut missing, mut fetch) = (Vec::new(), Vec::new(), Vec::new());
        for OfferedKey { place, key_id } in keys {
            match self.receive.wants(place, &key_id) {
                Want::Have => held.push(place),
                Want::Fetch => fetch.push((place, key_id)),
                Want::Refuse(reason) => missing.push(MissingKey { place, reason: reason.to_string() }),
            }
        }
        let places: Vec<u64> = fetch.iter().map(|(place, _)| *place).collect();
        if !self.feeder.as_ref().is_some_and(|feeder| feeder.ask_by_id(fetch)) {
            let reason = "the receiver has no room for more requests to its key server".to_string();
            missing.extend(places.into_iter().map(|place| MissingKey { place, reason: reason.clone() }));
        }
        let silent = held.is_empty() && missing.is_empty();
        (!silent).then_some(Message::KeyState { held, missing })
    }

    /// The peer tells which of our keys it holds.
    pub(super) fn key_state(&mut self, held: &[u64], missing: &[MissingKey]) {
        held.iter().for_each(|&place| self.send.held(place));
        for MissingKey { place, reason } in missing {
            warn!("the peer cannot get the key at place {place}: {reason}");
            self.send.missing(*place);
        }
    }

    fn fetched(&mut self, items: Vec<(u64, KeyId, Result<qhaul_keyfeed::DeliveredKey, SourceError>)>) -> Message {
        let (mut held, mut missing) = (Vec::new(), Vec::new());
        for (place, key_id, fetched) in items {
            let added = match fetched {
                Ok(key) => self.receive.add(place, key).map_err(|error| error.to_string()),
                // Announced twice, it was asked for twice, and a key server delivers once.
                Err(_) if self.receive.wants(place, &key_id) == Want::Have => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            match added {
                Ok(()) => held.push(place),
                Err(reason) => {
                    warn!("key {key_id} of the peer: {reason}");
                    missing.push(MissingKey { place, reason });
                }
            }
        }
        Message::KeyState { held, missing }
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() || !self.answered {
            info!("key server: keys arrive");
        }
        (self.answered, self.not_before, self.backoff) = (true, None, FIRST_BACKOFF);
    }

    fn failed(&mut self, now: Instant, error: &SourceError) {
        let line = error.to_string();
        if self.trouble.as_ref() != Some(&line) {
            warn!("key server: {line}");
        }
        self.trouble = Some(line);
        self.not_before = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
    }
}
