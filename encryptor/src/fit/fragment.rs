//! Fragmentation of IPv4 packets in front of encryption (RFC 791 section 3.2), so that the far host puts them together again
//! and neither encryptor has to.

use crate::wire::{Ipv4, checksum};
use crate::xsk::{Frame, HEADROOM};

/// Option type bit: the option is in every fragment, not in the first alone.
const COPIED: u8 = 0x80;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;

/// A packet and how it is cut.
#[derive(Debug)]
pub(super) struct Cut<'a> {
    /// The Ethernet header that each fragment gets.
    head: &'a [u8],
    ip: Ipv4<'a>,
    /// The header of all fragments but the first: it has only the options that are copied.
    later: FragmentHeader,
    mtu: usize,
    /// Bytes of the payload that were written.
    done: usize,
    /// Whether the first is written, which can be without payload.
    begun: bool,
}

impl<'a> Cut<'a> {
    /// The packet behind the Ethernet header `head`, to be cut into fragments of `mtu` bytes at the most. `None`: it may not be
    /// cut, cannot be read, or `mtu` has no room for a header and 8 bytes.
    pub(super) fn new(head: &'a [u8], packet: &'a [u8], mtu: usize) -> Option<Cut<'a>> {
        let ip = Ipv4::parse(packet).filter(|ip| !ip.dont_fragment())?;
        (mtu >= ip.header.len() + 8).then(|| Cut {
            head,
            ip,
            later: FragmentHeader::of(ip.header),
            mtu,
            done: 0,
            begun: false,
        })
    }

    /// How many fragments there will be.
    pub(super) fn count(&self) -> usize {
        let rest = self.ip.payload.len().saturating_sub(self.room(self.ip.header.len()));
        1 + rest.div_ceil(self.room(self.later.bytes().len()))
    }

    /// Writes the next fragment into `into`. False, after the last: there is none.
    pub(super) fn write_next(&mut self, into: &mut Frame) -> bool {
        let first = !std::mem::replace(&mut self.begun, true);
        let rest = &self.ip.payload[self.done..];
        if rest.is_empty() && !first {
            return false;
        }
        let mut header = if first { FragmentHeader::whole(self.ip.header) } else { self.later };
        let taken = rest.len().min(self.room(header.bytes().len()));
        let more = taken < rest.len() || self.ip.more_fragments();
        let offset = self.ip.offset() + (self.done / 8) as u16;
        header.finish(taken, more, offset);
        self.done += taken;
        into.reset(HEADROOM);
        into.extend_from(self.head) && into.extend_from(header.bytes()) && into.extend_from(&rest[..taken])
    }

    /// Bytes of payload behind a header of `header` bytes: a multiple of 8, as offsets are.
    fn room(&self, header: usize) -> usize {
        (self.mtu - header) & !7
    }
}

/// An IPv4 header of a fragment.
#[derive(Clone, Copy, Debug)]
struct FragmentHeader {
    bytes: [u8; 60],
    length: usize,
}

impl FragmentHeader {
    fn whole(header: &[u8]) -> FragmentHeader {
        let mut bytes = [0; 60];
        bytes[..header.len()].copy_from_slice(header);
        FragmentHeader { bytes, length: header.len() }
    }

    /// With the copied options of `header` alone, padded with the end of options to a multiple of 4 bytes. Options that cannot
    /// be read end there.
    fn of(header: &[u8]) -> FragmentHeader {
        let mut later = Self::whole(&header[..20]);
        let mut options = &header[20..];
        while let Some((&kind, behind)) = options.split_first() {
            let length = match (kind, behind) {
                (END_OF_OPTIONS, _) => break,
                (NO_OPERATION, _) => 1,
                (_, &[length, ..]) if length >= 2 => usize::from(length),
                _ => break,
            };
            let Some(option) = options.get(..length) else { break };
            if kind & COPIED != 0 {
                later.bytes[later.length..later.length + length].copy_from_slice(option);
                later.length += length;
            }
            options = &options[length..];
        }
        later.length = later.length.next_multiple_of(4);
        later
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn finish(&mut self, payload: usize, more: bool, offset: u16) {
        let total = (self.length + payload) as u16;
        let word = (u16::from(more) << 13) | (offset & 0x1fff);
        self.bytes[0] = 0x40 | (self.length / 4) as u8;
        self.bytes[2..4].copy_from_slice(&total.to_be_bytes());
        self.bytes[6..8].copy_from_slice(&word.to_be_bytes());
        self.bytes[10..12].fill(0);
        let sum = checksum(&[self.bytes()]);
        self.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::xsk::Umem;

    const HEAD: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];

    fn packet(options: &[u8], word: u16, payload: &[u8]) -> Vec<u8> {
        let length = 20 + options.len();
        let total = ((length + payload.len()) as u16).to_be_bytes();
        let [high, low] = word.to_be_bytes();
        let mut header =
            vec![0x40 | (length / 4) as u8, 0xb8, total[0], total[1], 0x12, 0x34, high, low, 9, 17];
        header.extend([0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        header.extend(options);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&header[..], payload].concat()
    }

    /// The fragments, without their Ethernet headers.
    fn fragments(packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
        let mut umem = Umem::new(1, 4096).unwrap();
        let mut frame = umem.alloc().unwrap();
        let mut cut = Cut::new(&HEAD, packet, mtu);
        let fragments = cut.as_mut().map(|cut| {
            let count = cut.count();
            let mut made = Vec::new();
            while cut.write_next(&mut frame) {
                assert_eq!(frame.data()[..14], HEAD);
                made.push(frame.data()[14..].to_vec());
            }
            assert_eq!(made.len(), count);
            made
        });
        umem.free(frame);
        fragments
    }

    /// Offset in bytes, whether more follow, options, payload.
    fn read(fragment: &[u8]) -> (usize, bool, Vec<u8>, Vec<u8>) {
        let ip = Ipv4::parse(fragment).expect("its header verifies");
        (usize::from(ip.offset()) * 8, ip.more_fragments(), ip.header[20..].to_vec(), ip.payload.to_vec())
    }

    #[test]
    fn a_packet_is_cut_as_rfc_791_says() {
        let payload: Vec<u8> = (0..100).collect();
        let whole = packet(&[], 0, &payload);
        let made = fragments(&whole, 68).unwrap();
        let expected = [(0, true, 0..48), (48, true, 48..96), (96, false, 96..100)];
        assert_eq!(made.len(), expected.len());
        for (fragment, (offset, more, part)) in made.iter().zip(expected) {
            assert_eq!(read(fragment), (offset, more, vec![], payload[part].to_vec()));
            assert_eq!((fragment[1], fragment[8], &fragment[4..6]), (0xb8, 9, &[0x12, 0x34][..]));
        }
    }

    #[test]
    fn a_fragment_is_cut_on() {
        let payload: Vec<u8> = (0..64).collect();
        let middle = fragments(&packet(&[], 0x2000 | 10, &payload), 60).unwrap();
        let seen: Vec<_> = middle.iter().map(|one| read(one)).map(|(at, more, ..)| (at, more)).collect();
        assert_eq!(seen, [(80, true), (120, true)], "more of it follows elsewhere");
        let last = fragments(&packet(&[], 10, &payload), 60).unwrap();
        assert!(!read(&last[1]).1);
    }

    #[test]
    fn only_copied_options_go_into_later_fragments() {
        // Record route (7) is in the first alone; a security option (130) is copied; padding ends them.
        let options = [1, 7, 7, 4, 0, 0, 0, 0, 130, 6, 1, 2, 3, 4, 0, 0];
        let made = fragments(&packet(&options, 0, &[7; 100]), 76).unwrap();
        assert_eq!(read(&made[0]).2, options);
        assert_eq!(read(&made[1]).2, [130, 6, 1, 2, 3, 4, 0, 0]);
        // One that runs over the header's end is left out.
        let made = fragments(&packet(&[130, 9, 1, 2], 0, &[7; 100]), 76).unwrap();
        assert!(read(&made[1]).2.is_empty());
    }

    #[test]
    fn what_may_not_or_cannot_be_cut_is_left() {
        assert!(fragments(&packet(&[], 0x4000, &[0; 100]), 68).is_none(), "DF");
        assert!(fragments(&packet(&[], 0, &[0; 100])[..119], 68).is_none(), "cut off");
        assert!(fragments(&packet(&[], 0, &[0; 100]), 27).is_none(), "no room for 8 bytes");
        let mut broken = packet(&[], 0, &[0; 100]);
        broken[11] ^= 1;
        assert!(fragments(&broken, 68).is_none());
        assert!(fragments(&[0x60; 100], 68).is_none(), "IPv6");
    }

    #[test]
    fn a_packet_without_payload_is_one_fragment() {
        assert_eq!(fragments(&packet(&[], 0, &[]), 68).map(|made| made.len()), Some(1));
    }

    proptest! {
        #[test]
        fn fragments_of_any_packet_make_the_packet_again(length in 0usize..3000, mtu in 68usize..1500, words in 0usize..11) {
            let payload: Vec<u8> = (0..length).map(|at| (at * 31 + at / 256) as u8).collect();
            let options: Vec<u8> = [130, 4, 1, 2].repeat(words);
            let whole = packet(&options, 0, &payload);
            let mut again = Vec::new();
            for fragment in fragments(&whole, mtu.max(20 + options.len() + 8)).unwrap() {
                prop_assert!(fragment.len() <= mtu.max(20 + options.len() + 8));
                let (offset, _, _, part) = read(&fragment);
                prop_assert_eq!(offset, again.len());
                again.extend(part);
            }
            prop_assert_eq!(again, payload);
        }
    }
}
