use super::*;
use crate::icmp::{ERRORS_PER_SECOND, Teller, Voice};
use crate::wire::{Ipv4, checksum};

/// What one packet carries in these tests: 1,414 bytes of frame, 1,400 of packet.
const LARGEST: usize = 1414;
const CHUNKS: u32 = 16;

fn v4(word: u16, payload: usize) -> Vec<u8> {
    let [high, low] = word.to_be_bytes();
    let length = (20 + payload as u16).to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 1, high, low, 64, 17, 0, 0];
    header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&[2; 12][..], &[8, 0], &header, &vec![7; payload]].concat()
}

fn v6(payload: usize) -> Vec<u8> {
    let length = (payload as u16).to_be_bytes();
    [&[2; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], 17, 64], &[0xfd; 32], &vec![7; payload]]
        .concat()
}

struct Rig {
    umem: Umem,
    fit: Fit,
    made: Made,
    router: Option<Voice>,
}

impl Rig {
    fn new(oversize: Oversize) -> Rig {
        let sizes = Sizes { oversize, mss_clamp: false };
        let umem = Umem::new(CHUNKS, 2048).unwrap();
        Rig { umem, fit: Fit::new(sizes, LARGEST), made: Made::default(), router: None }
    }

    /// How many fragments, or the reason; lengths of the fragments; how many answers.
    fn handle(&mut self, bytes: &[u8], now: Instant) -> (Result<usize, DropReason>, Vec<usize>, usize) {
        let mut frame = self.umem.alloc().unwrap();
        assert!(frame.fill_from(bytes));
        let outcome = self.fit.handle(frame, &mut self.umem, &mut self.made, self.router.as_mut(), now);
        let lengths = self.made.fragments.iter().map(Frame::len).collect();
        let replies = self.made.replies.len();
        let made = self.made.fragments.drain(..).chain(self.made.replies.drain(..));
        made.for_each(|frame| self.umem.free(frame));
        assert_eq!(self.umem.available(), CHUNKS);
        (outcome, lengths, replies)
    }
}

#[test]
fn each_rule_treats_each_packet_as_the_table_says() {
    let cut = (Ok(2), vec![LARGEST - 4, 14 + 20 + 104], 0);
    let told = (Err(DropReason::TooBig), vec![], 1);
    let dropped = (Err(DropReason::TooBig), vec![], 0);
    let arp = [&[2; 12][..], &[8, 6], &[0; 1500]].concat();
    let packets = [v4(0, 1480), v4(0x4000, 1480), v6(1460), arp];
    for (rule, expected) in [
        (Oversize::Icmp, [&dropped, &told, &told, &dropped]),
        (Oversize::Fragment, [&cut, &told, &told, &dropped]),
        (Oversize::Drop, [&dropped; 4]),
    ] {
        for (number, (packet, expected)) in packets.iter().zip(expected).enumerate() {
            let outcome = Rig::new(rule).handle(packet, Instant::now());
            assert_eq!(outcome, *expected, "{rule:?}, packet {number}");
        }
    }
}

#[test]
fn a_tag_takes_its_bytes_from_the_packet() {
    let plain = v4(0, 1480);
    let tagged = [&plain[..12], &[0x81, 0, 0, 100], &plain[12..]].concat();
    let mut rig = Rig::new(Oversize::Fragment);
    let mut frame = rig.umem.alloc().unwrap();
    assert!(frame.fill_from(&tagged));
    assert_eq!(rig.fit.handle(frame, &mut rig.umem, &mut rig.made, None, Instant::now()), Ok(2));
    for fragment in &rig.made.fragments {
        assert!(fragment.len() <= LARGEST);
        assert_eq!(fragment.data()[..18], tagged[..18]);
        assert!(Ipv4::parse(&fragment.data()[18..]).is_some());
    }
    rig.made.fragments.drain(..).for_each(|frame| rig.umem.free(frame));
}

#[test]
fn errors_are_limited_and_come_back_with_time() {
    let mut rig = Rig::new(Oversize::Icmp);
    let start = Instant::now();
    let told = (0..300).map(|_| rig.handle(&v6(1460), start).2).sum::<usize>();
    assert_eq!(told, ERRORS_PER_SECOND as usize);
    // What may not be answered takes none of them.
    let later = start + std::time::Duration::from_secs(1);
    (0..300).for_each(|_| assert_eq!(rig.handle(&v4(0, 1480), later).2, 0));
    assert_eq!((0..300).map(|_| rig.handle(&v6(1460), later).2).sum::<usize>(), ERRORS_PER_SECOND as usize);
}

#[test]
fn a_router_tells_by_its_own_name_and_within_its_own_bounds() {
    let mut rig = Rig::new(Oversize::Fragment);
    let teller = Teller { v4: Some([10, 0, 0, 254].into()), v6: Some([0xfe; 16].into()) };
    let mut router = Voice::new(teller);
    let now = Instant::now();
    for (packet, at, source) in [(v4(0x4000, 1480), 26, &[10, 0, 0, 254][..]), (v6(1460), 22, &[0xfe; 16])] {
        let mut frame = rig.umem.alloc().unwrap();
        assert!(frame.fill_from(&packet));
        let outcome = rig.fit.handle(frame, &mut rig.umem, &mut rig.made, Some(&mut router), now);
        assert_eq!(outcome, Err(DropReason::TooBig));
        let reply = rig.made.replies.pop().expect("an answer");
        assert_eq!(reply.data()[at..at + source.len()], *source);
        rig.umem.free(reply);
    }
    rig.router = Some(router);
    let told = (0..300).map(|_| rig.handle(&v6(1460), now).2).sum::<usize>();
    assert_eq!(told, ERRORS_PER_SECOND as usize - 2, "what it told before counts");
}

#[test]
fn without_buffers_a_frame_is_dropped_whole() {
    let mut rig = Rig::new(Oversize::Fragment);
    let mut frame = rig.umem.alloc().unwrap();
    assert!(frame.fill_from(&v4(0, 1480)));
    let hoard: Vec<Frame> = (0..CHUNKS - 2).map(|_| rig.umem.alloc().unwrap()).collect();
    let outcome = rig.fit.handle(frame, &mut rig.umem, &mut rig.made, None, Instant::now());
    assert_eq!((outcome, rig.made.fragments.len(), rig.umem.available()), (Err(DropReason::NoBuffer), 0, 2));
    hoard.into_iter().for_each(|frame| rig.umem.free(frame));
}

#[test]
fn a_frame_that_fits_but_has_no_room_around_it_is_not_answered() {
    assert_eq!(Rig::new(Oversize::Fragment).handle(&v6(1300), Instant::now()).2, 0);
}
