use std::time::Duration;

use serde::Deserialize;

use super::broken;

/// `[keys]`; every setting has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// New keys per second, of `size` bits, for which our SAE is the master.
    pub rate: f64,
    /// Keys that come at once, as a QKD system yields them in blocks; 0: one by one.
    pub block: u64,
    /// Keys stored at most; generation pauses when the store is full.
    pub store: u64,
    /// Keys stored at start; a full store unless given.
    pub initial: Option<u64>,
    /// Keys per request at most.
    pub max_per_request: u64,
    /// Size of a key when none is asked for, bits. Larger keys cost the store proportionally more.
    pub size: u32,
    /// Smallest key, bits.
    pub min_size: u32,
    /// Largest key, bits.
    pub max_size: u32,
    /// SAEs that one request may name besides the slave of its path (`max_SAE_ID_count`); 0 is no multicast.
    pub max_sae_ids: u64,
    /// Seconds after which a key that our SAE has not fetched by its key_ID is erased.
    pub ttl: u64,
    /// Keys that wait for our SAE to fetch them by key_ID, at most.
    pub max_unfetched: usize,
}

impl Default for KeysConfig {
    fn default() -> Self {
        KeysConfig {
            rate: 10.0,
            block: 0,
            store: 1_000,
            initial: None,
            max_per_request: 128,
            size: 256,
            min_size: 64,
            max_size: 1_024,
            max_sae_ids: 0,
            ttl: 600,
            max_unfetched: 10_000,
        }
    }
}

impl KeysConfig {
    /// What no type can say. The error names the setting and the remedy.
    pub(super) fn check(&self) -> Result<(), String> {
        let sizes = [self.min_size, self.size, self.max_size];
        let rules = [
            (
                self.rate.is_finite() && self.rate >= 0.0,
                "[keys] rate must be a number of keys per second, 0 or more",
            ),
            ((1..=1_000_000).contains(&self.store), "[keys] store must be 1 to 1000000"),
            (self.block <= self.store, "[keys] block must not exceed store"),
            (
                self.initial.is_none_or(|initial| initial <= self.store),
                "[keys] initial must not exceed store",
            ),
            ((1..=1_000).contains(&self.max_per_request), "[keys] max_per_request must be 1 to 1000"),
            (sizes.iter().all(|size| size % 8 == 0 && *size > 0), "[keys] sizes must be multiples of 8 bits"),
            (
                sizes.is_sorted() && self.max_size <= 8_192,
                "[keys] needs min_size <= size <= max_size <= 8192",
            ),
            (self.max_sae_ids <= 64, "[keys] max_sae_ids must be 0 to 64"),
            ((1..=86_400).contains(&self.ttl), "[keys] ttl must be 1 to 86400 seconds"),
            ((1..=1_000_000).contains(&self.max_unfetched), "[keys] max_unfetched must be 1 to 1000000"),
        ];
        broken(&rules)
    }

    pub(in crate::kme) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl)
    }
}
