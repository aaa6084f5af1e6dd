//! Whether a process's memory and open files stay where they are.

use std::time::Duration;

use qhaul::lab::footprint::Footprint;

/// The shortest time in which a process may still grow to the size that its work needs.
const WARM_UP: Duration = Duration::from_secs(60);
/// Fewer looks at a process than this tell nothing of a trend.
const LEAST: usize = 30;
/// What one third may be above another and still be flat; see docs/performance.md.
pub(super) const FLAT_KIB: i64 = 1024;

/// What a process held at one moment of its life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Duration,
    pub(super) held: Footprint,
}

/// How the last third of a life differs from the first, its warm-up left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Trend {
    /// Of the medians of memory.
    pub(super) growth_kib: i64,
    /// Of the fewest open files: connections come and go, a leak stays.
    pub(super) more_files: i64,
}

impl Trend {
    /// Nothing, if the life was too short to tell.
    pub(super) fn of(samples: &[Sample]) -> Option<Trend> {
        let lived = samples.last()?.at;
        let warm = WARM_UP.max(lived / 5);
        let settled: Vec<Footprint> =
            samples.iter().filter(|sample| sample.at >= warm).map(|sample| sample.held).collect();
        if settled.len() < LEAST {
            return None;
        }
        let third = settled.len() / 3;
        let (first, last) = (&settled[..third], &settled[settled.len() - third..]);
        let fewest = |part: &[Footprint]| part.iter().map(|held| held.files).min().unwrap_or_default() as i64;
        Some(Trend { growth_kib: median(last) - median(first), more_files: fewest(last) - fewest(first) })
    }

    pub(super) fn is_flat(self) -> bool {
        self.growth_kib <= FLAT_KIB && self.more_files <= 0
    }
}

fn median(part: &[Footprint]) -> i64 {
    let mut resident: Vec<u64> = part.iter().map(|held| held.resident_kib).collect();
    resident.sort_unstable();
    resident[resident.len() / 2] as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look each second of a life that long, at what `resident_kib` and `files` say.
    fn life(seconds: u64, held: impl Fn(u64) -> (u64, usize)) -> Vec<Sample> {
        let look = |second| {
            let (resident_kib, files) = held(second);
            Sample { at: Duration::from_secs(second), held: Footprint { resident_kib, files } }
        };
        (0..seconds).map(look).collect()
    }

    #[test]
    fn growth_of_the_warm_up_is_none_and_a_short_life_tells_nothing() {
        let warming = |second: u64| (20_000 + 500 * second.min(60), 30);
        assert_eq!(Trend::of(&life(80, warming)), None);
        let trend = Trend::of(&life(300, warming)).unwrap();
        assert_eq!(trend, Trend { growth_kib: 0, more_files: 0 });
        assert!(trend.is_flat());
    }

    #[test]
    fn a_slow_leak_is_growth_and_noise_is_not() {
        let leak = |second: u64| (20_000 + 5 * second + second * 7919 % 300, 30);
        let trend = Trend::of(&life(600, leak)).unwrap();
        assert!((1200..2000).contains(&trend.growth_kib) && !trend.is_flat(), "{trend:?}");
        let noise = |second: u64| (20_000 + second * 7919 % 900, 30 + (second % 5) as usize);
        assert!(Trend::of(&life(600, noise)).unwrap().is_flat());
    }

    #[test]
    fn a_file_that_stays_open_is_growth() {
        let trend = Trend::of(&life(600, |second| (20_000, 30 + (second / 250) as usize))).unwrap();
        assert_eq!(trend, Trend { growth_kib: 0, more_files: 1 });
        assert!(!trend.is_flat());
    }
}
