//! The configuration: one commented TOML file per site.
//!
//! As typed ([`raw`], serde) and as meant ([`Config`], checked) are two types: whoever holds a `Config` need not ask
//! again whether it makes sense. Whether this host can carry it out is another question, asked by [`crate::check`].

mod cipher;
mod feed;
mod link;
mod peers;
mod policy;
mod raw;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use qhaul_keyfeed::SaeId;

use crate::aead;
use crate::esn::IvRule;
use crate::fit::Sizes;
use crate::wire::{Dscp, Ecn, Encap, OuterShape};
use crate::xsk::BindMode;

pub use feed::Feed;
pub use link::LinkConfig;

/// Links of a site at the most: the cipher port's program has a table of so many peers.
pub const MAX_LINKS: usize = qhaul_ebpf::MAX_PEERS as usize;

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
    /// Looks again for a while when there is nothing to do, then sleeps.
    Adaptive,
}

/// A site's configuration, checked in itself: what its links share, and each of them.
#[derive(Clone, Debug)]
pub struct Config {
    /// What packets carry, the same at both ends of a link.
    pub payload: Payload,
    /// Our SAE ID.
    pub sae: SaeId,
    /// The control socket.
    pub control: PathBuf,
    /// The audit log and its size in bytes at which a new file is begun, if there is to be one.
    pub audit: Option<(PathBuf, u64)>,
    /// Interface on the trusted side.
    pub plain: String,
    /// Interface on the backhaul.
    pub cipher: String,
    /// Our address on it.
    pub own: IpAddr,
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
    /// TCP port of the link channel.
    pub channel_port: u16,
    /// The workers' cores, one worker each.
    pub cores: Vec<usize>,
    /// Whether they may sleep.
    pub polling: Polling,
    /// How long a core of the machine may take to wake up, in microseconds, if that is asked for.
    pub wake_latency_us: Option<u32>,
    /// What encrypts.
    pub engine: aead::Choice,
    /// How they attach.
    pub mode: Mode,
    /// Frames in each of a port's rings.
    pub ring: u32,
    /// What is done about packets that do not fit.
    pub sizes: Sizes,
    /// The links, of which there is one at least, in the order in which their policies are asked.
    pub links: Vec<LinkConfig>,
    /// Where it was read from.
    pub file: PathBuf,
    /// What its links share, as typed, the policy left out: a reload looks for settings that changed.
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
        let typed: toml::Table = toml::from_str(text).map_err(|error| located(text, &error))?;
        match raw.has_peers() {
            true => peers::check_all(typed, folder),
            false => peers::apart(typed, raw.check(folder)?),
        }
    }

    /// Settings besides links and policies that are not as they are in `other`, such as "worker.flows", sorted.
    pub fn changed_settings(&self, other: &Config) -> Vec<String> {
        peers::changes(&self.typed, &other.typed)
    }

    /// The link of this name.
    pub fn link(&self, name: &str) -> Option<&LinkConfig> {
        self.links.iter().find(|link| link.name == name)
    }

    /// What somebody should know of the policies, a line each.
    pub fn policy_warnings(&self) -> Vec<String> {
        // Rules for what crosses in clear are the site's, and stand in the policy of each link.
        self.links.first().map(|link| link.policy.warnings()).unwrap_or_default()
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
        self.links[0].ends.shape(self.encap)
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
