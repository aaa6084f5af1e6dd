//! Work inside a network namespace of the lab.

use std::fs::File;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::error::{Result, io_error};
use super::plan::Node;
use super::topology::Topology;

/// Runs `work` on a thread inside a node's network namespace and gives what it gave. Sockets that it opens stay there.
pub fn inside<T: Send>(topology: &Topology, node: Node, work: impl FnOnce() -> T + Send) -> Result<T> {
    inside_named(&topology.namespace(node), work)
}

/// The same in a namespace of any name.
pub fn inside_named<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(name);
    let namespace = File::open(&path).map_err(io_error(format!("cannot open {}", path.display())))?;
    let entered = thread::scope(|scope| {
        let worker = scope.spawn(|| setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| work()));
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    entered.map_err(|errno| io_error(format!("cannot enter {}", path.display()))(errno.into()))
}
