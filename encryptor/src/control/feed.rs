//! The key server at work: asks for what the site's pools want, and takes in what it answers.

use std::time::{Duration, Instant};

use qhaul_keyfeed::{FeedReply, Feeder, KeyId, SourceError};
use tracing::{info, warn};

use super::witness::Witness;
use crate::epoch::{Action, Keyring};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// The feeder and its health. Without a feeder, for policies that need no keys of a server, it does nothing.
pub(super) struct Feed {
    feeder: Option<Feeder>,
    not_before: Option<Instant>,
    backoff: Duration,
    answered: bool,
    trouble: Option<String>,
}

impl Feed {
    pub(super) fn new(feeder: Option<Feeder>) -> Feed {
        Feed { feeder, not_before: None, backoff: FIRST_BACKOFF, answered: false, trouble: None }
    }

    /// Whether the key server has ever answered, or need not.
    pub(super) fn answered(&self) -> bool {
        self.answered || self.feeder.is_none()
    }

    /// What ails the key server.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Takes in answers and asks for what is wanted.
    pub(super) fn turn(&mut self, now: Instant, keyring: &mut Keyring, witness: &mut Witness) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(reply) = self.feeder.as_ref().and_then(Feeder::poll) {
            match reply {
                FeedReply::New(Ok(keys)) => {
                    witness.obtained(keys.iter().map(|key| &key.id));
                    keyring.fetched_new(keys);
                    self.recovered();
                }
                FeedReply::New(Err(error)) => self.failed(now, &error),
                FeedReply::ById(items) => actions.extend(keyring.fetched_by_id(now, items)),
                FeedReply::Status(_) => {}
            }
        }
        if keyring.take_missed() {
            self.pause(now);
        }
        if self.not_before.is_some_and(|moment| now >= moment) {
            self.not_before = None;
        }
        let rested = self.not_before.is_none();
        if let Some(feeder) = self.feeder.as_ref().filter(|_| rested && keyring.wants() > 0) {
            // False while an answer is awaited; then the next turn asks.
            feeder.ask_new(keyring.wants());
        }
        actions
    }

    /// Asks for keys that the peer named.
    pub(super) fn fetch(&self, now: Instant, items: Vec<(u64, KeyId)>, keyring: &mut Keyring) {
        let asked = self.feeder.as_ref().is_some_and(|feeder| feeder.ask_by_id(items.clone()));
        if !asked {
            keyring.not_fetched(now, items);
        }
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() || !self.answered {
            info!("key server: keys arrive");
        }
        self.answered = true;
        // A pause for the peer's sake goes on.
        if self.not_before.is_none() {
            self.backoff = FIRST_BACKOFF;
        }
    }

    fn failed(&mut self, now: Instant, error: &SourceError) {
        let line = error.to_string();
        if self.trouble.as_ref() != Some(&line) {
            warn!("key server: {line}");
        }
        self.trouble = Some(line);
        self.pause(now);
    }

    fn pause(&mut self, now: Instant) {
        self.not_before = Some(now + jittered(self.backoff));
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
    }
}

/// Three to five quarters of a pause, so that sites that lost one key server together do not all come back to it at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0];
    // Without randomness the pause is as good, only less spread.
    let _ = aws_lc_rs::rand::fill(&mut random);
    pause * 3 / 4 + pause * u32::from(random[0]) / 512
}
