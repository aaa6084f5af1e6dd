//! The traffic class through the tunnel: DSCP (RFC 2983) to the outside, ECN (RFC 6040) to the outside and back.

use super::update_checksum;

/// The ECN field of packets whose sender cannot be told of congestion (RFC 3168 section 5). The others are ECT(1), 1; ECT(0),
/// 2; and CE, 3: congestion experienced.
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const CE: u8 = 3;
const ECN: u8 = 0x03;

/// What becomes of the DSCP on the outside. The inner one is never changed: RFC 2983's pipe model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dscp {
    /// The inner one.
    Copy,
    /// This one, 0 to 63.
    Set(u8),
    /// At the place of each inner one.
    Map([u8; 64]),
}

/// What becomes of ECN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ecn {
    /// RFC 6040: copied on entry (normal mode), combined on exit.
    Copy,
    /// Not-ECT on entry (compatibility mode), and not looked at on exit: for networks that use these bits for something else.
    Off,
}

/// The outer traffic class for each inner one.
#[derive(Clone)]
pub struct ClassMap([u8; 256]);

impl ClassMap {
    /// Works the table out.
    pub fn new(dscp: &Dscp, ecn: Ecn) -> ClassMap {
        ClassMap(std::array::from_fn(|inner| {
            let inner = inner as u8;
            let outer = match dscp {
                Dscp::Copy => inner >> 2,
                Dscp::Set(outer) => *outer,
                Dscp::Map(outer) => outer[usize::from(inner >> 2)],
            };
            (outer & 0x3f) << 2 | if ecn == Ecn::Copy { inner & ECN } else { NOT_ECT }
        }))
    }

    /// The outer class of a packet whose inner class is `inner`, 0 where there is no IP header.
    pub fn outer(&self, inner: u8) -> u8 {
        self.0[usize::from(inner)]
    }
}

impl std::fmt::Debug for ClassMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClassMap")
    }
}

/// Whether a packet whose outer class is `outer` can change anything inside: the other two marks say nothing that is new.
pub fn may_mark(outer: u8) -> bool {
    matches!(outer & ECN, ECT_1 | CE)
}

/// Whether the mark says that a queue on the way was congested.
pub fn is_congested(class: u8) -> bool {
    class & ECN == CE
}

/// The ECN field that leaves the tunnel (RFC 6040 section 4.2, figure 4). `None`: the packet is to be dropped, as its sender
/// understands no other sign of congestion.
fn ecn_at_exit(inner: u8, outer: u8) -> Option<u8> {
    match (inner & ECN, outer & ECN) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (CE, _) | (_, CE) => Some(CE),
        (_, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Puts the ECN field in order at the exit, in an IPv4 or IPv6 `packet` that was parsed; its IPv4 checksum stays as right or as wrong
/// as it was. False: the packet is to be dropped.
pub fn leave_tunnel(packet: &mut [u8], outer: u8) -> bool {
    match packet {
        [first, class, _, _, _, _, _, _, _, _, c0, c1, ..] if *first >> 4 == 4 => {
            let Some(ecn) = ecn_at_exit(*class, outer) else { return false };
            let before = u16::from_be_bytes([*first, *class]);
            *class = *class & !ECN | ecn;
            let after = u16::from_be_bytes([*first, *class]);
            // The formula takes one of the two forms of zero for the other: what does not change is not touched.
            if before != after {
                [*c0, *c1] = update_checksum(u16::from_be_bytes([*c0, *c1]), before, after).to_be_bytes();
            }
            true
        }
        // The class stands across two bytes, its ECN in the middle of the second.
        [first, second, ..] if *first >> 4 == 6 => {
            let Some(ecn) = ecn_at_exit(*second >> 4, outer) else { return false };
            *second = *second & !(ECN << 4) | ecn << 4;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECT_0: u8 = 2;

    /// RFC 6040 figure 4, row by row; `None` drops.
    const EXIT: [(u8, [Option<u8>; 4]); 4] = [
        (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
        (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
        (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
        (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
    ];
    /// The order of its columns.
    const OUTER: [u8; 4] = [NOT_ECT, ECT_0, ECT_1, CE];

    fn v4(class: u8) -> Vec<u8> {
        let mut packet = vec![0x46, class, 0, 24, 0x12, 0x34, 0x40, 0, 63, 17, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1]);
        let checksum = !sum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn v6(class: u8) -> Vec<u8> {
        let mut packet = vec![0x60 | class >> 4, class << 4 | 0x0a, 0xbc, 0xde, 0, 0, 59, 64];
        packet.extend([7; 32]);
        packet
    }

    fn sum(header: &[u8]) -> u16 {
        let words = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = words.sum::<u32>();
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    #[test]
    fn on_entry_normal_mode_copies_and_compatibility_mode_clears() {
        let (copy, off) = (ClassMap::new(&Dscp::Copy, Ecn::Copy), ClassMap::new(&Dscp::Copy, Ecn::Off));
        for inner in 0..=255 {
            assert_eq!(copy.outer(inner), inner, "RFC 6040 figure 3, normal mode");
            assert_eq!(off.outer(inner), inner & !ECN, "RFC 6040 figure 3, compatibility mode");
        }
    }

    #[test]
    fn the_dscp_is_copied_set_or_mapped_for_every_value() {
        let table: [u8; 64] = std::array::from_fn(|dscp| (63 - dscp) as u8);
        for inner in 0..=255u8 {
            let (dscp, ecn) = (inner >> 2, inner & ECN);
            assert_eq!(ClassMap::new(&Dscp::Map(table), Ecn::Copy).outer(inner), (63 - dscp) << 2 | ecn);
            assert_eq!(ClassMap::new(&Dscp::Map(table), Ecn::Off).outer(inner), (63 - dscp) << 2);
            for set in 0..64 {
                assert_eq!(ClassMap::new(&Dscp::Set(set), Ecn::Copy).outer(inner), set << 2 | ecn);
            }
        }
    }

    #[test]
    fn on_exit_each_pair_of_marks_has_its_outcome_in_both_families() {
        for (inner, row) in EXIT {
            for (outer, expected) in OUTER.into_iter().zip(row) {
                assert_eq!(ecn_at_exit(inner, outer), expected, "{inner} inside {outer}");
                for dscp in 0..64u8 {
                    let (class, outer) = (dscp << 2 | inner, !dscp << 2 | outer);
                    for make in [v4, v6] {
                        let mut packet = make(class);
                        let stays = leave_tunnel(&mut packet, outer);
                        let wanted = expected.map(|ecn| make(class & !ECN | ecn));
                        assert_eq!(stays.then_some(packet), wanted, "{class:#x} inside {outer:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_marks_that_say_something_are_looked_at() {
        for (inner, row) in EXIT {
            for (outer, expected) in OUTER.into_iter().zip(row) {
                assert!(may_mark(outer) || expected == Some(inner), "{inner} inside {outer}");
            }
        }
    }

    #[test]
    fn a_wrong_checksum_stays_exactly_as_wrong() {
        let mut odd = v4(0xb9);
        odd[10..12].fill(0xff);
        let before = odd.clone();
        assert!(leave_tunnel(&mut odd, ECT_1));
        assert_eq!(odd, before, "a mark that is there already changes no bit");
        for class in [0x02, 0xfe] {
            let mut packet = v4(class);
            packet[10] ^= 0x55;
            let before = sum(&packet);
            assert!(leave_tunnel(&mut packet, CE));
            assert_eq!(sum(&packet), before);
        }
    }

    #[test]
    fn what_is_no_ip_header_is_refused() {
        assert!(!leave_tunnel(&mut [], CE));
        assert!(!leave_tunnel(&mut [0x45, 2], CE));
        assert!(!leave_tunnel(&mut [0x60], CE));
        assert!(!leave_tunnel(&mut [0x50; 40], CE));
    }
}
