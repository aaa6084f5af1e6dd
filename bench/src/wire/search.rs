//! The search for the loss-free rate (RFC 2544 section 26.1): halving the interval between a rate that passed and one that
//! did not. It decides; who runs the trials is another matter.

/// Looks for the highest rate at which a trial loses nothing.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// The highest rate that passed, in packets per second.
    passed: f64,
    /// The lowest rate that did not.
    failed: f64,
    /// The interval at which the search ends, as a part of the rate.
    precision: f64,
    trials_left: u32,
}

impl Search {
    /// Between nothing and `most` packets per second; ends when the interval is below `precision` of the rate, or after
    /// `trials`.
    pub(super) fn new(most: f64, precision: f64, trials: u32) -> Search {
        Search { passed: 0.0, failed: most, precision, trials_left: trials }
    }

    /// The rate to try next; `None` at the end.
    pub(super) fn next(&mut self) -> Option<f64> {
        if self.trials_left == 0 || self.failed - self.passed <= self.precision * self.failed {
            return None;
        }
        self.trials_left -= 1;
        Some(f64::midpoint(self.passed, self.failed))
    }

    /// Takes note of a trial. `rate` is what was really offered: a generator that falls behind proves no more than that.
    pub(super) fn note(&mut self, rate: f64, lost: bool) {
        if lost {
            self.failed = self.failed.min(rate);
            // A lucky trial must not stand above an unlucky one.
            self.passed = self.passed.min(self.failed);
        } else {
            self.passed = self.passed.max(rate.min(self.failed));
        }
    }

    /// The highest rate that passed, 0 if none did.
    pub(super) fn result(&self) -> f64 {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: f64, most: f64, trials: u32) -> (f64, u32) {
        let mut search = Search::new(most, 0.01, trials);
        let mut count = 0;
        while let Some(rate) = search.next() {
            search.note(rate, rate > limit);
            count += 1;
        }
        (search.result(), count)
    }

    #[test]
    fn it_ends_just_below_the_limit() {
        for limit in [1_000.0, 77_777.0, 499_000.0] {
            let (found, trials) = run(limit, 500_000.0, 20);
            assert!(found <= limit && found > limit - 0.02 * limit.max(5_000.0), "{found} for {limit}");
            assert!(trials <= 20);
        }
    }

    #[test]
    fn it_ends_after_its_trials_and_a_path_that_loses_all_has_no_rate() {
        assert_eq!(run(0.0, 1e6, 5), (0.0, 5));
        let (found, trials) = run(1e9, 1e6, 4);
        assert_eq!((found, trials), (937_500.0, 4));
    }

    #[test]
    fn a_loss_below_a_rate_that_passed_takes_it_back() {
        let mut search = Search::new(100.0, 0.01, 10);
        search.note(80.0, false);
        search.note(60.0, true);
        assert!(search.result() <= 60.0);
    }
}
