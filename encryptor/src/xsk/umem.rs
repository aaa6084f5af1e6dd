use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::error::Error;
use super::frame::{Frame, HEADROOM};
use super::memory::Mapping;
use super::port::Port;

/// The memory that frames live in: chunks of one size, each free, a [`Frame`], or in a port's rings.
///
/// It needs no kernel socket, so packet code runs on it in tests and benches too. Close the ports ([`Port::close`]) and free
/// the frames before dropping it; a UMEM with a chunk still out is never unmapped.
#[derive(Debug)]
pub struct Umem {
    region: Arc<Region>,
    free: Vec<u32>,
}

impl Umem {
    /// `frames` chunks of `chunk` bytes, 2,048 or 4,096, present in memory and zeroed.
    pub fn new(frames: u32, chunk: u32) -> Result<Self, Error> {
        if !matches!(chunk, 2048 | 4096) {
            return Err(Error::ChunkSize { chunk });
        }
        if frames == 0 {
            return Err(Error::NoFrames);
        }
        let len = frames as usize * chunk as usize;
        // The kernel takes whole pages only; with 2,048-byte chunks the last page may be half in use.
        let mapping =
            Mapping::anonymous(len.next_multiple_of(4096)).map_err(|source| Error::Memory { len, source })?;
        let region = Region { mapping, chunk, frames, stranded: AtomicU32::new(0) };
        // Taken from the end: the lowest chunk first.
        Ok(Self { region: Arc::new(region), free: (0..frames).rev().collect() })
    }

    /// An empty frame with the headroom of a received one, or none if all are out.
    pub fn alloc(&mut self) -> Option<Frame> {
        let index = self.take()?;
        // SAFETY: the index came off the free list, so no other token has the chunk and no ring holds it.
        Some(unsafe { self.region.token(index, HEADROOM as u16, 0) })
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

    /// Whether every chunk is accounted for: free, in one of `ports`, or one of the `held` frames. All ports that were
    /// opened on this UMEM have to be named. For `debug_assert!`.
    pub fn is_whole<'a>(&self, ports: impl IntoIterator<Item = &'a Port>, held: usize) -> bool {
        let lent: u32 = ports.into_iter().map(|port| port.outstanding().total()).sum();
        self.available() as usize + lent as usize + self.region.stranded() as usize + held
            == self.capacity() as usize
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Takes a chunk off the free list, for a ring.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Puts a chunk onto the free list, from a token or a ring that held it.
    pub(super) fn give_back(&mut self, index: u32) {
        debug_assert!(self.free.len() < self.region.frames as usize, "more chunks came home than there are");
        self.free.push(index);
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        if self.available() == self.capacity() {
            return;
        }
        // A token or the kernel may still use a chunk: the mapping stays for good.
        std::mem::forget(Arc::clone(&self.region));
        let ports_open = Arc::strong_count(&self.region) > 2;
        debug_assert!(
            ports_open || thread::panicking() || self.is_whole([], 0),
            "frames were lost: {} of {} came home, and ports kept {}",
            self.available(),
            self.capacity(),
            self.region.stranded(),
        );
    }
}

/// The mapping and how it is cut. Ports share it, so that its address is not used again while a port is open.
#[derive(Debug)]
pub(super) struct Region {
    mapping: Mapping,
    chunk: u32,
    frames: u32,
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

    /// All of it, for the kernel to register.
    pub(super) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Notes that `count` chunks were left with the kernel by a port that is gone.
    pub(super) fn strand(&self, count: u32) {
        self.stranded.fetch_add(count, Ordering::Relaxed);
    }

    /// How many chunks were left with the kernel.
    pub(super) fn stranded(&self) -> u32 {
        self.stranded.load(Ordering::Relaxed)
    }

    /// The token of chunk `index`.
    ///
    /// # Safety
    ///
    /// The caller has the only claim to the chunk: it comes from the free list, or back from the kernel.
    pub(super) unsafe fn token(&self, index: u32, head: u16, len: u16) -> Frame {
        let chunk = self.mapping.place::<u8>(index as usize * self.chunk as usize, self.chunk as usize);
        // SAFETY: `place` checked that the chunk lies in the mapping, whose bytes were zeroed by the kernel; it outlives the
        // token because `Umem` unmaps nothing while a chunk is out; the caller vouches that the claim is the only one.
        unsafe { Frame::new(chunk, self.chunk as u16, head, len) }
    }

    /// The chunk whose token this is.
    ///
    /// # Panics
    ///
    /// When it is of another UMEM: a defect of the caller that would send the wrong memory.
    pub(super) fn index_of(&self, frame: &Frame) -> u32 {
        let offset = frame.chunk().addr().get().checked_sub(self.mapping.base().addr().get());
        let index = offset.and_then(|offset| u32::try_from(offset / self.chunk as usize).ok());
        index.filter(|index| *index < self.frames).expect("a frame was given to a UMEM that it is not of")
    }

    /// Address of chunk `index` in the kernel's terms: bytes from the start of the UMEM.
    pub(super) fn address(&self, index: u32) -> u64 {
        u64::from(index) * u64::from(self.chunk)
    }

    /// Chunk and offset in it of a kernel address, which may point anywhere into the chunk. The chunk may not exist.
    pub(super) fn locate(&self, address: u64) -> (u32, u16) {
        let chunk = u64::from(self.chunk);
        (u32::try_from(address / chunk).unwrap_or(u32::MAX), (address % chunk) as u16)
    }
}
