//! End-to-end tests: two whole sites in network namespaces, real traffic, and a backhaul that is listened to and attacked.
//!
//! They need root, are bounded in time, and disturb each other's pace: run them with `--test-threads=1`, as `make test` does.
//! One program for all of them: it is linked once.

mod audit;
mod bad_input;
mod cores;
mod crash;
mod fail_closed;
mod flood;
mod hostile_wire;
mod hub;
mod ip_mode;
mod many_flows;
mod oracle;
mod outer;
mod policy;
mod rotation;
mod secrecy;
mod sizes;
mod soak;
mod transparency;
mod wake_latency;
mod weather;
