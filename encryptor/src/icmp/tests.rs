use proptest::prelude::*;

use super::*;
use crate::wire::checksum;
use crate::wire::ip_header::{FRAGMENT, ICMP, ICMPV6};
use crate::xsk::Umem;

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const DF: u16 = 0x4000;
const UDP: u8 = 17;
const TAG: [u8; 4] = [0x81, 0, 0, 100];
const TOO_BIG: Problem = Problem::TooBig(1400);
const PROBLEMS: [Problem; 2] = [TOO_BIG, Problem::TimeExceeded];

/// A bump in the wire.
const NOBODY: Teller = Teller { v4: None, v6: None };
const GATEWAY: Teller = Teller {
    v4: Some(Ipv4Addr::new(10, 1, 0, 254)),
    v6: Some(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 0xfe)),
};

fn frame(tags: &[u8], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&PEER[..], &HOST, tags, &ethertype.to_be_bytes(), packet].concat()
}

fn v4(source: [u8; 4], destination: [u8; 4], fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let [high, low] = fragment.to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 7, high, low, 64, protocol, 0, 0];
    header.extend(source.into_iter().chain(destination));
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

fn v6(source: [u8; 16], destination: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let header = [0x60, 0, 0, 0, length[0], length[1], next, 64];
    [&header[..], &source, &destination, payload].concat()
}

fn v6_address(first: u8, last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[15]) = (first, last);
    address
}

/// The answer to a frame, if there is one.
fn answered(bytes: &[u8], problem: Problem, teller: &Teller) -> Option<Vec<u8>> {
    let mut umem = Umem::new(1, 4096).unwrap();
    let mut frame = umem.alloc().unwrap();
    assert!(frame.fill_from(bytes));
    let made = answer(&mut frame, problem, teller);
    assert!(made || frame.data() == bytes, "a frame that is not answered stays as it is");
    let answer = made.then(|| frame.data().to_vec());
    umem.free(frame);
    answer
}

#[test]
fn an_ipv4_sender_is_told_what_is_wrong_and_by_whom() {
    let cases = [
        (TOO_BIG, NOBODY, B, [3, 4, 0, 0, 5, 120]),
        (TOO_BIG, GATEWAY, [10, 1, 0, 254], [3, 4, 0, 0, 5, 120]),
        (Problem::TimeExceeded, NOBODY, B, [11, 0, 0, 0, 0, 0]),
        (Problem::TimeExceeded, GATEWAY, [10, 1, 0, 254], [11, 0, 0, 0, 0, 0]),
    ];
    for (problem, teller, source, [kind, code, rest @ ..]) in cases {
        for (tags, payload, quoted) in
            [(&[][..], 8, 28), (&TAG, 527, 547), (&[], 528, 548), (&TAG, 1480, 548)]
        {
            let about = frame(tags, 0x0800, &v4(A, B, DF, UDP, &vec![0x5a; payload]));
            let at = 14 + tags.len();
            // What the link layer put behind the packet is not quoted.
            let answer = answered(&[&about[..], &[0; 5]].concat(), problem, &teller).unwrap();
            assert_eq!(answer[..at], [&HOST[..], &PEER, tags, &[8, 0]].concat());
            let ip = Ipv4::parse(&answer[at..]).expect("its header verifies");
            assert_eq!((ip.source().octets(), ip.destination().octets(), ip.protocol()), (source, A, ICMP));
            assert_eq!((ip.payload[0], ip.payload[1], &ip.payload[4..8]), (kind, code, &rest[..]));
            assert_eq!(checksum(&[ip.payload]), 0);
            assert_eq!(ip.payload[8..], about[at..at + quoted]);
            assert_eq!(answer.len(), at + 28 + quoted, "RFC 1812 section 4.3.2.3: 576 bytes");
        }
    }
}

#[test]
fn an_ipv6_sender_is_told_what_is_wrong_and_by_whom() {
    let (a, b, gateway) = (v6_address(0xfd, 1), v6_address(0xfd, 2), GATEWAY.v6.unwrap().octets());
    let cases = [
        (TOO_BIG, NOBODY, b, [2, 0, 0, 0, 5, 120]),
        (TOO_BIG, GATEWAY, gateway, [2, 0, 0, 0, 5, 120]),
        (Problem::TimeExceeded, NOBODY, b, [3, 0, 0, 0, 0, 0]),
        (Problem::TimeExceeded, GATEWAY, gateway, [3, 0, 0, 0, 0, 0]),
    ];
    for (problem, teller, source, [kind, code, rest @ ..]) in cases {
        for (payload, quoted) in [(8, 48), (1191, 1231), (1192, 1232), (1460, 1232)] {
            let about = frame(&[], 0x86dd, &v6(a, b, UDP, &vec![0x5a; payload]));
            let answer = answered(&about, problem, &teller).unwrap();
            assert_eq!(answer[..14], [&HOST[..], &PEER, &[0x86, 0xdd]].concat());
            let ip = Ipv6::parse(&answer[14..]).unwrap();
            assert_eq!((ip.source().octets(), ip.destination().octets()), (source, a));
            assert_eq!(ip.upper(), Some((ICMPV6, 0)));
            assert_eq!((ip.payload[0], ip.payload[1], &ip.payload[4..8]), (kind, code, &rest[..]));
            let length = (ip.payload.len() as u32).to_be_bytes();
            assert_eq!(checksum(&[&source, &a, &length, &[0, 0, 0, ICMPV6], ip.payload]), 0);
            assert_eq!(ip.payload[8..], about[14..14 + quoted]);
            assert_eq!(answer.len(), 62 + quoted, "RFC 4443 section 2.4 (c): 1,280 bytes");
        }
    }
}

#[test]
fn ipv4_errors_are_made_about_single_hosts_first_fragments_and_no_errors() {
    let icmp = |kind: u8| v4(A, B, DF, ICMP, &[kind; 100]);
    let udp = |source, destination| v4(source, destination, DF, UDP, &[0; 100]);
    let mut broken = udp(A, B);
    broken[10] ^= 1;
    let cases = [
        ("UDP", udp(A, B), true),
        ("a first fragment", v4(A, B, 0x6000, UDP, &[0; 100]), true),
        ("a later fragment", v4(A, B, 0x4010, UDP, &[0; 100]), false),
        ("an echo request", icmp(8), true),
        ("an echo reply", icmp(0), true),
        ("unreachable", icmp(3), false),
        ("source quench", icmp(4), false),
        ("a redirect", icmp(5), false),
        ("time exceeded", icmp(11), false),
        ("a parameter problem", icmp(12), false),
        ("ICMP of no known type", icmp(77), false),
        ("ICMP without a type", v4(A, B, DF, ICMP, &[]), false),
        ("to a group", udp(A, [224, 0, 0, 5]), false),
        ("to everyone", udp(A, [255; 4]), false),
        ("from a group", udp([239, 1, 1, 1], B), false),
        ("from nobody", udp([0; 4], B), false),
        ("from itself", udp([127, 0, 0, 1], B), false),
        ("a broken header", broken, false),
        ("a cut", udp(A, B)[..119].to_vec(), false),
        ("IPv6", v6(v6_address(0xfd, 1), v6_address(0xfd, 2), UDP, &[0; 100]), false),
    ];
    for (what, packet, expected) in cases {
        for problem in PROBLEMS {
            let told = answered(&frame(&[], 0x0800, &packet), problem, &GATEWAY).is_some();
            assert_eq!(told, expected, "{what}, {problem:?}");
        }
    }
    let without_df = frame(&[], 0x0800, &v4(A, B, 0, UDP, &[0; 100]));
    assert_eq!(answered(&without_df, TOO_BIG, &GATEWAY), None, "it can be cut");
    assert!(answered(&without_df, Problem::TimeExceeded, &GATEWAY).is_some());
}

#[test]
fn ipv6_errors_are_made_about_single_hosts_and_no_errors() {
    let (a, b) = (v6_address(0xfd, 1), v6_address(0xfd, 2));
    let icmp = |kind: u8| v6(a, b, ICMPV6, &[kind; 100]);
    let udp = |source, destination| v6(source, destination, UDP, &[0; 100]);
    let behind = |next: u8, first: [u8; 8], kind: u8| v6(a, b, next, &[&first[..], &[kind; 50]].concat());
    let cases = [
        ("UDP", udp(a, b), true),
        ("an echo request", icmp(128), true),
        ("an error", icmp(1), false),
        ("packet too big", icmp(2), false),
        ("a redirect", icmp(137), false),
        ("ICMPv6 without a type", v6(a, b, ICMPV6, &[]), false),
        ("an echo request behind options", behind(60, [ICMPV6, 0, 0, 0, 0, 0, 0, 0], 128), true),
        ("an error behind options", behind(60, [ICMPV6, 0, 0, 0, 0, 0, 0, 0], 1), false),
        ("an echo request's first fragment", behind(FRAGMENT, [ICMPV6, 0, 0, 1, 0, 0, 0, 0], 128), true),
        ("an error's first fragment", behind(FRAGMENT, [ICMPV6, 0, 0, 1, 0, 0, 0, 0], 1), false),
        ("a later fragment of ICMPv6", behind(FRAGMENT, [ICMPV6, 0, 0, 8, 0, 0, 0, 0], 128), false),
        ("a later fragment of UDP", behind(FRAGMENT, [UDP, 0, 0, 8, 0, 0, 0, 0], 1), true),
        ("a fragment that is cut", v6(a, b, FRAGMENT, &[]), false),
        ("to a group", udp(a, v6_address(0xff, 2)), false),
        ("from a group", udp(v6_address(0xff, 2), b), false),
        ("from nobody", udp([0; 16], b), false),
        ("from itself", udp(v6_address(0, 1), b), false),
        ("IPv4", v4(A, B, DF, UDP, &[0; 100]), false),
    ];
    for (what, packet, expected) in cases {
        for problem in PROBLEMS {
            let told = answered(&frame(&[], 0x86dd, &packet), problem, &GATEWAY).is_some();
            assert_eq!(told, expected, "{what}, {problem:?}");
        }
    }
}

#[test]
fn the_link_layer_has_to_name_single_hosts_and_carry_ip() {
    let sound = frame(&[], 0x0800, &v4(A, B, DF, UDP, &[0; 100]));
    for (at, byte, expected) in [(0, 2, true), (0, 3, false), (6, 3, false), (12, 0x88, false)] {
        let mut frame = sound.clone();
        frame[at] = byte;
        assert_eq!(answered(&frame, TOO_BIG, &NOBODY).is_some(), expected, "byte {at} is {byte}");
    }
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 1..200), dress in 0..3usize) {
        let mut bytes = bytes;
        if bytes.len() > 14 {
            let kind: [u8; 2] = [[8, 0], [0x86, 0xdd], [bytes[12], bytes[13]]][dress];
            bytes[12..14].copy_from_slice(&kind);
            bytes[14] = [0x45, 0x60, bytes[14]][dress];
        }
        for problem in PROBLEMS {
            answered(&bytes, problem, &GATEWAY);
        }
    }
}
