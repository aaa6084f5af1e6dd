//! The frames of the wire bench: UDP in IPv4, with what the far end needs to know in the first bytes of the payload.

use qhaul::wire::checksum;

/// Bytes in front of the payload: Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;
/// Bytes that the payload begins with.
const MARK_LEN: usize = 16;
/// Frames of the bench are told from what hosts send by themselves.
const MAGIC: u16 = 0x9a61;

/// The shortest frame that can be marked: an Ethernet frame of 64 bytes, less its FCS.
pub(crate) const LEAST: usize = HEADERS + MARK_LEN + 2;

/// What the payload says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The trial: frames of an earlier one that come late do not count.
    pub(super) trial: u8,
    /// Whether the far end is to send it back.
    pub(super) echo: bool,
    /// Its number within the trial.
    pub(super) number: u32,
    /// When it was to be sent, in nanoseconds since the trial began.
    pub(super) sent_ns: u64,
}

/// A frame of `size` bytes without FCS, in flow `flow`, whose mark is still to be written.
pub(super) fn build(source: [u8; 6], destination: [u8; 6], size: usize, flow: u16) -> Vec<u8> {
    let ip_len = (size.max(LEAST) - 14) as u16;
    let mut frame = [&destination[..], &source[..], &[8, 0]].concat();
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&ip_len.to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2]);
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&(10_000 + flow).to_be_bytes());
    frame.extend_from_slice(&[0x08, 0x68]);
    frame.extend_from_slice(&(ip_len - 20).to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.resize(size.max(LEAST), 0x5a);
    frame
}

/// Writes `mark` into a frame that [`build`] made.
pub(super) fn write_mark(frame: &mut [u8], mark: Mark) {
    let bytes = &mut frame[HEADERS..HEADERS + MARK_LEN];
    bytes[0..2].copy_from_slice(&MAGIC.to_be_bytes());
    (bytes[2], bytes[3]) = (mark.trial, u8::from(mark.echo));
    bytes[4..8].copy_from_slice(&mark.number.to_be_bytes());
    bytes[8..16].copy_from_slice(&mark.sent_ns.to_be_bytes());
}

/// Reads the mark of a frame that arrived; `None` for a frame that is not of the bench.
pub(super) fn read_mark(frame: &[u8]) -> Option<Mark> {
    let mark: &[u8; MARK_LEN] = frame.get(HEADERS..)?.first_chunk()?;
    let [m0, m1, trial, echo, n0, n1, n2, n3, time @ ..] = *mark;
    (u16::from_be_bytes([m0, m1]) == MAGIC).then_some(Mark {
        trial,
        echo: echo == 1,
        number: u32::from_be_bytes([n0, n1, n2, n3]),
        sent_ns: u64::from_be_bytes(time),
    })
}

/// Turns a frame round: the addresses of Ethernet and of IPv4 change places, which its checksum does not feel, and it is to come
/// back no second time.
pub(super) fn turn_round(frame: &mut [u8]) {
    for (first, len) in [(0, 6), (26, 4)] {
        let (one, other) = frame[first..first + 2 * len].split_at_mut(len);
        one.swap_with_slice(other);
    }
    frame[HEADERS + 3] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_foreign_frames_have_none() {
        for size in [60, 64, 1400, 9000] {
            let mut frame = build([1; 6], [2; 6], size, 7);
            assert_eq!(frame.len(), size);
            assert_eq!(checksum(&[&frame[14..34]]), 0, "RFC 1071");
            assert_eq!(read_mark(&frame), None);
            let mark = Mark { trial: 3, echo: true, number: 0x0102_0304, sent_ns: u64::MAX / 3 };
            write_mark(&mut frame, mark);
            assert_eq!(read_mark(&frame), Some(mark));
            turn_round(&mut frame);
            assert_eq!(read_mark(&frame), Some(Mark { echo: false, ..mark }));
            assert_eq!(&frame[..12], [[1; 6], [2; 6]].concat());
            assert_eq!(frame[26..34], [10, 77, 0, 2, 10, 77, 0, 1]);
            assert_eq!(checksum(&[&frame[14..34]]), 0);
            assert_eq!(read_mark(&frame[..LEAST - 3]), None);
        }
    }
}
