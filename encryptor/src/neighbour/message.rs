//! Requests and messages of rtnetlink (`linux/netlink.h`, `linux/rtnetlink.h`, `linux/neighbour.h`), in the host's byte order but
//! for addresses.

use std::net::IpAddr;

use crate::wire::{Ends, MacAddr};

const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_CREATE: u16 = 0x400;
const NTF_USE: u8 = 0x01;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_VIA: u16 = 18;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTN_UNICAST: u8 = 1;
/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// `struct ndmsg` and `struct rtmsg`.
const BODY: usize = 12;

/// Sequence numbers of our requests, by which their answers and errors are known.
const ROUTE: u32 = 1;
const NEIGHBOUR: u32 = 2;
const USE: u32 = 3;

/// What can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// How packets between the ends leave by the interface.
    Route(Ends, u32),
    /// What is known of an address on the interface.
    Neighbour(IpAddr, u32),
    /// That the kernel resolve or check an address on the interface, without a packet of ours (kernel: net/core/neighbour.c,
    /// `neigh_add` with NTF_USE).
    Use(IpAddr, u32),
}

/// What can be heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// The answer to [`Ask::Route`].
    Route {
        /// The router; none where the peer is on the link.
        gateway: Option<IpAddr>,
        /// The interface by which it goes.
        index: u32,
    },
    /// The answer: there is no way.
    NoRoute,
    /// Some route has come or gone.
    RouteChanged,
    /// A neighbour's state, asked for or not; 0 when it was deleted.
    Neighbour {
        /// The interface.
        index: u32,
        /// Its address.
        address: IpAddr,
        /// NUD_ bits.
        state: u16,
        /// Its hardware address.
        mac: Option<MacAddr>,
    },
    /// The answer to [`Ask::Neighbour`]: nothing is known of this address.
    NoNeighbour(IpAddr),
    /// The kernel had more to say than there was room for.
    Overrun,
}

/// A request's bytes.
pub(super) fn encode(ask: &Ask) -> Vec<u8> {
    match *ask {
        Ask::Route(ends, index) => {
            let (own, peer) = (octets(ends.own()), octets(ends.peer()));
            let mut body = [0; BODY];
            (body[0], body[1], body[2]) = (family(ends.peer()), peer.len() as u8 * 8, own.len() as u8 * 8);
            let attributes = [
                attribute(RTA_DST, &peer),
                attribute(RTA_SRC, &own),
                attribute(RTA_OIF, &index.to_ne_bytes()),
            ];
            message(RTM_GETROUTE, 0, ROUTE, &body, &attributes.concat())
        }
        Ask::Neighbour(address, index) => about(RTM_GETNEIGH, 0, NEIGHBOUR, address, index, 0),
        Ask::Use(address, index) => about(RTM_NEWNEIGH, NLM_F_CREATE, USE, address, index, NTF_USE),
    }
}

fn about(kind: u16, flags: u16, sequence: u32, address: IpAddr, index: u32, neighbour_flags: u8) -> Vec<u8> {
    let mut body = [0; BODY];
    body[0] = family(address);
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[10] = neighbour_flags;
    message(kind, flags, sequence, &body, &attribute(NDA_DST, &octets(address)))
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8], attributes: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len() + attributes.len()) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    [&bytes[..], body, attributes].concat()
}

/// All that we send have a length that needs no padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    [&(4 + value.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Reads a datagram of the kernel's; `port` is our own, by which answers are told from what others caused. What is not understood is
/// passed over.
pub(super) fn decode(mut datagram: &[u8], port: u32) -> Vec<Heard> {
    let mut heard = Vec::new();
    while let Some((length, header)) = u32_at(datagram, 0).zip(datagram.get(..HEADER)) {
        let length = length as usize;
        let Some(body) = datagram.get(HEADER..length) else { break };
        heard.extend(read(header, body, port));
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    heard
}

fn read(header: &[u8], body: &[u8], port: u32) -> Option<Heard> {
    let answers = u32_at(header, 12)? == port;
    let sequence = u32_at(header, 8)?;
    match u16_at(header, 4)? {
        RTM_NEWROUTE if answers && sequence == ROUTE => Some(route(body).unwrap_or(Heard::NoRoute)),
        RTM_NEWROUTE | RTM_DELROUTE => Some(Heard::RouteChanged),
        RTM_NEWNEIGH => neighbour(body, false),
        RTM_DELNEIGH => neighbour(body, true),
        // The error's number, 0 for none; only failures of requests that ask for an answer say something.
        NLMSG_ERROR if answers && u32_at(body, 0)? != 0 => match sequence {
            ROUTE => Some(Heard::NoRoute),
            NEIGHBOUR => {
                // The request comes back behind the error's number.
                let mut asked = attributes(body.get(4 + HEADER + BODY..)?);
                address(asked.find(|(kind, _)| *kind == NDA_DST)?.1).map(Heard::NoNeighbour)
            }
            _ => None,
        },
        _ => None,
    }
}

/// `None`: a route that leads nowhere.
fn route(body: &[u8]) -> Option<Heard> {
    if *body.get(7)? != RTN_UNICAST {
        return None;
    }
    let (mut gateway, mut index) = (None, None);
    for (kind, value) in attributes(body.get(BODY..)?) {
        match kind {
            RTA_OIF => index = u32_at(value, 0),
            RTA_GATEWAY => gateway = address(value),
            // A family, then an address of it: IPv4 by an IPv6 router (RFC 5549).
            RTA_VIA => gateway = address(value.get(2..)?),
            _ => {}
        }
    }
    Some(Heard::Route { gateway, index: index? })
}

fn neighbour(body: &[u8], deleted: bool) -> Option<Heard> {
    let (index, state) = (u32_at(body, 4)?, u16_at(body, 8)?);
    let (mut about, mut mac) = (None, None);
    for (kind, value) in attributes(body.get(BODY..)?) {
        match kind {
            NDA_DST => about = address(value),
            NDA_LLADDR => mac = value.try_into().ok().map(MacAddr),
            _ => {}
        }
    }
    let (state, mac) = if deleted { (0, None) } else { (state, mac) };
    Some(Heard::Neighbour { index, address: about?, state, mac })
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let found = (u16_at(bytes, 2)?, bytes.get(4..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(found)
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match *value {
        [a, b, c, d] => Some([a, b, c, d].into()),
        _ => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PORT: u32 = 4711;

    fn said(kind: u16, sequence: u32, port: u32, body: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let padded: Vec<u8> = attributes
            .iter()
            .flat_map(|one| {
                let mut one = one.clone();
                one.resize(one.len().next_multiple_of(4), 0);
                one
            })
            .collect();
        let mut bytes = message(kind, 0, sequence, body, &padded);
        bytes[12..16].copy_from_slice(&port.to_ne_bytes());
        bytes
    }

    fn neighbour_body(state: u16) -> [u8; BODY] {
        let mut body = [0; BODY];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body[8..10].copy_from_slice(&state.to_ne_bytes());
        body
    }

    fn route_body(kind: u8) -> [u8; BODY] {
        let mut body = [0; BODY];
        body[7] = kind;
        body
    }

    #[test]
    fn neighbours_are_read_in_both_families() {
        for address in [IpAddr::from([192, 0, 2, 2]), "2001:db8::2".parse().unwrap()] {
            let attributes =
                [attribute(NDA_DST, &octets(address)), attribute(NDA_LLADDR, &[2, 0, 0, 0, 0, 9])];
            let mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
            let new = said(RTM_NEWNEIGH, 0, 0, &neighbour_body(4), &attributes);
            assert_eq!(decode(&new, PORT), [Heard::Neighbour { index: 7, address, state: 4, mac }]);
            let gone = said(RTM_DELNEIGH, 0, 0, &neighbour_body(4), &attributes);
            assert_eq!(decode(&gone, PORT), [Heard::Neighbour { index: 7, address, state: 0, mac: None }]);
            let both = [new, gone].concat();
            assert_eq!(decode(&both, PORT).len(), 2, "several in one datagram");
        }
    }

    #[test]
    fn a_route_is_an_answer_only_to_our_own_question() {
        let gateway = attribute(RTA_GATEWAY, &[192, 0, 2, 254]);
        let oif = attribute(RTA_OIF, &7u32.to_ne_bytes());
        let answer = |sequence, port, kind| {
            said(RTM_NEWROUTE, sequence, port, &route_body(kind), &[gateway.clone(), oif.clone()])
        };
        let route = Heard::Route { gateway: Some([192, 0, 2, 254].into()), index: 7 };
        assert_eq!(decode(&answer(ROUTE, PORT, RTN_UNICAST), PORT), [route]);
        assert_eq!(decode(&answer(ROUTE, PORT, 6), PORT), [Heard::NoRoute], "a black hole");
        assert_eq!(decode(&answer(ROUTE, PORT + 1, RTN_UNICAST), PORT), [Heard::RouteChanged]);
        assert_eq!(decode(&answer(0, 0, RTN_UNICAST), PORT), [Heard::RouteChanged]);
        let via = attribute(RTA_VIA, &[&u16::from(AF_INET6).to_ne_bytes()[..], &[0xfe; 16]].concat());
        let v6 = said(RTM_NEWROUTE, ROUTE, PORT, &route_body(RTN_UNICAST), &[via, oif]);
        let gateway = Some(IpAddr::from([0xfe; 16]));
        assert_eq!(decode(&v6, PORT), [Heard::Route { gateway, index: 7 }]);
    }

    #[test]
    fn an_error_answers_what_was_asked() {
        let about = IpAddr::from([192, 0, 2, 2]);
        let error = |sequence, port, number: i32| {
            let request = encode(&Ask::Neighbour(about, 7));
            let body = [&number.to_ne_bytes()[..], &request].concat();
            decode(&said(NLMSG_ERROR, sequence, port, &body, &[]), PORT)
        };
        assert_eq!(error(ROUTE, PORT, -101), [Heard::NoRoute]);
        assert_eq!(error(NEIGHBOUR, PORT, -2), [Heard::NoNeighbour(about)]);
        assert_eq!(error(USE, PORT, -22), []);
        assert_eq!(error(ROUTE, PORT, 0), []);
        assert_eq!(error(ROUTE, PORT + 1, -101), []);
    }

    #[test]
    fn requests_have_the_lengths_that_they_say() {
        let v6 = Ends::V6(1.into(), 2.into());
        let (short, long) = (IpAddr::from([192, 0, 2, 2]), IpAddr::from([1; 16]));
        for ask in [Ask::Route(v6, 3), Ask::Neighbour(short, 3), Ask::Neighbour(long, 3), Ask::Use(long, 3)] {
            let bytes = encode(&ask);
            assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32), "{ask:?}");
            let attributes: Vec<u16> = attributes(&bytes[HEADER + BODY..]).map(|(kind, _)| kind).collect();
            assert_eq!(attributes.len(), if matches!(ask, Ask::Route(..)) { 3 } else { 1 });
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..40u16, port in 0..2u32) {
            decode(&bytes, port);
            decode(&said(kind, ROUTE, port, &bytes, &[]), port);
        }
    }
}
