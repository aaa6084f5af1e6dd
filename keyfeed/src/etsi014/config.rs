use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::secret::SaeId;

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
    #[serde(default = "default_timeout", deserialize_with = "seconds")]
    pub timeout: Duration,
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| de::Error::custom("a timeout is a number of seconds, such as 5"))
}
