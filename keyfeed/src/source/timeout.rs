//! The time limit of a request, as sources' settings have it.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::SourceError;

/// Five seconds.
pub(crate) fn usual() -> Duration {
    Duration::from_secs(5)
}

/// Reads a number of seconds.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| de::Error::custom("a timeout is a number of seconds, such as 5"))
}

/// Refuses a limit that no request can keep.
pub(crate) fn check(timeout: Duration) -> Result<(), SourceError> {
    if timeout >= Duration::from_millis(10) {
        return Ok(());
    }
    let reason = "a request needs time; give at least 0.01 (seconds), 5 is usual".into();
    Err(SourceError::Setting { name: "timeout", reason })
}
