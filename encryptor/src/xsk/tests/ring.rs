use std::thread;

use crate::xsk::ring::in_memory;

#[test]
fn entries_arrive_in_order_while_the_counters_wrap() {
    for before_wrap in [0, 1, 3, 4, 5] {
        let (mut producer, mut consumer) = in_memory::<u64>(4, 0u32.wrapping_sub(before_wrap));
        for round in 0..10u64 {
            for entry in 0..3 {
                assert!(producer.room() > 0);
                producer.push(round * 3 + entry);
            }
            assert_eq!(consumer.available(), 0, "nothing is seen before it is published");
            producer.publish();
            assert_eq!((consumer.available(), producer.pending()), (3, 3));
            for entry in 0..3 {
                assert_eq!(consumer.pop(), Some(round * 3 + entry));
            }
            assert_eq!(consumer.pop(), None);
            assert_eq!(producer.pending(), 3, "nothing is given back before it is released");
            consumer.release();
            assert_eq!(producer.pending(), 0);
        }
    }
}

#[test]
fn full_and_empty_across_the_wrap() {
    let (mut producer, mut consumer) = in_memory::<u64>(8, u32::MAX - 2);
    assert_eq!((producer.room(), consumer.available()), (8, 0));
    (0..8).for_each(|entry| producer.push(entry));
    assert_eq!(producer.room(), 0);
    producer.publish();
    assert_eq!(consumer.available(), 8);
    assert_eq!(consumer.pop(), Some(0));
    consumer.release();
    assert_eq!(producer.room(), 1, "the other side's counter is read again");
    assert_eq!(producer.left_over(), (1..8).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "pushed beyond its room")]
fn pushing_into_a_full_ring_is_a_defect() {
    let (mut producer, _consumer) = in_memory::<u64>(2, u32::MAX);
    (0..3).for_each(|entry| producer.push(entry));
}

#[test]
fn two_threads_lose_nothing() {
    const COUNT: u64 = 200_000;
    let (mut producer, mut consumer) = in_memory::<u64>(64, u32::MAX - 1000);
    let sender = thread::spawn(move || {
        let mut next = 0;
        while next < COUNT {
            let room = u64::from(producer.room()).min(COUNT - next);
            (next..next + room).for_each(|entry| producer.push(entry));
            producer.publish();
            next += room;
            if room == 0 {
                thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while expected < COUNT {
        if consumer.available() == 0 {
            thread::yield_now();
        }
        while let Some(entry) = consumer.pop() {
            assert_eq!(entry, expected);
            expected += 1;
        }
        consumer.release();
    }
    sender.join().unwrap();
}
