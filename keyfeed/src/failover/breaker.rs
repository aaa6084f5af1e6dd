use std::time::{Duration, Instant};

/// How long a source that fails is left alone. Free of I/O; time and chance are the caller's.
#[derive(Debug)]
pub(super) struct Breaker {
    pauses: Pauses,
    /// Failures in a row.
    failures: u32,
    /// Not to be asked before.
    rests_until: Option<Instant>,
}

/// Pauses between attempts at a source that fails: doubling from `first` to `longest`, each a quarter longer or shorter
/// by chance, so that many clients do not come back to a key server at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// After the first failure, and always after "no key now".
    pub first: Duration,
    /// However often it fails.
    pub longest: Duration,
}

impl Default for Pauses {
    /// 1 s doubling to 30 s.
    fn default() -> Self {
        Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(30) }
    }
}

impl Breaker {
    pub(super) fn new(pauses: Pauses) -> Self {
        Breaker { pauses, failures: 0, rests_until: None }
    }

    /// Whether the source may be asked.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.rests_until.is_none_or(|moment| now >= moment)
    }

    pub(super) fn succeeded(&mut self) {
        (self.failures, self.rests_until) = (0, None);
    }

    /// The source failed; `chance` is 0 to 1.
    pub(super) fn failed(&mut self, now: Instant, chance: f64) {
        let doubled = self.pauses.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        self.rest(now, doubled.min(self.pauses.longest), chance);
    }

    /// The source works and has no key now: it is asked again soon.
    pub(super) fn was_empty(&mut self, now: Instant, chance: f64) {
        self.failures = 0;
        self.rest(now, self.pauses.first, chance);
    }

    fn rest(&mut self, now: Instant, pause: Duration, chance: f64) {
        self.rests_until = Some(now + pause.mul_f64(0.75 + 0.5 * chance.clamp(0.0, 1.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(Pauses { first: SECOND, longest: 8 * SECOND })
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_success() {
        let mut now = Instant::now();
        let mut breaker = breaker();
        for pause in [1, 2, 4, 8, 8, 8] {
            assert!(breaker.allows(now));
            breaker.failed(now, 0.5);
            assert!(!breaker.allows(now + pause * SECOND - SECOND / 1000), "{pause}");
            now += pause * SECOND;
        }
        breaker.succeeded();
        breaker.failed(now, 0.5);
        assert!(breaker.allows(now + SECOND));
    }

    #[test]
    fn chance_moves_a_pause_by_a_quarter() {
        let now = Instant::now();
        for (chance, allowed, not) in [(0.0, 750, 749), (1.0, 1250, 1249)] {
            let mut breaker = breaker();
            breaker.failed(now, chance);
            assert!(breaker.allows(now + Duration::from_millis(allowed)));
            assert!(!breaker.allows(now + Duration::from_millis(not)));
        }
    }

    #[test]
    fn no_key_now_never_makes_the_pause_grow() {
        let mut now = Instant::now();
        let mut breaker = breaker();
        for _ in 0..5 {
            breaker.was_empty(now, 0.5);
            assert!(!breaker.allows(now));
            now += SECOND;
            assert!(breaker.allows(now));
        }
    }
}
