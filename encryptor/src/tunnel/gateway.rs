//! What a router asks of packets, on both ways.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Miss, PlainSide};
use crate::drops::DropReason;
use crate::wire::ip_header::{IpHeader, take_hop};
use crate::wire::{ETH_HLEN, EtherType, MacAddr, NextHeader, be16};
use crate::xsk::Frame;

/// The gateway as its plain side sees it.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The plain port's hardware address.
    pub mac: MacAddr,
    /// Bytes of a packet that fits the plain port.
    pub mtu: usize,
    /// Who and what is on the plain side.
    pub side: Arc<PlainSide>,
}

/// A plain frame that may go: what its packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its version.
    pub next: NextHeader,
    /// Bytes of the packet, without the link layer's header and padding.
    pub length: usize,
}

/// An opened packet that may go: where to, and as what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The next hop.
    pub to: MacAddr,
    /// Its version.
    pub ethertype: EtherType,
    /// Bytes of the packet, without what is behind it (traffic flow confidentiality padding, RFC 4303 section 2.7).
    pub length: usize,
}

impl Gateway {
    /// Judges a frame from the plain side: a unicast IP packet, addressed to the gateway's hardware address and through it.
    pub fn admit(&self, frame: &[u8]) -> Result<Entry, DropReason> {
        let packet = frame.get(ETH_HLEN..).ok_or(DropReason::Runt)?;
        let (next, header) = match be16(frame, 12).map(EtherType) {
            Some(EtherType::IPV4) => (NextHeader::Ipv4, IpHeader::parse_v4(packet)),
            Some(EtherType::IPV6) => (NextHeader::Ipv6, IpHeader::parse_v6(packet)),
            _ => return Err(DropReason::NotIp),
        };
        let to = MacAddr::of_destination(frame).ok_or(DropReason::Runt)?;
        if to.is_group() {
            return Err(DropReason::Multicast);
        }
        if to != self.mac {
            return Err(DropReason::NotForGateway);
        }
        let header = header.ok_or(DropReason::BadIp)?;
        if is_group(header.destination) {
            return Err(DropReason::Multicast);
        }
        if !is_routable(header.source)
            || !is_routable(header.destination)
            || self.side.is_own(header.destination)
        {
            return Err(DropReason::NotRoutable);
        }
        match header.hops {
            0 | 1 => Err(DropReason::TtlExpired),
            _ => Ok(Entry { next, length: header.total_length }),
        }
    }

    /// Judges what an opened packet holds: `payload`, which is said to be `next`. With the drop comes the next hop that is wanted.
    pub fn deliver(
        &self,
        payload: &[u8],
        next: NextHeader,
    ) -> Result<Delivery, (DropReason, Option<IpAddr>)> {
        let refused = |reason| Err((reason, None));
        let (ethertype, header) = match next {
            NextHeader::Ipv4 => (EtherType::IPV4, IpHeader::parse_v4(payload)),
            NextHeader::Ipv6 => (EtherType::IPV6, IpHeader::parse_v6(payload)),
            NextHeader::Ethernet | NextHeader::None => return refused(DropReason::NextHeader),
        };
        let Some(IpHeader { total_length: length, hops, source, destination }) = header else {
            return refused(DropReason::InnerIp);
        };
        let routable = is_routable(source) && is_routable(destination) && !is_group(destination);
        if !routable || self.side.is_own(destination) {
            return refused(DropReason::InnerAddress);
        }
        if hops <= 1 {
            return refused(DropReason::InnerTtl);
        }
        match self.side.resolve(destination) {
            // Last of all: what would go nowhere is not told to be too big.
            Ok(_) if length > self.mtu => refused(DropReason::InnerSize),
            Ok(to) => Ok(Delivery { to, ethertype, length }),
            Err(Miss::NoRoute) => refused(DropReason::NoRoute),
            Err(Miss::NoNeighbour(next)) => Err((DropReason::NoPlainNeighbour, Some(next))),
        }
    }
}

/// Leaves the bare packet of a frame that was admitted, `length` bytes, one hop on.
pub fn strip(frame: &mut Frame, length: usize) {
    let stripped = frame.advance(ETH_HLEN);
    debug_assert!(stripped, "its header was read from it");
    frame.truncate(length);
    take_hop(frame.data_mut());
}

/// Makes a frame of the packet that begins `start` bytes, at least an Ethernet header, behind the front of `frame`, one hop on.
pub fn put_on(frame: &mut Frame, start: usize, delivery: &Delivery, from: MacAddr) {
    frame_as(frame, start, delivery, from);
    take_hop(&mut frame.data_mut()[ETH_HLEN..]);
}

/// The same with the hops that it had.
pub fn frame_as(frame: &mut Frame, start: usize, delivery: &Delivery, from: MacAddr) {
    let stripped = frame.advance(start - ETH_HLEN);
    debug_assert!(stripped, "the packet was read from it");
    frame.truncate(ETH_HLEN + delivery.length);
    let header = &mut frame.data_mut()[..ETH_HLEN];
    header[0..6].copy_from_slice(&delivery.to.0);
    header[6..12].copy_from_slice(&from.0);
    header[12..14].copy_from_slice(&delivery.ethertype.0.to_be_bytes());
}

fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Whether a router may forward from or to an address: not unspecified, loopback, link-local (RFC 3927 section 7, RFC 4291 section
/// 2.5.6) or reserved; groups are judged apart as destinations, and refused as sources.
fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets(), [0 | 127 | 224.., ..] | [169, 254, ..]),
        IpAddr::V6(v6) => {
            let mute = v6.is_unspecified() || v6.is_loopback() || v6.is_multicast();
            !mute && !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none()
        }
    }
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
