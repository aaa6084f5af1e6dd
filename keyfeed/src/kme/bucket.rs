use std::time::Instant;

/// How many keys the store holds: it fills at a constant rate up to a maximum. Time is the caller's.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Keys, with the part of the next that is already there.
    level: f64,
    /// Keys per second.
    rate: f64,
    max: f64,
    filled_at: Instant,
}

impl Bucket {
    pub(super) fn new(initial: u64, rate: f64, max: u64, now: Instant) -> Self {
        Bucket { level: initial as f64, rate, max: max as f64, filled_at: now }
    }

    /// Whole keys in the store.
    pub(super) fn count(&mut self, now: Instant) -> u64 {
        self.fill(now);
        self.level as u64
    }

    /// Takes `keys` out, all or none.
    pub(super) fn take(&mut self, keys: u64, now: Instant) -> bool {
        let enough = self.count(now) >= keys;
        if enough {
            self.level -= keys as f64;
        }
        enough
    }

    /// Puts back what was taken and not delivered.
    pub(super) fn give_back(&mut self, keys: u64) {
        self.level = (self.level + keys as f64).min(self.max);
    }

    fn fill(&mut self, now: Instant) {
        let grown = now.saturating_duration_since(self.filled_at).as_secs_f64() * self.rate;
        self.level = (self.level + grown).min(self.max);
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_fills_at_its_rate_up_to_its_maximum() {
        let start = Instant::now();
        let mut bucket = Bucket::new(0, 4.0, 10, start);
        assert_eq!(bucket.count(start + Duration::from_millis(200)), 0);
        assert_eq!(bucket.count(start + Duration::from_millis(500)), 2, "parts of a key add up");
        assert_eq!(bucket.count(start + Duration::from_secs(3600)), 10);
    }

    #[test]
    fn it_gives_all_or_nothing() {
        let now = Instant::now();
        let mut bucket = Bucket::new(5, 0.0, 10, now);
        assert!(!bucket.take(6, now));
        assert!(bucket.take(5, now));
        assert!(!bucket.take(1, now));
        bucket.give_back(20);
        assert_eq!(bucket.count(now), 10);
    }

    #[test]
    fn time_never_runs_backwards() {
        let later = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::new(0, 1.0, 100, later);
        assert_eq!(bucket.count(later - Duration::from_secs(5)), 0);
        assert_eq!(bucket.count(later + Duration::from_secs(2)), 2);
    }
}
