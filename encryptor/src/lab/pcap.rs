//! Reads capture files frame by frame: classic pcap (draft-ietf-opsawg-pcap) and, in `pcapng.rs`, pcapng.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use super::error::{LabError, Result, io_error};
use super::pcapng::{self, Section};

/// libpcap's largest snapshot length; a longer record means a damaged file.
pub(super) const MAX_FRAME: usize = 262_144;
/// The link type of Ethernet, in both formats.
pub(super) const ETHERNET: u32 = 1;
/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads a number as its file's writer laid it down.
pub(super) type ReadWord = fn([u8; 4]) -> u32;

/// Calls `visit` with each frame of the file, from its Ethernet header on, and returns how many there were.
pub fn for_each_frame(path: &Path, mut visit: impl FnMut(&[u8])) -> Result<u64> {
    let mut file = CaptureFile::open(path)?;
    while let Some(frame) = file.next_frame()? {
        visit(frame);
    }
    Ok(file.frames())
}

/// A capture file that is being read.
#[derive(Debug)]
pub struct CaptureFile {
    name: String,
    reader: FrameReader<BufReader<File>>,
}

impl CaptureFile {
    /// Opens a file of either format; one that is no capture of Ethernet is refused with the reason.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(io_error(format!("cannot open {name}")))?;
        let reader = FrameReader::new(BufReader::with_capacity(1 << 18, file));
        let reader = reader.map_err(|detail| LabError::Unreadable { what: name.clone(), detail })?;
        Ok(Self { name, reader })
    }

    /// The next frame, from its Ethernet header on, as long as it was captured; nothing at the end of the file.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>> {
        let Self { name, reader } = self;
        reader.next_frame().map_err(|detail| LabError::Unreadable { what: name.clone(), detail })
    }

    /// How many frames were read so far.
    pub fn frames(&self) -> u64 {
        self.reader.frames
    }
}

/// The formats, over any input; errors are texts without the input's name.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    input: R,
    format: Format,
    frame: Vec<u8>,
    frames: u64,
}

#[derive(Debug)]
enum Format {
    Classic(ReadWord),
    Ng(Section),
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(mut input: R) -> std::result::Result<Self, String> {
        let magic = word(&mut input)?;
        let format = match magic {
            // Microseconds or nanoseconds, written on a machine of either endianness.
            [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => classic(&mut input, u32::from_le_bytes)?,
            [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => classic(&mut input, u32::from_be_bytes)?,
            pcapng::SECTION_HEADER => Format::Ng(Section::begin(&mut input)?),
            [a, b, ..] if [a, b] == GZIP => return Err("it is compressed: gunzip it first".to_owned()),
            other => return Err(format!("magic number {other:02x?} is neither pcap's nor pcapng's")),
        };
        Ok(Self { input, format, frame: Vec::new(), frames: 0 })
    }

    pub(super) fn next_frame(&mut self) -> std::result::Result<Option<&[u8]>, String> {
        let Self { input, format, frame, frames } = self;
        let found = match format {
            Format::Classic(read) => next_record(input, *read, frame),
            Format::Ng(section) => section.next_packet(input, frame),
        };
        let found = found.map_err(|error| format!("frame {}: {error}", *frames + 1))?;
        self.frames += u64::from(found);
        Ok(found.then_some(&self.frame))
    }
}

/// The rest of the file's header, behind the magic number.
fn classic(input: &mut impl Read, read: ReadWord) -> std::result::Result<Format, String> {
    let mut header = [[0; 4]; 5];
    for field in &mut header {
        *field = word(input)?;
    }
    match read(header[4]) & 0xffff {
        ETHERNET => Ok(Format::Classic(read)),
        other => Err(not_ethernet(other)),
    }
}

/// Reads a record into `frame`; false at the clean end of the file.
fn next_record(
    input: &mut impl Read,
    read: ReadWord,
    frame: &mut Vec<u8>,
) -> std::result::Result<bool, String> {
    let mut record = [0; 16];
    if !read_or_end(input, &mut record).map_err(cut_short)? {
        return Ok(false);
    }
    let [_, _, length, _] = words(record);
    let length = read(length) as usize;
    if length > MAX_FRAME {
        return Err(format!("it claims {length} bytes"));
    }
    frame.resize(length, 0);
    input.read_exact(frame).map_err(cut_short)?;
    Ok(true)
}

pub(super) fn word(input: &mut impl Read) -> std::result::Result<[u8; 4], String> {
    let mut word = [0; 4];
    input.read_exact(&mut word).map_err(cut_short)?;
    Ok(word)
}

pub(super) fn cut_short(error: io::Error) -> String {
    format!("the file is cut short: {error}")
}

pub(super) fn not_ethernet(link_type: u32) -> String {
    format!("its link type is {link_type}, not Ethernet ({ETHERNET})")
}

fn words(record: [u8; 16]) -> [[u8; 4]; 4] {
    std::array::from_fn(|at| std::array::from_fn(|byte| record[4 * at + byte]))
}

/// False at the clean end of the file.
pub(super) fn read_or_end(input: &mut impl Read, record: &mut [u8]) -> io::Result<bool> {
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
        pcap_as(0xa1b2_c3d4, u32::to_le_bytes, frames)
    }

    fn pcap_as(magic: u32, write: fn(u32) -> [u8; 4], frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [magic, 0x0004_0002, 0, 0, 262_144, 1] {
            file.extend(write(word));
        }
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap();
            // Cut by the snapshot length: it was longer on the wire.
            [0, 0, length, length + 9].iter().for_each(|word: &u32| file.extend(write(*word)));
            file.extend(frame);
        }
        file
    }

    /// All frames of a file's bytes.
    pub(in crate::lab) fn frames_of(bytes: &[u8]) -> std::result::Result<Vec<Vec<u8>>, String> {
        let mut reader = FrameReader::new(bytes)?;
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            frames.push(frame.to_vec());
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_back_whole_and_in_order() {
        let frames = [vec![1; 60], vec![], vec![2; 1500]];
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
            for write in [u32::to_le_bytes, u32::to_be_bytes] {
                assert_eq!(frames_of(&pcap_as(magic, write, &frames)).unwrap(), frames, "{magic:08x}");
            }
        }
        assert_eq!(frames_of(&pcap_of(&[])).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn damage_is_named() {
        let refuse = |bytes: &[u8]| frames_of(bytes).unwrap_err();
        let whole = pcap_of(&[vec![1; 60]]);
        assert!(refuse(&whole[..50]).contains("frame 1: the file is cut short"));
        assert!(refuse(&whole[..30]).contains("cut short"));
        assert!(refuse(&whole[..10]).contains("cut short"));
        assert!(refuse(&[]).contains("cut short"));
        assert!(refuse(&[0; 24]).contains("magic number"));
        assert!(refuse(&[0x1f, 0x8b, 8, 0]).contains("gunzip"));
        let mut huge = whole.clone();
        huge[24 + 8..24 + 12].fill(0xff);
        assert!(refuse(&huge).contains("claims"));
        let mut wifi = whole;
        wifi[20] = 105;
        assert!(refuse(&wifi).contains("link type is 105, not Ethernet"));
    }
}
