mod keys;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use serde::Deserialize;

pub use keys::KeysConfig;

use super::KmeError;
use super::quirk::Quirk;
use super::weather::{Fibre, Scheduled};
use crate::https::{TlsFiles, TlsVersion};
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
    /// SKIP beside ETSI GS QKD 014, if wanted.
    #[serde(default)]
    pub skip: Option<SkipSection>,
    /// How many keys, and of which size.
    #[serde(default)]
    pub keys: KeysConfig,
    /// The quantum channel, from which the key rate follows; `[keys] rate` unless given.
    #[serde(default)]
    pub fibre: Option<Fibre>,
    /// What befalls the KME at which time.
    #[serde(default)]
    pub weather: Vec<Scheduled>,
    /// `[extensions]`: `extension_mandatory` parameters that are supported, each with the values that can be met.
    #[serde(default)]
    pub extensions: BTreeMap<String, Vec<serde_json::Value>>,
}

/// `[kme]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmeSection {
    /// KME ID; the name in this KME's certificate.
    pub id: String,
    /// Address and port of the API.
    pub listen: SocketAddr,
    /// Lowest TLS version of the API; the link and SKIP always want 1.3.
    #[serde(default)]
    pub tls: TlsVersion,
    /// Unix socket on which `qhaul-kme ctl` commands the weather.
    #[serde(default)]
    pub control: Option<PathBuf>,
    /// Ways in which this KME departs from the standard, as some in the field do.
    #[serde(default)]
    pub quirks: Vec<Quirk>,
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
    /// Further SAEs that this KME serves; they share the store.
    #[serde(default)]
    pub additional: Vec<SaeId>,
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
    /// Further SAEs that the peer serves.
    #[serde(default)]
    pub additional_sae_ids: Vec<SaeId>,
}

/// `[skip]`: a listener for draft-cisco-skip-02, over the same store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipSection {
    /// Address and port.
    pub listen: SocketAddr,
    /// Our `localSystemID`; the KME ID unless given.
    #[serde(default)]
    pub id: Option<String>,
    /// The peer's `localSystemID`; its KME ID unless given.
    #[serde(default)]
    pub peer_id: Option<String>,
}

impl SkipSection {
    pub(super) fn local<'a>(&'a self, config: &'a KmeConfig) -> &'a str {
        self.id.as_deref().unwrap_or(&config.kme.id)
    }

    pub(super) fn remote<'a>(&'a self, config: &'a KmeConfig) -> &'a str {
        self.peer_id.as_deref().unwrap_or(&config.peer.kme_id)
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
        config.kme.control = config.kme.control.map(|socket| folder.join(socket));
        config.check().map_err(|reason| KmeError::Config(format!("{shown}: {reason}")))?;
        Ok(config)
    }

    /// What no type can say. The error names the setting and the remedy.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { kme, sae, peer, .. } = self;
        let all: Vec<&SaeId> = sae.all().chain(peer.saes()).collect();
        let rules = [
            (
                ServerName::try_from(peer.kme_id.as_str()).is_ok(),
                "[peer] kme_id must be a DNS name, such as KME-B",
            ),
            (kme.id != peer.kme_id, "[peer] kme_id must differ from [kme] id"),
            (sae.id != peer.sae_id, "[peer] sae_id must differ from [sae] id"),
            (
                all.iter().collect::<HashSet<_>>().len() == all.len(),
                "an SAE ID stands twice in [sae] and [peer]; each SAE has one ID and one KME",
            ),
        ];
        broken(&rules)?;
        self.fibre.iter().try_for_each(Fibre::check)?;
        self.weather.iter().try_for_each(Scheduled::check)?;
        self.keys.check()
    }
}

impl SaeSection {
    /// All SAEs of this KME.
    pub(super) fn all(&self) -> impl Iterator<Item = &SaeId> {
        std::iter::once(&self.id).chain(&self.additional)
    }
}

impl PeerSection {
    /// All SAEs of the peer KME.
    pub(super) fn saes(&self) -> impl Iterator<Item = &SaeId> {
        std::iter::once(&self.sae_id).chain(&self.additional_sae_ids)
    }
}

/// The first rule that is not kept.
fn broken(rules: &[(bool, &str)]) -> Result<(), String> {
    rules.iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, rule)| Err((*rule).to_owned()))
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
