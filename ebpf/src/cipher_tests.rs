use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use super::*;
use crate::testing::{DROP, PASS, REDIRECT, need_root, unbound_socket};

const PEER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const OWN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const ESP: u16 = 4500;
const CHANNEL: u16 = 4600;

const UDP: u8 = 17;
const TCP: u8 = 6;
const BARE: u8 = 50;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

#[path = "cipher_ipv6_tests.rs"]
mod over_ipv6;

/// Another peer, which we call.
const CALLED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);
/// Epochs of the first and the other peer that there are keys for: 1, 2 and 31, and 3.
const LIVE: [u32; 2] = [1 << 1 | 1 << 2 | 1 << 31, 1 << 3];

/// One frame, the verdict, and the one counter (beside `received`) that it moves.
type Row = (&'static str, Vec<u8>, u32, &'static str);

#[test]
fn each_kind_of_frame_has_its_verdict_and_its_counter() {
    let groups = [
        rows_for_the_socket(),
        rows_for_the_kernel(),
        rows_of_strangers(),
        rows_cut_short(),
        rows_of_no_concern(),
    ];
    check(&settings(), &peers(true), groups.concat());
}

#[test]
fn over_ipv4_esp_may_be_bare() {
    let bare = CipherSettings { esp_port: None, ..settings() };
    let mut fragment = ipv4(PEER, OWN, BARE, &esp(1, 64));
    fragment[20] = 0x20;
    check(
        &bare,
        &peers(true),
        vec![
            ("bare ESP from the peer", ipv4(PEER, OWN, BARE, &esp(1, 64)), REDIRECT, "to_socket"),
            ("bare ESP from a stranger", ipv4(STRANGER, OWN, BARE, &esp(1, 64)), DROP, "foreign_source"),
            ("bare ESP for another host", ipv4(PEER, STRANGER, BARE, &[0x5a; 64]), DROP, "not_for_us"),
            ("bare ESP of another epoch", ipv4(PEER, OWN, BARE, &esp(3, 64)), DROP, "epoch_not_live"),
            ("bare ESP of 7 bytes", ipv4(PEER, OWN, BARE, &[0x5a; 7]), DROP, "malformed"),
            ("a fragment of bare ESP", fragment, DROP, "fragment"),
            ("ESP in UDP", udp(PEER, OWN, ESP, 64), DROP, "other"),
            ("UDP to port 0", udp(PEER, OWN, 0, 64), DROP, "other"),
            ("the channel", tcp(PEER, OWN, 50000, CHANNEL), PASS, "to_kernel_channel"),
        ],
    );
}

fn check(settings: &CipherSettings, peers: &[CipherPeer], rows: Vec<Row>) {
    need_root();
    let loaded = loaded(settings, peers, Buffers::One);
    let socket = unbound_socket();
    loaded.set_socket(0, socket.as_fd()).unwrap();
    for (what, frame, verdict, counter) in rows {
        let before = counters(&loaded);
        assert_eq!(loaded.run(&frame), verdict, "verdict on {what}");
        let moved: Vec<_> = counters(&loaded)
            .rows()
            .zip(before.rows())
            .filter(|(after, before)| after.1 != before.1)
            .map(|(after, before)| (after.0, after.1 - before.1))
            .collect();
        assert_eq!(moved, [("received", 1), (counter, 1)], "counters after {what}");
    }
}

#[test]
fn where_we_call_only_answers_come_in() {
    need_root();
    let loaded = loaded(&settings(), &peers(false), Buffers::One);
    let answer = tcp(PEER, OWN, CHANNEL, 50000);
    assert_eq!(loaded.run(&flagged(answer.clone(), SYN | ACK)), PASS);
    assert_eq!(loaded.run(&flagged(answer.clone(), ACK)), PASS);
    assert_eq!(counters(&loaded).to_kernel_channel, 2);
    assert_eq!(loaded.run(&flagged(answer, SYN)), DROP, "a call from the channel's port");
    assert_eq!(
        loaded.run(&flagged(tcp(PEER, OWN, 50000, CHANNEL), SYN)),
        DROP,
        "a call to the channel's port"
    );
    assert_eq!(counters(&loaded).other, 2);
    assert_eq!(loaded.run(&flagged(tcp(STRANGER, OWN, CHANNEL, 50000), ACK)), DROP);
    assert_eq!(counters(&loaded).foreign_source, 1);
}

#[test]
fn esp_without_a_socket_is_dropped_and_never_passed() {
    need_root();
    let loaded = loaded(&settings(), &peers(true), Buffers::One);
    assert_eq!(loaded.run(&udp(PEER, OWN, ESP, 64)), DROP);
    assert_eq!(counters(&loaded), CipherCounters { received: 1, no_socket: 1, ..Default::default() });
}

#[test]
fn every_truncation_of_an_esp_packet_is_dropped() {
    need_root();
    let loaded = loaded(&settings(), &peers(true), Buffers::One);
    let socket = unbound_socket();
    loaded.set_socket(0, socket.as_fd()).unwrap();
    let whole = udp(PEER, OWN, ESP, 64);
    // The kernel runs nothing shorter than an Ethernet header.
    for length in 14..whole.len() {
        assert_eq!(loaded.run(&whole[..length]), DROP, "{length} bytes of {}", whole.len());
    }
    assert_eq!(counters(&loaded).malformed, whole.len() as u64 - 14);
}

#[test]
fn a_jumbo_packet_is_measured_beyond_its_first_buffer() {
    need_root();
    let loaded = loaded(&settings(), &peers(true), Buffers::Several);
    let socket = unbound_socket();
    loaded.set_socket(0, socket.as_fd()).unwrap();
    let whole = udp(PEER, OWN, ESP, 9250);
    assert_eq!(loaded.run(&whole), REDIRECT);
    assert_eq!(loaded.run(&whole[..whole.len() - 1]), DROP, "a byte is missing in its last buffer");
    assert_eq!(counters(&loaded).malformed, 1);
}

#[test]
fn in_clear_comes_what_a_bypass_rule_may_mean_and_ptp_is_forwarded() {
    need_root();
    let loaded = loaded(&settings(), &peers(true), Buffers::One);
    let socket = unbound_socket();
    loaded.set_socket(0, socket.as_fd()).unwrap();
    let (lldp, stp) = (ethernet(0x88cc, &[0; 46]), ethernet(38, &[0x42; 46]));
    let (ptp, other) = (ethernet(0x88f7, &[0; 46]), udp(STRANGER, PEER, ESP, 64));
    let (ptp_udp, to_us) = (udp(STRANGER, PEER, 319, 44), udp(STRANGER, OWN, 319, 44));
    let ptp_v6 = ipv6(UDP, 64, &[0, 9, 1, 64, 0, 8, 0, 0]);
    let all = [&lldp, &stp, &ptp, &other, &ptp_udp, &ptp_v6, &to_us];
    let named = ClearSettings { types: vec![0, 0x88cc], ..Default::default() };
    let any = ClearSettings { any: true, ..Default::default() };
    let forwarding = ClearSettings { ptp_port: Some(1), ..Default::default() };
    let table = [
        (ClearSettings::default(), [DROP; 7]),
        (named, [REDIRECT, REDIRECT, DROP, DROP, DROP, DROP, DROP]),
        (any, [REDIRECT, REDIRECT, REDIRECT, REDIRECT, REDIRECT, REDIRECT, DROP]),
        (forwarding, [DROP, DROP, REDIRECT, DROP, REDIRECT, REDIRECT, DROP]),
        (ClearSettings::default(), [DROP; 7]),
    ];
    for (settings, verdicts) in table {
        loaded.set_clear(&settings).unwrap();
        assert_eq!(all.map(|frame| loaded.run(frame)), verdicts, "{settings:?}");
    }
    let counters = counters(&loaded);
    assert_eq!((counters.ptp_forwarded, counters.to_socket), (3, 8));
}

fn rows_for_the_socket() -> Vec<Row> {
    let mut padded = udp(PEER, OWN, ESP, 8);
    padded.resize(60, 0);
    let mut do_not_fragment = udp(PEER, OWN, ESP, 64);
    do_not_fragment[20] = 0x40;
    vec![
        ("ESP from the peer", udp(PEER, OWN, ESP, 64), REDIRECT, "to_socket"),
        ("a large ESP", udp(PEER, OWN, ESP, 1440), REDIRECT, "to_socket"),
        ("ESP padded to the least frame", padded, REDIRECT, "to_socket"),
        ("ESP with DF", do_not_fragment, REDIRECT, "to_socket"),
        ("ESP in another live epoch", in_epoch(PEER, 2), REDIRECT, "to_socket"),
        ("ESP in the last epoch", in_epoch(PEER, 31), REDIRECT, "to_socket"),
        ("ESP from another peer", in_epoch(CALLED, 3), REDIRECT, "to_socket"),
    ]
}

fn rows_for_the_kernel() -> Vec<Row> {
    vec![
        ("ARP", ethernet(0x0806, &[0; 28]), PASS, "to_kernel_arp"),
        ("a router solicitation", nd(133, 255), PASS, "to_kernel_neighbour"),
        ("a redirect", nd(137, 255), PASS, "to_kernel_neighbour"),
        ("an echo request from anyone", ipv4(STRANGER, OWN, ICMP, &[8; 8]), PASS, "to_kernel_icmp"),
        ("fragmentation needed from a router", ipv4(STRANGER, OWN, ICMP, &[3; 36]), PASS, "to_kernel_icmp"),
        ("the channel", tcp(PEER, OWN, 50000, CHANNEL), PASS, "to_kernel_channel"),
        ("the channel to a peer that we call", tcp(CALLED, OWN, CHANNEL, 50000), PASS, "to_kernel_channel"),
        ("a call on the channel", flagged(tcp(PEER, OWN, 50000, CHANNEL), SYN), PASS, "to_kernel_channel"),
    ]
}

fn rows_of_strangers() -> Vec<Row> {
    vec![
        ("ESP from a stranger", udp(STRANGER, OWN, ESP, 64), DROP, "foreign_source"),
        ("the channel from a stranger", tcp(STRANGER, OWN, 50000, CHANNEL), DROP, "foreign_source"),
        ("ESP for another host", udp(PEER, STRANGER, ESP, 64), DROP, "not_for_us"),
        ("an echo request for another host", ipv4(PEER, STRANGER, ICMP, &[8; 8]), DROP, "not_for_us"),
        ("broadcast", udp(PEER, Ipv4Addr::BROADCAST, ESP, 64), DROP, "not_for_us"),
        ("our own address as source", udp(OWN, OWN, ESP, 64), DROP, "foreign_source"),
        ("ESP in an epoch without keys", in_epoch(PEER, 3), DROP, "epoch_not_live"),
        ("ESP in an epoch of the other peer's", in_epoch(CALLED, 1), DROP, "epoch_not_live"),
        ("ESP in epoch 0", in_epoch(PEER, 0), DROP, "epoch_not_live"),
        ("ESP with bit 31 in the SPI", in_epoch(PEER, 32 + 1), DROP, "epoch_not_live"),
        ("a call from a peer that we call", tcp(CALLED, OWN, 50000, CHANNEL), DROP, "other"),
    ]
}

fn rows_cut_short() -> Vec<Row> {
    let altered = |frame: Vec<u8>, at: usize, value: u8| {
        let mut frame = frame;
        frame[at] = value;
        frame
    };
    let esp = || udp(PEER, OWN, ESP, 64);
    vec![
        ("a first fragment", altered(esp(), 20, 0x20), DROP, "fragment"),
        ("a later fragment", altered(esp(), 21, 0x10), DROP, "fragment"),
        ("a channel fragment", altered(tcp(PEER, OWN, 5, CHANNEL), 20, 0x20), DROP, "fragment"),
        ("an ICMP fragment", altered(ipv4(PEER, OWN, ICMP, &[8; 8]), 21, 1), DROP, "fragment"),
        ("IPv4 options", altered(esp(), 14, 0x46), DROP, "malformed"),
        ("IP version 6 under ethertype IPv4", altered(esp(), 14, 0x65), DROP, "malformed"),
        ("a total length beyond the frame", altered(esp(), 16, 0xff), DROP, "malformed"),
        ("a total length below the header", altered(esp(), 17, 19), DROP, "malformed"),
        ("a UDP length below the packet's", altered(esp(), 39, 71), DROP, "malformed"),
        ("a UDP length above the packet's", altered(esp(), 38, 1), DROP, "malformed"),
        ("UDP of 7 bytes", ipv4(PEER, OWN, UDP, &[0; 7]), DROP, "malformed"),
        ("ESP of 7 bytes in UDP", udp(PEER, OWN, ESP, 7), DROP, "malformed"),
        ("TCP of 19 bytes", ipv4(PEER, OWN, TCP, &[0; 19]), DROP, "malformed"),
        ("ICMP of 7 bytes", ipv4(PEER, OWN, ICMP, &[8; 7]), DROP, "malformed"),
        ("Ethernet without IPv4", ethernet(0x0800, &[]), DROP, "malformed"),
        ("19 bytes of IPv4", ethernet(0x0800, &[0x45; 19]), DROP, "malformed"),
        ("39 bytes of IPv6", ethernet(0x86dd, &[0x60; 39]), DROP, "malformed"),
        ("IPv6 with a length beyond the frame", nd(135, 255)[..77].to_vec(), DROP, "malformed"),
        ("IP version 4 under ethertype IPv6", altered(nd(135, 255), 14, 0x45), DROP, "malformed"),
        ("ICMPv6 without a type", nd(135, 255)[..54].to_vec(), DROP, "malformed"),
    ]
}

fn rows_of_no_concern() -> Vec<Row> {
    vec![
        ("neighbour discovery through a router", nd(135, 254), DROP, "other"),
        ("an ICMPv6 echo request", nd(128, 255), DROP, "other"),
        ("ICMPv6 type 132", nd(132, 255), DROP, "other"),
        ("ICMPv6 type 138", nd(138, 255), DROP, "other"),
        ("UDP over IPv6", ipv6(UDP, 255, &[0; 24]), DROP, "other"),
        ("UDP to another port", udp(PEER, OWN, 4501, 64), DROP, "other"),
        ("the channel's port over UDP", udp(PEER, OWN, CHANNEL, 64), DROP, "other"),
        ("TCP from the channel's port to another", tcp(PEER, OWN, CHANNEL, 22), DROP, "other"),
        ("TCP to another port", tcp(PEER, OWN, 50000, 22), DROP, "other"),
        ("TCP to the ESP port", tcp(PEER, OWN, 50000, ESP), DROP, "other"),
        ("bare ESP", ipv4(PEER, OWN, BARE, &[0; 64]), DROP, "other"),
        ("bare ESP over IPv6", ipv6(BARE, 255, &[0; 64]), DROP, "other"),
        ("a VLAN tag", ethernet(0x8100, &udp(PEER, OWN, ESP, 64)[12..]), DROP, "other"),
        ("LLDP", ethernet(0x88cc, &[0; 46]), DROP, "other"),
        ("a bare Ethernet header", ethernet(0x88cc, &[]), DROP, "other"),
    ]
}

#[test]
fn peers_come_and_go_and_their_epochs_with_them() {
    need_root();
    let loaded = load("test", &settings(), Buffers::One).unwrap();
    let socket = unbound_socket();
    loaded.set_socket(0, socket.as_fd()).unwrap();
    let [first, second] = peers(true);
    let runs = |frames: [&[u8]; 2]| frames.map(|frame| loaded.run(frame));
    let both = [in_epoch(PEER, 1), in_epoch(CALLED, 1)];
    let both = [&both[0][..], &both[1][..]];
    assert_eq!(runs(both), [DROP; 2], "nobody is a peer");
    add_peer(&loaded, &first).unwrap();
    assert_eq!(runs(both), [DROP; 2], "no epoch is live");
    set_live_epochs(&loaded, first.number, 1 << 1).unwrap();
    add_peer(&loaded, &second).unwrap();
    assert_eq!(runs(both), [REDIRECT, DROP], "the second has no epoch");
    loaded.delete("peers", &key_of(first.address), "").unwrap();
    loaded.delete("peers", &key_of(first.address), "").expect("twice is no error");
    assert_eq!(runs(both), [DROP; 2]);
    add_peer(&loaded, &CipherPeer { number: first.number, ..second }).unwrap();
    assert_eq!(runs(both), [DROP; 2], "a number that is given again has no epochs of its last peer");
    assert_eq!((counters(&loaded).foreign_source, counters(&loaded).epoch_not_live), (5, 4));
}

fn settings() -> CipherSettings {
    CipherSettings { own: OWN.into(), esp_port: NonZeroU16::new(ESP), channel_port: CHANNEL }
}

/// `calls`: of the first.
fn peers(calls: bool) -> [CipherPeer; 2] {
    let called = CipherPeer { address: CALLED.into(), number: MAX_PEERS - 1, calls: false };
    [CipherPeer { address: PEER.into(), number: 7, calls }, called]
}

fn loaded(settings: &CipherSettings, peers: &[CipherPeer], buffers: Buffers) -> Loaded {
    let loaded = load("test", settings, buffers).unwrap();
    for (peer, live) in peers.iter().zip(LIVE) {
        add_peer(&loaded, peer).unwrap();
        set_live_epochs(&loaded, peer.number, live).unwrap();
    }
    loaded
}

fn counters(loaded: &Loaded) -> CipherCounters {
    loaded.counters(|map| CipherCounters::read(map)).unwrap()
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &ethertype.to_be_bytes(), payload].concat()
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len() as u16).to_be_bytes();
    let head = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    ethernet(0x0800, &[&head[..], &source.octets(), &destination.octets(), payload].concat())
}

fn ipv6(next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next_header, hop_limit];
    ethernet(0x86dd, &[&head[..], &[0xfe; 32], payload].concat())
}

fn nd(kind: u8, hop_limit: u8) -> Vec<u8> {
    let mut message = [0; 24];
    message[0] = kind;
    ipv6(ICMPV6, hop_limit, &message)
}

/// So many bytes of ESP in an epoch.
fn esp(epoch: u32, length: usize) -> Vec<u8> {
    let mut esp = (epoch << 26 | 0x1a_5a5a).to_be_bytes().to_vec();
    esp.resize(length, 0x5a);
    esp
}

/// What is carried is ESP in epoch 1.
fn udp(source: Ipv4Addr, destination: Ipv4Addr, port: u16, payload: usize) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0x00];
    datagram.extend(port.to_be_bytes());
    datagram.extend((8 + payload as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(esp(1, payload));
    ipv4(source, destination, UDP, &datagram)
}

fn in_epoch(source: Ipv4Addr, epoch: u32) -> Vec<u8> {
    let mut frame = udp(source, OWN, ESP, 64);
    frame[42..46].copy_from_slice(&esp(epoch, 4));
    frame
}

fn tcp(source: Ipv4Addr, destination: Ipv4Addr, from: u16, to: u16) -> Vec<u8> {
    let mut segment = [0; 20];
    segment[0..2].copy_from_slice(&from.to_be_bytes());
    segment[2..4].copy_from_slice(&to.to_be_bytes());
    ipv4(source, destination, TCP, &segment)
}

fn flagged(mut frame: Vec<u8>, flags: u8) -> Vec<u8> {
    frame[14 + 20 + 13] = flags;
    frame
}
