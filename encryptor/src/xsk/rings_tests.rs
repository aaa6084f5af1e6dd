use super::*;
use crate::xsk::ring::in_memory;

const CHUNK: u32 = 2048;
const FRAMES: u32 = 32;
const JUMBOS: u32 = 2;
const SIZE: u32 = 8;

/// A port's rings and the kernel's ends of them.
struct Rig {
    umem: Umem,
    rings: Rings,
    rx: Producer<libc::xdp_desc>,
    tx: Consumer<libc::xdp_desc>,
    fill: Consumer<u64>,
    completion: Producer<u64>,
}

impl Rig {
    /// With all counters about to wrap after `before_wrap` entries.
    fn new(before_wrap: u32) -> Self {
        let start = 0u32.wrapping_sub(before_wrap);
        let umem = Umem::with_jumbos(FRAMES, CHUNK, JUMBOS).unwrap();
        let (rx, our_rx) = in_memory(SIZE, start);
        let (our_tx, tx) = in_memory(SIZE, start);
        let (our_fill, fill) = in_memory(SIZE, start);
        let (completion, our_completion) = in_memory(SIZE, start);
        let rings = Rings::new(Arc::clone(umem.region()), our_rx, our_tx, our_fill, our_completion);
        Self { umem, rings, rx, tx, fill, completion }
    }

    /// The kernel receives `packet` into the next chunk of the fill ring, as it does: 256 bytes in.
    fn kernel_receives(&mut self, packet: &[u8], options: u32) -> bool {
        self.fill.available();
        let Some(address) = self.fill.pop() else { return false };
        self.fill.release();
        let (index, _) = self.umem.region().locate(address);
        // SAFETY: the chunk came out of the fill ring, so it is the kernel's, whom the test plays.
        let mut chunk = unsafe { self.umem.region().token(index, 256, 0) };
        assert!(chunk.fill_from(packet));
        self.kernel_returns(address + 256, packet.len() as u32, options);
        true
    }

    fn kernel_returns(&mut self, addr: u64, len: u32, options: u32) {
        assert!(self.rx.room() > 0);
        self.rx.push(libc::xdp_desc { addr, len, options });
        self.rx.publish();
    }

    /// The kernel sends one frame and completes it.
    fn kernel_sends(&mut self) -> Option<libc::xdp_desc> {
        self.tx.available();
        let descriptor = self.tx.pop()?;
        self.tx.release();
        assert!(self.completion.room() > 0, "completions have no room");
        self.completion.push(descriptor.addr);
        self.completion.publish();
        Some(descriptor)
    }

    fn frame(&mut self, len: usize) -> Frame {
        let mut frame = self.umem.alloc().unwrap();
        assert!(frame.fill_from(&vec![0x5a; len]));
        frame
    }

    fn is_whole(&self, held: usize) -> bool {
        let home = self.umem.available() + self.umem.jumbos_available();
        (home + self.rings.outstanding().total()) as usize + held == (FRAMES + JUMBOS) as usize
    }

    fn end(mut self) {
        self.rings.reclaim().into_iter().for_each(|index| self.umem.give_back(index));
        assert_eq!((self.umem.available(), self.umem.jumbos_available()), (FRAMES, JUMBOS));
    }
}

#[test]
fn frames_go_round_and_none_is_lost_while_the_counters_wrap() {
    let mut rig = Rig::new(1000);
    let mut held = Vec::new();
    for turn in 0..2000u32 {
        rig.rings.refill(&mut rig.umem, SIZE);
        let burst = 1 + turn % SIZE;
        for number in 0..burst {
            let packet = [turn.to_be_bytes(), number.to_be_bytes(), [0xaa; 4], [0xbb; 4]].concat();
            assert!(rig.kernel_receives(&packet, 0));
        }
        assert_eq!(rig.rings.receive(&mut rig.umem, &mut held, usize::MAX), burst as usize);
        for (number, frame) in held.iter_mut().enumerate() {
            assert_eq!(frame.headroom(), 256);
            assert_eq!(frame.data()[..8], [turn.to_be_bytes(), (number as u32).to_be_bytes()].concat());
            frame.prepend(42).unwrap().fill(turn as u8);
        }
        assert!(rig.is_whole(held.len()), "turn {turn}");
        assert_eq!(rig.rings.transmit(&mut rig.umem, &mut held), burst as usize);
        for _ in 0..burst {
            let sent = rig.kernel_sends().unwrap();
            assert_eq!((sent.addr % u64::from(CHUNK), sent.len), (256 - 42, 16 + 42));
        }
        assert_eq!(rig.rings.complete(&mut rig.umem), burst);
        assert!(rig.is_whole(0), "turn {turn}");
    }
    assert_eq!(rig.rings.counters.rx_frames, rig.rings.counters.tx_frames);
    rig.end();
}

#[test]
fn what_does_not_fit_stays_with_the_caller() {
    let mut rig = Rig::new(3);
    let mut frames: Vec<_> = (0..12).map(|n| rig.frame(20 + n)).collect();
    assert_eq!(rig.rings.transmit(&mut rig.umem, &mut frames), SIZE as usize);
    assert_eq!(frames.len(), 4);
    assert_eq!(frames[0].len(), 28, "the order is kept");
    assert_eq!(rig.rings.transmit(&mut rig.umem, &mut frames), 0, "the ring is full");
    // Taken by the kernel, but not completed: completions would have no room for more.
    rig.tx.available();
    while rig.tx.pop().is_some() {}
    rig.tx.release();
    assert_eq!(rig.rings.tx_pending(), 0);
    assert_eq!(rig.rings.transmit(&mut rig.umem, &mut frames), 0, "completions are claimed");
    assert!(rig.is_whole(frames.len()));
    for frame in frames {
        rig.umem.free(frame);
    }
    assert_eq!(rig.rings.reclaim(), [0u32; 0], "frames in a device's queue do not come home");
    assert_eq!(rig.rings.outstanding(), Outstanding { rx: 0, tx: 8, begun: 0 });
    let Rig { umem, rings, .. } = rig;
    drop(rings);
    assert!(umem.is_whole([], 0), "they are known as stranded");
}

#[test]
fn an_empty_umem_and_a_full_fill_ring_end_the_refill() {
    let mut rig = Rig::new(0);
    assert_eq!(rig.rings.refill(&mut rig.umem, 5), 5);
    assert_eq!(rig.rings.refill(&mut rig.umem, 5), 0, "the target is reached");
    assert_eq!(rig.rings.refill(&mut rig.umem, 1000), 3, "the ring is full");
    let all: Vec<_> = std::iter::from_fn(|| rig.umem.alloc()).collect();
    assert_eq!(all.len() as u32, FRAMES - SIZE);
    while rig.kernel_receives(&[0; 60], 0) {}
    assert_eq!(rig.rings.refill(&mut rig.umem, SIZE), 0, "no frame is free");
    assert!(rig.is_whole(all.len()));
    all.into_iter().for_each(|frame| rig.umem.free(frame));
    rig.end();
}

#[test]
fn descriptors_that_cannot_be_are_no_tokens() {
    let mut rig = Rig::new(0);
    rig.rings.refill(&mut rig.umem, 2);
    assert!(rig.kernel_receives(&[1; 60], 0));
    let mut held = Vec::new();
    assert_eq!(rig.rings.receive(&mut rig.umem, &mut held, 9), 1);
    let address = rig.umem.region().address(rig.umem.region().index_of(&held[0]));
    rig.kernel_returns(address + 256, 60, 0); // the same chunk again
    rig.kernel_returns(u64::from(CHUNK * FRAMES), 60, 0); // beyond the UMEM
    rig.kernel_returns(u64::MAX, 60, 0);
    assert_eq!(rig.rings.receive(&mut rig.umem, &mut held, 9), 0);
    assert_eq!(rig.rings.counters.rx_invalid, 3);
    let lent = rig.fill.available();
    assert_eq!(lent, 1);
    let address = rig.fill.pop().unwrap();
    rig.kernel_returns(address + 256, CHUNK - 255, 0); // beyond its chunk
    assert_eq!(rig.rings.receive(&mut rig.umem, &mut held, 9), 0);
    assert_eq!(rig.rings.counters.rx_invalid, 4);
    assert!(rig.is_whole(1), "it is home");
    rig.completion.push(0); // never sent
    rig.completion.publish();
    assert_eq!(rig.rings.complete(&mut rig.umem), 0);
    assert_eq!(rig.rings.counters.tx_invalid, 1);
    held.into_iter().for_each(|frame| rig.umem.free(frame));
    rig.fill.release();
    rig.end();
}

#[test]
fn a_frame_too_short_to_send_comes_home() {
    let mut rig = Rig::new(0);
    let mut frames = vec![rig.frame(13), rig.frame(14)];
    assert_eq!(rig.rings.transmit(&mut rig.umem, &mut frames), 2);
    assert_eq!((rig.rings.counters.tx_short, rig.rings.counters.tx_frames), (1, 1));
    assert_eq!(rig.kernel_sends().unwrap().len, 14);
    assert_eq!(rig.rings.complete(&mut rig.umem), 1);
    rig.rings.refill(&mut rig.umem, 0);
    assert!(rig.kernel_sends().is_none());
    rig.end();
}

#[test]
fn what_the_kernel_never_took_is_reclaimed_across_the_wrap() {
    let mut rig = Rig::new(2);
    rig.rings.refill(&mut rig.umem, 4);
    let mut frames: Vec<_> = (0..5).map(|_| rig.frame(60)).collect();
    rig.rings.transmit(&mut rig.umem, &mut frames);
    rig.kernel_sends().unwrap();
    rig.rings.complete(&mut rig.umem);
    assert_eq!(rig.rings.outstanding(), Outstanding { rx: 4, tx: 4, begun: 0 });
    rig.end();
}

#[test]
fn the_wakeup_flags_are_read_from_the_rings() {
    let rig = Rig::new(0);
    assert!(!rig.rings.fill_needs_wakeup() && !rig.rings.tx_needs_wakeup());
    rig.rings.fill.ask_for_wakeup(true);
    assert!(rig.rings.fill_needs_wakeup() && !rig.rings.tx_needs_wakeup());
    rig.rings.tx.ask_for_wakeup(true);
    rig.rings.fill.ask_for_wakeup(false);
    assert!(!rig.rings.fill_needs_wakeup() && rig.rings.tx_needs_wakeup());
    rig.end();
}

#[test]
#[should_panic(expected = "not of")]
fn a_frame_of_another_umem_is_refused() {
    let mut rig = Rig::new(0);
    let mut other = Umem::new(4, CHUNK).unwrap();
    rig.rings.transmit(&mut rig.umem, &mut vec![other.alloc().unwrap()]);
}

#[path = "chain_tests.rs"]
mod chains;
