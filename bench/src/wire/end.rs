//! One end of the path: AF_XDP sockets on all queues of a host's interface, which make or take frames.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use core_affinity::CoreId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use qhaul::xsk::{BindMode, Frame, Port, PortConfig, Umem};
use qhaul_ebpf::{AttachMode, Buffers, PlainProgram};

const RING: u32 = 4096;
const CHUNK: u32 = 4096;
/// Frames taken from a queue in one go, at the most.
const TAKE: usize = 64;

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

/// The cores of the near end and of the far one: from the last on, as gateways get theirs from the first on. On two cores the
/// generator so shares gateway b's and the sink gateway a's, which is the more even of both ways. Left to the scheduler it is now one
/// and now the other, and what a path carries follows that.
pub(super) fn cores() -> [usize; 2] {
    let there: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    [1, 2].map(|from_end| {
        let place = there.len().saturating_sub(from_end);
        there.get(place).copied().unwrap_or_default()
    })
}

/// One queue, and the frames that the kernel has still to take on it.
#[derive(Debug)]
struct Queue {
    port: Port,
    out: Vec<Frame>,
}

/// The memory and the sockets of one end, without the program. One thread turns to all queues in turn.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) umem: Umem,
    queues: Vec<Queue>,
    core: usize,
}

impl Line {
    /// Binds the calling thread, which is to turn to the queues, to this end's core.
    pub(super) fn take_core(&self) -> Result<()> {
        let core = self.core;
        ensure!(core_affinity::set_for_current(CoreId { id: core }), "core {core} cannot be had");
        Ok(())
    }

    /// Takes a frame to be sent. All frames of a flow leave on one queue, so that they stay in order.
    pub(super) fn push(&mut self, flow: usize, frame: Frame) {
        let count = self.queues.len();
        self.queues[flow % count].out.push(frame);
    }

    /// Frames that the kernel has still to take.
    pub(super) fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.out.len()).sum()
    }

    /// Hands over what waits; what finds no room goes on waiting. How many were taken.
    pub(super) fn send(&mut self) -> Result<usize> {
        let mut taken = 0;
        for Queue { port, out } in &mut self.queues {
            taken += port.transmit(&mut self.umem, out);
            port.kick()?;
            port.complete(&mut self.umem);
        }
        Ok(taken)
    }

    /// Gives up what waits.
    pub(super) fn discard(&mut self) {
        for frame in self.queues.iter_mut().flat_map(|queue| queue.out.drain(..)) {
            self.umem.free(frame);
        }
    }

    /// Appends what arrived to `frames`.
    pub(super) fn receive(&mut self, frames: &mut Vec<Frame>) -> usize {
        let mut received = 0;
        for Queue { port, .. } in &mut self.queues {
            received += port.receive(&mut self.umem, frames, TAKE);
            port.refill(&mut self.umem, RING);
        }
        received
    }

    /// Sleeps until something arrives, or for `longest`.
    pub(super) fn wait(&self, longest: PollTimeout) -> Result<()> {
        let mut fds: Vec<PollFd<'_>> =
            self.queues.iter().map(|queue| PollFd::new(queue.port.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut fds, longest) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("poll"),
        }
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
    /// Takes all `queues` of `interface` in `namespace`, for a thread on `core`.
    pub(super) fn open(namespace: &str, interface: &str, queues: u16, core: usize) -> Result<End> {
        within(namespace, || {
            let program = PlainProgram::attach(interface, AttachMode::Native, Buffers::One)?;
            let mut umem = Umem::new(RING * 4 * u32::from(queues), CHUNK)?;
            let sizes = PortConfig {
                rx: RING,
                tx: RING,
                fill: RING,
                completion: RING,
                bind: BindMode::Copy,
                ..PortConfig::default()
            };
            let places: Vec<(&str, u32)> = (0..queues.into()).map(|queue| (interface, queue)).collect();
            let ports = Port::open_all(&mut umem, &places, &sizes)?;
            for port in &ports {
                program.set_socket(port.queue(), port.as_fd())?;
            }
            let queues = ports.into_iter().map(|port| Queue { port, out: Vec::new() }).collect();
            Ok(End { namespace: namespace.to_owned(), program, line: Line { umem, queues, core } })
        })
    }

    /// Lets go of the interface.
    pub(super) fn close(self) -> Result<()> {
        let End { namespace, program, mut line } = self;
        within(&namespace, || {
            drop(program);
            line.discard();
            for queue in line.queues {
                queue.port.close(&mut line.umem);
            }
            Ok(())
        })
    }
}
