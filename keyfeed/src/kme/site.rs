use std::time::Instant;

use serde_json::{Value, json};

use super::bucket::Bucket;
use super::config::KmeConfig;
use super::store::{KeyBytes, Store};
use super::weather::{Change, RateSource, Weather, What};
use crate::secret::KeyId;

/// The keys of one KME, and the weather that they are exposed to. Free of I/O; time is the caller's.
pub(super) struct Site {
    /// Keys that can be given to our SAEs as their master.
    pub(super) bucket: Bucket,
    /// Keys that our SAEs may fetch as their slave.
    pub(super) store: Store,
    pub(super) weather: Weather,
    /// What is given again and again while the weather is so.
    duplicate: Option<KeyBytes>,
}

impl Site {
    pub(super) fn new(config: &KmeConfig, now: Instant) -> Self {
        let keys = &config.keys;
        let source = match &config.fibre {
            Some(fibre) => RateSource::Fibre(fibre.clone(), keys.size),
            None => RateSource::ByHand(keys.rate),
        };
        let weather = Weather::new(source, &config.weather, now);
        let initial = keys.initial.unwrap_or(keys.store);
        let bucket = Bucket::new(initial, weather.rate(), keys.store, keys.block, now);
        let store = Store::new(keys.ttl(), keys.max_unfetched);
        Site { bucket, store, weather, duplicate: None }
    }

    /// Brings weather and keys to `now`, each change at its own moment.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some((at, restart)) = self.weather.step(now) {
            self.settle(restart, at);
        }
        if !self.weather.has(What::DuplicateKey) {
            self.duplicate = None;
        }
    }

    /// Lets a change come now.
    pub(super) fn change(&mut self, change: Change, now: Instant) {
        let restart = self.weather.apply(change, now);
        self.settle(restart, now);
    }

    /// Ends one condition, or all.
    pub(super) fn clear(&mut self, what: Option<What>, now: Instant) {
        self.weather.clear(what);
        self.settle(false, now);
    }

    /// What our SAEs get instead of `keys`.
    pub(super) fn expose(&mut self, keys: &mut [(KeyId, KeyBytes)]) {
        for (_, key) in keys {
            if self.weather.has(What::WrongKey) {
                key.iter_mut().for_each(|byte| *byte = !*byte);
            }
            if self.weather.has(What::DuplicateKey) {
                *key = self.duplicate.get_or_insert_with(|| key.clone()).clone();
            }
        }
    }

    /// How things are, for whoever commands the weather.
    pub(super) fn report(&mut self, now: Instant) -> Value {
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        json!({
            "conditions": self.weather.conditions(),
            "rate": rounded(self.weather.rate()),
            "qber": rounded(self.weather.qber()),
            "stored": self.bucket.count(now),
            "unfetched": self.store.count(now),
        })
    }

    fn settle(&mut self, restart: bool, at: Instant) {
        self.bucket.set_rate(self.weather.rate(), at);
        if restart {
            self.bucket.clear(at);
            self.store.clear();
        }
    }
}
