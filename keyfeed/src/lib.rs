//! Where qhaul's keys come from, and where they wait until both sites hold them.
//!
//! A key's journey through this crate: a [`KeySource`] ([`etsi014`], [`skip`], [`mod@file`]) fetches it, the [`Feeder`] carries it off the
//! source's thread, a pool ([`SendPool`], [`ReceivePool`]) keeps it until the link has agreed on its key_ID.
//! The crate knows nothing of packets and opens no socket of the data path.

/// The ETSI GS QKD 014 client: one [`KeySource`].
pub mod etsi014;
/// Several sources in order of preference, as one [`KeySource`].
pub mod failover;
/// Runs a source on threads of its own, so that a slow or hanging KME never blocks the caller.
pub mod feeder;
/// Keys that a device delivers as files or through a FIFO: two [`KeySource`]s.
pub mod file;
/// A KME emulator: the server side of ETSI GS QKD 014 for two sites, with the link between their KMEs.
pub mod kme;
/// Keys fetched ahead, until both sites hold them. State machines without I/O and without a clock.
pub mod pool;
/// QKD keys and their names as types.
pub mod secret;
/// The client of SKIP, draft-cisco-skip-02: one [`KeySource`].
pub mod skip;
/// What a key source is, and how it can fail.
pub mod source;

/// HTTPS with mutual TLS for one server, shared by the client and by the emulator's KME-to-KME link.
mod https;
/// key_ID and SAE ID.
mod ids;

pub use etsi014::{Etsi014, Etsi014Config};
pub use failover::{Failover, Pauses};
pub use feeder::{FeedReply, Feeder};
pub use file::{Directory, DirectoryConfig, Fifo, FifoConfig, Half};
pub use https::TlsVersion;
pub use pool::{NotAdded, ReceivePool, RefuseReason, Repeated, SendPool, Want};
pub use secret::{BadId, BadKey, DeliveredKey, KeyId, QkdKey, SaeId};
pub use skip::{Skip, SkipConfig};
pub use source::{KeySource, SourceConfig, SourceError, SourceMaker, SourceStatus};
