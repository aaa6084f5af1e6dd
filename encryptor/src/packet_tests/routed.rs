//! The packet path in mode `ip`: what is too big for the tunnel, and whom a router tells.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::fit::{Fit, Made, Oversize, Sizes};
use crate::protect::Inside;
use crate::tunnel::{Egress, Gateway, Ingress, PlainSide, Route};
use crate::wire::ip_header::{ICMP, ICMPV6, take_hop};
use crate::wire::{ETH_HLEN, Ipv4, Ipv6, checksum};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const DF: u16 = 0x4000;
const UDP: u8 = 17;

/// The gateway of site 1 or 2, with one host on the plain side.
fn gateway(site: u8) -> Gateway {
    let addresses = |last: u8| -> [IpAddr; 2] { [v4_of(site, last).into(), v6_of(site, last).into()] };
    let own = [IpAddr::from([169, 254, 0, site]), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into()];
    let on_link = |network: IpAddr, prefix| Route { network, prefix, via: None };
    let [network4, network6] = addresses(0);
    let side = PlainSide::new(
        [own, addresses(254)].concat(),
        [on_link(network4, 24), on_link(network6, 64)],
        addresses(1).map(|address| (address, HOST)),
    );
    Gateway { mac: MAC, mtu: 3500, side: Arc::new(side) }
}

fn v4_of(site: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, site, 0, last)
}

fn v6_of(site: u8, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, site.into(), 0, 0, 0, last.into())
}

/// Site 1 sends, site 2 receives.
fn rig() -> Rig {
    between(1, 2)
}

fn between(from: u8, to: u8) -> Rig {
    let Rig { umem, protect, unprotect, now } = Rig::linked();
    let protect = protect.carrying(Inside::Packets(Box::new(Ingress::new(gateway(from)))));
    let unprotect = unprotect.through(Egress::new(gateway(to)));
    Rig { umem, protect, unprotect, now }
}

fn frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&MAC.0[..], &HOST.0, &ethertype.to_be_bytes(), packet].concat()
}

/// From the host of site 1 to that of site 2.
fn v4(fragment: u16, ttl: u8, payload: usize) -> Vec<u8> {
    let [high, low] = fragment.to_be_bytes();
    let length = (20 + payload as u16).to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 7, high, low, ttl, UDP, 0, 0];
    header.extend([v4_of(1, 1), v4_of(2, 1)].map(|address| address.octets()).concat());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend((0..payload).map(|at| (at * 31 + at / 256) as u8));
    frame(0x0800, &header)
}

fn v6(hops: u8, payload: usize) -> Vec<u8> {
    let length = (payload as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], UDP, hops];
    packet.extend([v6_of(1, 1), v6_of(2, 1)].map(|address| address.octets()).concat());
    packet.extend((0..payload).map(|at| (at * 31 + at / 256) as u8));
    frame(0x86dd, &packet)
}

fn with(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

/// What the worker's second pass makes of a frame that was too big: why it ended, fragments, answers.
fn second_pass(rig: &mut Rig, bytes: &[u8]) -> (Option<DropReason>, [Vec<Vec<u8>>; 2]) {
    let frame = rig.frame(bytes);
    let mut fit = Fit::new(Sizes::default(), rig.protect.largest_frame() + ETH_HLEN);
    let (mut made, router) = (Made::default(), rig.protect.inside_mut().voice_mut());
    let outcome = fit.handle(frame, &mut rig.umem, &mut made, router, rig.now);
    let bytes = [made.fragments, made.replies].map(|frames| {
        let bytes = frames.iter().map(|frame| frame.data().to_vec()).collect();
        frames.into_iter().for_each(|frame| rig.umem.free(frame));
        bytes
    });
    (outcome.err(), bytes)
}

#[test]
fn what_a_router_refuses_anyway_is_not_told_to_be_too_big() {
    let mut rig = rig();
    assert!(Sizes::default().oversize == Oversize::Fragment);
    let cases = [
        ("IPv4 with DF", v4(DF, 9, 3200), DropReason::TooBig),
        ("IPv4 without DF", v4(0, 9, 3200), DropReason::TooBig),
        ("IPv6", v6(9, 3200), DropReason::TooBig),
        ("at its last hop", v4(DF, 1, 3200), DropReason::TtlExpired),
        ("at its last hop, without DF", v4(0, 1, 3200), DropReason::TtlExpired),
        ("at its last hop in IPv6", v6(1, 3200), DropReason::TtlExpired),
        ("to another station", with(v4(DF, 9, 3200), 5, 0x77), DropReason::NotForGateway),
        ("to all stations", with(v6(9, 3200), 0, 0x33), DropReason::Multicast),
        ("from link-local", with(with(v6(9, 3200), 22, 0xfe), 23, 0x80), DropReason::NotRoutable),
        ("a broken header", with(v4(DF, 9, 3200), 15, 1), DropReason::BadIp),
    ];
    for (what, frame, expected) in cases {
        assert_eq!(rig.protect(&[frame]), [Err(expected)], "{what}");
    }
}

#[test]
fn the_gateway_tells_by_its_own_address_what_fits_and_that_fits() {
    let mut rig = rig();
    let mtu = rig.protect.largest_frame();
    for (make, head, most) in [
        (&(|payload| v4(DF, 9, payload)) as &dyn Fn(usize) -> Vec<u8>, 20, 548),
        (&|payload| v6(9, payload), 40, 1232),
    ] {
        let about = make(mtu + 1 - head);
        assert_eq!(rig.protect(std::slice::from_ref(&about)), [Err(DropReason::TooBig)]);
        let (reason, [fragments, replies]) = second_pass(&mut rig, &about);
        assert_eq!((reason, fragments.len(), replies.len()), (Some(DropReason::TooBig), 0, 1));
        let reply = &replies[0];
        assert_eq!(reply[..14], [&HOST.0[..], &MAC.0, &about[12..14]].concat());
        let message = match head {
            20 => {
                let ip = Ipv4::parse(&reply[14..]).unwrap();
                assert_eq!(
                    (ip.protocol(), ip.source(), ip.destination()),
                    (ICMP, v4_of(1, 254), v4_of(1, 1))
                );
                assert_eq!(ip.payload[..2], [3, 4]);
                ip.payload
            }
            _ => {
                let ip = Ipv6::parse(&reply[14..]).unwrap();
                let between = (ip.upper(), ip.source(), ip.destination());
                assert_eq!(between, (Some((ICMPV6, 0)), v6_of(1, 254), v6_of(1, 1)));
                assert_eq!(ip.payload[..2], [2, 0]);
                ip.payload
            }
        };
        assert_eq!(message[4..8], (mtu as u32).to_be_bytes());
        assert_eq!(message[8..], about[14..14 + most]);
        let sealed = rig.sealed(&make(mtu - head));
        assert_eq!(rig.fate(&sealed).map(|frame| frame.len()), Ok(ETH_HLEN + mtu));
    }
}

#[test]
fn fragments_cross_as_packets_of_their_own_one_hop_on_at_each_gateway() {
    let mut rig = rig();
    let about = v4(0, 9, 3200);
    let (reason, [fragments, replies]) = second_pass(&mut rig, &about);
    assert_eq!((reason, fragments.len(), replies.len()), (None, 2, 0));
    let mut payload = Vec::<u8>::new();
    for fragment in fragments {
        let sealed = rig.sealed(&fragment);
        let arrived = rig.fate(&sealed).unwrap();
        let ip = Ipv4::parse(&arrived[14..]).expect("its header verifies");
        assert_eq!((ip.header[8], usize::from(ip.offset()) * 8), (7, payload.len()));
        payload.extend(ip.payload);
    }
    assert_eq!(payload, about[34..]);
}

/// What the receiver makes of a packet that goes no further there, for its own way in; `None`: nothing.
fn returned(rig: &mut Rig, plain: &[u8], why: DropReason) -> Option<Vec<u8>> {
    let sealed = rig.sealed(plain);
    let (mut frames, mut verdicts) = ([rig.frame(&sealed)], ArrayVec::new());
    rig.unprotect.burst(&mut frames, &mut verdicts, rig.now);
    let returned = match verdicts[0] {
        Verdict::Answer(reason) if reason == why => Some(frames[0].data().to_vec()),
        Verdict::Drop(reason) if reason == why => None,
        verdict => panic!("{verdict:?}"),
    };
    frames.into_iter().for_each(|frame| rig.umem.free(frame));
    returned
}

#[test]
fn a_host_behind_the_peer_is_told_through_the_tunnel_why_its_packet_ends() {
    let (mut there, mut back) = (rig(), between(2, 1));
    let narrow = Gateway { mtu: 1500, ..gateway(2) };
    there.unprotect = there.unprotect.through(Egress::new(narrow));
    let (hops, size) = (DropReason::InnerTtl, DropReason::InnerSize);
    for (about, why, source_at, gateway, kind_at, said) in [
        (v4(0, 2, 600), hops, 26, &v4_of(2, 254).octets()[..], 34, [11, 0, 0, 0, 0, 0]),
        (v6(2, 600), hops, 22, &v6_of(2, 254).octets(), 54, [3, 0, 0, 0, 0, 0]),
        (v4(DF, 9, 1481), size, 26, &v4_of(2, 254).octets(), 34, [3, 4, 0, 0, 5, 220]),
        (v6(9, 1461), size, 22, &v6_of(2, 254).octets(), 54, [2, 0, 0, 0, 5, 220]),
        (v4(DF, 2, 1481), hops, 26, &v4_of(2, 254).octets(), 34, [11, 0, 0, 0, 0, 0]),
    ] {
        let error = returned(&mut there, &about, why).expect("an answer");
        let sealed = back.sealed(&error);
        let arrived = back.fate(&sealed).expect("the sender's gateway delivers it");
        assert_eq!(arrived[..14], [&HOST.0[..], &MAC.0, &about[12..14]].concat());
        assert_eq!(arrived[source_at..source_at + gateway.len()], *gateway);
        let message = &arrived[kind_at..];
        assert_eq!([&message[..2], &message[4..8]].concat(), said);
        let mut as_it_came = about[14..14 + message.len() - 8].to_vec();
        take_hop(&mut as_it_came);
        assert_eq!(message[8..], as_it_came);
    }
    assert_eq!(returned(&mut there, &v4(0, 9, 1481), size), None, "IPv4 without DF");
}

#[test]
fn a_receiver_tells_within_bounds_and_never_of_errors_or_later_fragments() {
    let mut rig = rig();
    let hops = DropReason::InnerTtl;
    let error = {
        let mut frame = with(v4(0, 2, 100), 34, 11);
        (frame[23], frame[24], frame[25]) = (ICMP, 0, 0);
        let sum = checksum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    for (what, about, told) in [
        ("UDP", v4(DF, 2, 100), true),
        ("a first fragment", v4(0x2000, 2, 104), true),
        ("a later fragment", v4(0x0010, 2, 100), false),
        ("an error", error, false),
        ("IPv6", v6(2, 100), true),
    ] {
        assert_eq!(returned(&mut rig, &about, hops).is_some(), told, "{what}");
    }
    let told = (0..200).filter(|_| returned(&mut rig, &v6(2, 100), hops).is_some()).count();
    assert_eq!(told, 97, "three of a hundred were told before");
    rig.now += Duration::from_secs(1);
    assert!(returned(&mut rig, &v6(2, 100), hops).is_some());
}
