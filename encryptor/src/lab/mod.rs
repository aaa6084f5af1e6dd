//! The lab: two sites, their key servers and a hostile backhaul in network namespaces of one machine.
//!
//! [`demo`] shows the whole in a minute, [`up`] leaves it standing to be tried by hand, [`down`] removes it,
//! [`replay::replay`] sends capture files through it. Tests build on
//! [`Topology`] (network only) and [`Sites`] (with key servers and encryptors).

use std::path::PathBuf;

/// The books that each encryptor keeps over its frames.
pub mod books;
/// tcpdump on the backhaul.
pub mod capture;
mod command;
mod demo;
/// Looks for plaintext in captured frames.
pub mod eavesdrop;
mod error;
/// A file over HTTP.
pub mod fetch;
/// What a process holds of the host.
pub mod footprint;
/// iperf3 between the hosts.
pub mod iperf;
/// Frames counted by the kernel.
pub mod ledger;
mod measure;
mod mixture;
/// Work inside a network namespace.
pub mod namespace;
mod pcap;
mod pcapng;
/// Pings with round-trip times.
pub mod ping;
/// Names and addresses.
pub mod plan;
mod process;
mod progress;
/// Raw Ethernet frames out of any interface.
pub mod raw_port;
mod removal;
/// Capture files through both encryptors.
pub mod replay;
mod report;
mod routed;
mod run_dir;
mod site_config;
mod sites;
mod stand;
mod status;
mod topology;
/// Paced UDP that counts itself.
pub mod traffic;
mod trail;
/// Bounded waiting.
pub mod wait;

pub use command::{run, run_in};
pub use demo::demo;
pub use error::{LabError, Result};
pub use pcap::{CaptureFile, for_each_frame};
pub use process::Process;
pub use removal::remove;
pub use site_config::{SiteConfig, kme_toml};
pub use sites::Sites;
pub use stand::{down, up};
pub use status::Status;
pub use topology::Topology;
pub use trail::Trail;

/// What the lab commands are told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Prefix of the namespaces' names: 1 to 8 lower-case letters and digits. Labs of different prefixes do not meet.
    pub prefix: String,
    /// Directory of the binaries `qhaul` and `qhaul-kme`.
    pub bin_dir: PathBuf,
    /// Queues at every end of the data path.
    pub queues: u16,
    /// Keep logs, configurations and captures of a demo.
    pub keep: bool,
    /// Key rotations that a demo must see in each direction.
    pub rotations: u64,
}

impl Default for Options {
    /// Prefix `qh`, binaries beside the running one, one queue, 10 rotations, nothing kept.
    fn default() -> Self {
        let bin_dir = std::env::current_exe().ok().and_then(|exe| exe.parent().map(PathBuf::from));
        let bin_dir = bin_dir.unwrap_or_default();
        Self { prefix: "qh".to_owned(), bin_dir, queues: 1, keep: false, rotations: 10 }
    }
}
