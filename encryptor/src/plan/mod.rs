//! Whether the key server can feed the rotation, and how long the keys at hand last when it cannot.
//!
//! Each direction of each link spends one key of 256 bits per rotation (`docs/protocol.md`, section 3). All that follows
//! is computed from that and from the rules of [`Supply`]: nothing is measured here.
//!
//! [`Supply`]: crate::epoch::Supply

mod budget;
mod outage;
mod page;
mod rate;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;

pub use budget::{Budget, Feed, KEY_BITS};
pub use outage::{Cover, MOST_KEYS, Wanted};
pub use rate::{BadRate, KeyRate};

/// What a plan is made for. Times and numbers beyond what the configuration allows are taken as the nearest that it does.
#[derive(Clone, Debug, Serialize)]
pub struct PlanInput {
    /// Age at which an epoch is replaced.
    #[serde(rename = "rotate_s", serialize_with = "as_seconds")]
    pub rotate: Duration,
    /// Age at which an epoch is no longer used.
    #[serde(rename = "hard_limit_s", serialize_with = "as_seconds")]
    pub hard_limit: Duration,
    /// Links that draw on the same pair of key servers, each in two directions.
    pub links: NonZeroU32,
    /// Keys of the quantum network that one delivered key costs: 1, unless [`PlanInput::rate`] is that of a network which
    /// relays each key over several quantum links of the same key supply.
    pub hops: NonZeroU32,
    /// What the key servers make; unknown to ETSI GS QKD 014, so the operator has to say.
    pub rate: Option<KeyRate>,
    /// Keys held ahead by each direction.
    pub pool: usize,
    /// Keys that the key servers have in store for these links (`stored_key_count`), both directions together.
    pub stored: Option<u64>,
    /// An outage that is to be ridden out.
    #[serde(rename = "outage_s", serialize_with = "as_optional_seconds")]
    pub outage: Option<Duration>,
}

/// What follows from a [`PlanInput`].
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// What it was made for.
    pub input: PlanInput,
    /// What is needed of the key servers in normal operation.
    pub budget: Budget,
    /// What a full pool lasts when the key server is out of reach.
    pub pool: Cover,
    /// What store and pool last when the key servers answer but make no keys.
    pub store: Option<Cover>,
    /// The pool for the wanted outage.
    pub wanted: Option<Wanted>,
}

impl Plan {
    /// Makes a plan.
    pub fn new(input: &PlanInput) -> Plan {
        let input = PlanInput {
            rotate: input.rotate.clamp(SHORTEST, LONGEST),
            hard_limit: input.hard_limit.min(LAST),
            pool: input.pool.min(MOST_KEYS),
            ..input.clone()
        };
        let budget = Budget::new(&input);
        let pool = Cover::of_pool(&input);
        Plan {
            store: input.stored.map(|stored| pool.after(budget::stored_last(&input, stored))),
            wanted: input.outage.map(|outage| Wanted::new(&input, outage)),
            input,
            budget,
            pool,
        }
    }

    /// Whether keys are made at least as fast as they are spent; `None` when the rate is not known.
    pub fn is_feasible(&self) -> Option<bool> {
        match self.budget.feed {
            Feed::Unknown => None,
            Feed::Ample | Feed::Tight => Some(true),
            Feed::Stretched | Feed::Stops => Some(false),
        }
    }
}

/// The shortest rotation that the configuration allows,
const SHORTEST: Duration = Duration::from_millis(100);
/// the longest,
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// and the longest hard limit.
const LAST: Duration = Duration::from_secs(7 * 24 * 3600);

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn as_optional_seconds<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}
