//! Mode `ip`: RFC 4303 tunnel mode between two networks. The gateway is a router for the plain side.
//!
//! [`Gateway`] judges packets in both directions, with [`PlainSide`] to look up what the kernel knows. [`Ingress`] is its way in:
//! a frame is stripped down to its IP packet, or answered by an ICMP error. [`Egress`] is its way out: an opened packet becomes a
//! frame for its next hop, or an ICMP error for the way in. Both take a hop off the TTL, as RFC 4301 section 5.1.2.1 has it for gateways that forward.

mod egress;
mod gateway;
mod ingress;
mod plain_side;

pub use egress::{Egress, Wanted};
pub use gateway::{Delivery, Entry, Gateway, frame_as, put_on, strip};
pub use ingress::Ingress;
pub use plain_side::{MAX_NEIGHBOURS, MAX_ROUTES, Miss, PlainSide, Route};
