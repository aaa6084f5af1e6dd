//! How long the keys at hand last.

use std::time::Duration;

use serde::Serialize;

use super::{PlanInput, as_seconds};
use crate::epoch::Supply;

/// Keys that a pool can be told to hold at the most (`keys.pool`).
pub const MOST_KEYS: usize = 4096;

/// An outage, from its first moment: the pools are full, and a rotation is due at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Cover {
    /// If the period were kept, until a rotation has no key.
    #[serde(rename = "at_set_rotation_s", serialize_with = "as_seconds")]
    pub at_set_rotation: Duration,
    /// With the period stretched as keys run short, until a rotation has no key.
    #[serde(rename = "stretched_s", serialize_with = "as_seconds")]
    pub stretched: Duration,
    /// Until the last epoch reaches its hard limit and traffic stops.
    #[serde(rename = "traffic_stops_s", serialize_with = "as_seconds")]
    pub traffic_stops: Duration,
}

/// What an outage asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Wanted {
    /// How long it is.
    #[serde(rename = "outage_s", serialize_with = "as_seconds")]
    pub outage: Duration,
    /// Keys to hold ahead so that it passes at the set rotation.
    pub pool_for_set_rotation: u64,
    /// Keys to hold ahead so that it passes without a lost frame; none when [`MOST_KEYS`] do not suffice.
    pub pool_for_traffic: Option<usize>,
    /// Whether the pool as it is suffices for that.
    pub is_covered: bool,
}

impl Cover {
    pub(super) fn of_pool(input: &PlanInput) -> Cover {
        Cover::of(input, input.pool)
    }

    fn of(input: &PlanInput, pool: usize) -> Cover {
        let PlanInput { rotate, hard_limit, .. } = *input;
        let stretched = (1..=pool).map(|ready| period(ready, pool, input)).sum::<Duration>();
        let last = if pool == 0 { rotate } else { period(1, pool, input) };
        Cover {
            at_set_rotation: rotate.saturating_mul(u32::try_from(pool).unwrap_or(u32::MAX)),
            stretched,
            // The last epoch began a period before the rotation that had no key.
            traffic_stops: stretched.saturating_add(hard_limit).saturating_sub(last),
        }
    }

    /// The same, if it begins only after `time`.
    pub(super) fn after(self, time: Duration) -> Cover {
        Cover {
            at_set_rotation: self.at_set_rotation.saturating_add(time),
            stretched: self.stretched.saturating_add(time),
            traffic_stops: self.traffic_stops.saturating_add(time),
        }
    }
}

impl Wanted {
    pub(super) fn new(input: &PlanInput, outage: Duration) -> Wanted {
        let passes = |pool: usize| Cover::of(input, pool).traffic_stops >= outage;
        Wanted {
            outage,
            pool_for_set_rotation: u64::try_from(outage.as_nanos().div_ceil(input.rotate.as_nanos()))
                .unwrap_or(u64::MAX),
            pool_for_traffic: smallest(passes),
            is_covered: passes(input.pool),
        }
    }
}

/// The smallest pool that passes, given that each larger one passes too.
fn smallest(passes: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (1, MOST_KEYS + 1);
    while low < high {
        let middle = low.midpoint(high);
        if passes(middle) { high = middle } else { low = middle + 1 }
    }
    (low <= MOST_KEYS).then_some(low)
}

/// For how long the epoch is used that takes one of `ready` keys.
fn period(ready: usize, pool: usize, input: &PlanInput) -> Duration {
    Supply::Plenty.next(ready, pool).period(input.rotate, input.hard_limit)
}
