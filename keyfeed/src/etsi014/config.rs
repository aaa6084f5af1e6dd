use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::secret::SaeId;
use crate::source::timeout;

/// How to reach our KME, and for which peer to get keys.
#[derive(Debug, Clone, Deserialize)]
pub struct Etsi014Config {
    /// `https://HOST[:PORT][/PREFIX]`; the API's own path (`/api/v1/keys/...`) is appended.
    pub url: String,
    /// PEM file of the CA that signs the KME's certificate; no other CA is trusted.
    pub ca: PathBuf,
    /// PEM file of our certificate, which tells the KME our SAE ID.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// Name that the KME's certificate must carry, when that is not the URL's host.
    #[serde(default)]
    pub kme_name: Option<String>,
    /// SAE ID of the encryptor at the other site.
    pub peer_sae: SaeId,
    /// Limit of one request from connect to the last byte of the answer. Seconds when deserialized, 5 by default.
    #[serde(default = "timeout::usual", deserialize_with = "timeout::seconds")]
    pub timeout: Duration,
}
