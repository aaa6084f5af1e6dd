//! What the end-to-end tests stand on. The tests themselves are in `tests/e2e`, one file for each promise.
//!
//! A test brings up a whole lab ([`TestLab`]): two encryptors, two key servers, two hosts and a backhaul in network
//! namespaces. It needs root, and the binaries `qhaul` and `qhaul-kme` beside the test's own build directory.

/// Both ends of the backhaul, listened to.
pub mod backhaul;
/// Frames of every kind that a carrier may show, sound and broken, to be carried bit for bit.
pub mod corpus;
/// ESP from scratch, after RFC 4303 and RFC 4106, on another AES-GCM than the encryptor's.
pub mod esp;
/// Frames of every kind that a bump in the wire has to carry, each with the flow it belongs to.
pub mod frames;
/// One encryptor with many peers: a lab of its own.
pub mod hub;
/// The debug key log, as an outsider reads it.
pub mod key_log;
/// A lab under test: it checks its books at the end, and prints its last words when a test fails.
pub mod lab;
/// Work inside a network namespace.
pub mod namespace;
/// Other people's software that opens captured packets: Scapy, python3-cryptography and tshark.
pub mod oracle;
/// Frames out of a chosen queue of any interface.
pub mod queue_port;
/// Looks for key bytes in text, in every form in which they could leak.
pub mod search;
/// tcpdump at any interface.
pub mod tap;

pub use lab::TestLab;
pub use qhaul::lab::{books, raw_port, traffic};
