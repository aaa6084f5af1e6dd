use rustls::{SupportedProtocolVersion, version};
use serde::Deserialize;

/// Lowest TLS version to speak (ETSI GS QKD 014 clause 5.1 allows 1.2).
///
/// TLS 1.2 has no post-quantum key exchange: who records a session today may read the QKD keys in it some day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.3 only.
    #[default]
    #[serde(rename = "1.3")]
    V1_3,
    /// TLS 1.2 or 1.3.
    #[serde(rename = "1.2")]
    V1_2,
}

impl TlsVersion {
    /// All versions from this one on, as rustls wants them.
    pub(super) fn and_higher(self) -> &'static [&'static SupportedProtocolVersion] {
        const FROM_1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
        const FROM_1_2: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        match self {
            TlsVersion::V1_3 => FROM_1_3,
            TlsVersion::V1_2 => FROM_1_2,
        }
    }
}
