//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

/// Ones' complement sum of `bytes` as big-endian words, the last one filled up with a zero, not yet folded. Up to 128 KiB.
pub fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let rest = rest.first().map_or(0, |&last| u32::from(last) << 8);
    words.iter().fold(rest, |sum, word| sum + u32::from(u16::from_be_bytes(*word)))
}

/// The checksum over all that `sum` is the sum of: 0 if a right checksum was among it.
pub fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum after a 16-bit word under it went from `old` to `new`: RFC 1624 equation 3.
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    finish(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_the_examples_of_the_standards() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0x2_ddf0, "RFC 1071 section 3");
        assert_eq!(finish(0x2_ddf0), !0xddf2);
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000, "RFC 1624 section 4");
        assert_eq!(sum(&[1, 2, 3]), 0x0102 + 0x0300);
    }

    proptest! {
        #[test]
        fn an_update_is_what_summing_again_gives(mut words in prop::collection::vec(any::<u16>(), 2..30), new in any::<u16>()) {
            // A header is never all zero, where the two zeros of ones' complement would differ.
            words[0] |= 0x4000;
            let checksum = |words: &[u16]| finish(words.iter().map(|&word| u32::from(word)).sum());
            let (before, old) = (checksum(&words), words[1]);
            words[1] = new;
            prop_assert_eq!(update(before, old, new), checksum(&words));
        }
    }
}
