//! A token bucket: so many derivations a second for SPIs that were never seen, so that forged ones cannot eat the core.

use std::time::{Duration, Instant};

/// Tokens, and how fast they come back.
#[derive(Debug)]
pub struct Budget {
    tokens: u32,
    most: u32,
    per_second: u32,
    last: Option<Instant>,
}

impl Budget {
    /// A full bucket of `most` tokens that gains `per_second` tokens a second.
    pub fn new(most: u32, per_second: u32) -> Budget {
        Budget { tokens: most, most, per_second, last: None }
    }

    /// Lets time pass. A clock that stands still or goes back gives nothing.
    pub fn refill(&mut self, now: Instant) {
        let last = *self.last.get_or_insert(now);
        let passed = now.saturating_duration_since(last).min(Duration::from_secs(1));
        let gained = (passed.as_nanos() * u128::from(self.per_second) / 1_000_000_000) as u32;
        if gained > 0 {
            self.tokens = self.tokens.saturating_add(gained).min(self.most);
            self.last = Some(now);
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self) -> bool {
        let there = self.tokens > 0;
        self.tokens -= u32::from(there);
        there
    }

    /// Gives a token back: the packet that took it was genuine.
    pub fn refund(&mut self) {
        self.tokens = self.tokens.saturating_add(1).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_run_out_come_back_with_time_and_never_exceed_the_bucket() {
        let start = Instant::now();
        let mut budget = Budget::new(3, 100);
        budget.refill(start);
        assert_eq!([budget.take(), budget.take(), budget.take(), budget.take()], [true, true, true, false]);
        budget.refill(start + Duration::from_millis(9));
        assert!(!budget.take());
        budget.refill(start + Duration::from_millis(11));
        assert!(budget.take() && !budget.take());
        budget.refund();
        assert!(budget.take());
        budget.refill(start + Duration::from_secs(3600));
        assert_eq!([budget.take(), budget.take(), budget.take(), budget.take()], [true, true, true, false]);
        budget.refill(start);
        assert!(!budget.take());
    }
}
