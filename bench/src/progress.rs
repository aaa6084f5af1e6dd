//! How far the bench is. Progress goes to standard error, so that rows can be read by programs.

use std::time::Instant;

/// Steps are weighed by the seconds that each is guessed to take; how wrong the guesses are shows as steps are done.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    total: f64,
    done: f64,
    /// Seconds that the steps which are done really took.
    took: f64,
}

impl Progress {
    /// For steps that are guessed to take `total` seconds.
    pub(crate) fn new(total: f64) -> Progress {
        Progress { started: Instant::now(), total, done: 0.0, took: 0.0 }
    }

    /// Tells what begins now, and the time that is left.
    pub(crate) fn say(&self, what: &str) {
        let spent = self.spent();
        eprintln!("[{spent:5.0} s, about {:.0} s left] {what}", self.left(spent));
    }

    /// Takes note that a step is done which was guessed to take so many seconds.
    pub(crate) fn done(&mut self, seconds: f64) {
        self.done += seconds;
        self.took = self.spent();
    }

    /// Takes note that steps come on top which are guessed to take so many seconds.
    pub(crate) fn more(&mut self, seconds: f64) {
        self.total += seconds;
    }

    fn spent(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn left(&self, spent: f64) -> f64 {
        let pace = if self.done > 0.0 { self.took / self.done } else { 1.0 };
        (pace * (self.total - self.done) - (spent - self.took)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_guessed_first_and_then_told_by_the_pace() {
        let at = |done, took| Progress { started: Instant::now(), total: 100.0, done, took };
        assert_eq!(at(0.0, 0.0).left(3.0), 97.0);
        assert_eq!(at(10.0, 20.0).left(20.0), 180.0);
        assert_eq!(at(10.0, 20.0).left(25.0), 175.0);
        assert_eq!(at(110.0, 90.0).left(90.0), 0.0);
        let mut longer = at(10.0, 20.0);
        longer.more(50.0);
        assert_eq!(longer.left(20.0), 280.0);
    }
}
