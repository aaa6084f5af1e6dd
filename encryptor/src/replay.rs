//! The replay window of RFC 4303 section 3.4.3 with 64-bit sequence numbers: a ring of bits, one for each number (after RFC 6479, but
//! exact, so that no word is spent on what is being cleared).
//!
//! Checked before a packet is opened, marked only after it proved genuine: a forged packet moves nothing.

use crate::xsk::{filled, prefetch};

/// How many sequence numbers, the highest one seen included, are told apart: a power of two from 64 to 65,536.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowSize(u32);

impl WindowSize {
    /// The least.
    pub const MIN: u32 = 64;
    /// The most: 8 KiB a flow.
    pub const MAX: u32 = 65_536;

    /// `None`: not one of these.
    pub fn new(size: u32) -> Option<WindowSize> {
        let fits = size.is_power_of_two() && (WindowSize::MIN..=WindowSize::MAX).contains(&size);
        fits.then_some(WindowSize(size))
    }

    /// Bytes of bits for `flows` flows.
    pub fn bytes(self, flows: usize) -> usize {
        flows * self.0 as usize / 8
    }

    /// In packets.
    pub fn packets(self) -> u64 {
        self.0.into()
    }

    /// Words of bits that a flow takes.
    fn words(self) -> usize {
        self.0 as usize / 64
    }
}

impl Default for WindowSize {
    /// 1,024.
    fn default() -> Self {
        WindowSize(1024)
    }
}

/// The bits of all flows of a table, in one array. Those of a flow start at a cache line where they fill one, so that a packet touches
/// a single line, whatever the size.
#[derive(Debug)]
pub(crate) struct WindowBits {
    words: Vec<u64>,
    /// Words in front of the first line.
    start: usize,
    each: usize,
}

impl WindowBits {
    /// For `flows` flows, of which nothing was seen. Memory is taken here and never again.
    pub(crate) fn new(flows: usize, size: WindowSize) -> WindowBits {
        let words = filled(flows * size.words() + LINE, 0_u64);
        // Should the address not be known, every place is right, and only slower.
        let start = words.as_ptr().align_offset(LINE * size_of::<u64>()).min(LINE);
        WindowBits { words, start, each: size.words() }
    }

    /// A flow's bits.
    #[inline]
    pub(crate) fn of(&self, flow: usize) -> &[u64] {
        &self.words[self.start + flow * self.each..][..self.each]
    }

    /// The same, to be marked.
    #[inline]
    pub(crate) fn of_mut(&mut self, flow: usize) -> &mut [u64] {
        &mut self.words[self.start + flow * self.each..][..self.each]
    }

    /// Asks for the line that tells of a sequence number, of which the low half is enough to know.
    #[inline]
    pub(crate) fn prefetch(&self, flow: usize, sequence_low: u32) {
        let bits = self.of(flow);
        prefetch(&bits[word(sequence_low.into(), bits.len())]);
    }

    /// Forgets what was seen of the first `flows` flows.
    pub(crate) fn clear(&mut self, flows: usize) {
        self.words[self.start..][..flows * self.each].fill(0);
    }
}

/// Words of a cache line.
const LINE: usize = 8;

/// Which of a flow's sequence numbers were seen.
#[derive(Clone, Copy, Debug)]
pub struct ReplayWindow<'a> {
    highest: u64,
    bits: &'a [u64],
}

impl<'a> ReplayWindow<'a> {
    /// A window that has seen nothing. Sequence number 0 is never sent and never accepted.
    pub const UNSEEN: ReplayWindow<'static> = ReplayWindow { highest: 0, bits: &[] };

    /// `highest`: the highest number marked; `bits`: as many words as the size says.
    #[inline]
    pub(crate) fn new(highest: u64, bits: &'a [u64]) -> ReplayWindow<'a> {
        ReplayWindow { highest, bits }
    }

    /// The highest number marked.
    #[inline]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether `sequence` may still come: neither seen, nor too old, nor 0.
    #[inline]
    pub fn may_come(&self, sequence: u64) -> bool {
        sequence > self.highest
            || (sequence != 0
                && self.highest - sequence < 64 * self.bits.len() as u64
                && self.bits[word(sequence, self.bits.len())] & bit(sequence) == 0)
    }
}

/// Marks `sequence` of a genuine packet in the window of `highest` and `bits`. False: it may not come, and nothing is changed.
#[inline]
#[must_use]
pub(crate) fn mark(highest: &mut u64, bits: &mut [u64], sequence: u64) -> bool {
    if !ReplayWindow::new(*highest, bits).may_come(sequence) {
        return false;
    }
    if sequence > *highest {
        forget(bits, *highest + 1, sequence);
        *highest = sequence;
    }
    bits[word(sequence, bits.len())] |= bit(sequence);
    true
}

/// Clears the bits of the numbers from `first` up to but without `end`.
#[inline]
fn forget(bits: &mut [u64], first: u64, end: u64) {
    if first == end {
        return;
    }
    if end - first >= 64 * bits.len() as u64 {
        return bits.fill(0);
    }
    let last = end - 1;
    for number in first / 64..=last / 64 {
        let from = if number == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
        let to = if number == last / 64 { u64::MAX >> (63 - last % 64) } else { u64::MAX };
        bits[(number % bits.len() as u64) as usize] &= !(from & to);
    }
}

/// `words` is a power of two.
#[inline]
fn word(sequence: u64, words: usize) -> usize {
    (sequence / 64) as usize & (words - 1)
}

#[inline]
fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// A window by itself.
    struct Flow(u64, Vec<u64>);

    impl Flow {
        fn new(size: WindowSize) -> Flow {
            Flow(0, vec![0; size.words()])
        }

        fn mark(&mut self, sequence: u64) -> bool {
            mark(&mut self.0, &mut self.1, sequence)
        }
    }

    #[test]
    fn sizes_are_powers_of_two_within_bounds() {
        let good: Vec<u32> =
            (0..=WindowSize::MAX + 64).filter(|&size| WindowSize::new(size).is_some()).collect();
        assert_eq!(good, [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536]);
    }

    #[test]
    fn zero_repeats_and_old_numbers_are_refused() {
        for size in [WindowSize(64), WindowSize::default(), WindowSize(65_536)] {
            let (mut window, packets) = (Flow::new(size), size.packets());
            assert!(!window.mark(0));
            assert!(window.mark(1) && !window.mark(1));
            let high = 5 * packets + 17;
            assert!(window.mark(high) && window.mark(high - packets + 1) && !window.mark(high - packets));
            assert!(window.mark(u64::MAX) && !window.mark(u64::MAX) && !window.mark(high + 1));
            assert!(window.mark(u64::MAX - 1));
        }
    }

    #[test]
    fn a_flow_that_was_not_seen_takes_all_but_zero() {
        assert!(ReplayWindow::UNSEEN.may_come(1) && ReplayWindow::UNSEEN.may_come(u64::MAX));
        assert!(!ReplayWindow::UNSEEN.may_come(0));
    }

    proptest! {
        /// The window accepts what a set of all numbers ever seen would, for any order and any jumps.
        #[test]
        fn agrees_with_a_set(
            start in 0u64..1 << 40,
            size in 6..=11u32,
            steps in prop::collection::vec(prop_oneof![-70i64..70, -1500i64..1500, -5000i64..5000], 1..400),
        ) {
            let size = WindowSize(1 << size);
            let mut window = Flow::new(size);
            let (mut seen, mut highest, mut at) = (HashSet::new(), 0u64, start);
            for step in steps {
                at = at.saturating_add_signed(step);
                let expected = at != 0 && (at > highest || highest - at < size.packets()) && !seen.contains(&at);
                prop_assert_eq!(ReplayWindow::new(window.0, &window.1).may_come(at), expected);
                prop_assert_eq!(window.mark(at), expected);
                if expected {
                    seen.insert(at);
                    highest = highest.max(at);
                }
            }
        }
    }
}
