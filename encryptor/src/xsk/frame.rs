use std::fmt;
use std::ptr::NonNull;
use std::slice;

use super::hints::prefetch;

/// Bytes before a received packet in its chunk: the kernel's XDP_PACKET_HEADROOM.
pub const HEADROOM: usize = 256;

/// The one token of a chunk, or of a jumbo buffer, of a [`super::Umem`]: a packet with room before and after it.
///
/// It can be neither copied nor made anew, so whoever has it is alone with the chunk's bytes. It goes back by
/// [`super::Umem::free`] or into a port's rings; a token that is dropped is a chunk lost, which debug builds report.
#[must_use = "a frame that is dropped is lost: give it to a port or back to the UMEM"]
pub struct Frame {
    chunk: NonNull<u8>,
    size: u16,
    head: u16,
    len: u16,
}

impl Frame {
    /// The token of the chunk of `size` bytes at `chunk`, with a packet of `len` bytes after `head` bytes.
    ///
    /// # Safety
    ///
    /// The chunk is mapped for as long as the token lives, its bytes are initialised, and nothing else accesses it.
    pub(super) unsafe fn new(chunk: NonNull<u8>, size: u16, head: u16, len: u16) -> Self {
        assert!(usize::from(head) + usize::from(len) <= usize::from(size), "a packet beyond its chunk");
        Self { chunk, size, head, len }
    }

    pub(super) fn chunk(&self) -> NonNull<u8> {
        self.chunk
    }

    /// The packet.
    #[inline]
    pub fn data(&self) -> &[u8] {
        let start = self.start();
        // SAFETY: head + len <= size is kept by every method, so the bytes lie in the chunk, which is mapped, initialised
        // and this token's alone (`new`); the borrow of self keeps the token from being given away or written to.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.len()) }
    }

    /// The packet, to be changed in place.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let start = self.start();
        // SAFETY: as in `data`; the exclusive borrow of self makes the slice the only one.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), self.len()) }
    }

    /// Asks for the packet's first bytes, which are read soon: whoever wrote them was another core or a device.
    #[inline]
    pub fn prefetch(&self) {
        if let Some(first) = self.data().first() {
            prefetch(first);
        }
    }

    /// Length of the packet in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty frame is a state on the way, not a question to ask"
    )]
    #[inline]
    pub fn len(&self) -> usize {
        self.len.into()
    }

    /// Bytes free before the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.head.into()
    }

    /// Bytes free after the packet.
    #[inline]
    pub fn tailroom(&self) -> usize {
        usize::from(self.size) - self.headroom() - self.len()
    }

    /// Makes the packet `count` bytes longer at its front, and returns these bytes, whose content is undefined (what the
    /// chunk held before). `None`, and no change, if there is no such room.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> Option<&mut [u8]> {
        let head = self.headroom().checked_sub(count)?;
        self.set(head, self.len() + count);
        Some(&mut self.data_mut()[..count])
    }

    /// Makes the packet `count` bytes longer at its end, and returns these bytes, whose content is as undefined as that of
    /// [`Frame::prepend`]. `None`, and no change, if there is no such room.
    #[inline]
    pub fn append(&mut self, count: usize) -> Option<&mut [u8]> {
        let old = self.len();
        self.tailroom().checked_sub(count)?;
        self.set(self.headroom(), old + count);
        Some(&mut self.data_mut()[old..])
    }

    /// Makes the packet `front` bytes longer at its front and `back` at its end, and returns all of it; the content of what is new is
    /// undefined. `None`, and no change, if there is no such room.
    #[inline(always)]
    pub fn surround(&mut self, front: usize, back: usize) -> Option<&mut [u8]> {
        let head = self.headroom().checked_sub(front)?;
        self.tailroom().checked_sub(back)?;
        self.set(head, front + self.len() + back);
        Some(self.data_mut())
    }

    /// Makes `bytes` the packet's end. False, and no change, if there is no such room.
    #[must_use]
    pub fn extend_from(&mut self, bytes: &[u8]) -> bool {
        let old = self.len();
        if self.tailroom() < bytes.len() {
            return false;
        }
        self.set(self.headroom(), old + bytes.len());
        self.data_mut()[old..].copy_from_slice(bytes);
        true
    }

    /// Takes `count` bytes off the packet's front. False, and no change, if it is shorter.
    #[must_use]
    #[inline]
    pub fn advance(&mut self, count: usize) -> bool {
        let Some(len) = self.len().checked_sub(count) else { return false };
        self.set(self.headroom() + count, len);
        true
    }

    /// Cuts the packet's end so that at most `len` bytes remain.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.set(self.headroom(), self.len().min(len));
    }

    /// Empties the frame and leaves `headroom` bytes before what comes next.
    ///
    /// # Panics
    ///
    /// When the chunk is not that large.
    pub fn reset(&mut self, headroom: usize) {
        assert!(headroom <= self.size.into(), "a headroom beyond the chunk");
        self.set(headroom, 0);
    }

    /// Makes `packet` the packet, with the headroom of a received one. False, and an empty frame, if it is too long.
    #[must_use]
    pub fn fill_from(&mut self, packet: &[u8]) -> bool {
        self.reset(HEADROOM);
        self.extend_from(packet)
    }

    #[inline]
    fn start(&self) -> NonNull<u8> {
        // SAFETY: head <= size is kept by every method, so the address lies in the chunk or at its end.
        unsafe { self.chunk.add(self.head.into()) }
    }

    /// The only place that moves the packet's bounds, so that the invariant is argued once.
    #[inline]
    fn set(&mut self, head: usize, len: usize) {
        assert!(head + len <= usize::from(self.size), "a packet beyond its chunk");
        // Both are at most `size`, which is a u16.
        (self.head, self.len) = (head as u16, len as u16);
    }
}

// SAFETY: the chunk is the token's alone, whatever thread has it, and memory maps belong to the whole process.
unsafe impl Send for Frame {}

impl fmt::Debug for Frame {
    /// Bounds only: the packet may be clear text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("headroom", &self.head).field("len", &self.len).finish_non_exhaustive()
    }
}
