//! Checked views of the headers that frames carry. No sockets, no keys.
//!
//! Each parser takes a slice, checks every length before it reads, and returns plain values: a header that could be
//! read is another type than raw bytes.

mod checksum;
mod ethernet;
mod gtpu;
mod ip;
pub mod ip_header;
mod mpls;
mod outer;
mod packet;
mod traffic_class;
mod view;

pub use checksum::{checksum, update as update_checksum};
pub use ethernet::{ETH_HLEN, EtherType, L2, MacAddr};
pub use gtpu::{GTPU_PORT, Gtpu, parse_gtpu};
pub use ip::{L3, TCP, Transport, UDP, parse_ip};
pub use mpls::{LabelStack, parse_labels};
pub use outer::{
    Encap, Ends, EspHeader, MAX_OUTER_LEN, NextHeader, OuterError, OuterShape, OuterTemplate, flow_label,
    parse_outer, source_port,
};
pub use traffic_class::{ClassMap, Dscp, Ecn, is_congested, leave_tunnel, may_mark};
pub use view::{Seen, Session, View};

pub use packet::{Ipv4, Ipv6};

/// Reads a big-endian u16 at `at`, if it is there.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
