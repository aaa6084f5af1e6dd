//! How long the scheduler lets a worker run before its turn ends, where others want the same core.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// The shortest that the kernel takes (kernel: kernel/sched/syscalls.c, __setparam_fair).
const SLICE: Duration = Duration::from_micros(100);

/// Asks for short slices for the calling thread: when a frame wakes it, it gets its core from a thread with longer ones at once, and
/// while it looks for more others wait for less. Kernels before 6.12 take no notice. A policy that somebody chose for the thread, such as
/// `SCHED_FIFO`, and its niceness stay. On a core of its own nothing changes.
pub fn ask_for_short_slices() -> io::Result<()> {
    let mut attr = scheduling()?;
    if attr.sched_policy == libc::SCHED_OTHER.cast_unsigned() {
        attr.sched_runtime = SLICE.as_nanos() as u64;
        // SAFETY: the kernel reads as many bytes as the structure says of itself, which it has filled in.
        check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })?;
    }
    Ok(())
}

/// Of the calling thread.
fn scheduling() -> io::Result<libc::sched_attr> {
    let mut attr = MaybeUninit::<libc::sched_attr>::zeroed();
    let size = size_of::<libc::sched_attr>();
    // SAFETY: the pointer is to as many bytes as are said, which the kernel writes.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), size, 0) })?;
    // SAFETY: it is made of integers, for which all bytes are valid, and was zeroed.
    Ok(unsafe { attr.assume_init() })
}

fn check(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_slice_alone_changes() {
        let inside = thread::spawn(|| {
            // SAFETY: the call takes no pointers.
            let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) };
            assert_eq!(nice, 0);
            let before = scheduling().unwrap();
            ask_for_short_slices().unwrap();
            let after = scheduling().unwrap();
            let terms = |attr: &libc::sched_attr| (attr.sched_policy, attr.sched_nice, attr.sched_flags);
            assert_eq!(terms(&after), terms(&before));
            assert_eq!(after.sched_nice, 7);
            // Older kernels say nothing of slices.
            assert!(before.sched_runtime == 0 || after.sched_runtime == SLICE.as_nanos() as u64);
        });
        inside.join().unwrap();
    }

    #[test]
    fn a_policy_that_was_chosen_stays() {
        let inside = thread::spawn(|| {
            let param = libc::sched_param { sched_priority: 0 };
            // SAFETY: the pointer is to a whole structure, which the kernel reads.
            let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) };
            assert_eq!(set, 0);
            let before = scheduling().unwrap().sched_runtime;
            ask_for_short_slices().unwrap();
            let after = scheduling().unwrap();
            assert_eq!(
                (after.sched_policy, after.sched_runtime),
                (libc::SCHED_BATCH.cast_unsigned(), before)
            );
        });
        inside.join().unwrap();
    }
}
