//! The kernel's addresses, routes and neighbours, asked for and followed by rtnetlink (rtnetlink(7)).

mod message;
mod record;
mod socket;

pub use record::{Address, Neighbour, RouteEntry, Soundness};
pub use socket::{Follower, addresses, neighbours, routes, use_neighbour};
