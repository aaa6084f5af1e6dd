use std::sync::Arc;

use super::chain::{Chain, Loss, Place};
use super::frame::Frame;
use super::lent::Lent;
use super::ring::{Consumer, Producer};
use super::statistics::PortCounters;
use super::umem::{Region, Umem};

/// Ethernet header: the kernel neither sends nor returns a frame that is shorter.
const LEAST_FRAME: usize = 14;

/// Chunks of a UMEM that a port has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// In the kernel to receive into, or received and not yet fetched.
    pub rx: u32,
    /// Given to transmit and not yet completed.
    pub tx: u32,
    /// The jumbo buffer of a frame whose last piece has not come: 0 or 1.
    pub begun: u32,
}

impl Outstanding {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.rx + self.tx + self.begun
    }
}

/// The four rings of a port and the chunks in them. It makes no system call, so it is tested without a kernel.
#[derive(Debug)]
pub(super) struct Rings {
    region: Arc<Region>,
    rx: Consumer<libc::xdp_desc>,
    tx: Producer<libc::xdp_desc>,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    lent_rx: Lent,
    lent_tx: Lent,
    chain: Chain,
    pub(super) counters: PortCounters,
}

impl Rings {
    pub(super) fn new(
        region: Arc<Region>,
        rx: Consumer<libc::xdp_desc>,
        tx: Producer<libc::xdp_desc>,
        fill: Producer<u64>,
        completion: Consumer<u64>,
    ) -> Self {
        let frames = region.frames();
        Self {
            region,
            rx,
            tx,
            fill,
            completion,
            lent_rx: Lent::new(frames),
            lent_tx: Lent::new(frames),
            chain: Chain::default(),
            counters: PortCounters::default(),
        }
    }

    pub(super) fn receive(&mut self, umem: &mut Umem, out: &mut Vec<Frame>, max: usize) -> usize {
        self.assert_same(umem);
        let before = out.len();
        self.rx.available();
        while out.len() - before < max
            && let Some(descriptor) = self.rx.pop()
        {
            self.accept(descriptor, umem, out);
        }
        self.rx.release();
        out.len() - before
    }

    pub(super) fn transmit(&mut self, umem: &mut Umem, frames: &mut Vec<Frame>) -> usize {
        self.assert_same(umem);
        let count = self.fitting(umem, frames);
        for frame in frames.drain(..count) {
            if frame.len() < LEAST_FRAME {
                self.counters.tx_short += 1;
                umem.free(frame);
                continue;
            }
            self.counters.tx_frames += 1;
            self.counters.tx_bytes += frame.len() as u64;
            if self.region.is_jumbo(&frame) {
                self.scatter(frame, umem);
            } else {
                self.lend(frame, 0);
            }
        }
        self.tx.publish();
        count
    }

    pub(super) fn complete(&mut self, umem: &mut Umem) -> u32 {
        self.assert_same(umem);
        let before = umem.available();
        self.completion.available();
        while let Some(address) = self.completion.pop() {
            let (index, _) = self.region.locate(address);
            if self.lent_tx.remove(index) {
                umem.give_back(index);
            } else {
                self.counters.tx_invalid += 1;
            }
        }
        self.completion.release();
        umem.available() - before
    }

    pub(super) fn refill(&mut self, umem: &mut Umem, target: u32) -> u32 {
        self.assert_same(umem);
        let wanted = target.min(self.fill.size()).saturating_sub(self.fill.pending());
        let mut filled = 0;
        while filled < wanted
            && let Some(index) = umem.take()
        {
            self.fill.push(self.region.address(index));
            self.lent_rx.insert(index);
            filled += 1;
        }
        self.fill.publish();
        filled
    }

    pub(super) fn fill_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    pub(super) fn tx_needs_wakeup(&self) -> bool {
        self.tx.needs_wakeup()
    }

    /// Frames in the transmit ring that the kernel has not taken.
    pub(super) fn tx_pending(&mut self) -> u32 {
        self.tx.pending()
    }

    pub(super) fn outstanding(&self) -> Outstanding {
        let begun = u32::from(self.chain.held().is_some());
        Outstanding { rx: self.lent_rx.count(), tx: self.lent_tx.count(), begun }
    }

    /// Everything that a kernel without access to the chunks any more had: all on the receive side, and what it never took
    /// from the transmit ring. A frame that it took and did not complete may still wait in a device's queue: using its chunk
    /// again could send other bytes, so it stays out.
    pub(super) fn reclaim(&mut self) -> Vec<u32> {
        let mut home = self.lent_rx.remove_all();
        home.extend(self.chain.give_up().map(|frame| self.region.index_of(&frame)));
        for descriptor in self.tx.left_over() {
            let (index, _) = self.region.locate(descriptor.addr);
            if self.lent_tx.remove(index) {
                home.push(index);
            }
        }
        home
    }

    fn accept(&mut self, descriptor: libc::xdp_desc, umem: &mut Umem, out: &mut Vec<Frame>) {
        let chained = descriptor.options & libc::XDP_PKT_CONTD != 0;
        let place = if chained { Place::Inner } else { Place::Last };
        let piece = self.claim(descriptor, umem);
        match self.chain.add(piece, place, umem) {
            None => {}
            Some(Ok(frame)) => {
                self.counters.rx_frames += 1;
                self.counters.rx_bytes += frame.len() as u64;
                self.counters.rx_gathered += u64::from(self.region.is_jumbo(&frame));
                out.push(frame);
            }
            Some(Err(loss)) => *loss.counter(&mut self.counters) += 1,
        }
    }

    /// The token of what a descriptor of the receive ring names.
    fn claim(&mut self, descriptor: libc::xdp_desc, umem: &mut Umem) -> Result<Frame, Loss> {
        let (index, head) = self.region.locate(descriptor.addr);
        if !self.lent_rx.remove(index) {
            return Err(Loss::Invalid);
        }
        if descriptor.len > self.region.chunk() - u32::from(head) {
            umem.give_back(index);
            return Err(Loss::Invalid);
        }
        // SAFETY: the chunk's bit was set, so it was the kernel's, which gave it back through the receive ring; the bit is
        // now cleared, so this is the only token made of it.
        Ok(unsafe { self.region.token(index, head, descriptor.len as u16) })
    }

    /// How many of `frames` can be sent now, in their order: not more than the ring, or than completions have room for (beyond
    /// that the kernel would refuse to send), and none whose pieces would find no free chunk.
    fn fitting(&mut self, umem: &Umem, frames: &[Frame]) -> usize {
        let unclaimed = self.completion.size().saturating_sub(self.lent_tx.count());
        let (mut room, mut chunks) = (self.tx.room().min(unclaimed), umem.available());
        let fits = |frame: &&Frame| {
            let pieces = self.region.pieces(frame);
            let new = if self.region.is_jumbo(frame) { pieces } else { 0 };
            let enough = room.checked_sub(pieces).zip(chunks.checked_sub(new));
            (room, chunks) = enough.unwrap_or((0, 0));
            enough.is_some()
        };
        frames.iter().take_while(fits).count()
    }

    /// Sends a jumbo buffer's frame in chunks of its own, and the buffer home.
    fn scatter(&mut self, frame: Frame, umem: &mut Umem) {
        let mut rest = frame.data().chunks(self.region.chunk() as usize).peekable();
        while let Some(bytes) = rest.next() {
            let mut piece = umem.alloc().expect("free chunks were counted before");
            piece.reset(0);
            let whole = piece.extend_from(bytes);
            debug_assert!(whole, "no more than a chunk was cut off");
            self.lend(piece, if rest.peek().is_some() { libc::XDP_PKT_CONTD } else { 0 });
        }
        self.counters.tx_scattered += 1;
        umem.free(frame);
    }

    /// Puts a chunk into the transmit ring.
    fn lend(&mut self, frame: Frame, options: u32) {
        let index = self.region.index_of(&frame);
        let addr = self.region.address(index) + frame.headroom() as u64;
        self.tx.push(libc::xdp_desc { addr, len: frame.len() as u32, options });
        self.lent_tx.insert(index);
    }

    fn assert_same(&self, umem: &Umem) {
        assert!(Arc::ptr_eq(&self.region, umem.region()), "a port was used with a UMEM that it is not of");
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        self.region.strand(self.outstanding().total());
    }
}

#[cfg(test)]
#[path = "rings_tests.rs"]
mod tests;
