//! One direction of a replay: frames out of one host's port, into the other's, and never too many under way.

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::compare::{Compared, Comparer};
use super::listener::Listener;
use crate::lab::error::{LabError, Result, io_error};
use crate::lab::plan::{Node, Side};
use crate::lab::raw_port::RawPort;
use crate::lab::topology::Topology;
use crate::lab::wait::{check_interrupt, wait_for};

/// Frames under way at most: half of what a veth's ring holds (VETH_RING_SIZE in drivers/net/veth.c).
const WINDOW: u64 = 128;
/// Without an arrival for so long, frames under way are not waited for any more.
const SILENCE: Duration = Duration::from_secs(3);
/// How often that may happen before the direction is given up.
const SILENCES: u32 = 10;
const ETHERNET_HEADER: usize = 14;

/// Why a frame cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unsendable {
    /// Shorter than an Ethernet header.
    TooShort,
    /// Longer than the host's MTU allows.
    TooLong,
}

/// From one host to the other.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) from: Side,
    port: RawPort,
    listener: Listener,
    comparer: Comparer,
    /// Under way, and not waited for any more.
    given_up: u64,
    silences: u32,
    last_sign: Instant,
    /// All frames that were handed to the kernel.
    pub(super) sent: u64,
    /// All frames that arrived.
    pub(super) arrived: u64,
    /// Frames that were sent and that no socket at the far end can see; see [`is_unseen`].
    pub(super) unseen: u64,
    unseen_now: u64,
}

impl Lane {
    pub(super) fn open(topology: &Topology, from: Side) -> Result<Self> {
        let listener = Listener::start(topology, from.peer())?;
        Ok(Self {
            from,
            port: RawPort::open(topology, Node::Host(from), "eth0")?,
            listener,
            comparer: Comparer::default(),
            given_up: 0,
            silences: 0,
            last_sign: Instant::now(),
            sent: 0,
            arrived: 0,
            unseen: 0,
            unseen_now: 0,
        })
    }

    /// Sends a frame once there is room for it, or says why it cannot be sent.
    pub(super) fn send(&mut self, number: u64, frame: &[u8]) -> Result<Option<Unsendable>> {
        if frame.len() < ETHERNET_HEADER {
            return Ok(Some(Unsendable::TooShort));
        }
        self.make_room(WINDOW)?;
        if !self.hand_over(frame)? {
            return Ok(Some(Unsendable::TooLong));
        }
        self.sent += 1;
        match is_unseen(frame) {
            true => self.unseen_now += 1,
            false => self.comparer.sent(number, frame),
        }
        self.last_sign = Instant::now();
        while self.take(Duration::ZERO)? {}
        Ok(None)
    }

    /// Waits for all frames under way, and says what became of those sent since the last time. Of unseen ones the best is
    /// believed until the far end's counters are read.
    pub(super) fn conclude(&mut self) -> Result<Compared> {
        self.make_room(1)?;
        self.given_up = 0;
        let unseen = std::mem::take(&mut self.unseen_now);
        self.unseen += unseen;
        let compared = self.comparer.conclude();
        Ok(Compared { matched: compared.matched + unseen, ..compared })
    }

    /// Forgets what arrived so far.
    pub(super) fn forget(&mut self) -> Result<()> {
        while self.take(Duration::ZERO)? {}
        self.comparer = Comparer::default();
        self.arrived = 0;
        Ok(())
    }

    /// Whether so much was lost that nothing more should be sent.
    pub(super) fn is_hopeless(&self) -> bool {
        self.silences >= SILENCES
    }

    /// Takes one frame that arrived within `patience`.
    pub(super) fn take(&mut self, patience: Duration) -> Result<bool> {
        let Some(frame) = self.listener.next(patience)? else { return Ok(false) };
        self.arrived += 1;
        self.last_sign = Instant::now();
        self.comparer.received(&frame);
        Ok(true)
    }

    /// Stops listening.
    pub(super) fn close(self) -> Result<()> {
        self.listener.stop()
    }

    /// Waits until less than `limit` frames are under way, or nothing is heard of them any more.
    fn make_room(&mut self, limit: u64) -> Result<()> {
        while self.comparer.outstanding().saturating_sub(self.given_up) >= limit {
            check_interrupt()?;
            if !self.take(Duration::from_millis(20))? && self.last_sign.elapsed() > SILENCE {
                self.silences += 1;
                self.given_up = self.comparer.outstanding();
            }
        }
        Ok(())
    }

    /// False if the port cannot take a frame of this length.
    fn hand_over(&self, frame: &[u8]) -> Result<bool> {
        wait_for("the host's port took no frame", SILENCE, || match self.port.send(frame) {
            Ok(()) => Ok(Some(true)),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMSGSIZE) => Ok(Some(false)),
                // The host's queue is full for the moment.
                Some(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => Ok(None),
                _ => Err(send_error(frame, error)),
            },
        })
    }
}

/// A frame that ends within its VLAN tag or the type behind it is received by the kernel, which counts it, takes the tag off
/// and finds nothing (skb_vlan_untag in net/core/skbuff.c): no socket ever sees it.
fn is_unseen(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]) && frame.len() < ETHERNET_HEADER + 6
}

fn send_error(frame: &[u8], error: io::Error) -> LabError {
    io_error(format!("cannot send a frame of {} bytes", frame.len()))(error)
}
