//! What all that are compared have in common.

use anyhow::Result;
use qhaul::lab::{Sites, Topology};

use super::standing::Standing;
use super::tools::Tool;
use super::{clear, qhaul as ours};

/// Something that can stand at both gateways.
pub(super) trait Peer {
    /// As it is called in rows and on the command line.
    fn name(&self) -> &'static str;

    /// Programs without which it cannot be.
    fn tools(&self) -> &'static [Tool] {
        &[]
    }

    /// What is missing beside programs, found out in the lab's own namespaces; `None` if it can be measured.
    fn lacks(&self, _topology: &Topology) -> Option<String> {
        None
    }

    /// The version that will run.
    fn version(&self) -> Result<String>;

    /// In a few words, what it is told.
    fn configuration(&self) -> String;

    /// Whether it routes packets; otherwise it carries frames from host to host.
    fn routes(&self) -> bool {
        true
    }

    /// Puts it in place at both gateways. What was put on `standing` is taken away again, also if this fails.
    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()>;

    /// Takes away what is not on the standing.
    fn take(&self, _sites: &mut Sites) -> Result<()> {
        Ok(())
    }
}

/// A peer that is there.
pub(super) struct Contender {
    pub(super) peer: Box<dyn Peer>,
    pub(super) version: String,
}

/// Whether it is one of the two beside which the others stand, and without which the run is worth nothing.
pub(super) fn is_control(name: &str) -> bool {
    [clear::NAME, ours::NAME].contains(&name)
}
