//! Hints to the processor and the kernel about memory. None changes a value.

use std::mem::MaybeUninit;
use std::ptr;

const LINE: usize = 64;

/// The smallest page that is larger than the usual one.
const HUGE: usize = 2 << 20;

/// Asks for the cache lines of a value that is read soon.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of::<T>()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = ptr::from_ref(value).cast::<i8>().wrapping_add(line);
        // SAFETY: a prefetch reads and writes nothing as the program sees it, and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Asks the kernel to put huge pages behind room that was just taken, so that going through it in random order does not also miss
/// the TLB. Where the kernel will not, it stays as it is.
pub(crate) fn huge_pages<T>(room: &mut [MaybeUninit<T>]) {
    let start = room.as_mut_ptr().addr().next_multiple_of(HUGE);
    let end = (room.as_mut_ptr().addr() + size_of_val(room)) / HUGE * HUGE;
    if start >= end {
        return;
    }
    let base = room.as_mut_ptr().cast::<libc::c_void>().with_addr(start);
    // With locked memory all pages are there already: collapsing puts them together (kernel 6.1 on).
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
        // SAFETY: the range lies in `room`, which is borrowed exclusively; neither advice changes what it holds.
        unsafe { libc::madvise(base, end - start, advice) };
    }
}
