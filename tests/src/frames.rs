use qhaul::lab::plan::Side;

use crate::esp::checksum;

/// A frame, and the flow that it belongs to by the encryptor's own documentation.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Frames of one name share a key, those of different names never do.
    pub flow: String,
    /// The frame without FCS.
    pub frame: Vec<u8>,
}

const UDP: u8 = 17;
const GRE: u8 = 47;

/// Frames of every kind, from host a to host b. All differ: `round` is in each payload.
pub fn of_every_kind(round: u8) -> Vec<Sample> {
    let mut maker = Maker { round, made: Vec::new() };
    maker.udp();
    maker.fragments();
    maker.tagged();
    maker.other_protocols();
    maker.broken_headers();
    maker.made
}

/// An Ethernet frame from host a to host b.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let addresses = [Side::B.host_mac(), Side::A.host_mac()].concat();
    [&addresses[..], &ethertype.to_be_bytes(), payload].concat()
}

struct Maker {
    round: u8,
    made: Vec<Sample>,
}

impl Maker {
    fn add(&mut self, flow: &str, ethertype: u16, payload: &[u8]) {
        self.made.push(Sample { flow: flow.to_owned(), frame: ethernet(ethertype, payload) });
    }

    /// Bytes that no other frame has.
    fn filler(&self, length: usize) -> Vec<u8> {
        let number = self.made.len() as u8;
        let start = [self.round, number, !number];
        start.into_iter().chain((0..).map(|at: usize| (at * 7 + 1) as u8)).take(length).collect()
    }

    fn datagram(&self, port: u16, length: usize) -> Vec<u8> {
        let words = [port, 9, length as u16, 0];
        let header = words.iter().flat_map(|word| word.to_be_bytes());
        header.chain(self.filler(length - 8)).collect()
    }

    /// From the smallest to the largest frame, with every length around a cipher block's border.
    fn udp(&mut self) {
        for length in [60, 61, 62, 63, 64, 65, 74, 75, 76, 77, 78, 79, 80, 128, 594, 1280, 1499, 1513, 1514] {
            let packet = v4(UDP, 0x4000, &self.datagram(5000, length - 34));
            self.add("udp4 5000", 0x0800, &packet);
            let packet = v4(UDP, 0, &self.datagram(5001, length - 34));
            self.add("udp4 5001", 0x0800, &packet);
            let length = length.max(62);
            let packet = v6(UDP, &self.datagram(5000, length - 54));
            self.add("udp6 5000", 0x86dd, &packet);
        }
    }

    fn fragments(&mut self) {
        for (word, port) in [(0x2000, 5000), (0x2010, 5001), (0x0020, 5002)] {
            let packet = v4(UDP, word, &self.datagram(port, 128));
            self.add("fragments udp4", 0x0800, &packet);
        }
        for offset in [0x0001_u16, 0x0081, 0x0100] {
            let mut behind = vec![UDP, 0];
            behind.extend(offset.to_be_bytes());
            behind.extend([0, 0, 0, self.round]);
            behind.extend(self.filler(120));
            self.add("fragments udp6", 0x86dd, &v6(44, &behind));
        }
    }

    fn tagged(&mut self) {
        for (tags, name) in [(&[0x2064_u16][..], "vlan 100"), (&[0x0065], "vlan 101")] {
            for length in [64, 1518] {
                let packet = v4(UDP, 0, &self.datagram(5000, length - 38));
                self.add(&format!("{name} udp4"), 0x8100, &tag(tags, 0x0800, &packet));
            }
        }
        // The kernel lets a raw socket exceed the MTU by one 802.1Q tag only.
        for length in [68, 1514] {
            let packet = v6(UDP, &self.datagram(5000, length.max(70) - 62));
            self.add("vlans 7 and 100 udp6", 0x88a8, &tag(&[7, 0x8100, 100], 0x86dd, &packet));
        }
        let filler = self.filler(60);
        self.add("vlan 100 type 88b5", 0x8100, &tag(&[100], 0x88b5, &filler));
    }

    fn other_protocols(&mut self) {
        for operation in [1_u16, 2] {
            let mut packet = vec![0, 1, 8, 0, 6, 4];
            packet.extend(operation.to_be_bytes());
            packet.extend(self.filler(38));
            self.add("type 0806", 0x0806, &packet);
        }
        for (ethertype, length) in [(0x88b5_u16, 46), (0x88b5, 1500), (0x88cc, 50), (0x0042, 66)] {
            let filler = self.filler(length);
            self.add(&format!("type {ethertype:04x}"), ethertype, &filler);
        }
        // Behind a label there is no telling what comes: neither an IP version nor anything else.
        let labelled = [&[0x12, 0x34, 0x51, 64, 0, 0, 0, 0][..], &self.filler(192)].concat();
        self.add("type 8847 label 12345", 0x8847, &labelled);
        let packet = v4(GRE, 0, &self.filler(90));
        self.add("gre4", 0x0800, &packet);
        let packet = v6(GRE, &self.filler(90));
        self.add("gre6", 0x86dd, &packet);
        let group =
            [&[0x01, 0, 0x5e, 0, 0, 5][..], &Side::A.host_mac(), &[0x88, 0xb6], &self.filler(46)].concat();
        self.made.push(Sample { flow: "type 88b6".into(), frame: group });
        self.add("type 88b7", 0x88b7, &[]);
    }

    /// They go by their EtherType: what cannot be read is still carried, never dropped and never sent in clear.
    fn broken_headers(&mut self) {
        let sound = v4(UDP, 0, &self.datagram(5000, 100));
        let broken = |at: usize, value: u8| {
            let mut packet = sound.clone();
            packet[at] = value;
            packet
        };
        for packet in [broken(0, 0x15), broken(0, 0x44), broken(0, 0xf5), sound[..19].to_vec()] {
            self.add("type 0800", 0x0800, &packet);
        }
        // A wrong checksum and a wrong length leave addresses and ports where they are.
        for packet in [broken(10, 0xff), broken(2, 0x7f)] {
            self.add("udp4 5000", 0x0800, &packet);
        }
        let sound = v6(UDP, &self.datagram(5000, 100));
        self.add("type 86dd", 0x86dd, &sound[..39]);
        self.add("udp6 without ports", 0x86dd, &sound[..42]);
    }
}

fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0xb8];
    packet.extend((payload.len() as u16 + 20).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(Side::A.host_v4().octets());
    packet.extend(Side::B.host_v4().octets());
    let checksum = checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(Side::A.host_v6().octets());
    packet.extend(Side::B.host_v6().octets());
    packet.extend(payload);
    packet
}

/// What stands behind the first tag's type: its control word, then further tags or the type inside.
fn tag(words: &[u16], inside: u16, payload: &[u8]) -> Vec<u8> {
    let words = words.iter().chain([&inside]).flat_map(|word| word.to_be_bytes());
    words.chain(payload.iter().copied()).collect()
}
