//! How far the bench is. Progress goes to standard error, so that rows can be read by programs.

use std::time::Instant;

/// Steps are weighed by the seconds that each is guessed to take; how wrong the guesses are shows as steps are done.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    total: f64,
    done: f64,
}

impl Progress {
    /// For steps that are guessed to take `total` seconds.
    pub(super) fn new(total: f64) -> Progress {
        Progress { started: Instant::now(), total, done: 0.0 }
    }

    /// Tells what begins now, and the time that is left.
    pub(super) fn say(&self, what: &str) {
        let spent = self.started.elapsed().as_secs_f64();
        let left = left(spent, self.done, self.total);
        eprintln!("[{spent:5.0} s, about {left:.0} s left] {what}");
    }

    /// Takes note that a step is done which was guessed to take so many seconds.
    pub(super) fn done(&mut self, seconds: f64) {
        self.done += seconds;
    }
}

fn left(spent: f64, done: f64, total: f64) -> f64 {
    let pace = if done > 0.0 { spent / done } else { 1.0 };
    pace * (total - done).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_guessed_first_and_then_told_by_the_pace() {
        assert_eq!(left(3.0, 0.0, 100.0), 100.0);
        assert_eq!(left(20.0, 10.0, 100.0), 180.0);
        assert_eq!(left(30.0, 110.0, 100.0), 0.0);
    }
}
