use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::KmeError;
use crate::https::TlsFiles;
use crate::secret::SaeId;

/// A KME's configuration file (TOML). `examples/kme.toml` is a commented sample.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmeConfig {
    /// This KME.
    pub kme: KmeSection,
    /// Certificates, for the API and for the link.
    pub tls: TlsSection,
    /// The SAE that this KME serves.
    pub sae: SaeSection,
    /// The KME of the other site.
    pub peer: PeerSection,
    /// How many keys, and of which size.
    #[serde(default)]
    pub keys: KeysConfig,
}

/// `[kme]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmeSection {
    /// KME ID; the name in this KME's certificate.
    pub id: String,
    /// Address and port of the API.
    pub listen: SocketAddr,
    /// Lowest TLS version of the API.
    #[serde(default)]
    pub tls: TlsVersion,
}

/// Lowest TLS version that the API takes (ETSI GS QKD 014 clause 5.1 allows 1.2). The link always wants 1.3.
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

/// `[tls]`: PEM files. A relative path starts at the configuration file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// CA that signs the certificates of the SAE and of the peer KME.
    pub ca: PathBuf,
    /// This KME's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[sae]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaeSection {
    /// SAE ID as in the SAE's certificate: its first SAN DNS name, or its CN when there is none.
    pub id: SaeId,
}

/// `[peer]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSection {
    /// KME ID of the peer, which its certificate must carry as a SAN DNS name.
    pub kme_id: String,
    /// `HOST:PORT` of the peer's link listener.
    pub address: String,
    /// Address and port of our link listener.
    pub listen: SocketAddr,
    /// SAE ID that the peer serves.
    pub sae_id: SaeId,
}

/// `[keys]`; every setting has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// New keys per second, of `size` bits, for which our SAE is the master.
    pub rate: f64,
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
    /// Seconds after which a key that our SAE has not fetched by its key_ID is erased.
    pub ttl: u64,
    /// Keys that wait for our SAE to fetch them by key_ID, at most.
    pub max_unfetched: usize,
}

impl Default for KeysConfig {
    fn default() -> Self {
        KeysConfig {
            rate: 10.0,
            store: 1_000,
            initial: None,
            max_per_request: 128,
            size: 256,
            min_size: 64,
            max_size: 1_024,
            ttl: 600,
            max_unfetched: 10_000,
        }
    }
}

impl KmeConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`KmeError::Config`] naming the file, the line or setting, and what to write.
    pub fn load(path: &Path) -> Result<Self, KmeError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| KmeError::Config(format!("{shown}: {e}; give the KME's configuration file")))?;
        let mut config: KmeConfig = toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
            KmeError::Config(format!("{shown}, line {line}: {}", e.message().replace('\n', ", ")))
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in [&mut config.tls.ca, &mut config.tls.cert, &mut config.tls.key] {
            *file = folder.join(&*file);
        }
        config.check().map_err(|reason| KmeError::Config(format!("{shown}: {reason}")))?;
        Ok(config)
    }

    /// What no type can say. The error names the setting and the remedy.
    pub(super) fn check(&self) -> Result<(), String> {
        let keys = &self.keys;
        let sizes = [keys.min_size, keys.size, keys.max_size];
        let rules = [
            (
                ServerName::try_from(self.peer.kme_id.as_str()).is_ok(),
                "[peer] kme_id must be a DNS name, such as KME-B",
            ),
            (self.kme.id != self.peer.kme_id, "[peer] kme_id must differ from [kme] id"),
            (self.sae.id != self.peer.sae_id, "[peer] sae_id must differ from [sae] id"),
            (
                keys.rate.is_finite() && keys.rate >= 0.0,
                "[keys] rate must be a number of keys per second, 0 or more",
            ),
            ((1..=1_000_000).contains(&keys.store), "[keys] store must be 1 to 1000000"),
            (
                keys.initial.is_none_or(|initial| initial <= keys.store),
                "[keys] initial must not exceed store",
            ),
            ((1..=1_000).contains(&keys.max_per_request), "[keys] max_per_request must be 1 to 1000"),
            (sizes.iter().all(|size| size % 8 == 0 && *size > 0), "[keys] sizes must be multiples of 8 bits"),
            (
                sizes.is_sorted() && keys.max_size <= 8_192,
                "[keys] needs min_size <= size <= max_size <= 8192",
            ),
            ((1..=86_400).contains(&keys.ttl), "[keys] ttl must be 1 to 86400 seconds"),
            ((1..=1_000_000).contains(&keys.max_unfetched), "[keys] max_unfetched must be 1 to 1000000"),
        ];
        rules.iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, rule)| Err((*rule).to_owned()))
    }
}

impl KeysConfig {
    pub(super) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl)
    }
}

impl TlsSection {
    pub(super) fn files(&self) -> TlsFiles {
        TlsFiles { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../examples/kme.toml");

    fn load(text: &str) -> Result<KmeConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kme.toml");
        std::fs::write(&path, text).unwrap();
        KmeConfig::load(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn the_sample_is_valid_and_shows_the_defaults() {
        let config = load(SAMPLE).unwrap();
        assert_eq!(config.kme.id, "KME-A");
        assert!(config.tls.ca.is_absolute(), "relative paths start at the file's folder");
        let shown = KeysConfig { initial: None, ..config.keys };
        assert_eq!(format!("{shown:?}"), format!("{:?}", KeysConfig::default()));
    }

    #[test]
    fn each_mistake_is_named_in_one_line() {
        let cases = [
            ("rate = 10.0", "rate = -1.0", "[keys] rate must be"),
            ("size = 256", "size = 257", "multiples of 8"),
            ("min_size = 64", "min_size = 512", "min_size <= size"),
            ("sae_id = \"sae-b\"", "sae_id = \"sae-a\"", "must differ"),
            ("kme_id = \"KME-B\"", "kme_id = \"KME B\"", "DNS name"),
            ("tls = \"1.3\"", "tls = \"1.1\"", "line "),
            ("rate = 10.0", "rates = 10.0", "rates"),
            ("[sae]", "[sae", "line "),
        ];
        for (right, wrong, expected) in cases {
            assert!(SAMPLE.contains(right), "{right}");
            let error = load(&SAMPLE.replacen(right, wrong, 1)).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{wrong}: {error}");
        }
    }
}
