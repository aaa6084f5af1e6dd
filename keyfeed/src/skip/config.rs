use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::source::timeout;

/// How to reach our key provider (KP), and for which peer to get keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipConfig {
    /// `https://HOST[:PORT][/PREFIX]`; the protocol's own path (`/key`, `/capabilities`) is appended.
    pub url: String,
    /// PEM file of the CA that signs the KP's certificate; no other CA is trusted.
    pub ca: PathBuf,
    /// PEM file of our certificate.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// Name that the KP's certificate must carry, when that is not the URL's host.
    #[serde(default)]
    pub kp_name: Option<String>,
    /// `remoteSystemID`: the literal `localSystemID` of the peer's KP.
    pub remote_system: String,
    /// Limit of one request from connect to the last byte of the answer. Seconds when deserialized, 5 by default.
    #[serde(default = "timeout::usual", deserialize_with = "timeout::seconds")]
    pub timeout: Duration,
}
