//! The configuration files that the lab writes: one per encryptor, one per key server.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::plan::{CHANNEL_PORT, KME_PEER_PORT, KME_PORT, Side};

/// What `qhaul run` is told at one site. The fields are those that faults and tests change; values are TOML's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    /// Which site it is.
    pub side: Side,
    /// Name of the link; equal at both sites.
    pub link: String,
    /// What packets carry: `ethernet` or `ip`, the same at both sites.
    pub mode: String,
    /// Interface name of the plain port.
    pub plain: String,
    /// Interface name of the cipher port.
    pub cipher: String,
    /// Whether the backhaul is IPv6; the topology must have been given it.
    pub ipv6: bool,
    /// `udp` or `none`.
    pub encap: String,
    /// What received IVs say: `sequence` or `any`.
    pub iv: String,
    /// Stem of the link channel's certificate, such as `channel-a`.
    pub channel_certificate: String,
    /// `https://` URL of the key server.
    pub kme_url: String,
    /// Stem of the certificate shown to the key server, such as `sae-a`.
    pub kme_certificate: String,
    /// `qkd+pqc`, `qkd` or `pqc`.
    pub combine: String,
    /// Time between rotations, such as `1s`.
    pub rotate: String,
    /// How long the receiver keeps the old epoch.
    pub grace: String,
    /// Age at which an epoch without successor is given up.
    pub hard_limit: String,
    /// Keys held ahead, per direction.
    pub pool: u32,
    /// The workers' cores.
    pub cores: Vec<usize>,
    /// Flows in each direction.
    pub flows: u32,
    /// `busy` or `adaptive`.
    pub polling: String,
    /// Further lines, put at the end as they are; `[section]` heads included.
    pub more: String,
}

impl SiteConfig {
    /// The lab's default for one site: rotation each second, everything else as an operator would have it.
    pub fn new(side: Side) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            side,
            link: "lab".to_owned(),
            mode: "ethernet".to_owned(),
            plain: "plain".to_owned(),
            cipher: "cipher".to_owned(),
            ipv6: false,
            encap: "udp".to_owned(),
            iv: "sequence".to_owned(),
            channel_certificate: format!("channel-{side}"),
            kme_url: format!("https://{}:{KME_PORT}", side.kme_v4()),
            kme_certificate: format!("sae-{side}"),
            combine: "qkd+pqc".to_owned(),
            rotate: "1s".to_owned(),
            grace: "1s".to_owned(),
            hard_limit: "60s".to_owned(),
            pool: 16,
            cores: vec![side.index() % cores],
            flows: 4096,
            polling: "adaptive".to_owned(),
            more: String::new(),
        }
    }

    /// The file's text. Paths in it are relative to the file.
    pub fn to_toml(&self) -> String {
        let Self { side, link, mode, plain, cipher, encap, iv, channel_certificate, .. } = self;
        let Self { combine, rotate, grace, hard_limit, pool, cores, flows, polling, more, .. } = self;
        let (sae, peer, kme_section) = (side.sae(), side.peer(), self.kme_section());
        let peer_sae = peer.sae();
        let [address, peer_address] = [*side, peer].map(|side| self.address_of(side));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"# Site {side} of the lab, written by `qhaul lab`. Paths are relative to this file.
link = "{link}"                    # the same at both sites
mode = "{mode}"               # packets carry ethernet frames, or ip packets

[site]
sae = "{sae}"                  # who we are to the key server and to the peer
peer_sae = "{peer_sae}"
control = "{side}.sock"             # status socket

[plain]                         # the trusted side
interface = "{plain}"

[cipher]                        # the backhaul
interface = "{cipher}"
address = "{address}"
peer = "{peer_address}"
encap = "{encap}"                   # ESP in UDP, or bare with "none"
iv = "{iv}"                 # any: of a standard ESP peer

[channel]                       # TLS to the peer; carries key_IDs, never keys
port = {CHANNEL_PORT}
ca = "channel-ca.pem"
cert = "{channel_certificate}.pem"
key = "{channel_certificate}.key"

{kme_section}
[keys]
combine = "{combine}"             # qkd+pqc, qkd or pqc; the same at both sites
rotate = "{rotate}"
grace = "{grace}"                    # the receiver keeps the old epoch this long
hard_limit = "{hard_limit}"              # an epoch without successor is given up at this age: traffic stops
pool = {pool}                       # keys held ahead

[worker]
cores = {cores:?}
polling = "{polling}"            # adaptive (look again for a while, then sleep) or busy (never sleep)
mode = "auto"                   # zero-copy, else native copy, else generic
flows = {flows}
{more}"#
        );
        text
    }

    fn address_of(&self, side: Side) -> IpAddr {
        if self.ipv6 { side.cipher_v6().into() } else { side.cipher_v4().into() }
    }

    /// A policy without QKD has no key server: `qhaul check` refuses one that would never be asked.
    fn kme_section(&self) -> String {
        let Self { side, kme_url, kme_certificate, .. } = self;
        if self.combine == "pqc" {
            return String::new();
        }
        format!(
            r#"[kme]                           # ETSI GS QKD 014 key server
url = "{kme_url}"
name = "{}"
ca = "kme-ca.pem"
cert = "{kme_certificate}.pem"
key = "{kme_certificate}.key"
timeout = "2s"
"#,
            side.kme()
        )
    }
}

/// The key server's control socket, in the lab's directory.
pub(super) fn kme_control(side: Side) -> String {
    format!("kme-{side}.sock")
}

/// The key server's file at one site; `keys` are the lines of its `[keys]` section, such as `rate = 0.0`.
pub fn kme_toml(side: Side, keys: &str) -> String {
    let (peer, kme, sae, address) = (side.peer(), side.kme(), side.sae(), side.kme_v4());
    let (peer_kme, peer_sae, peer_address) = (peer.kme(), peer.sae(), peer.kme_v4());
    format!(
        r#"# Key server of site {side}, written by `qhaul lab`. Paths are relative to this file.
[kme]
id = "{kme}"
listen = "{address}:{KME_PORT}"
control = "{}"                # for `qhaul-kme ctl`

[tls]
ca = "kme-ca.pem"
cert = "{kme}.pem"
key = "{kme}.key"

[sae]
id = "{sae}"

[peer]
kme_id = "{peer_kme}"
sae_id = "{peer_sae}"
listen = "{address}:{KME_PEER_PORT}"
address = "{peer_address}:{KME_PEER_PORT}"

[keys]
{keys}"#,
        kme_control(side)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sites_mirror_each_other() {
        let [a, b] = Side::BOTH.map(|side| SiteConfig::new(side).to_toml());
        for (mine, text) in [(Side::A, &a), (Side::B, &b)] {
            let peer = mine.peer();
            assert!(text.contains(&format!("\nsae = \"{}\"", mine.sae())), "{text}");
            assert!(text.contains(&format!("\npeer_sae = \"{}\"", peer.sae())));
            assert!(text.contains(&format!("\naddress = \"{}\"", mine.cipher_v4())));
            assert!(text.contains(&format!("\npeer = \"{}\"", peer.cipher_v4())));
            assert!(text.contains(&format!("\nurl = \"https://{}:8443\"", mine.kme_v4())));
        }
        let policy = |text: &str| text.lines().find(|line| line.starts_with("combine")).map(str::to_owned);
        assert_eq!(policy(&a), policy(&b));
    }

    #[test]
    fn a_change_reaches_the_file() {
        let mut config = SiteConfig::new(Side::A);
        config.combine = "pqc".to_owned();
        config.more = "keylog = \"x\"\n".to_owned();
        let text = config.to_toml();
        assert!(!text.contains("[kme]"), "{text}");
        assert!(
            text.contains("combine = \"pqc\"") && text.ends_with("flows = 4096\nkeylog = \"x\"\n"),
            "{text}"
        );
    }
}
