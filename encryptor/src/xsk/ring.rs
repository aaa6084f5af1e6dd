use std::num::Wrapping;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::memory::{Mapping, Plain};

/// One ring in memory that two sides share: a producer's and a consumer's counter, flags, and `size` entries.
///
/// The counters are u32 that run on and wrap; an entry's place is its counter modulo the size, a power of two
/// (kernel: `net/xdp/xsk_queue.h`).
#[derive(Debug, Clone)]
struct Shared<T> {
    /// Keeps the memory that the pointers below point into.
    _mapping: Arc<Mapping>,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
}

/// The side that puts entries in: ours of the fill and transmit rings.
#[derive(Debug)]
pub(super) struct Producer<T> {
    shared: Shared<T>,
    /// Where the next entry goes.
    next: Wrapping<u32>,
    /// The other side's counter when last read.
    consumed: Wrapping<u32>,
}

/// The side that takes entries out: ours of the receive and completion rings.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    shared: Shared<T>,
    /// Where the next entry is.
    next: Wrapping<u32>,
    /// The other side's counter when last read.
    produced: Wrapping<u32>,
}

impl<T: Plain> Producer<T> {
    /// The producer's end of the ring of `size` entries at `offsets` in `mapping`.
    pub(super) fn new(mapping: Arc<Mapping>, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        let shared = Shared::new(mapping, offsets, size);
        let next = Wrapping(shared.producer().load(Ordering::Relaxed));
        let consumed = Wrapping(shared.consumer().load(Ordering::Acquire));
        Self { shared, next, consumed }
    }

    /// Entries that the ring has.
    pub(super) fn size(&self) -> u32 {
        self.shared.size
    }

    /// How many entries can be pushed now. Reads the other side's counter each time: at zero only would be too seldom.
    pub(super) fn room(&mut self) -> u32 {
        // Acquire: what the other side read from the entries, it has read before we write them again.
        self.consumed = Wrapping(self.shared.consumer().load(Ordering::Acquire));
        self.shared.size.saturating_sub((self.next - self.consumed).0)
    }

    /// How many entries the other side has not yet taken.
    pub(super) fn pending(&mut self) -> u32 {
        self.shared.size - self.room()
    }

    /// Writes one entry, which the other side sees after [`Self::publish`].
    ///
    /// # Panics
    ///
    /// When more is pushed than [`Self::room`] said.
    pub(super) fn push(&mut self, entry: T) {
        assert!((self.next - self.consumed).0 < self.shared.size, "a ring is pushed beyond its room");
        let place = self.shared.entry(self.next);
        // SAFETY: `entry` points to an aligned place in the mapping; the other side does not read it before `publish`, and
        // has read what was there before (the counters say so, checked above).
        unsafe { place.write(entry) };
        self.next += 1;
    }

    /// Shows all pushed entries to the other side.
    pub(super) fn publish(&mut self) {
        // Release: the entries are written before the counter says so.
        self.shared.producer().store(self.next.0, Ordering::Release);
    }

    /// Whether the kernel asks to be woken to look at the ring.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.shared.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// The published entries that the other side has not taken. Of use only when that side is gone.
    pub(super) fn left_over(&mut self) -> Vec<T> {
        let pending = self.pending();
        let first = self.next - Wrapping(pending);
        let read = |offset| {
            let place = self.shared.entry(first + Wrapping(offset));
            // SAFETY: `entry` points to an aligned place in the mapping, which this side wrote and alone writes.
            unsafe { place.read() }
        };
        (0..pending).map(read).collect()
    }
}

impl<T: Plain> Consumer<T> {
    /// The consumer's end of the ring of `size` entries at `offsets` in `mapping`.
    pub(super) fn new(mapping: Arc<Mapping>, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        let shared = Shared::new(mapping, offsets, size);
        let next = Wrapping(shared.consumer().load(Ordering::Relaxed));
        Self { shared, next, produced: next }
    }

    /// Entries that the ring has.
    pub(super) fn size(&self) -> u32 {
        self.shared.size
    }

    /// How many entries can be popped now. Reads the other side's counter each time.
    pub(super) fn available(&mut self) -> u32 {
        // Acquire: the entries up to this counter are written.
        self.produced = Wrapping(self.shared.producer().load(Ordering::Acquire));
        (self.produced - self.next).0.min(self.shared.size)
    }

    /// Reads one entry; the other side may use its place again after [`Self::release`].
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.next == self.produced {
            return None;
        }
        let place = self.shared.entry(self.next);
        // SAFETY: `entry` points to an aligned place in the mapping, written by the other side before the counter that
        // `available` read with Acquire; it is not written again before `release`; `Plain` makes any bit pattern valid.
        let entry = unsafe { place.read() };
        self.next += 1;
        Some(entry)
    }

    /// Gives the places of all popped entries back to the other side.
    pub(super) fn release(&mut self) {
        // Release: the entries are read before the counter says so.
        self.shared.consumer().store(self.next.0, Ordering::Release);
    }
}

impl<T: Plain> Shared<T> {
    fn new(mapping: Arc<Mapping>, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        assert!(size.is_power_of_two(), "a ring of {size} entries");
        Self {
            producer: mapping.place(offsets.producer as usize, 1),
            consumer: mapping.place(offsets.consumer as usize, 1),
            flags: mapping.place(offsets.flags as usize, 1),
            entries: mapping.place(offsets.desc as usize, size as usize),
            _mapping: mapping,
            size,
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: `place` checked bounds and alignment, `_mapping` keeps the memory, both sides access it atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.flags.as_ref() }
    }

    fn entry(&self, counter: Wrapping<u32>) -> NonNull<T> {
        let index = counter.0 & (self.size - 1);
        // SAFETY: index is below size, and `place` checked that size entries lie in the mapping.
        unsafe { self.entries.add(index as usize) }
    }
}

// SAFETY: the pointers lead into a mapping that belongs to the process, and each end of a ring has one owner (`&mut self`).
unsafe impl<T: Send> Send for Shared<T> {}

/// A ring without a kernel: both ends over the same memory, with both counters at `start`.
#[cfg(test)]
pub(super) fn in_memory<T: Plain>(size: u32, start: u32) -> (Producer<T>, Consumer<T>) {
    let offsets = libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };
    let mapping = Arc::new(Mapping::anonymous(192 + size as usize * size_of::<T>()).expect("memory"));
    let shared = Shared::<T>::new(Arc::clone(&mapping), &offsets, size);
    shared.producer().store(start, Ordering::Relaxed);
    shared.consumer().store(start, Ordering::Relaxed);
    (Producer::new(Arc::clone(&mapping), &offsets, size), Consumer::new(mapping, &offsets, size))
}

#[cfg(test)]
impl<T: Plain> Producer<T> {
    /// What the kernel does to ask to be woken.
    pub(super) fn ask_for_wakeup(&self, ask: bool) {
        self.shared.flags().store(u32::from(ask) * libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
    }
}
