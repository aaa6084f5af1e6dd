use std::fs::File;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
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

/// The same in a namespace of any name.
pub fn inside_named<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = File::open(Path::new("/run/netns").join(name)).context(name.to_owned())?;
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
