mod config;
mod error;
pub(crate) mod timeout;

pub use config::{SourceConfig, SourceMaker};
pub use error::SourceError;

use crate::secret::{DeliveredKey, KeyId};

/// Where keys come from, for one peer SAE. Adding a kind of source means one new implementation of this trait.
///
/// Calls block, for as long as the source's own timeouts allow at most: run a source on a
/// [`Feeder`](crate::feeder::Feeder).
pub trait KeySource: Send {
    /// The kind of source as it enters key derivation: `"etsi014"`, `"skip"` or `"file"`.
    fn kind(&self) -> &'static str;

    /// Asks the source how it is.
    ///
    /// # Errors
    /// [`SourceError`].
    fn status(&mut self) -> Result<SourceStatus, SourceError>;

    /// Gets up to `number` fresh keys, for which this site is the master.
    ///
    /// All keys of one call have distinct key_IDs and bytes. Fewer than `number` come when the source ran dry on
    /// the way; never zero for a `number` above zero.
    ///
    /// # Errors
    /// [`SourceError::Empty`] when there is no key now; any other [`SourceError`].
    fn new_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError>;

    /// Gets the keys that the peer, as their master, named. The answer is in the order of `ids`.
    ///
    /// Sources hand out a key once, so keys already received are kept when a later request of the same call fails:
    /// the answer then is a shorter list, and the rest was not fetched.
    ///
    /// # Errors
    /// [`SourceError::NotFound`] when at least one of the first batch is unknown; any other [`SourceError`].
    fn keys_by_id(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError>;
}

/// What a source says of itself (ETSI GS QKD 014 clause 6.1; other sources give what they can). Servers' counts are known to be off: take them as hints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// ID of the KME that answers.
    pub source_kme_id: String,
    /// ID of the KME that serves the peer.
    pub target_kme_id: String,
    /// SAE ID under which the KME knows us.
    pub master_sae_id: String,
    /// SAE ID of the peer.
    pub slave_sae_id: String,
    /// Size of a key when none is asked for, bits.
    pub key_size_bits: u32,
    /// Keys that can be had now. 0 when `max_key_count` is 0 too: the source does not count.
    pub stored_key_count: u64,
    /// Keys that the KME stores at most.
    pub max_key_count: u64,
    /// Keys that one request may ask for.
    pub max_key_per_request: u64,
    /// Largest key, bits.
    pub max_key_size_bits: u32,
    /// Smallest key, bits.
    pub min_key_size_bits: u32,
    /// `status_extension` as JSON in one line, cut if long: what the KME says beyond the standard, such as an alarm.
    pub extension: Option<String>,
}

impl SourceStatus {
    /// Of a source without a KME: `place` stands for all names.
    pub(crate) fn local(place: &std::path::Path, stored_key_count: u64) -> Self {
        let name = place.display().to_string();
        SourceStatus {
            source_kme_id: name.clone(),
            target_kme_id: name.clone(),
            master_sae_id: name.clone(),
            slave_sae_id: name,
            key_size_bits: 256,
            stored_key_count,
            max_key_count: stored_key_count.max(1),
            max_key_per_request: 128,
            max_key_size_bits: 256,
            min_key_size_bits: 256,
            extension: None,
        }
    }
}
