//! Both sites under seeded schedules of faults, with a virtual clock.
//!
//! Whatever happens to connections, probes, key servers and processes: one epoch never has two keys in use, no key
//! is installed twice for sending, no sender uses an epoch that its receiver gave up, and once faults stop traffic is
//! back on fresh keys.

mod parts;
mod world;

use std::time::Duration;

use parts::Faults;
use world::World;

/// Runs a schedule: a quiet start, faults, and quiet again.
fn survive(seed: u64, faults: Faults) {
    let mut world = World::new(seed);
    world.run(Duration::from_secs(5), &Faults::NONE);
    world.assert_active("at the start");
    world.run(Duration::from_secs(40), &faults);
    world.run(Duration::from_secs(15), &Faults::NONE);
    world.assert_active("after the faults");
    world.assert_rotating();
}

#[test]
fn rotation_every_second_without_faults() {
    let mut world = World::new(1);
    world.run(Duration::from_secs(100), &Faults::NONE);
    world.assert_active("all the time");
    for switches in world.switches() {
        assert!((90..=100).contains(&switches), "{switches} rotations in 100 s");
    }
}

#[test]
fn connections_that_break_at_any_moment() {
    (0..150).for_each(|seed| survive(seed, Faults { breaks: 0.02, ..Faults::NONE }));
}

#[test]
fn probes_that_are_lost() {
    (0..60).for_each(|seed| survive(seed, Faults { probe_loss: 0.7, ..Faults::NONE }));
}

#[test]
fn messages_that_are_repeated_or_overtaken() {
    (0..100).for_each(|seed| survive(seed, Faults { repeats: 0.1, overtakes: 0.1, ..Faults::NONE }));
}

#[test]
fn messages_that_come_too_late() {
    (0..100).for_each(|seed| survive(seed, Faults { holds: 0.15, ..Faults::NONE }));
}

#[test]
fn key_servers_that_fail_lose_or_change_keys() {
    (0..100).for_each(|seed| {
        survive(seed, Faults { key_outage: 0.3, key_lost: 0.2, key_wrong: 0.2, ..Faults::NONE })
    });
}

#[test]
fn processes_that_die() {
    (0..150).for_each(|seed| survive(seed, Faults { restarts: 0.004, ..Faults::NONE }));
}

#[test]
fn everything_at_once() {
    let faults = Faults {
        breaks: 0.01,
        probe_loss: 0.3,
        repeats: 0.03,
        overtakes: 0.03,
        holds: 0.03,
        key_outage: 0.1,
        key_lost: 0.1,
        key_wrong: 0.05,
        restarts: 0.002,
    };
    (0..300).for_each(|seed| survive(seed, faults));
}

#[test]
fn a_long_outage_of_the_key_servers_stretches_the_period_and_ends_by_itself() {
    let mut world = World::new(7);
    world.run(Duration::from_secs(5), &Faults::NONE);
    let before = world.switches();
    world.run(Duration::from_secs(30), &Faults { key_outage: 1.0, ..Faults::NONE });
    for (after, before) in world.switches().into_iter().zip(before) {
        // Eight keys were there: enough for eight epochs and not for one more.
        assert!((7..=9).contains(&(after - before)), "{} rotations", after - before);
    }
    world.run(Duration::from_secs(15), &Faults::NONE);
    world.assert_active("after the outage");
    world.assert_rotating();
}
