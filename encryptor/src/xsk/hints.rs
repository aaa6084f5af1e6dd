//! Hints to the processor and the kernel about memory. None changes a value.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use super::memory::Mapping;

const LINE: usize = 64;

/// The smallest page that is larger than the usual one.
const HUGE: usize = 2 << 20;

/// Asks for the cache lines of a value that is read soon: into the second-level cache. A core keeps track of a dozen or two of lines
/// on their way into the first, and asking for more than that costs the waiting that it should spare (`docs/performance.md`).
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of::<T>()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let address = ptr::from_ref(value).cast::<i8>().wrapping_add(line);
        // SAFETY: a prefetch reads and writes nothing as the program sees it, and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Asks the kernel to put huge pages behind room that was just taken, so that going through it in random order does not also miss
/// the TLB. Where the kernel will not, it stays as it is.
pub(crate) fn huge_pages<T>(room: &mut [MaybeUninit<T>]) {
    // SAFETY: the range is `room`, which is borrowed exclusively.
    let _ = unsafe { make_huge(room.as_mut_ptr().cast(), size_of_val(room)) };
}

/// The same for a whole mapping, all of whose pages are there. The kernel's answer if it will not.
pub(super) fn huge_mapping(mapping: &Mapping) -> io::Result<()> {
    // SAFETY: the range is the mapping, which is unmapped by its value only.
    unsafe { make_huge(mapping.base().as_ptr().cast(), mapping.len()) }
}

/// `len` times `value`, on huge pages where the kernel will.
pub(crate) fn filled<T: Copy>(len: usize, value: T) -> Vec<T> {
    let mut room = Vec::with_capacity(len);
    huge_pages(room.spare_capacity_mut());
    room.resize(len, value);
    room
}

/// Of the whole huge pages of a range.
///
/// # Safety
///
/// The range is mapped, and stays so during the call.
unsafe fn make_huge(base: *mut libc::c_void, len: usize) -> io::Result<()> {
    let start = base.addr().next_multiple_of(HUGE);
    let end = (base.addr() + len) / HUGE * HUGE;
    if start >= end {
        return Ok(());
    }
    let mut result = Ok(());
    // With locked memory all pages are there already: collapsing puts them together (kernel 6.1 on).
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
        // SAFETY: the range is mapped, as the caller vouches; neither advice changes what it holds.
        if unsafe { libc::madvise(base.with_addr(start), end - start, advice) } != 0 {
            result = Err(io::Error::last_os_error());
        }
    }
    result
}
