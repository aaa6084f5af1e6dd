//! The eavesdropper on synthetic captures: it must find plaintext where it is, and none where it is not.

use super::*;
use crate::lab::pcap::{for_each_frame, tests::pcap_of};

fn ethernet(source: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[0x02, 0, 0, 0, 0, 9], &source[..], &ethertype.to_be_bytes(), payload].concat()
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// Bytes without any pattern, as ciphertext has (a linear congruential generator's high byte).
fn noise(length: usize) -> Vec<u8> {
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    let states = std::iter::successors(Some(42_u64), next);
    states.map(|state| state.to_be_bytes()[0]).take(length).collect()
}

fn esp(from: Side, spi: u32, body: &[u8]) -> Vec<u8> {
    let ports = [0xc0, 0x01, 0x11, 0x94, 0, 0, 0, 0];
    let udp = [&ports[..], &spi.to_be_bytes(), &[0, 0, 0, 1], body].concat();
    ethernet(from.cipher_mac(), 0x0800, &ipv4(from.cipher_v4(), from.peer().cipher_v4(), 17, &udp))
}

fn look(frames: &[Vec<u8>]) -> Sightings {
    let mut eavesdropper = Eavesdropper::default();
    frames.iter().for_each(|frame| eavesdropper.look_at(frame));
    eavesdropper.into_sightings()
}

fn spi(epoch: u32, slot: u32) -> u32 {
    epoch << 26 | slot
}

#[test]
fn every_outer_shape_is_esp_and_its_spi_is_read() {
    let (a, b) = (Side::A.cipher_v6(), Side::B.cipher_v6());
    let body = [&spi(3, 1).to_be_bytes()[..], &[0, 0, 0, 1], &noise(64)].concat();
    let datagram = [&[0xc0, 0x01, 0x11, 0x94, 0, 0, 0, 0][..], &body].concat();
    let v6 = |next: u8, payload: &[u8]| {
        let head = [0x60, 0, 0, 0, 0, 0, next, 64];
        ethernet(Side::A.cipher_mac(), 0x86dd, &[&head[..], &a.octets(), &b.octets(), payload].concat())
    };
    let bare = ipv4(Side::A.cipher_v4(), Side::B.cipher_v4(), 50, &body);
    let frames = [v6(17, &datagram), v6(50, &body), ethernet(Side::A.cipher_mac(), 0x0800, &bare)];
    let seen = look(&frames);
    assert_eq!((seen.of_kind(Kind::Esp), seen.plaintext), (3, 0), "{:?}", seen.findings);
    assert_eq!((seen.trails[0].epochs(), seen.trails[1].epochs()), (1, 0));
    let channel = v6(6, &[&[0x9c, 0x40, 0x11, 0x95][..], &noise(80)].concat());
    let seen = look(&[channel, v6(58, &[2; 40]), v6(44, &body)]);
    assert_eq!((seen.of_kind(Kind::Channel), seen.of_kind(Kind::Icmp)), (1, 1));
    assert_eq!(seen.of_kind(Kind::Unexpected), 1, "a fragment");
}

#[test]
fn a_clean_backhaul_shows_kinds_epochs_and_flows_and_no_plaintext() {
    let tls = ipv4(
        Side::A.cipher_v4(),
        Side::B.cipher_v4(),
        6,
        &[&[0x9c, 0x40, 0x11, 0x95][..], &noise(80)].concat(),
    );
    let seen = look(&[
        esp(Side::A, spi(1, 0), &noise(64)),
        esp(Side::A, spi(1, 1), &noise(1500)),
        esp(Side::A, spi(1, 2), &noise(1500)),
        esp(Side::A, spi(2, 1), &noise(1500)),
        esp(Side::B, spi(9, 1), &noise(64)),
        ethernet(Side::A.cipher_mac(), 0x0800, &tls),
        ethernet(Side::A.cipher_mac(), 0x0806, &[0; 28]),
    ]);
    assert_eq!((seen.frames, seen.plaintext), (7, 0), "{:?}", seen.findings);
    assert_eq!((seen.of_kind(Kind::Esp), seen.of_kind(Kind::Channel), seen.of_kind(Kind::Arp)), (5, 1, 1));
    assert_eq!((seen.epochs(), seen.flows()), (1, 3), "b had one epoch; a's first had two flows, b's one");
    assert_eq!(seen.trails[0].epochs(), 2);
}

#[test]
fn traffic_in_clear_is_all_plaintext() {
    let (a, b) = (Side::A, Side::B);
    let ping = ipv4(a.host_v4(), b.host_v4(), 1, &[&[8, 0][..], ping::MARKER].concat());
    let tagged = [&[0, 100, 0x08, 0x00][..], &ipv4(b.vlan_v4(), a.vlan_v4(), 1, &[0; 40])].concat();
    let v6 = [&[0x60, 0, 0, 0, 0, 8, 58, 64][..], &a.host_v6().octets(), &b.host_v6().octets(), &[128; 8]]
        .concat();
    let frames = [
        ethernet(a.host_mac(), 0x0800, &ping),
        ethernet(b.host_mac(), 0x8100, &tagged),
        ethernet(a.host_mac(), 0x86dd, &v6),
        ethernet(a.host_mac(), 0x0806, &[0; 28]),
    ];
    let seen = look(&frames);
    assert_eq!((seen.frames, seen.plaintext), (4, 4));
    assert_eq!(seen.findings["a host's MAC address"], 4);
    assert_eq!(seen.findings["the hosts' pair of IPv4 addresses"], 2);
    assert_eq!(seen.findings["a host's IPv6 address"], 1);
    assert_eq!(seen.findings["a payload's marker"], 1);
    assert_eq!(
        seen.findings["a frame of an unexpected kind"], 3,
        "ARP alone is of a kind that gateways use too"
    );
}

#[test]
fn a_leak_inside_an_esp_packet_is_found_wherever_it_stands() {
    let leaks: [&[u8]; 5] = [
        &Side::A.host_mac(),
        &[Side::B.host_v4().octets(), Side::A.host_v4().octets()].concat(),
        &Side::B.host_v6().octets(),
        fetch::MARKER,
        iperf::MARKER,
    ];
    for leak in leaks {
        for at in [8, 700, 1400] {
            let mut body = noise(1500);
            body[at..at + leak.len()].copy_from_slice(leak);
            let seen = look(&[esp(Side::A, spi(3, 1), &body)]);
            assert_eq!((seen.plaintext, seen.of_kind(Kind::Esp)), (1, 1), "{leak:02x?} at {at}");
        }
    }
}

#[test]
fn frames_that_only_look_like_ours_are_unexpected() {
    let (a, b) = (Side::A.cipher_v4(), Side::B.cipher_v4());
    let stranger = Ipv4Addr::new(192, 0, 2, 66);
    let to_port = |source, destination, protocol, port: u16| {
        let payload =
            [&[0xc0, 1][..], &port.to_be_bytes(), &[0; 4], &spi(1, 1).to_be_bytes(), &noise(60)].concat();
        ethernet(Side::A.cipher_mac(), 0x0800, &ipv4(source, destination, protocol, &payload))
    };
    let mut fragment = to_port(a, b, 17, ESP_PORT);
    fragment[14 + 6] |= 0x20;
    let frames = [
        to_port(stranger, b, 17, ESP_PORT),
        to_port(a, stranger, 6, CHANNEL_PORT),
        to_port(a, b, 17, 53),
        to_port(a, b, 6, 22),
        fragment,
        esp(Side::A, 0x100, &noise(60)),
        esp(Side::A, spi(1, 1), &noise(20)),
        vec![0; 9],
        vec![],
    ];
    for frame in frames {
        let seen = look(std::slice::from_ref(&frame));
        assert_eq!((seen.plaintext, seen.of_kind(Kind::Unexpected)), (1, 1), "{frame:02x?}");
    }
}

#[test]
fn a_capture_file_is_read_from_disk() {
    let path = std::env::temp_dir().join(format!("qhaul-eavesdrop-{}.pcap", std::process::id()));
    let leak = ethernet(Side::B.host_mac(), 0x0806, &[0; 28]);
    std::fs::write(&path, pcap_of(&[esp(Side::B, spi(1, 1), &noise(90)), leak])).unwrap();
    let mut eavesdropper = Eavesdropper::default();
    assert_eq!(for_each_frame(&path, |frame| eavesdropper.look_at(frame)).unwrap(), 2);
    assert_eq!(eavesdropper.into_sightings().plaintext, 1);
    std::fs::remove_file(path).unwrap();
}
