//! The JSON of draft-cisco-skip-02 section 4, for both ends. Field names are the draft's.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::KeyId;

/// `GET /capabilities`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Capabilities {
    /// Whether `/entropy` is served.
    #[serde(default)]
    pub(crate) entropy: bool,
    /// Whether `/key` is served.
    pub(crate) key: bool,
    /// How the KPs make and share keys, in words.
    #[serde(default)]
    pub(crate) algorithm: String,
    #[serde(rename = "localSystemID")]
    pub(crate) local_system_id: String,
    /// Names of KPs or POSIX globs.
    #[serde(rename = "remoteSystemID")]
    pub(crate) remote_system_id: Vec<String>,
}

/// `GET /key` and `GET /key/{keyId}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SkipKey {
    pub(crate) key_id: KeyId,
    /// Hexadecimal.
    pub(crate) key: Zeroizing<String>,
}

/// `GET /entropy`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entropy {
    /// Hexadecimal.
    pub(crate) random_str: Zeroizing<String>,
    /// Bits.
    pub(crate) minentropy: u64,
}
