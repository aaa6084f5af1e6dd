//! Where keys come from: one key server, several in order, or files that a device drops.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qhaul_keyfeed::file::{DirectoryConfig, FifoConfig, Half};
use qhaul_keyfeed::{Etsi014Config, SaeId, SkipConfig, SourceConfig, TlsVersion};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::raw::{demand, duration};
use crate::keys::Combine;

/// The source of keys, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The source.
    pub source: SourceConfig,
    /// Its kind, which enters the key schedule: both sites must have the same.
    pub kind: &'static str,
    /// How long `qhaul run` waits for a first key before it gives up.
    pub startup: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Etsi014,
    Skip,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKme {
    #[serde(default = "etsi014")]
    protocol: Protocol,
    url: String,
    name: Option<String>,
    remote_system: Option<String>,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    #[serde(default)]
    tls: TlsVersion,
    #[serde(default = "default_timeout", deserialize_with = "duration")]
    timeout: Duration,
    #[serde(default = "default_startup", deserialize_with = "duration")]
    startup: Duration,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeyFiles {
    directory: Option<PathBuf>,
    fifo: Option<PathBuf>,
    half: Half,
    #[serde(default = "default_startup", deserialize_with = "duration")]
    startup: Duration,
}

fn etsi014() -> Protocol {
    Protocol::Etsi014
}

fn default_timeout() -> Duration {
    Duration::from_secs(2)
}

fn default_startup() -> Duration {
    Duration::from_secs(10)
}

/// `[kme]` or, for several in order of preference, `[[kme]]`. Read by hand, because serde's untagged enums lose the name of a
/// setting that is misspelt.
#[derive(Default)]
pub(super) struct RawKmes(Vec<RawKme>);

impl<'de> Deserialize<'de> for RawKmes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = RawKmes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[kme] or several [[kme]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawKmes, A::Error> {
                RawKme::deserialize(de::value::MapAccessDeserializer::new(map)).map(|kme| RawKmes(vec![kme]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawKmes, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(RawKmes)
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

/// The feed that the sections describe, or what does not fit.
pub(super) fn feed(
    kmes: RawKmes,
    files: Option<RawKeyFiles>,
    combine: Combine,
    peer_sae: &SaeId,
    folder: &Path,
) -> Result<Option<Feed>, String> {
    let some = !kmes.0.is_empty() || files.is_some();
    let unused = format!("keys.combine = \"{combine}\" uses no key server: remove the [kme] section");
    demand(combine.needs_qkd() || !some, &unused)?;
    let lacking = format!("keys.combine = \"{combine}\" needs keys of a key server: add a [kme] section");
    demand(!combine.needs_qkd() || some, &lacking)?;
    match files {
        Some(files) => {
            demand(
                kmes.0.is_empty(),
                "[kme] and [key_files] are both there: keys come from one kind of source",
            )?;
            from_files(files, folder).map(Some)
        }
        None if kmes.0.is_empty() => Ok(None),
        None => from_servers(kmes.0, peer_sae, folder).map(Some),
    }
}

fn from_files(files: RawKeyFiles, folder: &Path) -> Result<Feed, String> {
    let half = files.half;
    let source = match (files.directory, files.fifo) {
        (Some(path), None) => SourceConfig::Directory(DirectoryConfig { directory: folder.join(path), half }),
        (None, Some(path)) => SourceConfig::Fifo(FifoConfig { fifo: folder.join(path), half }),
        _ => return Err("[key_files] takes either directory or fifo".into()),
    };
    Ok(Feed { source, kind: "file", startup: checked(files.startup, Duration::ZERO)? })
}

fn from_servers(kmes: Vec<RawKme>, peer_sae: &SaeId, folder: &Path) -> Result<Feed, String> {
    let protocol = kmes[0].protocol;
    let same = kmes.iter().all(|kme| kme.protocol == protocol);
    demand(same, "all [[kme]] must have the same protocol: its name enters the key schedule")?;
    let startup = kmes.iter().map(|kme| kme.startup).max().unwrap_or_default();
    let sources = kmes.into_iter().map(|kme| server(kme, peer_sae, folder));
    let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
    let source = match sources.len() {
        1 => sources.remove(0),
        _ => SourceConfig::Failover { sources },
    };
    let kind = if protocol == Protocol::Skip { "skip" } else { "etsi014" };
    Ok(Feed { source, kind, startup: checked(startup, Duration::ZERO)? })
}

fn server(kme: RawKme, peer_sae: &SaeId, folder: &Path) -> Result<SourceConfig, String> {
    demand(
        kme.url.starts_with("https://"),
        "kme.url must start with https://: key servers are reached by TLS only",
    )?;
    let timeout = checked(Duration::ZERO, kme.timeout).map(|_| kme.timeout)?;
    let (ca, cert, key) = (folder.join(kme.ca), folder.join(kme.cert), folder.join(kme.key));
    match (kme.protocol, kme.remote_system) {
        (Protocol::Etsi014, None) => {
            let (url, kme_name, peer_sae) = (kme.url, kme.name, peer_sae.clone());
            let config = Etsi014Config { url, ca, cert, key, kme_name, peer_sae, timeout };
            Ok(SourceConfig::Etsi014 { config, tls: kme.tls })
        }
        (Protocol::Skip, Some(remote_system)) => {
            let (url, kp_name) = (kme.url, kme.name);
            Ok(SourceConfig::Skip(SkipConfig { url, ca, cert, key, kp_name, remote_system, timeout }))
        }
        (Protocol::Etsi014, Some(_)) => Err("kme.remote_system is for protocol = \"skip\" only".into()),
        (Protocol::Skip, None) => {
            Err("protocol = \"skip\" needs kme.remote_system, the peer's key provider".into())
        }
    }
}

fn checked(startup: Duration, timeout: Duration) -> Result<Duration, String> {
    let waits = startup <= Duration::from_secs(24 * 3600) && timeout <= Duration::from_secs(60);
    demand(waits, "kme.startup is at most a day (\"24h\") and kme.timeout a minute (\"60s\")")?;
    Ok(startup)
}
