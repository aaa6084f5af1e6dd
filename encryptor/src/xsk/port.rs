use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::frame::Frame;
use super::rings::{Outstanding, Rings};
use super::socket::Socket;
use super::statistics::{PortCounters, Statistics};
use super::tuning::Tuning;
use super::umem::Umem;

/// How long one kick goes on. A device that takes no frame for so long is left alone until the next.
const KICK_DEADLINE: Duration = Duration::from_millis(2);

/// How long closing waits for frames that are being sent.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// How the frames of a port get from and to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveMode {
    /// The device reads and writes the UMEM.
    ZeroCopy,
    /// The kernel copies between the UMEM and buffers of its own.
    Copy,
}

/// One queue of one interface: frames in, frames out.
///
/// A worker's loop calls, in this order, [`receive`](Self::receive), [`transmit`](Self::transmit) and [`kick`](Self::kick),
/// [`complete`](Self::complete), [`refill`](Self::refill). End with [`close`](Self::close): a port that is dropped keeps its
/// chunks, and the UMEM's memory is then never unmapped.
#[derive(Debug)]
pub struct Port {
    // Closed before the rings count what they lose.
    socket: Socket,
    rings: Rings,
    interface: String,
    queue: u32,
    mode: LiveMode,
    tuning: Tuning,
}

impl Port {
    pub(super) fn new(socket: Socket, rings: Rings, interface: &str, queue: u32, tuning: Tuning) -> Self {
        Self { socket, rings, interface: interface.to_owned(), queue, mode: LiveMode::Copy, tuning }
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The queue's number.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// What the kernel says the mode is. (Whether copy is native or generic is a matter of the XDP program's attachment.)
    pub fn live_mode(&self) -> LiveMode {
        self.mode
    }

    /// Appends up to `max` received frames to `out`, and returns how many.
    ///
    /// A frame that spans several chunks is put together in a jumbo buffer of `umem`; if none is free, it is dropped and
    /// counted.
    pub fn receive(&mut self, umem: &mut Umem, out: &mut Vec<Frame>, max: usize) -> usize {
        let received = self.rings.receive(umem, out, max);
        if received == 0 && self.tuning.busy_poll {
            self.wake_rx();
        }
        received
    }

    /// Moves frames from the front of `frames` to the transmit ring, as many as fit, and returns how many; the rest stay
    /// with the caller. [`Self::kick`] sends them. A frame shorter than an Ethernet header is dropped and counted; one in a
    /// jumbo buffer is cut into chunks of `umem`.
    ///
    /// # Panics
    ///
    /// When a frame is of another UMEM.
    pub fn transmit(&mut self, umem: &mut Umem, frames: &mut Vec<Frame>) -> usize {
        self.rings.transmit(umem, frames)
    }

    /// Has the kernel send what is in the transmit ring, if it has to be told.
    ///
    /// In copy mode one call sends 32 frames, so this goes on until the ring is empty, or the deadline has passed (counted;
    /// the frames go with the next kick). In zero-copy mode one call starts the driver, which goes on by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Down`] when the interface is down: the frames stay in the ring. Others when it is gone.
    pub fn kick(&mut self) -> Result<(), Error> {
        let mut since = None;
        let zero_copy = self.mode == LiveMode::ZeroCopy;
        let asks = zero_copy && self.tuning.need_wakeup;
        while self.rings.tx_pending() > 0 && (!asks || self.rings.tx_needs_wakeup()) {
            self.wake_tx()?;
            // One call mostly sends all, and the clock is not asked.
            if zero_copy || self.rings.tx_pending() == 0 {
                break;
            }
            if since.get_or_insert_with(Instant::now).elapsed() > KICK_DEADLINE {
                self.rings.counters.tx_stalled += 1;
                break;
            }
        }
        Ok(())
    }

    /// Gives the frames that were sent back to `umem`, and returns how many.
    pub fn complete(&mut self, umem: &mut Umem) -> u32 {
        self.rings.complete(umem)
    }

    /// Fills the fill ring from `umem` up to `target` entries (at most the ring's size), so that frames can be received, and
    /// wakes the kernel if it asks for that. Returns how many entries were added.
    ///
    /// Call it on every turn, also when nothing was received: the kernel may ask to be woken later.
    pub fn refill(&mut self, umem: &mut Umem, target: u32) -> u32 {
        let filled = self.rings.refill(umem, target);
        if self.rings.fill_needs_wakeup() {
            self.wake_rx();
        }
        filled
    }

    /// Chunks of the UMEM that this port has.
    pub fn outstanding(&self) -> Outstanding {
        self.rings.outstanding()
    }

    /// What the port counted since it was opened.
    pub fn counters(&self) -> PortCounters {
        self.rings.counters
    }

    /// What the kernel counted at the socket since it was opened.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        self.socket.statistics().map(Statistics::from).map_err(|e| self.failed("read the statistics", e))
    }

    /// Sends what is left, closes the socket, and gives the port's chunks back to `umem`. Returns how many could not be had
    /// back: with zero-copy those that the device was to receive into (it may still write), and frames that were not sent
    /// within a second.
    pub fn close(mut self, umem: &mut Umem) -> u32 {
        let deadline = Instant::now() + CLOSE_DEADLINE;
        loop {
            let kicked = self.kick();
            self.complete(umem);
            if kicked.is_err() || self.outstanding().tx == 0 || Instant::now() > deadline {
                break;
            }
            thread::sleep(Duration::from_micros(100));
        }
        let zero_copy = self.mode == LiveMode::ZeroCopy;
        let Self { socket, mut rings, .. } = self;
        let mut received = Vec::new();
        rings.receive(umem, &mut received, usize::MAX);
        received.into_iter().for_each(|frame| umem.free(frame));
        rings.refill(umem, 0);
        // Closing waits until no receive path uses the socket any more (kernel: net/xdp/xsk.c, xsk_unbind_dev), except
        // for a device that accesses the UMEM by itself.
        drop(socket);
        rings.complete(umem);
        if !zero_copy {
            rings.reclaim().into_iter().for_each(|index| umem.give_back(index));
        }
        rings.outstanding().total()
    }

    /// Closes the socket and names the chunks that it had. They may be used again once the device has let go of them.
    pub(super) fn abandon(self) -> Vec<u32> {
        let Self { socket, mut rings, .. } = self;
        drop(socket);
        rings.reclaim()
    }

    /// Fills the fill ring of a port that is not bound yet.
    pub(super) fn prefill(&mut self, umem: &mut Umem, target: u32) {
        self.rings.refill(umem, target);
    }

    pub(super) fn bind(
        &mut self,
        ifindex: u32,
        flags: u16,
        shared: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.socket.bind(ifindex, self.queue, flags, shared.map(|fd| fd.as_raw_fd()))?;
        self.mode = if self.socket.is_zero_copy()? { LiveMode::ZeroCopy } else { LiveMode::Copy };
        Ok(())
    }

    fn wake_rx(&self) {
        if let Err(error) = self.socket.wake_rx() {
            // The next turn asks again; an interface that is gone shows itself at the next kick.
            tracing::trace!("{} queue {}: waking the fill ring: {error}", self.interface, self.queue);
        }
    }

    fn wake_tx(&mut self) -> Result<(), Error> {
        let Err(error) = self.socket.wake_tx() else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => Ok(()),
            // One frame is dropped for each such answer (kernel: net/xdp/xsk.c, NET_XMIT_DROP).
            Some(libc::EBUSY) => {
                self.rings.counters.tx_lost += u64::from(self.mode == LiveMode::Copy);
                Ok(())
            }
            _ => Err(self.failed("send", error)),
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::from_kernel(&self.interface, self.queue, action, source)
    }
}

impl AsFd for Port {
    /// To poll for received frames, and for the XDP program's table of sockets. Not to be duplicated: the port's chunks
    /// become free when it is closed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
