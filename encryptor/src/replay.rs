//! The replay window of RFC 4303 section 3.4.3 with 64-bit sequence numbers, as a ring of words (RFC 6479).
//!
//! Checked before a packet is opened, marked only after it proved genuine: a forged packet moves nothing.

/// Words of 64 sequence numbers; one more than the window needs, so that the newest word can fill while the oldest
/// still counts.
const WORDS: u64 = 17;

/// How many sequence numbers below the highest one seen are still told apart.
pub const WINDOW: u64 = (WORDS - 1) * 64;

/// Which of a flow's sequence numbers were seen.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: u64,
    seen: [u64; WORDS as usize],
}

impl ReplayWindow {
    /// A window that has seen nothing. Sequence number 0 is never sent and never accepted.
    pub const fn new() -> ReplayWindow {
        ReplayWindow { highest: 0, seen: [0; WORDS as usize] }
    }

    /// The highest number marked.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether `sequence` may still come: neither seen, nor too old, nor 0.
    pub fn may_come(&self, sequence: u64) -> bool {
        sequence > self.highest
            || (sequence != 0
                && self.highest - sequence < WINDOW
                && self.seen[word(sequence)] & bit(sequence) == 0)
    }

    /// Marks `sequence` of a genuine packet. False: it may not come, and nothing is changed.
    #[must_use]
    pub fn mark(&mut self, sequence: u64) -> bool {
        if !self.may_come(sequence) {
            return false;
        }
        if sequence > self.highest {
            let (old, new) = (self.highest / 64, sequence / 64);
            if new - old >= WORDS {
                self.seen = [0; WORDS as usize];
            }
            for number in new.saturating_sub(WORDS - 1).max(old + 1)..=new {
                self.seen[(number % WORDS) as usize] = 0;
            }
            self.highest = sequence;
        }
        self.seen[word(sequence)] |= bit(sequence);
        true
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

fn word(sequence: u64) -> usize {
    (sequence / 64 % WORDS) as usize
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn zero_repeats_and_old_numbers_are_refused() {
        let mut window = ReplayWindow::new();
        assert!(!window.mark(0));
        assert!(window.mark(1) && !window.mark(1));
        assert!(window.mark(5000) && window.mark(5000 - WINDOW + 1) && !window.mark(5000 - WINDOW));
        assert!(window.mark(u64::MAX) && !window.mark(u64::MAX) && !window.mark(5001));
        assert!(window.mark(u64::MAX - 1));
    }

    proptest! {
        /// The window accepts what a set of all numbers ever seen would, for any order and any jumps.
        #[test]
        fn agrees_with_a_set(start in 0u64..1 << 40, steps in prop::collection::vec(-1500i64..1500, 1..400)) {
            let mut window = ReplayWindow::new();
            let (mut seen, mut highest, mut at) = (HashSet::new(), 0u64, start);
            for step in steps {
                at = at.saturating_add_signed(step);
                let expected = at != 0 && (at > highest || highest - at < WINDOW) && !seen.contains(&at);
                prop_assert_eq!(window.may_come(at), expected);
                prop_assert_eq!(window.mark(at), expected);
                if expected {
                    seen.insert(at);
                    highest = highest.max(at);
                }
            }
        }
    }
}
