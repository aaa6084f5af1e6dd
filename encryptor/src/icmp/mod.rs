//! ICMP errors about packets that go no further: "packet too big" and "time exceeded", of IPv4 (RFC 792, RFC 1191) and IPv6
//! (RFC 4443).
//!
//! A frame turns into the error that goes back to where it came from. `permit` says about which packets there may be one, `head`
//! writes what stands in front of the quoted packet, and a [`Voice`] bounds how many there are.

mod head;
mod permit;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use crate::budget::Budget;
use crate::wire::{EtherType, Ipv4, Ipv6, L2, MacAddr};
use crate::xsk::Frame;

use head::Head;

/// ICMP errors a second, and at once, at the most (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).
pub const ERRORS_PER_SECOND: u32 = 100;

/// Why a packet goes no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// It has more bytes than this, the most that go on. IPv4 packets without DF are no matter for an error: they can be
    /// fragmented.
    TooBig(u16),
    /// Its hops ran out.
    TimeExceeded,
}

/// Who tells of errors: the gateway's addresses on the plain side. Without one of a family, the packet's destination is named as
/// the error's source: all that a bump in the wire can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Teller {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// One bounded source of ICMP errors, whatever they are about.
#[derive(Debug)]
pub struct Voice {
    teller: Teller,
    errors: Budget,
}

impl Voice {
    /// One that speaks as `teller`.
    pub fn new(teller: Teller) -> Voice {
        Voice { teller, errors: Budget::new(ERRORS_PER_SECOND, ERRORS_PER_SECOND) }
    }

    /// Speaks as somebody else from now on.
    pub fn speak_as(&mut self, teller: Teller) {
        self.teller = teller;
    }

    /// Lets time pass.
    pub fn refill(&mut self, now: Instant) {
        self.errors.refill(now);
    }

    /// Turns `frame` into the error that goes back to where it came from. False, and no change: none may be told of it, or enough
    /// were told.
    #[must_use]
    pub fn tell(&mut self, frame: &mut Frame, problem: Problem) -> bool {
        if !self.errors.take() {
            return false;
        }
        let told = answer(frame, problem, &self.teller);
        if !told {
            self.errors.refund();
        }
        told
    }
}

/// Turns `frame`, a whole Ethernet frame, tagged or not, into the error that goes back to where it came from, behind the same
/// tags. False, and no change: no error may be told of this packet, or there is no room.
#[must_use]
fn answer(frame: &mut Frame, problem: Problem, teller: &Teller) -> bool {
    let bytes = frame.data();
    let is_host = |mac: Option<MacAddr>| mac.is_some_and(|mac| !mac.is_group());
    let between_hosts = is_host(MacAddr::of_source(bytes)) && is_host(MacAddr::of_destination(bytes));
    let Some(l2) = L2::parse(bytes).filter(|_| between_hosts) else { return false };
    let packet = &bytes[l2.payload..];
    let head = match l2.ethertype {
        EtherType::IPV4 => Ipv4::parse(packet)
            .filter(|ip| permit::about_v4(ip, problem))
            .map(|ip| Head::about_v4(packet, &ip, problem, teller)),
        EtherType::IPV6 => Ipv6::parse(packet)
            .filter(permit::about_v6)
            .map(|ip| Head::about_v6(packet, &ip, problem, teller)),
        _ => None,
    };
    head.is_some_and(|head| dress(frame, &l2, &head))
}

/// Puts `head` between the link layer, whose addresses are exchanged, and the quoted bytes of the packet.
fn dress(frame: &mut Frame, l2: &L2, head: &Head) -> bool {
    let (quoted, head) = (head.quoted(), head.bytes());
    if frame.headroom() < head.len() || frame.prepend(head.len()).is_none() {
        return false;
    }
    frame.truncate(head.len() + l2.payload + quoted);
    let bytes = frame.data_mut();
    bytes.copy_within(head.len()..head.len() + l2.payload, 0);
    bytes[l2.payload..l2.payload + head.len()].copy_from_slice(head);
    let (to, from) = bytes[..12].split_at_mut(6);
    to.swap_with_slice(from);
    true
}

#[cfg(test)]
mod tests;
