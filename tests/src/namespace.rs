use std::fs::File;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use qhaul::lab::Topology;
use qhaul::lab::plan::Node;

/// Runs `work` on a thread inside a node's network namespace. Sockets that it opens stay there.
pub fn inside<T: Send>(
    topology: &Topology,
    node: Node,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let path = Path::new("/run/netns").join(topology.namespace(node));
    let namespace = File::open(&path).with_context(|| format!("namespace {}", path.display()))?;
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("setns")?;
            work()
        });
        worker.join().map_err(|_| anyhow!("the work inside {} panicked", path.display()))?
    })
}
