//! Reads classic pcap files (draft-ietf-opsawg-pcap), frame by frame.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use super::error::{LabError, Result, io_error};

/// libpcap's largest snapshot length; a longer record means a damaged file.
const MAX_FRAME: usize = 262_144;

/// Calls `visit` with each frame of the file, from its Ethernet header on, and returns how many there were.
pub fn for_each_frame(path: &Path, visit: impl FnMut(&[u8])) -> Result<u64> {
    let file = File::open(path).map_err(io_error(format!("cannot open {}", path.display())))?;
    read_frames(BufReader::with_capacity(1 << 20, file), visit)
        .map_err(|detail| LabError::Unreadable { what: path.display().to_string(), detail })
}

fn read_frames(mut input: impl Read, mut visit: impl FnMut(&[u8])) -> std::result::Result<u64, String> {
    let mut header = [0; 24];
    input.read_exact(&mut header).map_err(|error| error.to_string())?;
    let word = |bytes: &[u8], at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four bytes");
    let read: fn([u8; 4]) -> u32 = match word(&header, 0) {
        // Microseconds or nanoseconds, written on a machine of either endianness.
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => u32::from_le_bytes,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => u32::from_be_bytes,
        other => return Err(format!("magic number {other:02x?} is not pcap's")),
    };
    if read(word(&header, 20)) & 0xffff != 1 {
        return Err("the link type is not Ethernet".to_owned());
    }
    let mut frames = 0;
    let mut frame = Vec::new();
    let mut record = [0; 16];
    while read_or_end(&mut input, &mut record).map_err(|error| error.to_string())? {
        let length = read(word(&record, 8)) as usize;
        if length > MAX_FRAME {
            return Err(format!("frame {frames} claims {length} bytes"));
        }
        frame.resize(length, 0);
        input.read_exact(&mut frame).map_err(|error| format!("frame {frames} is cut short: {error}"))?;
        visit(&frame);
        frames += 1;
    }
    Ok(frames)
}

/// False at the clean end of the file.
fn read_or_end(input: &mut impl Read, record: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < record.len() {
        match input.read(&mut record[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A little-endian pcap file of these frames.
    pub(in crate::lab) fn pcap_of(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1] {
            file.extend(word.to_le_bytes());
        }
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap();
            [0, 0, length, length].iter().for_each(|word: &u32| file.extend(word.to_le_bytes()));
            file.extend(frame);
        }
        file
    }

    #[test]
    fn frames_come_back_whole_and_in_order() {
        let frames = [vec![1; 60], vec![], vec![2; 1500]];
        let mut seen = Vec::new();
        let count = read_frames(pcap_of(&frames).as_slice(), |frame| seen.push(frame.to_vec())).unwrap();
        assert_eq!((count, seen.as_slice()), (3, &frames[..]));
    }

    #[test]
    fn damage_is_named() {
        let refuse = |bytes: &[u8]| read_frames(bytes, |_| ()).unwrap_err();
        let whole = pcap_of(&[vec![1; 60]]);
        assert!(refuse(&whole[..50]).contains("frame 0 is cut short"));
        assert!(refuse(&whole[..30]).contains("unexpected end"));
        assert!(refuse(&[0; 24]).contains("magic number"));
        let mut huge = whole.clone();
        huge[24 + 8..24 + 12].fill(0xff);
        assert!(refuse(&huge).contains("claims"));
        let mut wifi = whole;
        wifi[20] = 105;
        assert!(refuse(&wifi).contains("not Ethernet"));
    }
}
