//! How a packet gets from the worker whose queue it arrived on to the worker that owns its flow.
//!
//! Each worker has a box of parcels, made once. Whoever hands over takes an empty parcel of the owner's, copies the packet into
//! it and puts it into the owner's box; the owner copies it into a frame of its own and gives the parcel back. When no parcel is
//! empty the packet is dropped: a flood that arrives on one queue cannot take memory, and the owner's own queue is not held up.
//! Packets of one queue stay in order. Nobody takes a lock, and nothing is allocated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use mio::Waker;

/// A packet on its way.
#[derive(Debug)]
struct Parcel {
    room: Box<[u8]>,
    length: usize,
    /// The worker whose queue it arrived on.
    from: u8,
}

/// What waits for one worker.
#[derive(Debug)]
struct Mailbox {
    full: ArrayQueue<Parcel>,
    empty: ArrayQueue<Parcel>,
    asleep: AtomicBool,
    waker: Arc<Waker>,
}

/// A worker's part in handing over.
#[derive(Debug)]
pub struct Handover {
    number: u8,
    boxes: Arc<[Mailbox]>,
    /// Workers that something was handed to since the last [`Handover::wake`].
    told: u32,
}

impl Handover {
    /// The parts of all workers, by number. `wakers` end their sleep; each box has `parcels` parcels of `size` bytes.
    pub fn between(wakers: &[Arc<Waker>], parcels: usize, size: usize) -> Vec<Handover> {
        let boxes: Arc<[Mailbox]> =
            wakers.iter().map(|waker| Mailbox::new(waker.clone(), parcels, size)).collect();
        (0..wakers.len() as u8).map(|number| Handover { number, boxes: boxes.clone(), told: 0 }).collect()
    }

    /// Hands a packet to its owner. False: its box is full, or the packet is too long.
    pub fn give(&mut self, owner: u8, packet: &[u8]) -> bool {
        let mailbox = &self.boxes[usize::from(owner)];
        let Some(mut parcel) = mailbox.empty.pop() else { return false };
        let fits = packet.len() <= parcel.room.len();
        if fits {
            parcel.room[..packet.len()].copy_from_slice(packet);
            (parcel.length, parcel.from) = (packet.len(), self.number);
            self.told |= 1 << owner;
        }
        let to = if fits { &mailbox.full } else { &mailbox.empty };
        // There are no more parcels than either queue holds.
        let kept = to.push(parcel).is_ok();
        fits && kept
    }

    /// Wakes the workers that something was handed to, if they sleep. Once for each burst.
    pub fn wake(&mut self) {
        if self.told == 0 {
            return;
        }
        // Either this sees that the owner sleeps, or the owner sees the parcel before it does.
        fence(Ordering::SeqCst);
        for (number, mailbox) in self.boxes.iter().enumerate() {
            let told = self.told >> number & 1 == 1;
            if told && mailbox.asleep.load(Ordering::Relaxed) && mailbox.asleep.swap(false, Ordering::Relaxed)
            {
                // A worker that cannot be woken wakes by itself within a second.
                let _ = mailbox.waker.wake();
            }
        }
        self.told = 0;
    }

    /// Takes the next packet that was handed to this worker: `take` gets it, and the worker whose queue it arrived on. None:
    /// there is none.
    pub fn take<T>(&mut self, take: impl FnOnce(&[u8], u8) -> T) -> Option<T> {
        let mailbox = &self.boxes[usize::from(self.number)];
        let parcel = mailbox.full.pop()?;
        let taken = take(&parcel.room[..parcel.length], parcel.from);
        let back = mailbox.empty.push(parcel);
        debug_assert!(back.is_ok(), "there are no more parcels than the queue holds");
        Some(taken)
    }

    /// Says that this worker is about to sleep. False: something has come, so it must not.
    pub fn may_sleep(&self) -> bool {
        let mailbox = &self.boxes[usize::from(self.number)];
        mailbox.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        mailbox.full.is_empty()
    }

    /// Says that this worker is awake.
    pub fn awake(&self) {
        self.boxes[usize::from(self.number)].asleep.store(false, Ordering::Relaxed);
    }
}

impl Mailbox {
    fn new(waker: Arc<Waker>, parcels: usize, size: usize) -> Mailbox {
        let (full, empty) = (ArrayQueue::new(parcels), ArrayQueue::new(parcels));
        for _ in 0..parcels {
            let _ = empty.push(Parcel { room: vec![0; size].into(), length: 0, from: 0 });
        }
        Mailbox { full, empty, asleep: AtomicBool::new(false), waker }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    use mio::{Events, Poll, Token};

    fn pair(parcels: usize, size: usize) -> ([Handover; 2], Poll) {
        let poll = Poll::new().unwrap();
        let other = Poll::new().unwrap();
        let wakers = [&other, &poll].map(|poll| Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        (Handover::between(&wakers, parcels, size).try_into().unwrap(), poll)
    }

    #[test]
    fn packets_come_in_order_and_a_full_box_or_a_long_packet_is_refused() {
        let ([mut from, mut to], _poll) = pair(2, 8);
        assert!(!from.give(1, &[1; 9]), "too long");
        assert!(from.give(1, b"one") && from.give(1, b"two") && !from.give(1, b"three"));
        let mut take = || to.take(|packet, from| (packet.to_vec(), from));
        assert_eq!([take(), take(), take()], [Some((b"one".to_vec(), 0)), Some((b"two".to_vec(), 0)), None]);
        assert!(from.give(1, b"four"), "parcels come back");
    }

    #[test]
    fn a_sleeper_is_woken_and_nobody_falls_asleep_over_a_packet() {
        let ([mut from, mut to], mut poll) = pair(2, 8);
        assert!(to.may_sleep());
        from.give(1, b"x");
        from.wake();
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
        assert!(!events.is_empty());
        to.awake();
        assert!(!to.may_sleep(), "the packet is still there");
        to.take(|_, _| ());
        assert!(to.may_sleep());
    }

    /// Two threads, each asleep whenever it may: none of the packets is overslept.
    #[test]
    fn no_wake_up_is_lost() {
        let ([mut from, mut to], mut poll) = pair(64, 8);
        let sender = std::thread::spawn(move || {
            for number in 0..20_000_u32 {
                while !from.give(1, &number.to_be_bytes()) {
                    std::thread::yield_now();
                }
                from.wake();
            }
        });
        let (mut next, mut events, start) = (0_u32, Events::with_capacity(1), Instant::now());
        while next < 20_000 {
            match to.take(|packet, _| u32::from_be_bytes(packet.try_into().unwrap())) {
                Some(number) => {
                    assert_eq!(number, next);
                    next += 1;
                }
                None if to.may_sleep() => {
                    poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
                    assert!(start.elapsed() < Duration::from_secs(19), "overslept packet {next}");
                    to.awake();
                }
                None => to.awake(),
            }
        }
        sender.join().unwrap();
    }
}
