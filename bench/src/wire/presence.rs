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
        let now = Instant::now();
        self.longest = self.longest.max(now - self.last);
        self.last = now;
    }

    /// It slept of its own will.
    pub(super) fn woke(&mut self) {
        self.last = Instant::now();
    }

    /// The longest time from one turn of its loop to the next: the work of a turn, and what the scheduler or the host kept the core for.
    pub(super) fn longest_absence(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn a_time_without_a_note_is_an_absence_unless_it_was_meant() {
        let away = Duration::from_millis(20);
        let mut presence = Presence::new();
        sleep(away);
        presence.woke();
        presence.note();
        let meant = presence.longest_absence();
        sleep(away);
        presence.note();
        presence.note();
        assert!(presence.longest_absence() >= away);
        assert!(meant < presence.longest_absence());
    }
}
