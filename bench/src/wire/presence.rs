//! How long a thread that means to run all the time was kept from it.

use std::time::{Duration, Instant};

/// What a thread notes each time that it comes by.
#[derive(Debug)]
pub(super) struct Presence {
    last: Instant,
    longest: Duration,
}

impl Presence {
    /// From now on.
    pub(super) fn new() -> Presence {
        Presence { last: Instant::now(), longest: Duration::ZERO }
    }

    /// It runs.
    pub(super) fn note(&mut self) {
        self.note_at(Instant::now());
    }

    fn note_at(&mut self, now: Instant) {
        self.longest = self.longest.max(now - self.last);
        self.last = now;
    }

    /// It slept of its own will.
    pub(super) fn woke(&mut self) {
        self.woke_at(Instant::now());
    }

    fn woke_at(&mut self, now: Instant) {
        self.last = now;
    }

    /// The longest time from one turn of its loop to the next: the work of a turn, and what the scheduler or the host kept the core for.
    pub(super) fn longest_absence(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_note_is_an_absence_unless_it_was_meant() {
        let mut presence = Presence::new();
        let at = |milliseconds| presence.last + Duration::from_millis(milliseconds);
        let [slept, noted, late, later] = [at(500), at(501), at(521), at(524)];
        presence.woke_at(slept);
        presence.note_at(noted);
        assert_eq!(presence.longest_absence(), Duration::from_millis(1));
        presence.note_at(late);
        presence.note_at(later);
        assert_eq!(presence.longest_absence(), Duration::from_millis(20));
    }
}
