//! qhaul: a bump in the wire for 5G backhaul.
//!
//! Plain frames in, ESP out, a key for each flow, keys from a QKD network. Two journeys lead through this crate:
//! a packet's (`worker` -> `policy` -> `classify` -> `protect` or `unprotect` -> `esp` -> `aead` -> `xsk`) and a key's
//! (`control` -> `link` -> `epoch` -> `keys` -> `flows`).

pub mod address;
pub mod aead;
pub mod audit;
pub mod budget;
pub mod check;
pub mod classify;
pub mod config;
pub mod control;
pub mod counters;
pub mod datapath;
pub mod drops;
pub mod epoch;
pub mod esn;
pub mod esp;
pub mod fit;
pub mod flows;
pub mod handover;
pub mod icmp;
pub mod keylog;
pub mod keys;
pub mod lab;
pub mod link;
pub mod neighbour;
pub mod netlink;
pub mod ownership;
#[cfg(test)]
mod packet_tests;
pub mod pki;
pub mod plan;
pub mod policy;
pub mod protect;
pub mod replay;
pub mod secure;
pub mod spi;
pub mod status;
pub mod tunnel;
pub mod unprotect;
pub mod wake_latency;
pub mod wire;
pub mod worker;
pub mod xsk;

/// Frames that move through the packet path together.
pub const BURST: usize = 64;

/// Frames of a burst that are worked on together. As measured: four cost more; with few flows, sixteen or the whole burst cost no less.
const GROUP: usize = 8;

/// How many packets ahead memory is asked for: long enough for it to come.
pub const AHEAD: usize = 16;

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It leaves through the other port.
    Send,
    /// It leaves through the other port as it came: a bypass rule means it.
    Bypass,
    /// It was a genuine dummy packet of this epoch, and ends here.
    Dummy(spi::Epoch),
    /// Its flow belongs to the worker of this number, which is to open it.
    HandOver(u8),
    /// It ends here, for this reason.
    Drop(drops::DropReason),
    /// It ended here, for this reason, and holds the ICMP error that goes back to where it came from: out of the plain port, or
    /// through the tunnel.
    Answer(drops::DropReason),
}
