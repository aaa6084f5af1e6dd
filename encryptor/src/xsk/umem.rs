use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::chain::TAILROOM;
use super::error::Error;
use super::frame::{Frame, HEADROOM};
use super::hints::huge_mapping;
use super::memory::Mapping;
use super::port::Port;

/// Bytes of a jumbo buffer: the headroom, a frame of 9,224 bytes (9,216 and a second VLAN tag's rest) and all that encryption
/// puts around it, in whole pages.
pub const JUMBO: u32 = 12_288;

/// The memory that frames live in: chunks of one size, each free, a [`Frame`], or in a port's rings.
///
/// It can have jumbo buffers beside them, which the kernel never sees: a frame that takes several chunks is put together in
/// one when it is received, and cut into chunks when it is sent, so that packet code always has it in one piece.
///
/// It needs no kernel socket, so packet code runs on it in tests and benches too. Close the ports ([`Port::close`]) and free
/// the frames before dropping it; a UMEM with a chunk still out is never unmapped.
#[derive(Debug)]
pub struct Umem {
    region: Arc<Region>,
    free: Vec<u32>,
    free_jumbos: Vec<u32>,
}

impl Umem {
    /// `frames` chunks of `chunk` bytes, 2,048 or 4,096, present in memory and zeroed. No jumbo buffers.
    pub fn new(frames: u32, chunk: u32) -> Result<Self, Error> {
        Self::with_jumbos(frames, chunk, 0)
    }

    /// The same, with `jumbos` jumbo buffers.
    pub fn with_jumbos(frames: u32, chunk: u32, jumbos: u32) -> Result<Self, Error> {
        if !matches!(chunk, 2048 | 4096) {
            return Err(Error::ChunkSize { chunk });
        }
        if frames == 0 {
            return Err(Error::NoFrames);
        }
        // The kernel takes whole pages only; with 2,048-byte chunks the last page may be half in use.
        let shared = (frames as usize * chunk as usize).next_multiple_of(4096);
        let len = shared + jumbos as usize * JUMBO as usize;
        let mapping = Mapping::anonymous(len).map_err(|source| Error::Memory { len, source })?;
        let (chunk_bits, stranded) = (chunk.trailing_zeros(), AtomicU32::new(0));
        let region = Region { mapping, shared, chunk, chunk_bits, frames, jumbos, stranded };
        // Taken from the end: the lowest chunk first.
        let (free, free_jumbos) = ((0..frames).rev().collect(), (frames..frames + jumbos).rev().collect());
        Ok(Self { region: Arc::new(region), free, free_jumbos })
    }

    /// The same memory on huge pages. Ask before ports are opened: pages that the kernel uses stay as they are.
    pub fn on_huge_pages(self) -> Result<Self, Error> {
        let mapping = &self.region.mapping;
        huge_mapping(mapping).map_err(|source| Error::HugePages { len: mapping.len(), source })?;
        Ok(self)
    }

    /// An empty frame with the headroom of a received one, or none if all are out.
    pub fn alloc(&mut self) -> Option<Frame> {
        let index = self.take()?;
        // SAFETY: the index came off the free list, so no other token has the chunk and no ring holds it.
        Some(unsafe { self.region.token(index, HEADROOM as u16, 0) })
    }

    /// An empty frame in a jumbo buffer, with the same headroom, or none if all are out.
    pub fn alloc_jumbo(&mut self) -> Option<Frame> {
        let index = self.free_jumbos.pop()?;
        // SAFETY: as in `alloc`, of the jumbo buffers' free list; the kernel never has one of these.
        Some(unsafe { self.region.token(index, HEADROOM as u16, 0) })
    }

    /// An empty frame with room for a packet of `len` bytes and what encryption puts around it: in a chunk if it fits there,
    /// else in a jumbo buffer. None if these are all out, or too small.
    pub fn alloc_for(&mut self, len: usize) -> Option<Frame> {
        let fits = |size: u32| HEADROOM + len + TAILROOM <= size as usize;
        match (fits(self.region.chunk), fits(JUMBO)) {
            (true, _) => self.alloc(),
            (false, true) => self.alloc_jumbo(),
            (false, false) => None,
        }
    }

    /// Takes a frame back.
    ///
    /// # Panics
    ///
    /// When it is of another UMEM.
    pub fn free(&mut self, frame: Frame) {
        self.give_back(self.region.index_of(&frame));
    }

    /// How many chunks are free.
    pub fn available(&self) -> u32 {
        self.free.len() as u32
    }

    /// How many chunks there are.
    pub fn capacity(&self) -> u32 {
        self.region.frames
    }

    /// How many jumbo buffers are free.
    pub fn jumbos_available(&self) -> u32 {
        self.free_jumbos.len() as u32
    }

    /// How many jumbo buffers there are.
    pub fn jumbos(&self) -> u32 {
        self.region.jumbos
    }

    /// Whether every chunk and jumbo buffer is accounted for: free, in one of `ports`, or one of the `held` frames. All ports that were
    /// opened on this UMEM have to be named. For `debug_assert!`.
    pub fn is_whole<'a>(&self, ports: impl IntoIterator<Item = &'a Port>, held: usize) -> bool {
        let lent: u32 = ports.into_iter().map(|port| port.outstanding().total()).sum();
        let home = self.available() + self.jumbos_available();
        home as usize + lent as usize + self.region.stranded() as usize + held
            == self.capacity() as usize + self.jumbos() as usize
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Takes a chunk off the free list, for a ring.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Puts a chunk or a jumbo buffer onto its free list, from a token or a ring that held it.
    pub(super) fn give_back(&mut self, index: u32) {
        let Region { frames, jumbos, .. } = *self.region;
        let (list, all) = match index < frames {
            true => (&mut self.free, frames),
            false => (&mut self.free_jumbos, jumbos),
        };
        debug_assert!(list.len() < all as usize, "more chunks came home than there are");
        list.push(index);
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        if self.available() == self.capacity() && self.jumbos_available() == self.jumbos() {
            return;
        }
        // A token or the kernel may still use a chunk: the mapping stays for good.
        std::mem::forget(Arc::clone(&self.region));
        let ports_open = Arc::strong_count(&self.region) > 2;
        debug_assert!(
            ports_open || thread::panicking() || self.is_whole([], 0),
            "frames were lost: {} of {} came home, and ports kept {}",
            self.available() + self.jumbos_available(),
            self.capacity() + self.jumbos(),
            self.region.stranded(),
        );
    }
}

/// The mapping and how it is cut: chunks, numbered from 0, then jumbo buffers, numbered on. Ports share it, so that its address
/// is not used again while a port is open.
#[derive(Debug)]
pub(super) struct Region {
    mapping: Mapping,
    /// Bytes of the chunks, in whole pages; behind them the jumbo buffers begin.
    shared: usize,
    chunk: u32,
    /// The same as a power of two: several divisions a packet would be felt.
    chunk_bits: u32,
    frames: u32,
    jumbos: u32,
    stranded: AtomicU32,
}

impl Region {
    /// Bytes of a chunk.
    pub(super) fn chunk(&self) -> u32 {
        self.chunk
    }

    /// How many chunks there are.
    pub(super) fn frames(&self) -> u32 {
        self.frames
    }

    /// The mapping, and how many bytes at its start hold the chunks: those are for the kernel to register.
    pub(super) fn shared(&self) -> (&Mapping, usize) {
        (&self.mapping, self.shared)
    }

    /// Notes that `count` chunks were left with the kernel by a port that is gone.
    pub(super) fn strand(&self, count: u32) {
        self.stranded.fetch_add(count, Ordering::Relaxed);
    }

    /// How many chunks were left with the kernel.
    pub(super) fn stranded(&self) -> u32 {
        self.stranded.load(Ordering::Relaxed)
    }

    /// The token of chunk or jumbo buffer `index`.
    ///
    /// # Safety
    ///
    /// The caller has the only claim to it: it comes from the free list, or back from the kernel.
    pub(super) unsafe fn token(&self, index: u32, head: u16, len: u16) -> Frame {
        let (offset, size) = match index.checked_sub(self.frames) {
            None => (index as usize * self.chunk as usize, self.chunk),
            Some(jumbo) => (self.shared + jumbo as usize * JUMBO as usize, JUMBO),
        };
        let chunk = self.mapping.place::<u8>(offset, size as usize);
        // SAFETY: `place` checked that the bytes lie in the mapping, whose bytes were zeroed by the kernel; chunks and jumbo
        // buffers do not overlap, for `shared` is at least the length of all chunks; the mapping outlives the token because
        // `Umem` unmaps nothing while one is out; the caller vouches that the claim is the only one.
        unsafe { Frame::new(chunk, size as u16, head, len) }
    }

    /// The chunk or jumbo buffer whose token this is.
    ///
    /// # Panics
    ///
    /// When it is of another UMEM: a defect of the caller that would send the wrong memory.
    pub(super) fn index_of(&self, frame: &Frame) -> u32 {
        let offset = frame.chunk().addr().get().checked_sub(self.mapping.base().addr().get());
        let index = offset.map(|offset| match offset.checked_sub(self.shared) {
            None => (offset >> self.chunk_bits, self.frames as usize),
            Some(behind) => {
                let all = self.frames as usize + self.jumbos as usize;
                (self.frames as usize + behind / JUMBO as usize, all)
            }
        });
        let index = index.filter(|(index, end)| index < end).and_then(|(index, _)| u32::try_from(index).ok());
        index.expect("a frame was given to a UMEM that it is not of")
    }

    /// How many chunks a frame takes in a transmit ring: its own, or those that a jumbo buffer is cut into.
    pub(super) fn pieces(&self, frame: &Frame) -> u32 {
        match self.is_jumbo(frame) {
            true => (frame.len() as u32).div_ceil(self.chunk),
            false => 1,
        }
    }

    /// Whether a frame lies in a jumbo buffer.
    pub(super) fn is_jumbo(&self, frame: &Frame) -> bool {
        self.index_of(frame) >= self.frames
    }

    /// Address of chunk `index` in the kernel's terms: bytes from the start of the UMEM.
    pub(super) fn address(&self, index: u32) -> u64 {
        u64::from(index) * u64::from(self.chunk)
    }

    /// Chunk and offset in it of a kernel address, which may point anywhere into the chunk. The chunk may not exist.
    pub(super) fn locate(&self, address: u64) -> (u32, u16) {
        let offset = address & (u64::from(self.chunk) - 1);
        (u32::try_from(address >> self.chunk_bits).unwrap_or(u32::MAX), offset as u16)
    }
}
