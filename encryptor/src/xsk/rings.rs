use std::sync::Arc;

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
    /// Dropped on receipt, to go home with the next refill.
    pub spare: u32,
}

impl Outstanding {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.rx + self.tx + self.spare
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
    spare: Vec<u32>,
    in_chain: bool,
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
            spare: Vec::with_capacity(frames as usize),
            in_chain: false,
            counters: PortCounters::default(),
        }
    }

    pub(super) fn receive(&mut self, out: &mut Vec<Frame>, max: usize) -> usize {
        let before = out.len();
        for _ in 0..max.min(self.rx.available() as usize) {
            let Some(descriptor) = self.rx.pop() else { break };
            self.accept(descriptor, out);
        }
        self.rx.release();
        out.len() - before
    }

    pub(super) fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize {
        // Not more than completions have room for: beyond that the kernel would refuse to send.
        let unclaimed = self.completion.size().saturating_sub(self.lent_tx.count());
        let count = frames.len().min(self.tx.room().min(unclaimed) as usize);
        for frame in frames.drain(..count) {
            let index = self.region.index_of(&frame);
            if frame.len() < LEAST_FRAME {
                self.counters.tx_short += 1;
                self.spare.push(index);
                continue;
            }
            let addr = self.region.address(index) + frame.headroom() as u64;
            self.tx.push(libc::xdp_desc { addr, len: frame.len() as u32, options: 0 });
            self.lent_tx.insert(index);
            self.counters.tx_frames += 1;
            self.counters.tx_bytes += frame.len() as u64;
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
        self.spare.drain(..).for_each(|index| umem.give_back(index));
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
        Outstanding { rx: self.lent_rx.count(), tx: self.lent_tx.count(), spare: self.spare.len() as u32 }
    }

    /// Everything that a kernel without access to the chunks any more had: all on the receive side, and what it never took
    /// from the transmit ring. A frame that it took and did not complete may still wait in a device's queue: using its chunk
    /// again could send other bytes, so it stays out.
    pub(super) fn reclaim(&mut self) -> Vec<u32> {
        let mut home = std::mem::take(&mut self.spare);
        home.extend(self.lent_rx.remove_all());
        for descriptor in self.tx.left_over() {
            let (index, _) = self.region.locate(descriptor.addr);
            if self.lent_tx.remove(index) {
                home.push(index);
            }
        }
        home
    }

    fn accept(&mut self, descriptor: libc::xdp_desc, out: &mut Vec<Frame>) {
        let (index, head) = self.region.locate(descriptor.addr);
        if !self.lent_rx.remove(index) {
            self.counters.rx_invalid += 1;
            return;
        }
        let more = descriptor.options & libc::XDP_PKT_CONTD != 0;
        if std::mem::replace(&mut self.in_chain, more) || more {
            self.counters.rx_chained += 1;
            self.spare.push(index);
            return;
        }
        if descriptor.len > self.region.chunk() - u32::from(head) {
            self.counters.rx_invalid += 1;
            self.spare.push(index);
            return;
        }
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += u64::from(descriptor.len);
        // SAFETY: the chunk's bit was set, so it was the kernel's, which gave it back through the receive ring; the bit is
        // now cleared, so this is the only token made of it.
        out.push(unsafe { self.region.token(index, head, descriptor.len as u16) });
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
