//! Devices that deliver keys as files: each site's device drops the same keys under the same key_IDs at its own site.

mod directory;
mod fifo;
mod guard;
mod half;
mod text;

pub use directory::{Directory, DirectoryConfig};
pub use fifo::{Fifo, FifoConfig};
pub use half::Half;

/// Both forms enter key derivation alike: the two sites' devices may deliver in different ways.
const KIND: &str = "file";
