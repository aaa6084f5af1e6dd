use super::*;
use crate::xsk::JUMBO;

const MORE: u32 = libc::XDP_PKT_CONTD;
/// Bytes of a piece as the kernel receives it.
const PIECE: usize = CHUNK as usize - 256;

/// `length` bytes, each of which depends on its place.
fn packet(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / 251) as u8).collect()
}

impl Rig {
    /// The kernel receives `packet` in as many chunks as it takes, or the first `pieces` of them.
    fn kernel_chains(&mut self, packet: &[u8], pieces: usize) {
        let all: Vec<&[u8]> = packet.chunks(PIECE).collect();
        for (number, piece) in all.iter().enumerate().take(pieces) {
            let more = if number + 1 < all.len() { MORE } else { 0 };
            assert!(self.kernel_receives(piece, more));
        }
    }

    fn received(&mut self) -> Vec<Frame> {
        let mut held = Vec::new();
        self.rings.receive(&mut self.umem, &mut held, usize::MAX);
        held
    }

    /// What the kernel is told to send next, its pieces joined, and how many there were.
    fn kernel_sends_frame(&mut self) -> (Vec<u8>, usize) {
        let (mut joined, mut pieces) = (Vec::new(), 0);
        loop {
            let sent = self.kernel_sends().expect("a frame ends");
            let (index, head) = self.umem.region().locate(sent.addr);
            assert!(u32::from(head) + sent.len <= CHUNK, "a piece within its chunk");
            // SAFETY: the chunk is in the rings, so it is the kernel's, whom the test plays.
            let piece = unsafe { self.umem.region().token(index, head, sent.len as u16) };
            joined.extend_from_slice(piece.data());
            pieces += 1;
            if sent.options & MORE == 0 {
                return (joined, pieces);
            }
        }
    }
}

#[test]
fn a_frame_of_any_length_crosses_in_one_piece() {
    let mut rig = Rig::new(1000);
    let border = [14, 60, PIECE - 64, PIECE - 63, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1];
    for length in border.into_iter().chain((2048..=9216).step_by(97)).chain([9216]) {
        rig.rings.refill(&mut rig.umem, SIZE);
        let packet = packet(length);
        rig.kernel_chains(&packet, usize::MAX);
        let mut held = rig.received();
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].data(), held[0].headroom()), (&packet[..], 256), "length {length}");
        assert!(held[0].tailroom() >= 64, "length {length}");
        held[0].prepend(58).unwrap().fill(7);
        held[0].append(33).unwrap().fill(8);
        assert!(rig.is_whole(1), "length {length}");
        assert_eq!(rig.rings.transmit(&mut rig.umem, &mut held), 1);
        let (sent, pieces) = rig.kernel_sends_frame();
        assert_eq!(sent, [&[7; 58][..], &packet, &[8; 33]].concat(), "length {length}");
        assert_eq!(pieces, if length <= PIECE - 64 { 1 } else { (length + 91).div_ceil(CHUNK as usize) });
        rig.rings.complete(&mut rig.umem);
        assert!(rig.is_whole(0), "length {length}");
    }
    let PortCounters { rx_frames, tx_frames, rx_gathered, tx_scattered, .. } = rig.rings.counters;
    assert_eq!((rx_frames, rx_gathered), (tx_frames, tx_scattered));
    assert_eq!(rx_frames - rx_gathered, 3, "14, 60 and the last that leaves room behind it are not copied");
    rig.end();
}

#[test]
fn a_chain_that_is_cut_by_the_end_of_the_ring_goes_on_later() {
    let mut rig = Rig::new(1);
    rig.rings.refill(&mut rig.umem, SIZE);
    let (long, short) = (packet(2 * PIECE + 300), packet(60));
    rig.kernel_chains(&long, 1);
    assert_eq!(rig.received().len(), 0);
    assert_eq!(rig.rings.outstanding().begun, 1);
    assert!(rig.is_whole(0));
    assert!(rig.kernel_receives(&long[PIECE..2 * PIECE], MORE));
    assert_eq!(rig.received().len(), 0);
    assert!(rig.kernel_receives(&long[2 * PIECE..], 0));
    assert!(rig.kernel_receives(&short, 0));
    let held = rig.received();
    let packets: Vec<&[u8]> = held.iter().map(Frame::data).collect();
    assert_eq!(packets, [&long[..], &short]);
    held.into_iter().for_each(|frame| rig.umem.free(frame));
    // One that never ends goes home with the port.
    rig.kernel_chains(&long, 2);
    assert_eq!(rig.received().len(), 0);
    assert_eq!(rig.rings.counters.rx_frames, 2);
    rig.end();
}

#[test]
fn a_lost_chain_is_dropped_whole_and_counted_once() {
    let mut rig = Rig::new(5);
    let short = packet(60);
    let long = packet(3 * PIECE);
    let hoard: Vec<Frame> = std::iter::from_fn(|| rig.umem.alloc_jumbo()).collect();
    rig.rings.refill(&mut rig.umem, SIZE);
    rig.kernel_chains(&long, 3);
    rig.kernel_receives(&short, 0);
    let held = rig.received();
    assert_eq!(held.len(), 1, "what follows is whole");
    assert_eq!(rig.rings.counters.rx_no_jumbo, 1);
    assert!(rig.is_whole(1 + JUMBOS as usize));
    held.into_iter().chain(hoard).for_each(|frame| rig.umem.free(frame));

    rig.rings.refill(&mut rig.umem, SIZE);
    rig.kernel_chains(&packet(JUMBO as usize - 255), 7);
    rig.kernel_receives(&short, 0);
    let held = rig.received();
    assert_eq!((held.len(), rig.rings.counters.rx_too_long), (1, 1));
    held.into_iter().for_each(|frame| rig.umem.free(frame));

    for bad in 0..3 {
        rig.rings.refill(&mut rig.umem, SIZE);
        for number in 0..3 {
            let more = if number < 2 { MORE } else { 0 };
            if number == bad {
                rig.kernel_returns(u64::MAX, 60, more);
            } else {
                assert!(rig.kernel_receives(&short, more));
            }
        }
        assert_eq!(rig.received().len(), 0);
        assert_eq!(rig.rings.counters.rx_invalid, 1 + bad, "piece {bad} is none");
        assert!(rig.is_whole(0));
    }
    rig.end();
}

#[test]
fn a_frame_goes_into_the_ring_whole_or_not_at_all() {
    let mut rig = Rig::new(0);
    let jumbo = |rig: &mut Rig, length| {
        let mut frame = rig.umem.alloc_jumbo().unwrap();
        assert!(frame.fill_from(&packet(length)));
        frame
    };
    // Eight places: five pieces, then four that do not fit any more; the order is kept, so that the last one waits too.
    let mut frames = vec![jumbo(&mut rig, 9000), jumbo(&mut rig, 8000), rig.frame(60)];
    assert_eq!(rig.rings.transmit(&mut rig.umem, &mut frames), 1);
    assert_eq!((frames.len(), rig.rings.outstanding().tx), (2, 5));
    assert!(rig.is_whole(2));
    assert_eq!(rig.rings.transmit(&mut rig.umem, &mut frames), 0);
    assert_eq!(rig.kernel_sends_frame().0, packet(9000));
    rig.rings.complete(&mut rig.umem);
    // Without free chunks for its pieces it waits as well.
    let hoard: Vec<Frame> = (0..FRAMES - 4).map(|_| rig.umem.alloc().unwrap()).collect();
    assert_eq!(rig.rings.transmit(&mut rig.umem, &mut frames), 0, "one of 32 chunks is the short frame");
    hoard.into_iter().for_each(|frame| rig.umem.free(frame));
    assert_eq!(rig.rings.transmit(&mut rig.umem, &mut frames), 2);
    assert_eq!((rig.kernel_sends_frame().0, rig.kernel_sends_frame().1), (packet(8000), 1));
    rig.rings.complete(&mut rig.umem);
    assert!(rig.is_whole(0));
    rig.end();
}
