//! Keys needed against keys made.

use std::time::Duration;

use serde::Serialize;

use super::{PlanInput, SHORTEST, as_optional_seconds};

/// Bits of a key.
pub const KEY_BITS: f64 = 256.0;
/// A link has two directions, each with keys of its own.
const DIRECTIONS: f64 = 2.0;
/// Above this share nothing much is left to fill the pools again after an outage.
const TIGHT: f64 = 0.8;
/// Of the rounding of floating-point numbers, so that a rate that is just enough is enough.
const ROUNDING: f64 = 1e-9;

/// Whether keys are made as fast as they are spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// The rate of the key servers is not known.
    Unknown,
    /// Yes, with a fifth or more to spare.
    Ample,
    /// Yes, but little is left to fill the pools again.
    Tight,
    /// No: the period stretches until the keys suffice.
    Stretched,
    /// No: even an epoch that is used up to the hard limit gets no successor in time, and traffic stops again and again.
    Stops,
}

/// Normal operation.
#[derive(Clone, Debug, Serialize)]
pub struct Budget {
    /// Keys per second that are needed: 2 x links x hops / rotation.
    pub needed_keys_per_s: f64,
    /// The same in bits: x 256.
    pub needed_bits_per_s: f64,
    /// Needed over made: 1 is all.
    pub share: Option<f64>,
    /// What follows.
    pub feed: Feed,
    /// The shortest rotation for which the keys suffice, rounded up to two digits; none when no keys are made.
    #[serde(rename = "shortest_rotate_s", serialize_with = "as_optional_seconds")]
    pub shortest: Option<Duration>,
    /// The shortest that leaves a fifth of the keys to fill the pools again, rounded likewise.
    #[serde(rename = "ample_rotate_s", serialize_with = "as_optional_seconds")]
    pub ample: Option<Duration>,
    /// How long empty pools take to fill while traffic runs; none when nothing is left to fill them.
    #[serde(rename = "refill_s", serialize_with = "as_optional_seconds")]
    pub refill: Option<Duration>,
}

impl Budget {
    pub(super) fn new(input: &PlanInput) -> Budget {
        let keys = keys_per_rotation(input);
        let needed = keys / input.rotate.as_secs_f64();
        let made = input.rate.map(|rate| rate.keys_per_second());
        let enough_at = made.map(|made| keys / made).filter(|period| period.is_finite());
        let feed = match (made, enough_at) {
            (None, _) => Feed::Unknown,
            (Some(made), _) if needed <= made * TIGHT => Feed::Ample,
            (Some(made), _) if needed <= made * (1.0 + ROUNDING) => Feed::Tight,
            (_, Some(period)) if period < input.hard_limit.as_secs_f64() => Feed::Stretched,
            _ => Feed::Stops,
        };
        let spare = made.map(|made| made - needed).filter(|_| matches!(feed, Feed::Ample | Feed::Tight));
        Budget {
            needed_keys_per_s: needed,
            needed_bits_per_s: needed * KEY_BITS,
            share: made.filter(|made| *made > 0.0).map(|made| needed / made),
            feed,
            shortest: enough_at.map(rounded_up),
            ample: enough_at.map(|exact| rounded_up(exact / TIGHT)),
            refill: spare
                .filter(|spare| *spare > needed * ROUNDING)
                .and_then(|spare| seconds(input.pool as f64 * keys / spare)),
        }
    }
}

/// How long `stored` keys last at the set rotation. They have been relayed already.
pub(super) fn stored_last(input: &PlanInput, stored: u64) -> Duration {
    let spent = DIRECTIONS * f64::from(input.links.get()) / input.rotate.as_secs_f64();
    seconds(stored as f64 / spent).unwrap_or(Duration::MAX)
}

/// Keys of the quantum network that are spent in each rotation, by both directions of all links.
fn keys_per_rotation(input: &PlanInput) -> f64 {
    DIRECTIONS * f64::from(input.links.get()) * f64::from(input.hops.get())
}

/// What no `Duration` can hold is for ever.
fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// Seconds, up to two significant digits, 100 ms at the least: what a person would write into the configuration.
fn rounded_up(exact: f64) -> Duration {
    let millis = (exact * 1e3 * (1.0 - ROUNDING)).max(SHORTEST.as_secs_f64() * 1e3);
    let unit = 10_f64.powf(millis.log10().floor() - 1.0);
    seconds((millis / unit).ceil() * unit / 1e3).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_rounded_up_to_two_digits() {
        let table =
            [(1, 100), (100, 100), (101, 110), (1000, 1000), (1024, 1100), (9999, 10_000), (83_200, 84_000)];
        for (exact, expected) in table {
            assert_eq!(rounded_up(f64::from(exact) / 1e3).as_millis(), expected, "{exact} ms");
        }
    }
}
