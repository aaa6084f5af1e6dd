//! Why the audit log cannot be written.

use std::io;
use std::path::PathBuf;

/// Why an event was not written, in one line that names file, cause and remedy.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file or its folder cannot be made, opened or read.
    #[error("audit log {}: {source}; check its folder, its owner and its mode", path.display())]
    Open {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else stands where the log should be.
    #[error("audit log {}: {found}; name another file, or move this one away", path.display())]
    NotALog {
        /// The log.
        path: PathBuf,
        /// What stands there.
        found: &'static str,
    },
    /// A server that hangs would stop the rotation of keys.
    #[error("audit log {}: the folder is on a network file system, which can hang; use a local one", path.display())]
    Network {
        /// The log.
        path: PathBuf,
    },
    /// Two writers would fork the chain.
    #[error("audit log {}: another process writes it; give each encryptor a log of its own", path.display())]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// The line was not, or not wholly, written. The next one that is says how many are missing.
    #[error("audit log {}: an event was not written: {source}; make room, or mount it writable", path.display())]
    Write {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The event was written, but the full file could not be set aside.
    #[error("audit log {}: it is full and cannot be renamed: {source}; check its folder's mode", path.display())]
    Rotate {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No chain id can be drawn.
    #[error("audit log: the system's random number generator failed")]
    Random,
}
