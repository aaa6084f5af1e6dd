//! The audit log: which key did what, when, as a chain of lines that nothing can be taken out of unnoticed.
//!
//! One JSON object a line. `prev` is the SHA-256 of the line before, so the hash of the last line (the *head*) stands
//! for all of them. Whoever can write the file can also write another chain, or cut the end off: against that, note the
//! head elsewhere now and then, and let [`verify_against`] look for it. key_IDs only: no type of this module holds a key.
//!
//! A full log is set aside as `audit.log.1`, the next as `audit.log.2`: the higher the number the newer, and the chain
//! goes on from file to file. Nothing is ever deleted here.

mod error;
mod event;
mod files;
mod line;
mod log;
mod report;
#[cfg(test)]
mod tests;
mod verify;

pub use error::AuditError;
pub use event::{Direction, Event, Kind, Limit};
pub use log::Audit;
pub use report::{Fault, Report};
pub use verify::{verify, verify_against};
