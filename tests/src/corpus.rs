use qhaul::lab::plan::Side;

use crate::esp::checksum;

/// Longest frame at first: 1,500 bytes behind an Ethernet header.
pub const LONGEST: usize = 1514;

/// Frames of every kind that a carrier's backhaul may show, sound, odd and broken, from host a to host b: `size` bytes at most.
/// The same ones on every call.
pub fn corpus(size: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for kind in KINDS {
        kind(&mut frames);
    }
    sizes(&mut frames, size);
    damage(&mut frames);
    noise(&mut frames, size);
    frames.retain(|frame| (14..=size).contains(&frame.len()));
    frames
}

const KINDS: [fn(&mut Vec<Vec<u8>>); 8] =
    [control, tagged, labelled, addressed_v4, addressed_v6, mobile, signalling, secured];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const SCTP: u8 = 132;

/// What bridges and clocks say to each other, and is never to be touched by a bump in the wire.
fn control(frames: &mut Vec<Vec<u8>>) {
    let groups: [([u8; 6], u16, &[u8]); 9] = [
        (
            [0x01, 0x80, 0xc2, 0, 0, 0x0e],
            0x88cc,
            &[2, 7, 4, 2, 0, 0, 0, 0, 1, 4, 2, 7, 1, 6, 2, 0, 120, 0, 0],
        ),
        ([0x01, 0x80, 0xc2, 0, 0, 0], 38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0, 0x80, 0, 2, 0, 0, 0, 0, 1]),
        ([0x01, 0x80, 0xc2, 0, 0, 2], 0x8809, &[1, 1, 1, 20, 0xff, 0xff, 2, 0, 0, 0, 0, 1]),
        ([0x01, 0x80, 0xc2, 0, 0, 2], 0x8809, &[0x0a, 0, 0x19, 0xa7, 0, 1, 0x10, 0, 0, 0, 1, 0, 4, 2]),
        ([0x01, 0x80, 0xc2, 0, 0, 1], 0x8808, &[0, 1, 0xff, 0xff]),
        ([0x01, 0x80, 0xc2, 0, 0, 1], 0x8808, &[1, 1, 0, 0xff, 0, 1, 0, 2, 0, 3]),
        ([0x01, 0x1b, 0x19, 0, 0, 0], 0x88f7, &[0, 2, 0, 44, 0, 0, 2, 0]),
        ([0x01, 0x80, 0xc2, 0, 0, 0x0e], 0x88f7, &[0x12, 2, 0, 54, 0, 0, 2, 0]),
        ([0x01, 0, 0x0c, 0xcc, 0xcc, 0xcc], 60, &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0, 2, 0xb4]),
    ];
    for (destination, ethertype, payload) in groups {
        let head = [&destination[..], &Side::A.host_mac(), &ethertype.to_be_bytes(), payload].concat();
        let mut padded = head.clone();
        padded.resize(60, 0);
        frames.extend([padded, head]);
    }
    for operation in [1, 2, 9] {
        let arp = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &[0x0a; 20], &[0; 18]].concat();
        frames.push(ethernet(0x0806, &arp));
    }
    for length in [0_u16, 3, 46, 1500, 1501, 0x5ff] {
        frames.push(ethernet(length, &filler(50)));
    }
}

fn tagged(frames: &mut Vec<Vec<u8>>) {
    let inside = v4(UDP, 0, &[], &ports(UDP, 5000, 9, &filler(64)));
    let stacks: [&[u16]; 10] = [
        &[0x8100, 100],
        &[0x8100, 0],
        &[0x8100, 0xefff],
        &[0x8100, 0x1fff],
        &[0x88a8, 7],
        &[0x88a8, 7, 0x8100, 100],
        &[0x8100, 7, 0x8100, 100],
        &[0x9100, 7, 0x8100, 100],
        &[0x88a8, 1, 0x88a8, 2, 0x8100, 3],
        &[0x8100, 1, 0x8100, 2, 0x8100, 3, 0x8100, 4, 0x8100, 5, 0x8100, 6, 0x8100, 7, 0x8100, 8],
    ];
    for stack in stacks {
        let mut words: Vec<u8> = stack[1..].iter().flat_map(|word| word.to_be_bytes()).collect();
        frames.push(ethernet(stack[0], &[&words[..], &[8, 0], &inside].concat()));
        // Ends behind the last tag, within it, and behind a type that promises another one.
        words.extend([0x81, 0]);
        for cut in 0..4 {
            frames.push(ethernet(stack[0], &words[..words.len() - cut]));
        }
    }
}

fn labelled(frames: &mut Vec<Vec<u8>>) {
    let packets = [
        v4(UDP, 0, &[], &ports(UDP, 5000, 9, &filler(64))),
        v6(UDP, &ports(UDP, 5000, 9, &filler(64))),
        [&[0; 4][..], &ethernet(0x0800, &v4(UDP, 0, &[], &ports(UDP, 1, 2, &filler(40))))].concat(),
        filler(30),
        Vec::new(),
    ];
    for depth in [1, 2, 3, 8, 20] {
        let labels: Vec<u8> = (1..=depth)
            .flat_map(|at: u32| (at << 12 | u32::from(at == depth) << 8 | 64).to_be_bytes())
            .collect();
        for packet in &packets {
            frames.push(ethernet(0x8847, &[&labels[..], packet].concat()));
        }
    }
    // A stack without a bottom, and the multicast type.
    frames.push(ethernet(0x8847, &[0, 0, 0x10, 64].repeat(30)));
    frames.push(ethernet(0x8848, &[&[0, 1, 1, 64][..], &packets[0]].concat()));
    let session = [0x11, 0, 0, 5, 0, 102, 0, 0x21];
    frames.push(ethernet(0x8864, &[&session[..], &packets[0]].concat()));
    frames.push(ethernet(0x8864, &[0x11, 0, 0, 5, 0xff, 0xff, 0xc0, 0x21, 1]));
    frames.push(ethernet(0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]));
    frames.push(ethernet(0x88e5, &filler(60)));
    frames.push(ethernet(0x88e7, &filler(60)));
    frames.push(ethernet(0xffff, &filler(60)));
}

fn addressed_v4(frames: &mut Vec<Vec<u8>>) {
    for protocol in [ICMP, 2, 4, TCP, UDP, 41, 47, 50, 51, 89, 103, 112, SCTP, 136, 255] {
        frames.push(ethernet(0x0800, &v4(protocol, 0, &[], &ports(protocol, 5000, 80, &filler(40)))));
        frames.push(ethernet(0x0800, &v4(protocol, 0x4000, &[], &filler(3))));
    }
    for options in [&[7, 7, 4, 0, 0, 0, 0, 0][..], &[1; 40], &[0x44, 0, 5, 0], &[0x83, 0xff, 4, 1]] {
        let packet = v4(UDP, 0, options, &ports(UDP, 5000, 9, &filler(30)));
        frames.push(ethernet(0x0800, &packet));
    }
    for fragment in [0x2000_u16, 0x2001, 0x0001, 0x00b9, 0x1fff, 0x3fff, 0x8000, 0x6000] {
        frames.push(ethernet(0x0800, &v4(UDP, fragment, &[], &ports(UDP, 5000, 9, &filler(96)))));
    }
    let sound = v4(TCP, 0, &[], &ports(TCP, 80, 81, &filler(60)));
    // Version, header length, class, total length, TTL, protocol, checksum, addresses.
    let broken = [
        (0, 0x44),
        (0, 0x4f),
        (0, 0x65),
        (0, 0),
        (1, 0xff),
        (2, 0xff),
        (3, 0),
        (8, 0),
        (9, 0),
        (10, 0xaa),
        (12, 0xff),
        (16, 224),
    ];
    for (at, value) in broken {
        let mut packet = sound.clone();
        packet[at] = value;
        frames.push(ethernet(0x0800, &packet));
    }
    let mut padded = ethernet(0x0800, &v4(UDP, 0, &[], &ports(UDP, 1, 2, &[])));
    padded.resize(60, 0xa5);
    frames.push(padded);
}

fn addressed_v6(frames: &mut Vec<Vec<u8>>) {
    let udp = ports(UDP, 5000, 9, &filler(40));
    for next in [ICMP, TCP, UDP, 41, 47, 50, 51, 58, 59, SCTP, 135, 139, 140, 253] {
        frames.push(ethernet(0x86dd, &v6(next, &ports(next, 5000, 80, &filler(40)))));
    }
    // Hop-by-hop, routing, destination options, in and out of order, over and over, and longer than the packet.
    let header = |next: u8, length: u8| [&[next, length][..], &vec![1; 6 + 8 * usize::from(length)]].concat();
    let chains: [&[(u8, u8)]; 6] = [
        &[(0, 0)],
        &[(0, 0), (60, 0), (43, 1), (60, 2)],
        &[(60, 0), (0, 0)],
        &[(43, 0), (43, 0), (43, 0), (43, 0), (43, 0), (43, 0), (43, 0), (43, 0), (43, 0), (43, 0)],
        &[(60, 100)],
        &[(135, 0), (139, 0), (140, 0)],
    ];
    for chain in chains {
        let nexts = chain[1..].iter().map(|(kind, _)| *kind).chain([UDP]);
        let headers: Vec<u8> =
            chain.iter().zip(nexts).flat_map(|((_, length), next)| header(next, *length)).collect();
        frames.push(ethernet(0x86dd, &v6(chain[0].0, &[&headers[..], &udp].concat())));
        frames.push(ethernet(0x86dd, &v6(chain[0].0, &headers[..headers.len().min(5)])));
    }
    frames.push(ethernet(0x86dd, &v6(60, &[UDP, 255, 0, 0, 0, 0, 0, 0, 1, 2, 3])));
    for (offset, reserved) in [(1_u16, 0), (0, 0), (0x0009, 0), (0xfff8, 0), (0xffff, 0xff)] {
        let head = [&[UDP, reserved][..], &offset.to_be_bytes(), &[0, 0, 0, 9]].concat();
        frames.push(ethernet(0x86dd, &v6(FRAGMENT, &[&head[..], &udp].concat())));
    }
    // A jumbogram's claim: no payload length, and 100,000 bytes in an option.
    let jumbo = [UDP, 0, 0xc2, 4, 0, 1, 0x86, 0xa0];
    let mut packet = v6(0, &[&jumbo[..], &udp].concat());
    packet[4..6].fill(0);
    frames.push(ethernet(0x86dd, &packet));
    let sound = v6(UDP, &udp);
    for (at, value) in
        [(0, 0x40), (0, 0x6f), (1, 0xff), (4, 0xff), (5, 1), (6, 255), (7, 0), (8, 0xff), (24, 0xff)]
    {
        let mut packet = sound.clone();
        packet[at] = value;
        frames.push(ethernet(0x86dd, &packet));
    }
    frames.push(ethernet(0x86dd, &sound[..39]));
    frames.push(ethernet(0x86dd, &sound[..42]));
}

/// GTP-U with each version, each flag and each extension, and chains that end nowhere (TS 29.281 section 5.2).
fn mobile(frames: &mut Vec<Vec<u8>>) {
    let user = v4(TCP, 0x4000, &[], &ports(TCP, 40_000, 443, &filler(120)));
    let extensions: [&[u8]; 9] = [
        &[],
        &[0x85, 1, 0x10, 9, 0],
        &[0x85, 1, 0x00, 0x3f, 0],
        &[0xc0, 1, 0, 7, 0x85, 1, 0, 9, 0],
        &[0x85, 0, 0, 0, 0],
        &[0x85, 0, 0x85, 0, 0x85, 0, 0x85, 0],
        &[0x85, 255, 0, 9],
        &[0x20, 1, 0, 0, 0x20, 1, 0, 0, 0x20, 1, 0, 0, 0x20, 1, 0, 0, 0x20, 1, 0, 0, 0],
        &[0xff],
    ];
    let mut carried = Vec::new();
    for flags in 0x30..=0x37_u8 {
        for extension in extensions {
            // Sequence number and N-PDU number; the extension's first byte is its type.
            let optional: &[u8] = if flags & 7 == 0 { &[] } else { &[0, flags, 0] };
            let extension = if flags & 7 == 0 { &[] } else { extension };
            let behind = [optional, extension, &user].concat();
            let length = behind.len() as u16;
            let head = [&[flags, 255][..], &length.to_be_bytes(), &[0, 0, 0x10, flags]].concat();
            carried.push([head, behind].concat());
        }
    }
    for kind in [1, 2, 26, 31, 253, 254, 0] {
        carried.push(vec![0x32, kind, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
    for first in [0x10, 0x20, 0x50, 0xf0, 0x00, 0x3f] {
        carried.push([&[first, 255, 0, 0, 0, 0, 0, 5][..], &user].concat());
    }
    carried.extend([
        vec![],
        vec![0x30],
        vec![0x34, 255, 0, 8, 0, 0, 0],
        vec![0x34, 255, 0xff, 0xff, 0, 0, 0, 5, 0, 0, 0, 0x85],
    ]);
    for packet in &carried {
        frames.push(ethernet(0x0800, &v4(UDP, 0, &[], &ports(UDP, 2152, 2152, packet))));
    }
    for packet in carried.iter().step_by(5) {
        frames.push(ethernet(0x86dd, &v6(UDP, &ports(UDP, 50_000, 2152, packet))));
        let inside = v4(UDP, 0, &[], &ports(UDP, 2152, 40_000, packet));
        frames.push(ethernet(0x8100, &[&[0x20, 100, 8, 0][..], &inside].concat()));
    }
    frames.push(ethernet(0x0800, &v4(UDP, 0x2000, &[], &ports(UDP, 2152, 2152, &carried[0]))));
    frames.push(ethernet(
        0x0800,
        &v4(UDP, 0, &[], &ports(UDP, 2123, 2123, &[0x48, 32, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0])),
    ));
}

fn signalling(frames: &mut Vec<Vec<u8>>) {
    let chunk = |kind: u8, length: u16, body: &[u8]| {
        let mut chunk = [&[kind, 3][..], &length.to_be_bytes(), body].concat();
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    };
    let data = chunk(0, 16 + 13, &[&[0, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 60][..], &filler(13)].concat());
    let bodies = [
        data.clone(),
        [&data[..], &data, &chunk(4, 12, &filler(8)), &chunk(3, 16, &[0; 12])].concat(),
        chunk(1, 20, &[0; 16]),
        [&data[..], &chunk(0, 0, &[])].concat(),
        [&data[..], &chunk(0, 0xffff, &filler(9))].concat(),
        [&data[..], &[0, 3]].concat(),
        Vec::new(),
    ];
    let m3ua = [1, 0, 1, 1, 0, 0, 0, 24, 2, 16, 0, 16, 0, 0, 0, 1, 0, 0, 0, 2, 3, 2, 0, 5];
    for port in [36_412_u16, 38_412, 36_422, 38_422, 2905, 3565, 14_001, 5000] {
        for body in &bodies {
            let head = [port.to_be_bytes(), port.to_be_bytes()].concat();
            let packet = [&head[..], &[1, 2, 3, 4, 0, 0, 0, 0], body, &m3ua].concat();
            frames.push(ethernet(0x0800, &v4(SCTP, 0, &[], &packet)));
        }
    }
    frames.push(ethernet(
        0x86dd,
        &v6(SCTP, &[&[0x96, 0x0c, 0x96, 0x0c, 0, 0, 0, 5, 0, 0, 0, 0][..], &data].concat()),
    ));
}

/// Others' tunnels, ours among them: a frame that looks like one of our packets is still a frame.
fn secured(frames: &mut Vec<Vec<u8>>) {
    let esp =
        [&0x0400_0001_u32.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], &filler(64)].concat();
    let ike = [&[0; 4][..], b"initiateresponde", &[0x21, 0x20, 0x22, 8, 0, 0, 0, 0, 0, 0, 0, 28]].concat();
    for inside in [&esp[..], &ike, &[0xff], &[]] {
        for source in [4500, 49_153] {
            frames.push(ethernet(0x0800, &v4(UDP, 0, &[], &ports(UDP, source, 4500, inside))));
        }
    }
    frames.push(ethernet(0x0800, &v4(50, 0, &[], &esp)));
    frames.push(ethernet(0x86dd, &v6(50, &esp)));
    frames.push(ethernet(0x0800, &v4(51, 0, &[], &[&[4, 4, 0, 0][..], &esp].concat())));
    frames.push(ethernet(0x0800, &v4(UDP, 0, &[], &ports(UDP, 500, 500, &ike[4..]))));
    frames.push(ethernet(0x0800, &v4(TCP, 0, &[], &ports(TCP, 4501, 50_000, &filler(50)))));
}

/// Every length around the borders that matter, with content that can be compressed and content that cannot.
fn sizes(frames: &mut Vec<Vec<u8>>, size: usize) {
    let borders = [
        14..80,
        120..130,
        250..260,
        1270..1290,
        1460..1515,
        2030..2060,
        3480..3520,
        4090..4100,
        size.max(40) - 40..size + 1,
    ];
    for length in borders.into_iter().flatten() {
        frames.push(ethernet(0x88b5, &vec![0; length - 14]));
        if length >= 42 {
            let udp = ports(UDP, 5000, 9, &filler(length - 42));
            frames.push(ethernet(0x0800, &v4(UDP, 0, &[], &udp)));
        }
    }
    frames.push(vec![0; 60]);
    frames.push(vec![0xff; 60]);
}

/// Each frame so far once more with a bit turned over, and once cut.
fn damage(frames: &mut Vec<Vec<u8>>) {
    let mut chance = Chance(0x5eed);
    let mut damaged = Vec::new();
    for frame in frames.iter() {
        let mut flipped = frame.clone();
        // Mostly in the headers, where it makes a difference.
        let at = chance.below(frame.len().min(74));
        flipped[at] ^= 1 << chance.below(8);
        damaged.push(flipped);
        damaged.push(frame[..14 + chance.below(frame.len().max(15) - 14)].to_vec());
    }
    frames.append(&mut damaged);
}

/// Bytes without any sense, behind addresses that have some and behind ones that have none.
fn noise(frames: &mut Vec<Vec<u8>>, size: usize) {
    let mut chance = Chance(0xfeed);
    for number in 0..200 {
        let length = 14 + chance.below(size - 13);
        let mut frame: Vec<u8> = (0..length).map(|_| chance.below(256) as u8).collect();
        if number % 2 == 0 {
            let types = [0x0800_u16, 0x86dd, 0x8100, 0x88a8, 0x8847, 0x8864];
            frame[..12].copy_from_slice(&ethernet(0, &[])[..12]);
            frame[12..14].copy_from_slice(&types[number / 2 % types.len()].to_be_bytes());
        }
        frames.push(frame);
    }
}

/// xorshift64 (Marsaglia): the same numbers on every run and every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    crate::frames::ethernet(ethertype, payload)
}

fn filler(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + length) as u8).collect()
}

/// Ports, and what the protocol has behind them.
fn ports(protocol: u8, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    let rest = match protocol {
        UDP => [&(payload.len() as u16 + 8).to_be_bytes()[..], &[0, 0]].concat(),
        TCP => vec![0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0],
        _ => vec![0; 8],
    };
    [&ports[..], &rest, payload].concat()
}

fn v4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let words = 5 + options.len() / 4;
    let mut packet = vec![0x40 | words as u8, 0xb8];
    packet.extend(((4 * words + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 172, 16, 1, 1, 172, 16, 2, 2]);
    packet.extend(options);
    let checksum = checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&packet[..], payload].concat()
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x6b, 0x80, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    for site in [1, 2] {
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, site, 0, 0, 0, 0, 0, 0, 0, 0, 0, site]);
    }
    [&packet[..], payload].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_corpus_is_wide_and_the_same_each_time() {
        for size in [LONGEST, 9216] {
            let frames = corpus(size);
            assert_eq!(frames, corpus(size));
            assert!(frames.len() > 1500, "{} frames", frames.len());
            let lengths: HashSet<usize> = frames.iter().map(Vec::len).collect();
            assert!((14..=80).chain(1500..=LONGEST).chain([size]).all(|length| lengths.contains(&length)));
            let types: HashSet<&[u8]> = frames.iter().map(|frame| &frame[12..14]).collect();
            assert!(types.len() > 100, "{} types", types.len());
        }
    }
}
