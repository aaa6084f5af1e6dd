//! The configuration: one commented TOML file per site.
//!
//! As typed ([`raw`], serde) and as meant ([`Config`], checked) are two types: whoever holds a `Config` need not ask
//! again whether it makes sense. Whether this host can carry it out is another question, asked by [`crate::check`].

mod cipher;
mod feed;
mod policy;
mod raw;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qhaul_keyfeed::SaeId;

use crate::aead;
use crate::esn::IvRule;
use crate::fit::Sizes;
use crate::flows::FlowLimits;
use crate::keys::Combine;
use crate::link::IdentityFiles;
use crate::plan::PlanInput;
use crate::policy::Policy;
use crate::replay::WindowSize;
use crate::wire::{Dscp, Ecn, Encap, Ends, OuterShape};
use crate::xsk::BindMode;

pub use feed::Feed;

/// A setting that cannot be, in one line that names file, place, cause and remedy.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .file.display())]
pub struct ConfigError {
    file: PathBuf,
    problem: String,
}

/// How the data path attaches to a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The best that works: zero-copy, then native copy, then generic.
    Auto,
    /// The driver's own XDP, frames straight into the UMEM.
    ZeroCopy,
    /// The driver's own XDP, frames copied.
    NativeCopy,
    /// The kernel's generic XDP, for drivers that have none.
    Generic,
}

/// What packets carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// Whole Ethernet frames: the link is a wire.
    #[default]
    Ethernet,
    /// IP packets (RFC 4303 tunnel mode): each gateway is a router for its plain side.
    Ip,
}

/// Whether a worker may sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Polling {
    /// Never: lowest latency, a whole core.
    Busy,
    /// Spins for a while when there is nothing to do, then sleeps.
    Adaptive,
}

/// A site's configuration, checked in itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// The link's name, the same at both sites.
    pub link: String,
    /// What packets carry, the same at both sites.
    pub payload: Payload,
    /// Our SAE ID.
    pub sae: SaeId,
    /// The peer's SAE ID.
    pub peer_sae: SaeId,
    /// The control socket.
    pub control: PathBuf,
    /// The audit log and its size in bytes at which a new file is begun, if there is to be one.
    pub audit: Option<(PathBuf, u64)>,
    /// Interface on the trusted side.
    pub plain: String,
    /// Interface on the backhaul.
    pub cipher: String,
    /// Our address on it, and the peer's.
    pub ends: Ends,
    /// The router towards the peer, if it is not to be taken from the routes.
    pub next_hop: Option<IpAddr>,
    /// What stands in front of ESP.
    pub encap: Encap,
    /// TTL or hop limit of the packets.
    pub ttl: u8,
    /// What the outside shows of the DSCP.
    pub dscp: Dscp,
    /// What it shows of ECN, and whether marks are passed on.
    pub ecn: Ecn,
    /// The backhaul rewrites UDP source ports.
    pub nat: bool,
    /// What the IVs of received packets say.
    pub iv: IvRule,
    /// How many sequence numbers of a flow are told apart.
    pub replay_window: WindowSize,
    /// TCP port of the link channel.
    pub channel_port: u16,
    /// Certificates of the link channel.
    pub channel: IdentityFiles,
    /// Where keys come from, unless `combine` needs none.
    pub feed: Option<Feed>,
    /// What epoch secrets are made of.
    pub combine: Combine,
    /// The pre-shared key's file, if `combine` needs one.
    pub psk: Option<PathBuf>,
    /// Age at which an epoch is replaced.
    pub rotate: Duration,
    /// Soft and hard limits of a flow's key.
    pub limits: FlowLimits,
    /// How long the receiver keeps an epoch that was left.
    pub grace: Duration,
    /// Age at which an epoch is no longer used.
    pub hard_limit: Duration,
    /// Keys held ahead.
    pub pool: usize,
    /// The workers' cores, one worker each.
    pub cores: Vec<usize>,
    /// Whether they may sleep.
    pub polling: Polling,
    /// What encrypts.
    pub engine: aead::Choice,
    /// How they attach.
    pub mode: Mode,
    /// Flows per direction and epoch at the most.
    pub flows: u32,
    /// Frames in each of a port's rings.
    pub ring: u32,
    /// What is done about packets that do not fit.
    pub sizes: Sizes,
    /// What may cross, and how.
    pub policy: Policy,
    /// Where it was read from.
    pub file: PathBuf,
    /// All settings as typed, the policy left out: a reload looks for those that changed.
    pub typed: toml::Table,
}

impl Config {
    /// Reads and checks a file. Relative paths in it start from the file's own folder.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let error = |problem: String| ConfigError { file: file.to_path_buf(), problem };
        let text = std::fs::read_to_string(file).map_err(|cause| {
            error(format!("cannot be read ({cause}): give the site's file with --config"))
        })?;
        let config = Config::parse(&text, file.parent().unwrap_or(Path::new("."))).map_err(error)?;
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
        Ok(Config { file, ..config })
    }

    /// Checks a file's text; `folder` is where relative paths start from.
    pub fn parse(text: &str, folder: &Path) -> Result<Config, String> {
        let raw: raw::Raw = toml::from_str(text).map_err(|error| located(text, &error))?;
        let mut typed: toml::Table = toml::from_str(text).map_err(|error| located(text, &error))?;
        typed.remove("policy");
        Ok(Config { typed, ..raw.check(folder)? })
    }

    /// Settings besides the policy that are not as they are in `other`, such as "worker.flows", sorted.
    pub fn changed_settings(&self, other: &Config) -> Vec<String> {
        let flat = |table: &toml::Table| -> BTreeMap<String, toml::Value> {
            let sections = table.iter().flat_map(|(name, value)| match value {
                toml::Value::Table(section) => {
                    section.iter().map(|(key, value)| (format!("{name}.{key}"), value.clone())).collect()
                }
                value => vec![(name.clone(), value.clone())],
            });
            sections.collect()
        };
        let (ours, theirs) = (flat(&self.typed), flat(&other.typed));
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name)).cloned().collect()
    }

    /// What `qhaul plan` starts from: this link alone, of which the key server's rate is not known.
    pub fn plan_input(&self) -> PlanInput {
        PlanInput {
            rotate: self.rotate,
            hard_limit: self.hard_limit,
            links: NonZeroU32::MIN,
            hops: NonZeroU32::MIN,
            rate: None,
            pool: self.pool,
            stored: None,
            outage: None,
        }
    }

    /// The kind of key source that both sites must share.
    pub fn key_source(&self) -> &'static str {
        self.feed.as_ref().map_or("none", |feed| feed.kind)
    }

    /// The bind mode and whether the driver's own XDP is asked for, in the order in which they are tried.
    pub fn attempts(&self) -> &'static [(qhaul_ebpf::AttachMode, BindMode)] {
        use qhaul_ebpf::AttachMode::{Generic, Native};
        match self.mode {
            Mode::Auto => &[(Native, BindMode::Auto), (Generic, BindMode::Copy)],
            Mode::ZeroCopy => &[(Native, BindMode::ZeroCopy)],
            Mode::NativeCopy => &[(Native, BindMode::Copy)],
            Mode::Generic => &[(Generic, BindMode::Copy)],
        }
    }

    /// The outer headers of the packets.
    pub fn outer_shape(&self) -> OuterShape {
        self.ends.shape(self.encap)
    }

    /// Whether ours is the end that listens on the link channel: the one with the lesser SAE ID, so that the two sites
    /// never both wait or both call.
    pub fn listens(&self) -> bool {
        self.sae.as_str() < self.peer_sae.as_str()
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Payload::Ethernet => "ethernet",
            Payload::Ip => "ip",
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Auto => "auto",
            Mode::ZeroCopy => "zero-copy",
            Mode::NativeCopy => "native-copy",
            Mode::Generic => "generic",
        })
    }
}

/// A TOML error as one line with its place in front.
fn located(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message().replace('\n', ", ");
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}
