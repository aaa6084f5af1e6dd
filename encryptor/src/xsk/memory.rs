use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// A type that may be read from memory that the kernel writes, and that the kernel may read.
///
/// # Safety
///
/// Every bit pattern of the type's size is a valid value of it, and it has no padding.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: two u64, four u32: integers that leave no gap.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: u64, u32, u32: integers that leave no gap.
unsafe impl Plain for libc::xdp_desc {}
// SAFETY: sixteen u64.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: six u64.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: one u32.
unsafe impl Plain for libc::xdp_options {}

/// A mapping of this process, readable and writable, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// `len` bytes of zeroed memory, all present (no page fault later), aligned to a page.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
    }

    /// The first `len` bytes of what `fd` offers at `offset`.
    pub(super) fn of(fd: BorrowedFd<'_>, len: usize, offset: libc::off_t) -> io::Result<Self> {
        Self::new(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    fn new(len: usize, flags: libc::c_int, fd: libc::c_int, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: with a null address and without MAP_FIXED the kernel picks a free range: no memory in use is touched.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base =
            NonNull::new(base.cast()).ok_or_else(|| io::Error::other("the kernel mapped address zero"))?;
        Ok(Self { base, len })
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The place `offset` bytes in, where `count` values of `T` lie.
    ///
    /// # Panics
    ///
    /// When they would lie outside the mapping or out of alignment.
    pub(super) fn place<T>(&self, offset: usize, count: usize) -> NonNull<T> {
        let bytes = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        assert!(bytes.is_some_and(|end| end <= self.len), "{count} values at {offset} leave the mapping");
        // SAFETY: offset is at most the mapping's length, checked above.
        let place: NonNull<T> = unsafe { self.base.add(offset) }.cast();
        assert!(place.is_aligned(), "values at {offset} are not aligned");
        place
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are of one mmap call that succeeded, and only this value unmaps it.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0, "munmap of a whole mapping does not fail");
    }
}

// SAFETY: the value is an address range; a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: its methods only compute addresses; who reads and writes behind them argues for that itself.
unsafe impl Sync for Mapping {}
