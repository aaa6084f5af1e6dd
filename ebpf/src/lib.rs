//! The XDP programs of qhaul's two ports, and their loader.
//!
//! The programs steer frames to AF_XDP sockets and drop early what no worker should see; they know nothing of keys. They are
//! written in C (`src/plain.bpf.c`, `src/cipher.bpf.c`), compiled by `build.rs` with clang, and embedded in this library.
//!
//! Attaching goes by netlink and not by `bpf_link`, on purpose: a link goes with its process, and an encryptor that was
//! killed would leave its plain port open to the kernel. So the program stays, its sockets are gone, and it drops all: it
//! fails closed. Dropping [`PlainProgram`] or [`CipherProgram`] detaches, and the next start replaces what a killed one left.

/// Attaching, replacing and detaching a program at an interface.
mod attachment;
/// The program of the port that faces the backhaul.
mod cipher;
/// What may cross in clear.
mod clear;
/// Named counters, summed over the CPUs.
mod counters;
/// What can go wrong, with its remedy.
mod error;
/// Loading an embedded object and reaching its maps.
mod object;
/// The program of the port that faces the trusted side.
mod plain;
/// Ready-made packets and a socket for the programs' tests.
#[cfg(test)]
mod testing;

pub use attachment::AttachMode;
pub use cipher::{CipherPeer, CipherProgram, CipherSettings, MAX_PEERS};
pub use clear::ClearSettings;
pub use counters::{CipherCounters, PlainCounters};
pub use error::Error;
pub use object::{Buffers, MAX_QUEUES};
pub use plain::{MAX_OWN_V6, PlainProgram, PlainRouter};
