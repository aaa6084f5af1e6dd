//! Extended sequence numbers whose high half is not sent (RFC 4303 section 2.2.1 and appendix A2).

use crate::wire::EspHeader;

/// What a packet's 8-byte IV says of its sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IvRule {
    /// It is the sequence number, as our senders write it: the high half is read, and the low half checked.
    #[default]
    Sequence,
    /// Nothing: a standard peer's IVs are arbitrary, and the high half is inferred.
    Any,
}

impl IvRule {
    /// The 64-bit sequence number that a packet claims, of a flow whose highest genuine one is `highest`. `None`: one before the
    /// first, or beyond the last.
    #[inline]
    pub fn sequence(self, header: &EspHeader, highest: u64, window: u64) -> Option<u64> {
        match self {
            IvRule::Sequence => Some(header.iv),
            IvRule::Any => infer(highest, window, header.sequence_low),
        }
    }
}

/// The sequence number with the low half `low` that lies from `window` - 1 below `highest` to 2^32 - `window` above it: the only
/// one that a window of that size (1 to 2^31) could take. `None`: there is none from 0 to 2^64 - 1.
///
/// The subspaces of RFC 4303 appendix A2.1 (cases A and B) come out of one addition: what counts is the distance from the
/// window's lower end, modulo 2^32.
pub fn infer(highest: u64, window: u64, low: u32) -> Option<u64> {
    let below = window - 1;
    let bottom_low = (highest as u32).wrapping_sub(below as u32);
    let above_bottom = u64::from(low.wrapping_sub(bottom_low));
    match above_bottom.checked_sub(below) {
        Some(ahead) => highest.checked_add(ahead),
        None => highest.checked_sub(below - above_bottom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HIGH: u64 = 1 << 32;

    #[test]
    fn the_only_number_near_the_window_is_found_at_every_border() {
        let cases = [
            // First packets of a flow: nothing was seen, and nothing lies before the first.
            (0, 1, Some(1)),
            (0, 0, Some(0)),
            (0, 1000, Some(1000)),
            (0, 0x8000_0000, Some(0x8000_0000)),
            (0, 0xffff_fc00, Some(0xffff_fc00)),
            (0, 0xffff_fc01, None),
            (0, u32::MAX, None),
            (1, 0xffff_fc02, None),
            (1, 0xffff_fc01, Some(0xffff_fc01)),
            // Case A, the window within one subspace: its lower end, and the number below it.
            (5000, 5000, Some(5000)),
            (5000, 3977, Some(3977)),
            (5000, 3976, Some(HIGH + 3976)),
            (5000, 5001, Some(5001)),
            (3 * HIGH + 5000, 3977, Some(3 * HIGH + 3977)),
            (3 * HIGH + 5000, 3976, Some(4 * HIGH + 3976)),
            (3 * HIGH + 1023, 0, Some(3 * HIGH)),
            (3 * HIGH + 1023, u32::MAX, Some(3 * HIGH + 0xffff_ffff)),
            // The wrap of the low half, ahead of the window.
            (HIGH - 1, 0, Some(HIGH)),
            (HIGH - 1, 0xffff_fc00, Some(0xffff_fc00)),
            (HIGH - 1, 0xffff_fbff, Some(HIGH + 0xffff_fbff)),
            // Case B, the window across the wrap: late packets belong to the subspace before.
            (HIGH, u32::MAX, Some(HIGH - 1)),
            (HIGH, 0xffff_fc01, Some(0xffff_fc01)),
            (HIGH, 0xffff_fc00, Some(HIGH + 0xffff_fc00)),
            (HIGH + 1022, u32::MAX, Some(HIGH - 1)),
            (HIGH + 1022, 1023, Some(HIGH + 1023)),
            (7 * HIGH + 10, 0xffff_fff0, Some(7 * HIGH - 16)),
            // The last number that there is.
            (u64::MAX, u32::MAX, Some(u64::MAX)),
            (u64::MAX, 0, None),
            (u64::MAX - 5, u32::MAX, Some(u64::MAX)),
        ];
        for (highest, low, expected) in cases {
            assert_eq!(infer(highest, 1024, low), expected, "highest {highest:#x}, low {low:#x}");
        }
    }

    proptest! {
        /// Whatever was sent within reach of the window is found, with any size of window.
        #[test]
        fn what_was_sent_is_found(highest in any::<u64>(), size in 1u64..=1 << 31, way in any::<u32>()) {
            let lowest = u128::from(highest) + u128::from(way);
            if let Some(sent) = lowest.checked_sub(u128::from(size - 1)).and_then(|sent| u64::try_from(sent).ok()) {
                prop_assert_eq!(infer(highest, size, sent as u32), Some(sent));
            }
        }

        /// RFC 4303 appendix A2.2, as it is written there.
        #[test]
        fn agrees_with_the_appendix(highest in HIGH..1 << 60, size in 1u64..=1 << 31, low in any::<u32>()) {
            let (th, tl) = (highest >> 32, highest & 0xffff_ffff);
            let bottom = (tl + HIGH - (size - 1)) & 0xffff_ffff;
            let high = match (tl >= size - 1, u64::from(low) >= bottom) {
                (true, true) | (false, false) => th,
                (true, false) => th + 1,
                (false, true) => th - 1,
            };
            prop_assert_eq!(infer(highest, size, low), Some(high << 32 | u64::from(low)));
        }
    }
}
