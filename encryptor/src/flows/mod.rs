//! Flows and their keys: one table per direction and epoch.
//!
//! The control thread makes a table, hands it to the worker, gets it back when the epoch is over, wipes it and uses it
//! again. So the worker never allocates or frees, memory stays flat over any number of rotations, and no key outlives
//! its epoch. A slot is never given to a second flow within an epoch, since a table only grows until it is wiped.

/// As many flows stay in the processor's cache by themselves.
const FEW: usize = 128;

mod index;
mod limits;
mod rx;
mod tx;

pub use index::FlowHash;
pub use limits::{FlowLimits, Use};
pub use rx::{FlowRef, Lookup, RxEpoch, RxTable, RxTerms};
pub use tx::{Admission, TxEpoch, TxTable, TxTerms};
