//! One end of the path: an AF_XDP socket on a host's interface, which makes or takes frames.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use qhaul::xsk::{BindMode, Frame, Port, PortConfig, Umem};
use qhaul_ebpf::{AttachMode, Buffers, PlainProgram};

const RING: u32 = 4096;
const CHUNK: u32 = 4096;

/// Runs `work` with this thread in the network namespace `name`. Sockets that it opens stay there.
pub(crate) fn within<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let home = File::open("/proc/thread-self/ns/net").context("this thread's network namespace")?;
    let path = Path::new("/run/netns").join(name);
    let there = File::open(&path).with_context(|| format!("{}", path.display()))?;
    setns(there, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {name}"))?;
    let result = work();
    setns(home, CloneFlags::CLONE_NEWNET).context("leaving the namespace")?;
    result
}

/// The memory and the socket of one end, without the program.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) umem: Umem,
    pub(super) port: Port,
}

impl Line {
    /// Hands `frames` to the kernel; what finds no room stays. How many were taken.
    pub(super) fn send(&mut self, frames: &mut Vec<Frame>) -> Result<usize> {
        let taken = self.port.transmit(&mut self.umem, frames);
        self.port.kick()?;
        self.port.complete(&mut self.umem);
        Ok(taken)
    }

    /// Appends what arrived to `frames`.
    pub(super) fn receive(&mut self, frames: &mut Vec<Frame>) -> usize {
        let received = self.port.receive(&mut self.umem, frames, 64);
        self.port.refill(&mut self.umem, RING);
        received
    }
}

/// An open end. Close it before the namespace goes.
#[derive(Debug)]
pub(super) struct End {
    namespace: String,
    program: PlainProgram,
    pub(super) line: Line,
}

impl End {
    /// Takes queue 0 of `interface` in `namespace`.
    pub(super) fn open(namespace: &str, interface: &str) -> Result<End> {
        within(namespace, || {
            let program = PlainProgram::attach(interface, AttachMode::Native, Buffers::One)?;
            let mut umem = Umem::new(RING * 4, CHUNK)?;
            let sizes = PortConfig {
                rx: RING,
                tx: RING,
                fill: RING,
                completion: RING,
                bind: BindMode::Copy,
                ..PortConfig::default()
            };
            let port = Port::open(&mut umem, interface, 0, &sizes)?;
            program.set_socket(0, port.as_fd())?;
            Ok(End { namespace: namespace.to_owned(), program, line: Line { umem, port } })
        })
    }

    /// Lets go of the interface.
    pub(super) fn close(self) -> Result<()> {
        let End { namespace, program, line: Line { mut umem, port } } = self;
        within(&namespace, || {
            drop(program);
            port.close(&mut umem);
            Ok(())
        })
    }
}
