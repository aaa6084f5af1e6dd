//! When frames are due at a constant rate.

use std::time::Duration;

/// What a generator may catch up on: the scheduler keeps it off a shared core for a few milliseconds at a time. What it missed in a longer
/// absence, whether the scheduler's or the host's, would be a burst that nobody asked for, and the device under test would have to
/// answer for it.
const CATCH_UP: Duration = Duration::from_millis(5);

/// A schedule that gives up what it fell behind by more than [`CATCH_UP`].
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Packets per second.
    rate: f64,
    /// How much later than planned everything is due.
    given_up: f64,
}

impl Pace {
    pub(super) fn new(rate: f64) -> Pace {
        Pace { rate, given_up: 0.0 }
    }

    /// How many frames are due by `now`, since the start, if `sent` have gone.
    pub(super) fn due(&mut self, now: Duration, sent: u64) -> u64 {
        let behind = now.as_secs_f64() - self.given_up - sent as f64 / self.rate;
        self.given_up += (behind - CATCH_UP.as_secs_f64()).max(0.0);
        ((now.as_secs_f64() - self.given_up) * self.rate) as u64 + 1
    }

    /// When frame number `sent` is due, since the start.
    pub(super) fn when(&self, sent: u64) -> Duration {
        Duration::from_secs_f64(sent as f64 / self.rate + self.given_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn what_is_due_follows_the_clock() {
        let mut pace = Pace::new(100_000.0);
        assert_eq!(pace.due(Duration::ZERO, 0), 1, "the first at once");
        assert_eq!(pace.due(ms(1), 1), 101);
        assert_eq!(pace.due(ms(5), 101), 501, "a short absence is made good");
        assert_eq!(pace.when(501), Duration::from_micros(5010));
    }

    #[test]
    fn a_long_absence_is_no_burst_afterwards_and_shifts_what_follows() {
        let mut pace = Pace::new(100_000.0);
        let due = pace.due(ms(80), 1000);
        assert!((1500..=1502).contains(&due), "5 ms of frames and not 70: {due}");
        let due = pace.due(ms(81), 1500);
        assert!((1600..=1602).contains(&due), "the rate goes on as before: {due}");
        assert!((ms(80)..ms(82)).contains(&pace.when(1600)), "{:?}", pace.when(1600));
    }
}
