mod receive;
mod seen;
mod send;

pub use receive::{NotAdded, ReceivePool, RefuseReason, Want};
pub use seen::Repeated;
pub use send::SendPool;
