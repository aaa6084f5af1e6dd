//! AF_XDP: frames between network interfaces and this process, without a copy between two ports.
//!
//! `Umem` is the memory, cut into chunks; a `Frame` is the one token of a chunk; a `Port` is one queue of one
//! interface, whose rings take tokens and give them back. The kernel's side is described in its
//! `Documentation/networking/af_xdp.rst`; structs and constants come from the `libc` crate.
//!
//! This is the one folder with `unsafe`: the rings and chunks are shared with the kernel. The argument rests on a single
//! fact, kept by `lent::Lent`: for every chunk there is at any time one place that may touch its bytes, the free list, a
//! token, or the kernel.
#![allow(unsafe_code)] // Memory shared with the kernel, and system calls that no safe crate offers.

/// Frames of several chunks, put together piece by piece.
mod chain;
/// What can go wrong, with its remedy.
mod error;
/// The one token of a chunk: a packet with room before and after it.
mod frame;
/// Hints about memory to the processor and the kernel.
mod hints;
/// What an interface is: index, address, MTU, queues.
mod interface;
/// Which chunks the kernel has.
mod lent;
/// Memory maps, and the types that may lie in memory that the kernel writes.
mod memory;
/// What devices do to frames behind our back, switched off for a while.
mod offloads;
/// Opening ports that share one UMEM, and choosing their mode.
mod open;
/// One queue of one interface.
mod port;
/// One ring, seen from either end.
mod ring;
/// The four rings of a port and the chunks in them; no system calls.
mod rings;
/// The scheduler's slices of a worker's time.
mod slice;
/// The system calls on an AF_XDP socket.
mod socket;
/// What the kernel and the port count.
mod statistics;
/// Knobs of ports that have a default for good reasons.
mod tuning;
/// The memory that frames live in.
mod umem;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use frame::{Frame, HEADROOM};
pub(crate) use hints::{filled, huge_pages, prefetch};
pub use interface::{Interface, Promiscuous};
pub use offloads::{OffloadsOff, offloads_on};
pub use open::{BindMode, PortConfig, knows_chains};
pub use port::{LiveMode, Port};
pub use rings::Outstanding;
pub use slice::ask_for_short_slices;
pub use statistics::{PortCounters, Statistics};
pub use tuning::Tuning;
pub use umem::{JUMBO, Umem};
