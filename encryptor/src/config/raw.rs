//! The configuration as it is typed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use qhaul_keyfeed::SaeId;
use serde::{Deserialize, Deserializer, de::Error};

use super::cipher::RawCipher;
use super::feed::{RawKeyFiles, RawKmes, feed};
use super::peers::RawPeer;
use super::policy::{RawRule, policy};
use super::{Config, LinkConfig, Mode, Payload, Polling};
use crate::aead;
use crate::fit::{Oversize, Sizes};
use crate::flows::FlowLimits;
use crate::keys::Combine;
use crate::link::IdentityFiles;
use crate::policy::Policy;
use crate::spi::{MAX_LANES, MAX_SLOTS};
use crate::wake_latency::MOST_US;
use crate::xsk::PortConfig;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    link: Option<String>,
    #[serde(default)]
    mode: Payload,
    site: Site,
    plain: Plain,
    cipher: RawCipher,
    channel: RawChannel,
    #[serde(default)]
    kme: RawKmes,
    key_files: Option<RawKeyFiles>,
    #[serde(default)]
    keys: Keys,
    #[serde(default)]
    worker: Worker,
    #[serde(default)]
    sizes: RawSizes,
    audit: Option<RawAudit>,
    #[serde(default)]
    policy: Vec<RawRule>,
    #[serde(default)]
    peers: Option<Vec<RawPeer>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAudit {
    log: PathBuf,
    #[serde(default = "default_audit_mib")]
    max_mib: u64,
}

impl RawAudit {
    fn checked(self, folder: &Path) -> (PathBuf, u64) {
        (folder.join(self.log), self.max_mib.clamp(1, 1 << 20) << 20)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Site {
    sae: String,
    peer_sae: Option<String>,
    control: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    interface: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChannel {
    #[serde(default = "default_channel_port")]
    port: u16,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    peer_name: Option<String>,
    peer_fingerprint: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    combine: Combine,
    psk: Option<PathBuf>,
    rotate_packets: u64,
    rotate_gib: u64,
    #[serde(deserialize_with = "duration")]
    rotate: Duration,
    #[serde(deserialize_with = "duration")]
    grace: Duration,
    #[serde(deserialize_with = "optional_duration")]
    hard_limit: Option<Duration>,
    #[serde(deserialize_with = "pool")]
    pool: Pool,
}

impl Keys {
    fn limits(&self) -> FlowLimits {
        let (soft_packets, soft_bytes) = (self.rotate_packets, self.rotate_gib << 30);
        FlowLimits { soft_packets, soft_bytes, ..FlowLimits::default() }
    }
}

/// How many keys are held ahead: a number, or the time that they are to last at the set rotation.
#[derive(Clone, Copy)]
enum Pool {
    Keys(usize),
    Time(Duration),
}

impl Pool {
    fn keys(self, rotate: Duration) -> usize {
        match self {
            Pool::Keys(keys) => keys,
            Pool::Time(time) => {
                time.as_nanos().div_ceil(rotate.as_nanos().max(1)).try_into().unwrap_or(usize::MAX)
            }
        }
    }
}

fn pool<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pool, D::Error> {
    let bad = || {
        D::Error::custom("keys.pool is a number of keys, such as 16, or a time to ride out, such as \"120s\"")
    };
    match toml::Value::deserialize(deserializer)? {
        toml::Value::Integer(keys) => usize::try_from(keys).map(Pool::Keys).map_err(|_| bad()),
        toml::Value::String(text) => humantime::parse_duration(&text).map(Pool::Time).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

impl Default for Keys {
    fn default() -> Self {
        Keys {
            combine: Combine::QKD_PQC,
            psk: None,
            rotate_packets: FlowLimits::default().soft_packets,
            rotate_gib: FlowLimits::default().soft_bytes >> 30,
            rotate: Duration::from_secs(60),
            grace: Duration::from_secs(1),
            hard_limit: None,
            pool: Pool::Keys(16),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Worker {
    core: Option<usize>,
    cores: Option<Vec<usize>>,
    polling: Polling,
    wake_latency_us: Option<u32>,
    engine: aead::Choice,
    mode: Mode,
    flows: u32,
    ring: u32,
}

impl Default for Worker {
    fn default() -> Self {
        Worker {
            core: None,
            cores: None,
            polling: Polling::Adaptive,
            wake_latency_us: None,
            engine: aead::Choice::Auto,
            mode: Mode::Auto,
            flows: 16_384,
            ring: PortConfig::default().rx,
        }
    }
}

impl Worker {
    /// `core` is the short form for one.
    fn cores(&self) -> Result<Vec<usize>, String> {
        let one = self.core.is_none() || self.cores.is_none();
        demand(one, "worker.core and worker.cores are both set: keep worker.cores, which names all")?;
        let cores = self.cores.clone().unwrap_or_else(|| vec![self.core.unwrap_or(0)]);
        let lanes = (1..=MAX_LANES).contains(&cores.len());
        demand(lanes, &format!("worker.cores names {} cores: it is within 1 to {MAX_LANES}", cores.len()))?;
        let once = (1..cores.len()).all(|at| !cores[..at].contains(&cores[at]));
        demand(once, "worker.cores names a core twice: each worker needs one of its own")?;
        Ok(cores)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawSizes {
    oversize: Oversize,
    mss_clamp: bool,
}

fn default_audit_mib() -> u64 {
    64
}

fn default_channel_port() -> u16 {
    4501
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|_| {
        D::Error::custom(format!("\"{text}\" is not a duration: write \"60s\", \"500ms\" or \"1h\""))
    })
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Who the two ends of a link are, and where it is asked for.
struct Names {
    name: String,
    sae: SaeId,
    peer_sae: SaeId,
    control: PathBuf,
}

impl Raw {
    /// Whether its links stand in `[[peers]]`.
    pub(super) fn has_peers(&self) -> bool {
        self.peers.is_some()
    }

    /// Checks a file of one link.
    pub(super) fn check(self, folder: &Path) -> Result<Config, String> {
        let Names { name, sae, peer_sae, control } = self.names(folder)?;
        let ends = self.cipher.ends()?;
        let replay_window = self.cipher.replay_window()?;
        demand(self.channel.port != 0, "channel.port is within 1 to 65535")?;
        self.check_times()?;
        self.check_worker()?;
        let channel = identity(&self.channel, &sae, &peer_sae, folder)?;
        let policy = policy(self.policy, ends.own()).and_then(|policy| routable(policy, self.mode))?;
        let keys = self.keys;
        let default_hard_limit = (keys.rotate * 10).max(Duration::from_secs(60));
        let link = LinkConfig {
            name,
            ends,
            listens: sae.as_str() < peer_sae.as_str(),
            next_hop: self.cipher.next_hop,
            channel,
            feed: feed(self.kme, self.key_files, keys.combine, &peer_sae, folder)?,
            peer_sae,
            combine: keys.combine,
            limits: keys.limits(),
            replay_window,
            rotate: keys.rotate,
            grace: keys.grace,
            hard_limit: keys.hard_limit.unwrap_or(default_hard_limit),
            pool: keys.pool.keys(keys.rotate),
            psk: psk(keys.psk, keys.combine, folder)?,
            flows: self.worker.flows,
            policy,
            typed: toml::Table::new(),
        };
        Ok(Config {
            payload: self.mode,
            sae,
            control,
            audit: self.audit.map(|audit| audit.checked(folder)),
            plain: self.plain.interface,
            own: link.ends.own(),
            encap: self.cipher.encap(),
            ttl: self.cipher.ttl,
            ecn: self.cipher.ecn,
            nat: self.cipher.nat,
            iv: self.cipher.iv,
            cipher: self.cipher.interface,
            dscp: self.cipher.dscp.checked()?,
            channel_port: self.channel.port,
            cores: self.worker.cores()?,
            polling: self.worker.polling,
            wake_latency_us: self.worker.wake_latency_us,
            engine: self.worker.engine,
            mode: self.worker.mode,
            ring: self.worker.ring,
            sizes: Sizes { oversize: self.sizes.oversize, mss_clamp: self.sizes.mss_clamp },
            links: vec![link],
            file: PathBuf::new(),
            typed: toml::Table::new(),
        })
    }

    fn names(&self, folder: &Path) -> Result<Names, String> {
        let name = self.link.clone().ok_or("link is missing: name the link, or the links in [[peers]]")?;
        let peer_sae =
            self.site.peer_sae.clone().ok_or("site.peer_sae is missing: the other site's SAE ID")?;
        self.check_names(&name, &peer_sae)?;
        let sae = sae_id("site.sae", &self.site.sae)?;
        let peer_sae = sae_id("site.peer_sae", &peer_sae)?;
        let control = match &self.site.control {
            Some(path) => folder.join(path),
            None => PathBuf::from(format!("/run/qhaul/{name}.sock")),
        };
        Ok(Names { name, sae, peer_sae, control })
    }

    fn check_names(&self, link: &str, peer_sae: &str) -> Result<(), String> {
        let plain_name = |name: &str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        demand(plain_name(link), "link takes 1 to 64 letters, digits, '-', '_' and '.'")?;
        let two = self.site.sae != peer_sae;
        demand(two, "site.sae and site.peer_sae are the same: give each site an SAE ID of its own")?;
        let two = self.plain.interface != self.cipher.interface;
        demand(two, "plain.interface and cipher.interface are the same: the two sides need a port each")
    }

    fn check_times(&self) -> Result<(), String> {
        let keys = &self.keys;
        let fast = keys.rotate >= Duration::from_millis(100);
        demand(fast, "keys.rotate is shorter than \"100ms\", the shortest rotation")?;
        let most = FlowLimits::default();
        let packets = (1..=most.soft_packets).contains(&keys.rotate_packets);
        demand(packets, &format!("keys.rotate_packets is within 1 to {}", most.soft_packets))?;
        let bytes = (1..=most.soft_bytes >> 30).contains(&keys.rotate_gib);
        demand(bytes, &format!("keys.rotate_gib is within 1 to {}", most.soft_bytes >> 30))?;
        let slow = keys.rotate <= Duration::from_secs(24 * 3600);
        demand(
            slow,
            "keys.rotate is longer than a day: the keys would outlive the forward secrecy they are for",
        )?;
        let grace = (Duration::from_millis(10)..=Duration::from_secs(10)).contains(&keys.grace);
        demand(grace, "keys.grace is within \"10ms\" to \"10s\"")?;
        let hard = keys.hard_limit.is_none_or(|limit| limit > keys.rotate);
        demand(hard, "keys.hard_limit must be longer than keys.rotate, or traffic stops at every rotation")?;
        let sane = keys.hard_limit.is_none_or(|limit| limit <= Duration::from_secs(7 * 24 * 3600));
        demand(sane, "keys.hard_limit is longer than a week: a limit that never strikes is none")?;
        let held = keys.pool.keys(keys.rotate);
        demand((1..=4096).contains(&held), &format!("keys.pool comes to {held} keys: it is within 1 to 4096"))
    }

    fn check_worker(&self) -> Result<(), String> {
        let flows = (1..MAX_SLOTS).contains(&self.worker.flows);
        demand(flows, &format!("worker.flows is within 1 to {}", MAX_SLOTS - 1))?;
        let ring = self.worker.ring.is_power_of_two() && (64..=16_384).contains(&self.worker.ring);
        demand(ring, "worker.ring is a power of two within 64 to 16384")?;
        let wakes = self.worker.wake_latency_us.is_none_or(|latency| latency <= MOST_US);
        demand(wakes, &format!("worker.wake_latency_us is within 0 to {MOST_US}"))
    }
}

/// A router has no frames to let through as they are.
fn routable(policy: Policy, mode: Payload) -> Result<Policy, String> {
    let fits = mode == Payload::Ethernet || !policy.bypasses();
    demand(
        fits,
        "policy: bypass rules let whole frames through, which mode = \"ip\" does not carry: remove them",
    )?;
    Ok(policy)
}

pub(super) fn demand(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_string()) }
}

fn sae_id(setting: &str, text: &str) -> Result<SaeId, String> {
    SaeId::new(text).map_err(|error| format!("{setting}: {error}"))
}

fn identity(
    channel: &RawChannel,
    sae: &SaeId,
    peer_sae: &SaeId,
    folder: &Path,
) -> Result<IdentityFiles, String> {
    Ok(IdentityFiles {
        ca: folder.join(&channel.ca),
        cert: folder.join(&channel.cert),
        key: folder.join(&channel.key),
        name: sae.to_string(),
        peer_name: channel.peer_name.clone().unwrap_or_else(|| peer_sae.to_string()),
        peer_fingerprint: channel.peer_fingerprint.as_deref().map(parse_fingerprint).transpose()?,
    })
}

fn parse_fingerprint(text: &str) -> Result<[u8; 32], String> {
    let bad = || {
        "channel.peer_fingerprint is not 64 hexadecimal digits: take it from \
         `openssl x509 -in cert.pem -noout -fingerprint -sha256`"
            .to_string()
    };
    let digits: String = text.chars().filter(|&sign| sign != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
    }
    Ok(bytes)
}

fn psk(path: Option<PathBuf>, combine: Combine, folder: &Path) -> Result<Option<PathBuf>, String> {
    match (path, combine.needs_psk()) {
        (None, true) => {
            Err(format!("keys.combine = \"{combine}\" needs a pre-shared key: set keys.psk to its file"))
        }
        (Some(_), false) => Err(format!("keys.psk is set, but keys.combine = \"{combine}\" does not use it")),
        (path, _) => Ok(path.map(|path| folder.join(path))),
    }
}
