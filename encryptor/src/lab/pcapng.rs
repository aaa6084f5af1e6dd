//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks, of which those with packets matter here.

use std::io::{self, Read};

use super::pcap::{ETHERNET, MAX_FRAME, ReadWord, cut_short, not_ethernet, read_or_end, word};

/// The type of the block that begins each section; it reads alike in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const INTERFACE: u32 = 1;
/// Obsolete since 2004, and still found.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type, length in front and length behind.
const FRAME_OF_BLOCK: u32 = 12;
/// The section header and an interface's description, each with many options, stay far below.
const MAX_HEADER: u32 = 1 << 20;
const MAX_INTERFACES: usize = 65_536;

/// Where the reader stands in a file: the byte order and the interfaces of the section.
#[derive(Debug)]
pub(super) struct Section {
    read: ReadWord,
    interfaces: Vec<Interface>,
    block: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u32,
    /// 0 for no limit.
    snap_length: u32,
}

impl Section {
    /// The first section, behind its header's type.
    pub(super) fn begin(input: &mut impl Read) -> Result<Self, String> {
        let mut section = Self { read: u32::from_le_bytes, interfaces: Vec::new(), block: Vec::new() };
        section.renew(input)?;
        Ok(section)
    }

    /// Reads on until a packet was put into `frame`; false at the clean end of the file.
    pub(super) fn next_packet(&mut self, input: &mut impl Read, frame: &mut Vec<u8>) -> Result<bool, String> {
        let mut kind = [0; 4];
        while read_or_end(input, &mut kind).map_err(cut_short)? {
            if kind == SECTION_HEADER {
                self.renew(input)?;
                continue;
            }
            let length = (self.read)(word(input)?);
            match (self.read)(kind) {
                INTERFACE => self.add_interface(input, length)?,
                kind @ (PACKET | SIMPLE_PACKET | ENHANCED_PACKET) => {
                    self.read_block(input, length, 2 * MAX_FRAME as u32)?;
                    self.take_packet(kind, frame)?;
                    return Ok(true);
                }
                _ => self.skip_block(input, length)?,
            }
        }
        Ok(false)
    }

    /// A section header, behind its type: the byte order stands in it, behind its length.
    fn renew(&mut self, input: &mut impl Read) -> Result<(), String> {
        let (length, magic) = (word(input)?, word(input)?);
        self.read = match magic {
            [0x4d, 0x3c, 0x2b, 0x1a] => u32::from_le_bytes,
            [0x1a, 0x2b, 0x3c, 0x4d] => u32::from_be_bytes,
            other => return Err(format!("byte-order magic {other:02x?} is not pcapng's")),
        };
        self.interfaces.clear();
        let length = (self.read)(length);
        // The magic is read already.
        let rest = length.checked_sub(4).ok_or_else(|| bad_length(length))?;
        self.read_body(input, rest, MAX_HEADER)?;
        self.check_end(input, length)
    }

    fn add_interface(&mut self, input: &mut impl Read, length: u32) -> Result<(), String> {
        self.read_block(input, length, MAX_HEADER)?;
        // Two reserved bytes stand between the two.
        let (link_type, snap_length) = (self.first_half()?, self.field(1)?);
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces"));
        }
        self.interfaces.push(Interface { link_type, snap_length });
        Ok(())
    }

    /// What stands in the block that was read.
    fn take_packet(&self, kind: u32, frame: &mut Vec<u8>) -> Result<(), String> {
        let (interface, length, at) = match kind {
            ENHANCED_PACKET => (self.field(0)?, self.field(3)?, 20),
            // The count of drops stands behind the interface.
            PACKET => (self.first_half()?, self.field(3)?, 20),
            _ => {
                let limit = self.interfaces.first().map_or(0, |first| first.snap_length);
                let limit = if limit == 0 { u32::MAX } else { limit };
                (0, self.field(0)?.min(limit), 4)
            }
        };
        let known = self.interfaces.get(interface as usize);
        let known = known.ok_or_else(|| format!("its interface {interface} is not described"))?;
        if known.link_type != ETHERNET {
            return Err(not_ethernet(known.link_type));
        }
        let end = (length as usize).checked_add(at).filter(|_| length as usize <= MAX_FRAME);
        let packet = end.and_then(|end| self.block.get(at..end));
        let packet = packet.ok_or_else(|| format!("it claims {length} bytes"))?;
        frame.clear();
        frame.extend_from_slice(packet);
        Ok(())
    }

    /// The block's body, of `length` in all, into `self.block`.
    fn read_block(&mut self, input: &mut impl Read, length: u32, limit: u32) -> Result<(), String> {
        self.read_body(input, length, limit)?;
        self.check_end(input, length)
    }

    fn read_body(&mut self, input: &mut impl Read, length: u32, limit: u32) -> Result<(), String> {
        let body = body_length(length)?;
        if body > limit {
            return Err(format!("a block of {length} bytes"));
        }
        self.block.resize(body as usize, 0);
        input.read_exact(&mut self.block).map_err(cut_short)
    }

    fn skip_block(&self, input: &mut impl Read, length: u32) -> Result<(), String> {
        let body = u64::from(body_length(length)?);
        let skipped = io::copy(&mut input.take(body), &mut io::sink()).map_err(cut_short)?;
        if skipped < body {
            return Err("the file is cut short".to_owned());
        }
        self.check_end(input, length)
    }

    fn check_end(&self, input: &mut impl Read, length: u32) -> Result<(), String> {
        let again = (self.read)(word(input)?);
        if again == length { Ok(()) } else { Err(format!("a block's lengths are {length} and {again}")) }
    }

    /// The 16 bits that the body begins with.
    fn first_half(&self) -> Result<u32, String> {
        let is_little = (self.read)([1, 0, 0, 0]) == 1;
        self.field(0).map(|word| if is_little { word & 0xffff } else { word >> 16 })
    }

    /// The 32 bits at place `at` of the body.
    fn field(&self, at: usize) -> Result<u32, String> {
        let bytes = self.block.get(4 * at..4 * at + 4).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| (self.read)(*bytes)).ok_or_else(|| "a block is too short".to_owned())
    }
}

fn body_length(length: u32) -> Result<u32, String> {
    let body = length.checked_sub(FRAME_OF_BLOCK).filter(|body| body % 4 == 0);
    body.ok_or_else(|| bad_length(length))
}

fn bad_length(length: u32) -> String {
    format!("a block claims {length} bytes")
}

#[cfg(test)]
#[path = "pcapng_tests.rs"]
mod tests;
