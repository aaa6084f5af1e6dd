//! The Internet checksum (RFC 1071), and how it changes with a field (RFC 1624).

/// The checksum of `parts`, one behind the other. All but the last are of even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    debug_assert!(parts.iter().rev().skip(1).all(|part| part.len() % 2 == 0), "words would straddle parts");
    !fold(parts.iter().map(|part| sum(part)).sum())
}

/// The checksum after a word of what it covers went from `old` to `new` (RFC 1624, equation 3).
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

/// At most 65,536 bytes are summed, so that the sum fits.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    words.sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071_and_odd_lengths() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        assert_eq!(checksum(&[&[0x00, 0x01], &[0xf2]]), !0xf201);
        assert_eq!(checksum(&[]), 0xffff);
    }

    proptest! {
        #[test]
        fn an_update_is_what_a_new_sum_gives(mut bytes in prop::collection::vec(any::<u8>(), 2..64), at: u8, new: u16) {
            bytes.truncate(bytes.len() & !1);
            // A packet whose covered words are all zero has no second form of zero to tell apart.
            bytes[0] |= 1;
            let at = usize::from(at) % (bytes.len() / 2) * 2;
            let new = if at == 0 { new | 0x0100 } else { new };
            let (before, old) = (checksum(&[&bytes]), u16::from_be_bytes([bytes[at], bytes[at + 1]]));
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new), checksum(&[&bytes]));
        }
    }
}
