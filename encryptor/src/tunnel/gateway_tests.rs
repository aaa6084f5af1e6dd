use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::super::Route;
use super::*;
use crate::wire::checksum;
use crate::xsk::Umem;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn gateway() -> Gateway {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let on_link = |network: &str, prefix| Route { network: address(network), prefix, via: None };
    let side = PlainSide::new(
        vec![address("10.1.0.254"), address("fd01::fe")],
        [on_link("10.1.0.0", 24), on_link("fd01::", 64)],
        [(address("10.1.0.1"), HOST), (address("fd01::1"), HOST)],
    );
    Gateway { mac: MAC, mtu: 100, side: Arc::new(side) }
}

fn v4(source: [u8; 4], destination: [u8; 4], ttl: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, ttl, 17, 0, 0];
    packet.extend_from_slice(&source);
    packet.extend_from_slice(&destination);
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&[1, 2, 3, 4, 0, 8, 0, 0]);
    packet
}

fn v6(source: &str, destination: &str, hops: u8) -> Vec<u8> {
    let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&[0x60, 0, 0, 0, 0, 8, 17, hops][..], &octets(source), &octets(destination), &[1, 2, 3, 4, 0, 8, 0, 0]]
        .concat()
}

fn frame(to: MacAddr, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&to.0[..], &HOST.0, &ethertype.to_be_bytes(), packet].concat()
}

#[test]
fn only_unicast_ip_through_the_gateway_is_admitted() {
    let (out4, out6) = (v4([10, 1, 0, 1], [10, 2, 0, 1], 2), v6("fd01::1", "fd02::1", 2));
    let four = |source, destination, ttl| frame(MAC, 0x0800, &v4(source, destination, ttl));
    let six = |source, destination, hops| frame(MAC, 0x86dd, &v6(source, destination, hops));
    let tagged = [&MAC.0[..], &HOST.0, &[0x81, 0, 0, 5, 8, 0], &out4].concat();
    let mut broken = out4.clone();
    broken[10] ^= 1;
    let here = [10, 1, 0, 1];
    let cases = [
        ("IPv4", frame(MAC, 0x0800, &out4), Ok(NextHeader::Ipv4)),
        ("IPv6", frame(MAC, 0x86dd, &out6), Ok(NextHeader::Ipv6)),
        ("a runt", vec![2; 13], Err(DropReason::Runt)),
        ("MPLS", frame(MAC, 0x8847, &out4), Err(DropReason::NotIp)),
        ("a tag", tagged, Err(DropReason::NotIp)),
        ("to all stations", frame(MacAddr([255; 6]), 0x0800, &out4), Err(DropReason::Multicast)),
        ("to another station", frame(HOST, 0x0800, &out4), Err(DropReason::NotForGateway)),
        ("the other version", frame(MAC, 0x86dd, &out4), Err(DropReason::BadIp)),
        ("a wrong checksum", frame(MAC, 0x0800, &broken), Err(DropReason::BadIp)),
        ("a cut", frame(MAC, 0x0800, &out4[..27]), Err(DropReason::BadIp)),
        ("to a group", four(here, [239, 0, 0, 1], 9), Err(DropReason::Multicast)),
        ("to everybody", four(here, [255; 4], 9), Err(DropReason::Multicast)),
        ("to an IPv6 group", six("fd01::1", "ff0e::1", 9), Err(DropReason::Multicast)),
        ("to the gateway", four(here, [10, 1, 0, 254], 9), Err(DropReason::NotRoutable)),
        ("to the gateway in IPv6", six("fd01::1", "fd01::fe", 9), Err(DropReason::NotRoutable)),
        ("to loopback", four(here, [127, 0, 0, 1], 9), Err(DropReason::NotRoutable)),
        ("from nowhere", four([0; 4], [10, 2, 0, 1], 9), Err(DropReason::NotRoutable)),
        ("from link-local", four([169, 254, 1, 1], [10, 2, 0, 1], 9), Err(DropReason::NotRoutable)),
        ("to a neighbour's link-local", six("fd01::1", "fe80::1", 9), Err(DropReason::NotRoutable)),
        ("from a mapped address", six("::ffff:10.1.0.1", "fd02::1", 9), Err(DropReason::NotRoutable)),
        ("at its last hop", four(here, [10, 2, 0, 1], 1), Err(DropReason::TtlExpired)),
        ("beyond its last hop", four(here, [10, 2, 0, 1], 0), Err(DropReason::TtlExpired)),
        ("at its last hop in IPv6", six("fd01::1", "fd02::1", 1), Err(DropReason::TtlExpired)),
    ];
    for (what, frame, expected) in cases {
        assert_eq!(gateway().admit(&frame).map(|entry| entry.next), expected, "{what}");
    }
}

#[test]
fn an_opened_packet_is_what_it_is_said_to_be_and_has_a_neighbour() {
    let (in4, in6) = (v4([10, 2, 0, 1], [10, 1, 0, 1], 2), v6("fd02::1", "fd01::1", 2));
    let four = |destination, ttl| v4([10, 2, 0, 1], destination, ttl);
    let long = [&[0x60, 0, 0, 0, 0, 61][..], &in6[6..40], &[0; 61]].concat();
    let long_to = |last: u8| [&long[..39], &[last], &long[40..]].concat();
    let long_ended = [&long[..7], &[1], &long[8..]].concat();
    let cases = [
        ("IPv4", in4.clone(), NextHeader::Ipv4, Ok(28)),
        ("IPv6", in6.clone(), NextHeader::Ipv6, Ok(48)),
        ("padding behind it", [&in4[..], &[0; 900]].concat(), NextHeader::Ipv4, Ok(28)),
        ("as much as fits", [&long[..5], &[60], &long[6..]].concat(), NextHeader::Ipv6, Ok(100)),
        ("one byte more", long_to(1), NextHeader::Ipv6, Err(DropReason::InnerSize)),
        ("too long, to nobody", long_to(7), NextHeader::Ipv6, Err(DropReason::NoPlainNeighbour)),
        ("too long, at its last hop", long_ended, NextHeader::Ipv6, Err(DropReason::InnerTtl)),
        ("IPv6 said to be IPv4", in6.clone(), NextHeader::Ipv4, Err(DropReason::InnerIp)),
        ("IPv4 said to be IPv6", in4.clone(), NextHeader::Ipv6, Err(DropReason::InnerIp)),
        ("a cut", in4[..27].to_vec(), NextHeader::Ipv4, Err(DropReason::InnerIp)),
        ("a frame", in4.clone(), NextHeader::Ethernet, Err(DropReason::NextHeader)),
        ("to a group", four([224, 0, 0, 5], 9), NextHeader::Ipv4, Err(DropReason::InnerAddress)),
        ("to the gateway", four([10, 1, 0, 254], 9), NextHeader::Ipv4, Err(DropReason::InnerAddress)),
        ("at its last hop", four([10, 1, 0, 1], 1), NextHeader::Ipv4, Err(DropReason::InnerTtl)),
        ("to elsewhere", four([10, 3, 0, 1], 9), NextHeader::Ipv4, Err(DropReason::NoRoute)),
        ("to nobody", four([10, 1, 0, 7], 9), NextHeader::Ipv4, Err(DropReason::NoPlainNeighbour)),
    ];
    for (what, payload, next, expected) in cases {
        let found = gateway().deliver(&payload, next);
        assert_eq!(found.map(|delivery| delivery.length).map_err(|(reason, _)| reason), expected, "{what}");
        if let Ok(delivery) = found {
            assert_eq!(delivery.to, HOST);
        }
    }
    let wanted = gateway().deliver(&four([10, 1, 0, 7], 9), NextHeader::Ipv4).unwrap_err().1;
    assert_eq!(wanted, Some(IpAddr::from([10, 1, 0, 7])));
}

#[test]
fn a_packet_crosses_both_gateways_whole_and_two_hops_on() {
    let mut umem = Umem::new(64, 4096).unwrap();
    let mut buffer = umem.alloc().unwrap();
    for packet in [v4([10, 2, 0, 1], [10, 1, 0, 1], 9), v6("fd02::1", "fd01::1", 9)] {
        let ethertype = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
        assert!(buffer.fill_from(&[&frame(MAC, ethertype, &packet)[..], &[0; 18]].concat()));
        let entry = gateway().admit(buffer.data()).unwrap();
        strip(&mut buffer, entry.length);
        assert_eq!(buffer.len(), packet.len(), "the link layer's padding is gone");
        // What stands around the packet on its way: headers in front, padding behind.
        buffer.prepend(50).unwrap();
        buffer.append(40).unwrap();
        let delivery = gateway().deliver(&buffer.data()[50..], entry.next).unwrap();
        put_on(&mut buffer, 50, &delivery, MAC);
        let mut expected = frame(HOST, ethertype, &packet);
        expected[6..12].copy_from_slice(&MAC.0);
        take_hop(&mut expected[14..]);
        take_hop(&mut expected[14..]);
        assert_eq!(buffer.data(), expected);
    }
    umem.free(buffer);
}

proptest! {
    #[test]
    fn no_bytes_make_a_gateway_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), dress in any::<bool>()) {
        let mut bytes = bytes;
        if dress && bytes.len() > 14 {
            bytes[..6].copy_from_slice(&MAC.0);
            bytes[12..14].copy_from_slice(&[8, 0]);
        }
        let _ = gateway().admit(&bytes);
        for next in [NextHeader::Ipv4, NextHeader::Ipv6, NextHeader::Ethernet, NextHeader::None] {
            if let Ok(delivery) = gateway().deliver(&bytes, next) {
                prop_assert!(delivery.length <= bytes.len());
            }
        }
    }
}
