//! GTP-U (3GPP TS 29.281), as far as it tells tunnels apart: the TEID, and the QFI of the PDU session container.

use super::{Seen, be16};

/// The UDP port that GTP-U is received on (TS 29.281 clause 4.4.2).
pub const GTPU_PORT: u16 = 2152;

const HEADER: usize = 8;
/// Version 1, protocol type GTP: the upper four bits of the flags.
const VERSION_1_GTP: u8 = 0x30;
/// An extension header follows.
const FLAG_E: u8 = 0x04;
/// Sequence number, N-PDU number and next extension type: present if any of the flags E, S and PN is set.
const OPTIONAL: usize = 4;
const PDU_SESSION_CONTAINER: u8 = 0x85;
/// Extension headers that are followed. A sender of today has two at most; a chain beyond this counts as odd.
const MAX_EXTENSIONS: usize = 8;

/// A GTP-U header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gtpu {
    /// Message type: 255 for a user's packet (G-PDU), 254 end marker, 26 error indication, 1 and 2 echo.
    pub message: u8,
    /// Tunnel endpoint identifier; 0 in messages about the path as a whole.
    pub teid: u32,
    /// QoS flow identifier, 0 to 63. Hidden: a chain of extension headers that is cut, loops or is too long.
    pub qfi: Seen<u8>,
}

/// Reads the payload of a UDP datagram to [`GTPU_PORT`]. `None`: cut within the first eight bytes, or no GTP version 1.
pub fn parse_gtpu(datagram: &[u8]) -> Option<Gtpu> {
    let &[flags, message, .., t0, t1, t2, t3] = datagram.first_chunk::<HEADER>()?;
    if flags & 0xf0 != VERSION_1_GTP {
        return None;
    }
    let end = (HEADER + usize::from(be16(datagram, 2)?)).min(datagram.len());
    let teid = u32::from_be_bytes([t0, t1, t2, t3]);
    let qfi = if flags & FLAG_E == 0 { Seen::Absent } else { find_qfi(&datagram[HEADER..end]) };
    Some(Gtpu { message, teid, qfi })
}

/// Follows the extension headers (clause 5.2): the first byte is a length in units of four bytes, the last one the next type.
fn find_qfi(behind: &[u8]) -> Seen<u8> {
    let Some((&[_, _, _, first], mut rest)) = behind.split_first_chunk::<OPTIONAL>() else {
        return Seen::Hidden;
    };
    let mut next = first;
    for _ in 0..MAX_EXTENSIONS {
        if next == 0 {
            return Seen::Absent;
        }
        let length = rest.first().map_or(0, |units| usize::from(*units) * 4);
        let Some((extension, behind)) = rest.split_at_checked(length) else { return Seen::Hidden };
        let &[_, _, second, .., following] = extension else { return Seen::Hidden };
        if next == PDU_SESSION_CONTAINER {
            return Seen::Is(second & 0x3f);
        }
        (next, rest) = (following, behind);
    }
    Seen::Hidden
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(flags: u8, behind: &[u8]) -> Vec<u8> {
        let length = (behind.len() as u16).to_be_bytes();
        [&[0x30 | flags, 255, length[0], length[1], 0, 0, 0x12, 0x34][..], behind].concat()
    }

    fn qfi(flags: u8, behind: &[u8]) -> Seen<u8> {
        parse_gtpu(&message(flags, behind)).unwrap().qfi
    }

    const CONTAINER: [u8; 4] = [1, 0x10, 0xc9, 0];
    const OTHER: [u8; 8] = [2, 0, 9, 9, 9, 9, 9, 0x85];

    #[test]
    fn the_teid_and_the_qfi_are_found() {
        let plain = Gtpu { message: 255, teid: 0x1234, qfi: Seen::Absent };
        assert_eq!(parse_gtpu(&message(0, &[0x45; 20])), Some(plain));
        type Row<'a> = (u8, &'a [&'a [u8]], Seen<u8>);
        let table: [Row<'_>; 9] = [
            (4, &[&[0, 0, 0, 0x85], &CONTAINER, &[0x45; 20]], Seen::Is(9)),
            (4, &[&[0, 0, 0, 0xc0], &OTHER, &CONTAINER], Seen::Is(9)),
            (2, &[&[0, 1, 0, 0x85], &CONTAINER], Seen::Absent),
            (4, &[&[0, 0, 0, 0]], Seen::Absent),
            (4, &[&[0, 0, 0]], Seen::Hidden),
            (4, &[&[0, 0, 0, 0x85]], Seen::Hidden),
            (4, &[&[0, 0, 0, 0x85], &CONTAINER[..3]], Seen::Hidden),
            (4, &[&[0, 0, 0, 0xc0], &[0, 0, 0, 0xc0]], Seen::Hidden),
            (4, &[&[0, 0, 0, 0xc0], &[1, 0, 0, 0xc0].repeat(40)], Seen::Hidden),
        ];
        for (flags, parts, expected) in table {
            assert_eq!(qfi(flags, &parts.concat()), expected, "{flags} {parts:x?}");
        }
    }

    #[test]
    fn the_length_field_bounds_the_chain() {
        let mut short = message(4, &[&[0, 0, 0, 0x85][..], &CONTAINER].concat());
        short[3] = 4;
        assert_eq!(parse_gtpu(&short).unwrap().qfi, Seen::Hidden);
    }

    #[test]
    fn what_is_not_gtp_version_1_is_refused() {
        let mut other = message(0, &[]);
        for flags in [0x00, 0x20, 0x50, 0xf0] {
            other[0] = flags;
            assert_eq!(parse_gtpu(&other), None);
        }
        assert_eq!(parse_gtpu(&message(0, &[])[..7]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_gtpu(&bytes);
            if let Some(flags) = bytes.first_mut() {
                *flags = 0x34;
            }
            let _ = parse_gtpu(&bytes);
        }
    }
}
