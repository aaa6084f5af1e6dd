//! Keeps key material in memory: locked, not dumpable, never on disk.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Why memory could not be locked.
#[derive(Debug, thiserror::Error)]
#[error(
    "memory cannot be locked ({0}), so keys could reach the swap: run as root or raise the memlock limit"
)]
pub struct NotLocked(nix::Error);

/// Locks all memory of the process, what it has and what it will have, and forbids core dumps and ptrace by others.
///
/// The whole process rather than chosen pages: keys also lie in the TLS library's buffers and on stacks.
pub fn lock_memory() -> Result<(), NotLocked> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(NotLocked)?;
    prctl::set_dumpable(false).map_err(NotLocked)?;
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).map_err(NotLocked)
}
