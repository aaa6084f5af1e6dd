//! What a running encryptor tells of itself, as one JSON object over a Unix socket.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::policy::Difference;

/// Name and value of counters.
pub type Rows = BTreeMap<String, u64>;

/// All that is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The link's name.
    pub link: String,
    /// "active" when both directions have live keys; else what the sending direction waits for, or "receive-waiting".
    pub state: String,
    /// The process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// What was found to work: "zero-copy", "native-copy" or "generic".
    pub mode: String,
    /// The AEAD engine at work: "ring" or "ipsec-mb".
    pub engine: String,
    /// Whether flow keys are written to a file. Never so in operation.
    pub key_log: bool,
    /// Whether the link channel stands.
    pub channel: bool,
    /// The next hop's hardware address, if it is resolved.
    pub next_hop: Option<String>,
    /// What the path to the peer carries.
    pub path: PathStatus,
    /// Flows with live keys: the larger of both directions.
    pub flows: u64,
    /// The sending direction.
    pub tx: TxStatus,
    /// The receiving direction.
    pub rx: RxStatus,
    /// The key feed.
    pub keys: KeyStatus,
    /// What the workers counted, all in all.
    pub counters: WorkerCounters,
    /// Each link by itself. What stands in front of this is the first link's, where it is one link's; but `state` and `channel` are
    /// good only if those of all links are.
    pub links: Vec<LinkStatus>,
    /// What the workers counted of frames of no link, of links that were removed, and as answers to the plain side: with what they
    /// counted of each link it adds up to `counters`. What is 0 is left out.
    pub no_link: WorkerCounters,
    /// Each worker by itself.
    pub workers: Vec<WorkerStatus>,
    /// What the programs counted, by port.
    pub xdp: BTreeMap<String, Rows>,
    /// What the queues counted, by port and queue.
    pub queues: BTreeMap<String, Rows>,
}

/// One link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Its name.
    pub link: String,
    /// As [`Status::state`].
    pub state: String,
    /// The peer's address.
    pub peer: IpAddr,
    /// Whether its channel stands.
    pub channel: bool,
    /// The next hop's hardware address, if it is resolved.
    pub next_hop: Option<String>,
    /// What the path to the peer carries.
    pub path: PathStatus,
    /// Flows with live keys: the larger of both directions.
    pub flows: u64,
    /// The sending direction.
    pub tx: TxStatus,
    /// The receiving direction.
    pub rx: RxStatus,
    /// The key feed.
    pub keys: KeyStatus,
    /// What the workers counted of it.
    pub counters: WorkerCounters,
}

/// What the path to the peer carries. Sizes are bytes of a packet on the backhaul, its IP header included.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PathStatus {
    /// "unknown", "checking", "full": what is needed, or "narrow": less.
    pub state: String,
    /// What is needed.
    pub wanted: u32,
    /// The largest packet that arrived, once that is known.
    pub carries: Option<u32>,
}

/// The sending direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TxStatus {
    /// The epoch in use, 0 for none.
    pub epoch: u8,
    /// "waiting", "active", "overdue" or "expired".
    pub state: String,
    /// Milliseconds since the last switch.
    pub age_ms: Option<u64>,
    /// Milliseconds until the hard limit strikes, if no successor comes.
    pub stops_in_ms: Option<u64>,
    /// How often traffic was switched to a new epoch.
    pub switches: u64,
    /// Agreements that failed.
    pub failures: u64,
    /// Why the last one did.
    pub last_failure: Option<String>,
    /// Flows in the epoch in use.
    pub flows: u64,
}

/// The receiving direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RxStatus {
    /// Epochs whose packets can be opened.
    pub epochs: Vec<u8>,
    /// Flows in the fullest of them.
    pub flows: u64,
}

/// The key feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyStatus {
    /// Keys that both sites hold for our sending direction.
    pub ready: usize,
    /// All keys fetched for it.
    pub fetched: usize,
    /// Keys held for the receiving direction.
    pub receive: usize,
    /// "filling", "plenty", "low", "critical" or "empty".
    pub supply: String,
    /// What ails the key server, if anything.
    pub trouble: Option<String>,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The core that it is pinned to.
    pub core: usize,
    /// Flows that it sends in the epoch in use.
    pub tx_flows: u64,
    /// Flows that it receives in the fullest epoch.
    pub rx_flows: u64,
    /// What it counted.
    pub counters: WorkerCounters,
}

/// What a worker counted, or all. plain_in + fragments_added + icmp_added = cipher_out + TX drops; cipher_in = plain_out + dummies_in + RX drops.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkerCounters {
    /// Frames, packets and bytes by name.
    #[serde(flatten)]
    pub tallies: Rows,
    /// Drops by reason; reasons that never struck are left out.
    pub drops: Rows,
}

/// What became of a reload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reload {
    /// Why all stays as it is; `None`: the file is in force.
    pub refusal: Option<String>,
    /// Links that came.
    pub added: Vec<String>,
    /// Links that went.
    pub removed: Vec<String>,
    /// All links in their new order, if those that stayed are asked in another one.
    pub order: Vec<String>,
    /// What changed in the policies of those that stayed.
    pub difference: Difference,
    /// Settings that changed in the file, and wait for a restart.
    pub restart: Vec<String>,
    /// What somebody should know of the new policy.
    pub warnings: Vec<String>,
}

impl Reload {
    /// A line for each change.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let links = |mark: &'static str, names: &'_ [String]| {
            names.iter().map(move |name| format!("{mark} link {name}")).collect::<Vec<_>>()
        };
        let (removed, added) = (links("-", &self.removed), links("+", &self.added));
        let order = match &self.order[..] {
            [] => None,
            names => Some(format!("links are asked in this order: {}", names.join(", "))),
        };
        removed.into_iter().chain(added).chain(order).chain(self.difference.lines())
    }

    /// A line for people.
    pub fn summary(&self) -> String {
        let Difference { removed, added, moved } = &self.difference;
        let policy = match self.difference.is_empty() {
            true => "the policy is as it was".to_string(),
            false => {
                format!("{} rules removed, {} added, {} moved", removed.len(), added.len(), moved.len())
            }
        };
        let links = match (self.removed.len(), self.added.len()) {
            (0, 0) => String::new(),
            (removed, added) => format!("{removed} links removed, {added} added; "),
        };
        match &self.restart[..] {
            [] => format!("{links}{policy}"),
            waiting => {
                format!("{links}{policy}; changed too, but only after a restart: {}", waiting.join(", "))
            }
        }
    }
}

/// Asks the encryptor behind a control socket how it does.
pub fn ask(socket: &Path) -> io::Result<Status> {
    request(socket, b"status\n", Duration::from_secs(2))
}

/// Has the encryptor behind a control socket put links and policies of `file`, an absolute path, in force.
pub fn reload(socket: &Path, file: &Path) -> io::Result<Reload> {
    // Links that come are made before the answer does: certificates are read, and memory is taken.
    request(socket, &[b"reload ", file.as_os_str().as_bytes(), b"\n"].concat(), Duration::from_secs(60))
}

fn request<T: DeserializeOwned>(socket: &Path, line: &[u8], patience: Duration) -> io::Result<T> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(line)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::other)
}

impl Status {
    /// A page for people.
    pub fn page(&self) -> String {
        let mut page = String::new();
        for link in &self.links {
            link.write(&mut page);
            if self.links.len() > 1 {
                let _ = writeln!(page, "{:<14}{}\n", "frames", link.frames());
            }
        }
        let mut line = |name: &str, value: String| {
            let _ = writeln!(page, "{name:<14}{value}");
        };
        if self.key_log {
            line("WARNING", "flow keys are written to a debug key log".into());
        }
        line(
            "data path",
            format!("{}, engine {}, up {} s, process {}", self.mode, self.engine, self.uptime_s, self.pid),
        );
        if self.workers.len() > 1 {
            for WorkerStatus { core, tx_flows, rx_flows, counters } in &self.workers {
                let count = |name: &str| counters.tallies.get(name).copied().unwrap_or_default();
                let (plain, cipher) = (count("plain_in"), count("cipher_in"));
                let line_of = format!(
                    "{plain} plain_in, {cipher} cipher_in, {tx_flows} flows sent, {rx_flows} received"
                );
                line(&format!("core {core}"), line_of);
            }
        }
        for (name, count) in &self.counters.tallies {
            line("", format!("{count:>14} {name}"));
        }
        for (name, count) in &self.counters.drops {
            line("", format!("{count:>14} dropped: {name}"));
        }
        page
    }
}

impl LinkStatus {
    /// What it carried and dropped, on one line.
    fn frames(&self) -> String {
        let WorkerCounters { tallies, drops } = &self.counters;
        let count = |name: &str| tallies.get(name).copied().unwrap_or_default();
        let drops: Vec<String> = drops.iter().map(|(name, count)| format!(", {count} {name}")).collect();
        format!("{} plain_in, {} cipher_in{}", count("plain_in"), count("cipher_in"), drops.concat())
    }

    fn write(&self, page: &mut String) {
        let mut line = |name: &str, value: String| {
            let _ = writeln!(page, "{name:<14}{value}");
        };
        line("link", format!("{}: {}", self.link, self.state));
        let since = self.tx.age_ms.map_or(String::new(), |age| format!(", {:.1} s old", age as f64 / 1000.0));
        line(
            "sending",
            format!("epoch {} ({}){since}, {} flows", self.tx.epoch, self.tx.state, self.tx.flows),
        );
        if let (Some(left), true) = (self.tx.stops_in_ms, self.tx.state != "active") {
            line("", format!("traffic stops in {:.1} s without a new epoch", left as f64 / 1000.0));
        }
        line("receiving", format!("epochs {:?}, {} flows", self.rx.epochs, self.rx.flows));
        line("rotations", format!("{} done, {} failed", self.tx.switches, self.tx.failures));
        if let Some(failure) = &self.tx.last_failure {
            line("", format!("last failure: {failure}"));
        }
        let KeyStatus { ready, fetched, receive, supply, trouble } = &self.keys;
        line("keys", format!("{supply}: {ready} ready of {fetched} fetched to send, {receive} to receive"));
        if let Some(trouble) = trouble {
            line("", trouble.clone());
        }
        line("channel", if self.channel { "connected".into() } else { "not connected".into() });
        line("peer", self.peer.to_string());
        line("next hop", self.next_hop.clone().unwrap_or_else(|| "not resolved".into()));
        let PathStatus { state, wanted, carries } = &self.path;
        let carries = carries.map_or(String::new(), |most| format!(": {most} bytes, {wanted} needed"));
        line("path MTU", format!("{state}{carries}"));
    }
}
