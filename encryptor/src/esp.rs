//! The ESP trailer (RFC 4303 sections 2.4 to 2.6): padding, pad length, next header.

use crate::aead::ICV_LEN;
use crate::drops::DropReason;
use crate::wire::NextHeader;

/// Plaintext is padded to a multiple of this; RFC 4303 asks for 4, a whole AES block is faster and hides a little of
/// the length.
const ALIGN: usize = 16;

/// Pad length and next header.
const TRAILER_LEN: usize = 2;

/// By the pad length: which bits of the last block are padding, and what they are.
const PADDED_BLOCKS: [[u128; 2]; ALIGN - TRAILER_LEN + 1] = {
    let mut blocks = [[0; 2]; ALIGN - TRAILER_LEN + 1];
    let mut pad_len = 0;
    while pad_len < blocks.len() {
        let (mut mask, mut padding) = ([0; ALIGN], [0; ALIGN]);
        let mut i = 0;
        while i < pad_len {
            let at = ALIGN - TRAILER_LEN - pad_len + i;
            (mask[at], padding[at]) = (0xff, PAD[i]);
            i += 1;
        }
        blocks[pad_len] = [u128::from_ne_bytes(mask), u128::from_ne_bytes(padding)];
        pad_len += 1;
    }
    blocks
};

/// The bytes 1, 2, 3, ... that padding consists of (RFC 4303 section 2.4).
const PAD: [u8; 255] = {
    let mut pad = [0; 255];
    let mut i = 0;
    while i < pad.len() {
        pad[i] = i as u8 + 1;
        i += 1;
    }
    pad
};

/// Length of trailer and ICV behind a payload of `payload` bytes.
#[inline]
pub fn tail_len(payload: usize) -> usize {
    // What is lacking to a multiple of a power of two.
    let padding = payload.wrapping_add(TRAILER_LEN).wrapping_neg() % ALIGN;
    padding + TRAILER_LEN + ICV_LEN
}

/// The largest payload whose trailer and ICV end within `room` bytes; 0 if there is none.
pub fn largest_payload(room: usize) -> usize {
    (room.saturating_sub(ICV_LEN) / ALIGN * ALIGN).saturating_sub(TRAILER_LEN)
}

/// Writes the trailer into `tail`, which is [`tail_len`] bytes long, and leaves the ICV to the engine.
///
/// # Panics
///
/// When `tail` is of another length.
#[inline(always)]
pub fn write_trailer(tail: &mut [u8], next: NextHeader) {
    let pad_len = tail.len() - ICV_LEN - TRAILER_LEN;
    assert!(pad_len < ALIGN, "the padding of a whole block");
    // A whole block at once: what is too much lies where trailer and ICV come.
    tail[..ALIGN].copy_from_slice(&PAD[..ALIGN]);
    tail[pad_len..][..TRAILER_LEN].copy_from_slice(&[pad_len as u8, next.value()]);
}

/// Reads the trailer of an opened `text` (payload, padding, pad length, next header; without ICV): the payload's
/// length and what it is.
#[inline(always)]
pub fn read_trailer(text: &[u8]) -> Result<(usize, NextHeader), DropReason> {
    let [front @ .., pad_len, next] = text else { return Err(DropReason::Padding) };
    let payload = front.len().checked_sub(usize::from(*pad_len)).ok_or(DropReason::Padding)?;
    // What our senders write is within one block, which is compared as one number.
    let is_padding = match (text.last_chunk(), PADDED_BLOCKS.get(usize::from(*pad_len))) {
        (Some(block), Some([mask, padding])) => u128::from_ne_bytes(*block) & mask == *padding,
        _ => front[payload..] == PAD[..usize::from(*pad_len)],
    };
    if !is_padding {
        return Err(DropReason::Padding);
    }
    let next = NextHeader::from_wire(*next).ok_or(DropReason::NextHeader)?;
    Ok((payload, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_comes_back_and_is_aligned() {
        for payload in 0..600 {
            let mut body = vec![0xaa; payload + tail_len(payload)];
            assert_eq!((body.len() - ICV_LEN) % ALIGN, 0);
            write_trailer(&mut body[payload..], NextHeader::Ethernet);
            let text = &body[..body.len() - ICV_LEN];
            assert_eq!(read_trailer(text), Ok((payload, NextHeader::Ethernet)));
        }
    }

    #[test]
    fn the_largest_payload_fits_and_one_byte_more_does_not() {
        for room in 48..700 {
            let payload = largest_payload(room);
            assert!(payload + tail_len(payload) <= room && payload + 1 + tail_len(payload + 1) > room);
        }
        assert_eq!((largest_payload(0), largest_payload(31)), (0, 0));
    }

    #[test]
    fn up_to_255_bytes_of_padding_are_read() {
        for pad_len in [0u8, 1, 17, 254, 255] {
            let pad: Vec<u8> = (1..=pad_len).collect();
            let text = [&[7; 20][..], &pad, &[pad_len, 59]].concat();
            assert_eq!(read_trailer(&text), Ok((20, NextHeader::None)));
        }
    }

    #[test]
    fn wrong_padding_and_unknown_contents_are_refused() {
        assert_eq!(read_trailer(&[]), Err(DropReason::Padding));
        assert_eq!(read_trailer(&[143]), Err(DropReason::Padding));
        assert_eq!(read_trailer(&[1, 2, 3, 4, 143]), Err(DropReason::Padding));
        assert_eq!(read_trailer(&[1, 2, 4, 3, 143]), Err(DropReason::Padding));
        assert_eq!(read_trailer(&[0, 50]), Err(DropReason::NextHeader));
    }
}
