//! The same program where the tunnel runs over IPv6.

use super::*;

const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Differs from the peer's in the last word alone.
const STRANGER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 2);
/// Another peer, whose address differs from the first's in the third word alone.
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 1, 0, 2);
const PEERS: [CipherPeer; 2] = [
    CipherPeer { address: IpAddr::V6(PEER), number: 1, calls: true },
    CipherPeer { address: IpAddr::V6(OTHER), number: 0, calls: true },
];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;

#[test]
fn esp_in_udp_and_what_the_host_needs() {
    check(
        &settings(NonZeroU16::new(ESP)),
        &[PEERS[0]],
        [rows_of_udp(), rows_of_the_host(), rows_of_oddities()].concat(),
    );
}

#[test]
fn bare_esp() {
    let esp = |from: Ipv6Addr, length: usize| packet(from, OWN, BARE, &esp(1, length));
    let rows = vec![
        ("bare ESP from the peer", esp(PEER, 64), REDIRECT, "to_socket"),
        ("bare ESP from a stranger", esp(STRANGER, 64), DROP, "foreign_source"),
        ("bare ESP from another peer", packet(OTHER, OWN, BARE, &super::esp(3, 64)), REDIRECT, "to_socket"),
        ("bare ESP of another's epoch", esp(OTHER, 64), DROP, "epoch_not_live"),
        ("bare ESP for another host", packet(PEER, STRANGER, BARE, &[0x5a; 64]), DROP, "not_for_us"),
        ("bare ESP of 7 bytes", esp(PEER, 7), DROP, "malformed"),
        ("ESP in UDP", datagram(PEER, OWN, ESP, 64), DROP, "other"),
        ("bare ESP over IPv4", ipv4(super::PEER, super::OWN, BARE, &[0x5a; 64]), DROP, "not_for_us"),
        ("a fragment of bare ESP", fragment(BARE), DROP, "fragment"),
    ];
    check(&settings(None), &PEERS, rows);
}

#[test]
fn every_truncation_is_dropped() {
    need_root();
    let loaded = loaded(&settings(NonZeroU16::new(ESP)), &PEERS, Buffers::One);
    let socket = unbound_socket();
    loaded.set_socket(0, socket.as_fd()).unwrap();
    let whole = datagram(PEER, OWN, ESP, 64);
    for length in 14..whole.len() {
        assert_eq!(loaded.run(&whole[..length]), DROP, "{length} bytes of {}", whole.len());
    }
    assert_eq!(counters(&loaded).malformed, whole.len() as u64 - 14);
}

fn rows_of_udp() -> Vec<Row> {
    let with_checksum = {
        let mut frame = datagram(PEER, OWN, ESP, 64);
        frame[60..62].copy_from_slice(&[0x12, 0x34]);
        frame
    };
    let dead = {
        let mut frame = datagram(PEER, OWN, ESP, 64);
        frame[62..66].copy_from_slice(&super::esp(3, 4));
        frame
    };
    let lying = {
        let mut frame = datagram(PEER, OWN, ESP, 64);
        frame[59] = 71;
        frame
    };
    vec![
        ("ESP without a checksum", datagram(PEER, OWN, ESP, 64), REDIRECT, "to_socket"),
        ("ESP with any checksum", with_checksum, REDIRECT, "to_socket"),
        ("ESP in an epoch without keys", dead, DROP, "epoch_not_live"),
        ("ESP from a stranger", datagram(STRANGER, OWN, ESP, 64), DROP, "foreign_source"),
        ("ESP for another host", datagram(PEER, STRANGER, ESP, 64), DROP, "not_for_us"),
        ("UDP to another port", datagram(PEER, OWN, 4501, 64), DROP, "other"),
        ("bare ESP", packet(PEER, OWN, BARE, &[0; 64]), DROP, "other"),
        ("a UDP length below the packet's", lying, DROP, "malformed"),
        ("UDP of 7 bytes", packet(PEER, OWN, UDP, &[0; 7]), DROP, "malformed"),
        ("a fragment", fragment(UDP), DROP, "fragment"),
        ("ESP over IPv4", udp(super::PEER, super::OWN, ESP, 64), DROP, "not_for_us"),
    ]
}

fn rows_of_the_host() -> Vec<Row> {
    let segment = |from: Ipv6Addr, to_port: u16| {
        let mut segment = [0; 20];
        segment[2..4].copy_from_slice(&to_port.to_be_bytes());
        packet(from, OWN, TCP, &segment)
    };
    let icmp = |from: Ipv6Addr, to: Ipv6Addr, kind: u8| {
        let mut message = [0; 16];
        message[0] = kind;
        packet(from, to, ICMPV6, &message)
    };
    vec![
        ("the channel", segment(PEER, CHANNEL), PASS, "to_kernel_channel"),
        ("the channel from a stranger", segment(STRANGER, CHANNEL), DROP, "foreign_source"),
        ("TCP to another port", segment(PEER, 22), DROP, "other"),
        ("TCP of 19 bytes", packet(PEER, OWN, TCP, &[0; 19]), DROP, "malformed"),
        ("packet too big from a router", icmp(STRANGER, OWN, 2), PASS, "to_kernel_icmp"),
        ("unreachable", icmp(STRANGER, OWN, 1), PASS, "to_kernel_icmp"),
        ("an echo request from anyone", icmp(STRANGER, OWN, 128), PASS, "to_kernel_icmp"),
        ("an echo reply", icmp(PEER, OWN, 129), PASS, "to_kernel_icmp"),
        ("an echo request for another host", icmp(PEER, STRANGER, 128), DROP, "not_for_us"),
        ("ICMPv6 type 5", icmp(PEER, OWN, 5), DROP, "other"),
        ("ICMPv6 of 7 bytes", packet(PEER, OWN, ICMPV6, &[128, 0, 0, 0, 0, 0, 0]), DROP, "malformed"),
        ("a neighbour solicitation", nd(135, 255), PASS, "to_kernel_neighbour"),
        ("a neighbour advertisement", nd(136, 255), PASS, "to_kernel_neighbour"),
        ("neighbour discovery through a router", nd(135, 254), DROP, "other"),
        ("a query of listeners", listener(1, 130), PASS, "to_kernel_neighbour"),
        ("a query of listeners from afar", listener(2, 130), DROP, "other"),
        ("a report behind the router alert", listener(1, 143), DROP, "other"),
        ("ARP", ethernet(0x0806, &[0; 28]), PASS, "to_kernel_arp"),
    ]
}

fn rows_of_oddities() -> Vec<Row> {
    let mut long_options = listener(1, 130);
    long_options[55] = 1;
    vec![
        ("a routing header", packet(PEER, OWN, ROUTING, &[0; 64]), DROP, "other"),
        ("hop-by-hop options in front of UDP", packet(PEER, OWN, HOP_BY_HOP, &[UDP; 64]), DROP, "other"),
        ("hop-by-hop options of 16 bytes", long_options, DROP, "other"),
        (
            "hop-by-hop options and nothing else",
            packet(PEER, ALL_NODES, HOP_BY_HOP, &[58; 8]),
            DROP,
            "malformed",
        ),
        ("a payload of 0 bytes", packet(PEER, OWN, ICMPV6, &[]), DROP, "malformed"),
        ("our own address as source", datagram(OWN, OWN, ESP, 64), DROP, "foreign_source"),
        ("ESP for all nodes", datagram(PEER, ALL_NODES, ESP, 64), DROP, "not_for_us"),
    ]
}

fn settings(esp_port: Option<NonZeroU16>) -> CipherSettings {
    CipherSettings { own: OWN.into(), esp_port, channel_port: CHANNEL }
}

fn packet(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let head = [0x6b, 0x81, 0x23, 0x45, length[0], length[1], next_header, 64];
    ethernet(0x86dd, &[&head[..], &source.octets(), &destination.octets(), payload].concat())
}

fn datagram(source: Ipv6Addr, destination: Ipv6Addr, port: u16, payload: usize) -> Vec<u8> {
    // What stands behind the IP header is the same in both families.
    packet(source, destination, UDP, &udp(super::PEER, super::OWN, port, payload)[34..])
}

fn fragment(next_header: u8) -> Vec<u8> {
    packet(PEER, OWN, FRAGMENT, &[&[next_header, 0, 0, 1, 0, 0, 0, 9][..], &[0x5a; 64]].concat())
}

/// A message of multicast listener discovery behind the router alert option.
fn listener(hop_limit: u8, kind: u8) -> Vec<u8> {
    let mut message = vec![ICMPV6, 0, 5, 2, 0, 0, 1, 0, kind];
    message.resize(8 + 24, 0);
    let mut frame = packet(ROUTER, ALL_NODES, HOP_BY_HOP, &message);
    frame[21] = hop_limit;
    frame
}
