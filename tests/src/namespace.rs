use anyhow::Result;
use qhaul::lab::plan::Node;
use qhaul::lab::{Topology, namespace};

/// [`namespace::inside`], for work that can fail.
pub fn inside<T: Send>(
    topology: &Topology,
    node: Node,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    namespace::inside(topology, node, work)?
}
