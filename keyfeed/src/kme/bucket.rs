use std::time::Instant;

/// How many keys the store holds: it fills at a rate up to a maximum, evenly or in blocks as privacy amplification yields
/// them. Time is the caller's.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Keys, with the part of the next that is already there.
    level: f64,
    /// Keys per second.
    rate: f64,
    max: f64,
    /// Keys of one block; 1 or less is evenly.
    block: f64,
    /// Keys of the block that is not yet whole.
    coming: f64,
    filled_at: Instant,
}

impl Bucket {
    pub(super) fn new(initial: u64, rate: f64, max: u64, block: u64, now: Instant) -> Self {
        Bucket {
            level: initial as f64,
            rate,
            max: max as f64,
            block: block as f64,
            coming: 0.0,
            filled_at: now,
        }
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

    /// Fills at another rate from now on.
    pub(super) fn set_rate(&mut self, rate: f64, now: Instant) {
        self.fill(now);
        self.rate = rate;
    }

    /// Loses all keys, the coming block included.
    pub(super) fn clear(&mut self, now: Instant) {
        self.fill(now);
        (self.level, self.coming) = (0.0, 0.0);
    }

    fn fill(&mut self, now: Instant) {
        self.coming += now.saturating_duration_since(self.filled_at).as_secs_f64() * self.rate;
        let whole = if self.block > 1.0 { self.coming - self.coming % self.block } else { self.coming };
        self.coming -= whole;
        self.level = (self.level + whole).min(self.max);
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
        let mut bucket = Bucket::new(0, 4.0, 10, 0, start);
        assert_eq!(bucket.count(start + Duration::from_millis(200)), 0);
        assert_eq!(bucket.count(start + Duration::from_millis(500)), 2, "parts of a key add up");
        assert_eq!(bucket.count(start + Duration::from_secs(3600)), 10);
    }

    #[test]
    fn it_gives_all_or_nothing() {
        let now = Instant::now();
        let mut bucket = Bucket::new(5, 0.0, 10, 0, now);
        assert!(!bucket.take(6, now));
        assert!(bucket.take(5, now));
        assert!(!bucket.take(1, now));
        bucket.give_back(20);
        assert_eq!(bucket.count(now), 10);
    }

    #[test]
    fn blocks_come_whole() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut bucket = Bucket::new(0, 2.0, 1000, 50, start);
        assert_eq!((bucket.count(at(24)), bucket.count(at(25)), bucket.count(at(49))), (0, 50, 50));
        bucket.set_rate(100.0, at(49));
        assert_eq!(bucket.count(at(50)), 150, "98 + 100 keys in whole blocks");
        bucket.clear(at(50));
        assert_eq!(bucket.count(at(50)), 0);
        assert_eq!(bucket.count(at(51)), 100, "the part of a block is lost too");
    }

    #[test]
    fn a_rate_holds_from_its_moment_on() {
        let start = Instant::now();
        let mut bucket = Bucket::new(0, 1.0, 1000, 0, start);
        bucket.set_rate(0.0, start + Duration::from_secs(10));
        assert_eq!(bucket.count(start + Duration::from_secs(500)), 10);
    }

    #[test]
    fn time_never_runs_backwards() {
        let later = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::new(0, 1.0, 100, 0, later);
        assert_eq!(bucket.count(later - Duration::from_secs(5)), 0);
        assert_eq!(bucket.count(later + Duration::from_secs(2)), 2);
    }
}
