//! Where a worker sleeps, and what wakes it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use arrayvec::ArrayVec;
use mio::{Events, Poll, Token, Waker};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qhaul_ebpf::MAX_QUEUES;

use crate::xsk::Port;

/// Ports of a worker on both sides, and its waker.
const MOST: usize = 2 * MAX_QUEUES as usize + 1;

/// A worker sleeps here until its waker or a port wakes it.
///
/// The ports are watched while it sleeps and no longer: an epoll that knew them would be told of every frame, at the expense of
/// whoever sends it, also while the worker is awake and looks by itself.
#[derive(Debug)]
pub struct Bed {
    /// Of the waker alone.
    poll: Poll,
    events: Events,
}

impl Bed {
    /// One, and what wakes who sleeps there.
    pub fn new() -> io::Result<(Bed, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Token(0))?;
        Ok((Bed { poll, events: Events::with_capacity(1) }, waker))
    }

    /// Until a port has received something or the waker was used, but not longer than `longest`, in whole milliseconds. A waker that
    /// was used since the last sleep ends it at once.
    pub(super) fn sleep<'a>(
        &mut self,
        ports: impl Iterator<Item = &'a Port>,
        longest: Duration,
    ) -> io::Result<()> {
        // Readable only: a transmit ring is nearly always ready, and would end each sleep.
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = ArrayVec::<PollFd<'_>, MOST>::new();
        fds.push(watch(self.poll.registry().as_fd()));
        fds.extend(ports.map(|port| watch(port.as_fd())));
        match poll(&mut fds, PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let by_waker = fds[0].any() != Some(false);
        drop(fds);
        match by_waker {
            true => self.poll.poll(&mut self.events, Some(Duration::ZERO)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn slept(bed: &mut Bed, longest: Duration) -> Duration {
        let begun = Instant::now();
        bed.sleep(iter::empty(), longest).unwrap();
        begun.elapsed()
    }

    #[test]
    fn a_waker_ends_one_sleep_also_when_it_was_used_before() {
        let (mut bed, waker) = Bed::new().unwrap();
        waker.wake().unwrap();
        assert!(slept(&mut bed, LONG) < LONG);
        let short = Duration::from_millis(20);
        assert!(slept(&mut bed, short) >= short, "what woke it once is over");
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(short);
                waker.wake().unwrap();
            });
            assert!(slept(&mut bed, LONG) < LONG);
        });
    }
}
