use super::*;
use crate::xsk::Umem;

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

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
fn answer(about: &[u8]) -> Option<Vec<u8>> {
    let mut umem = Umem::new(1, 2048).unwrap();
    let mut reply = umem.alloc().unwrap();
    let written = packet_too_big(about, &L2::parse(about).unwrap(), 1400, &mut reply);
    let bytes = written.then(|| reply.data().to_vec());
    umem.free(reply);
    bytes
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const DF: u16 = 0x4000;
const UDP: u8 = 17;

#[test]
fn an_ipv4_sender_learns_the_mtu() {
    let payload = [0x5a; 1480];
    let about = frame(&[0x81, 0, 0, 100], 0x0800, &v4(A, B, DF, UDP, &payload));
    let answer = answer(&about).unwrap();
    assert_eq!(answer[..18], [&HOST[..], &PEER, &[0x81, 0, 0, 100, 8, 0]].concat());
    let ip = Ipv4::parse(&answer[18..]).expect("its header verifies");
    assert_eq!((ip.source().octets(), ip.destination().octets(), ip.protocol()), (B, A, ICMP));
    assert_eq!(ip.payload[..2], [3, 4]);
    assert_eq!(ip.payload[4..8], [0, 0, 1400_u16.to_be_bytes()[0], 1400_u16.to_be_bytes()[1]]);
    assert_eq!(checksum(&[ip.payload]), 0);
    assert_eq!(answer.len() - 18, 576, "RFC 1812 section 4.3.2.3");
    assert_eq!(ip.payload[8..], about[18..][..548]);
}

#[test]
fn an_ipv6_sender_learns_the_mtu() {
    let (a, b) = (v6_address(0xfd, 1), v6_address(0xfd, 2));
    let about = frame(&[], 0x86dd, &v6(a, b, UDP, &[0x5a; 1460]));
    let answer = answer(&about).unwrap();
    assert_eq!(answer[..14], [&HOST[..], &PEER, &[0x86, 0xdd]].concat());
    let ip = Ipv6::parse(&answer[14..]).unwrap();
    assert_eq!((ip.source().octets(), ip.destination().octets()), (b, a));
    assert_eq!(ip.upper(), Some((ICMPV6, 0)));
    assert_eq!(ip.payload[..2], [2, 0]);
    assert_eq!(ip.payload[4..8], 1400_u32.to_be_bytes());
    let length = (ip.payload.len() as u32).to_be_bytes();
    assert_eq!(checksum(&[&b, &a, &length, &[0, 0, 0, ICMPV6], ip.payload]), 0);
    assert_eq!(answer.len() - 14, 1280);
    assert_eq!(ip.payload[8..], about[14..][..1232]);
}

#[test]
fn a_short_packet_is_quoted_whole_and_without_padding() {
    let packet = v4(A, B, DF, UDP, &[1, 2, 3]);
    let padded = frame(&[], 0x0800, &[&packet[..], &[0; 30]].concat());
    let answer = answer(&padded).unwrap();
    assert_eq!(answer[14 + 28..], packet);
}

#[test]
fn some_packets_are_never_answered() {
    let host = v6_address(0xfd, 1);
    let icmp = |kind: u8| v4(A, B, DF, ICMP, &[kind; 100]);
    let icmp6 = |kind: u8| v6(host, v6_address(0xfd, 2), ICMPV6, &[kind; 100]);
    let mut broken = v4(A, B, DF, UDP, &[0; 100]);
    broken[10] ^= 1;
    let behind_options = [&[ICMPV6, 0, 0, 0, 0, 0, 0, 0][..], &[1; 50]].concat();
    let table: Vec<(&str, u16, Vec<u8>, bool)> = vec![
        ("UDP with DF", 0x0800, v4(A, B, DF, UDP, &[0; 100]), true),
        ("UDP without DF", 0x0800, v4(A, B, 0, UDP, &[0; 100]), false),
        ("a first fragment with DF", 0x0800, v4(A, B, 0x6000, UDP, &[0; 100]), true),
        ("a later fragment with DF", 0x0800, v4(A, B, 0x4010, UDP, &[0; 100]), false),
        ("an echo request", 0x0800, icmp(8), true),
        ("an echo reply", 0x0800, icmp(0), true),
        ("unreachable", 0x0800, icmp(3), false),
        ("source quench", 0x0800, icmp(4), false),
        ("a redirect", 0x0800, icmp(5), false),
        ("time exceeded", 0x0800, icmp(11), false),
        ("a parameter problem", 0x0800, icmp(12), false),
        ("ICMP of no known type", 0x0800, icmp(77), false),
        ("ICMP without a type", 0x0800, v4(A, B, DF, ICMP, &[]), false),
        ("to a group", 0x0800, v4(A, [224, 0, 0, 5], DF, UDP, &[0; 100]), false),
        ("to everyone", 0x0800, v4(A, [255; 4], DF, UDP, &[0; 100]), false),
        ("from a group", 0x0800, v4([239, 1, 1, 1], B, DF, UDP, &[0; 100]), false),
        ("from nobody", 0x0800, v4([0; 4], B, DF, UDP, &[0; 100]), false),
        ("from itself", 0x0800, v4([127, 0, 0, 1], B, DF, UDP, &[0; 100]), false),
        ("a broken header", 0x0800, broken, false),
        ("not IP", 0x88b5, vec![0; 100], false),
        ("an IPv6 echo request", 0x86dd, icmp6(128), true),
        ("an IPv6 error", 0x86dd, icmp6(1), false),
        ("an IPv6 packet too big", 0x86dd, icmp6(2), false),
        ("an IPv6 error behind options", 0x86dd, v6(host, host, 60, &behind_options), false),
        ("to an IPv6 group", 0x86dd, v6(host, v6_address(0xff, 2), UDP, &[0; 100]), false),
        ("from nobody", 0x86dd, v6([0; 16], host, UDP, &[0; 100]), false),
        ("IPv6 under IPv4's type", 0x0800, v6(host, host, UDP, &[0; 100]), false),
    ];
    for (what, ethertype, packet, answered) in table {
        assert_eq!(answer(&frame(&[], ethertype, &packet)).is_some(), answered, "{what}");
    }
    let mut to_group = frame(&[], 0x0800, &v4(A, B, DF, UDP, &[0; 100]));
    to_group[0] |= 1;
    assert_eq!(answer(&to_group), None);
}
