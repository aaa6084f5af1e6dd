//! How the key supply stands, and how the rotation answers: stretch, alarm, and at last let the hard limit stop traffic.
//!
//! The order is fixed. Keys are never shared between epochs, and no input of the policy is ever left out.

use std::fmt;
use std::time::Duration;

/// The supply of keys that both sites hold for one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Supply {
    /// The pool fills for the first time on this connection.
    Filling,
    /// More than half of the pool's depth.
    Plenty,
    /// Half of it or less: the period doubles.
    Low,
    /// An eighth of it or less: the period is five times as long.
    Critical,
    /// No key: the epoch in use is used to its hard limit.
    Empty,
}

impl Supply {
    /// The state with `ready` of `depth` keys, after `self`.
    pub fn next(self, ready: usize, depth: usize) -> Supply {
        match ready {
            _ if 2 * ready > depth => Supply::Plenty,
            _ if self == Supply::Filling => Supply::Filling,
            0 => Supply::Empty,
            _ if 8 * ready <= depth => Supply::Critical,
            _ => Supply::Low,
        }
    }

    /// The period of rotation: stretched, but so that a successor is tried well before the hard limit.
    pub fn period(self, rotate: Duration, hard_limit: Duration) -> Duration {
        let factor = match self {
            Supply::Filling | Supply::Plenty => 1,
            Supply::Low => 2,
            Supply::Critical | Supply::Empty => 5,
        };
        (rotate * factor).min(hard_limit / 2).max(rotate)
    }

    /// Whether somebody should look after it.
    pub(super) fn alarms(self) -> bool {
        matches!(self, Supply::Low | Supply::Critical | Supply::Empty)
    }
}

impl fmt::Display for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Supply::Filling => "filling",
            Supply::Plenty => "plenty",
            Supply::Low => "low",
            Supply::Critical => "critical",
            Supply::Empty => "empty",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_the_level_once_the_pool_was_filled() {
        let levels = [0, 3, 8, 9, 16, 9, 8, 3, 2, 1, 0, 1, 16];
        let mut state = Supply::Filling;
        let states = levels.map(|ready| {
            state = state.next(ready, 16);
            state
        });
        use Supply::{Critical, Empty, Filling, Low, Plenty};
        let expected = [
            Filling, Filling, Filling, Plenty, Plenty, Plenty, Low, Low, Critical, Critical, Empty, Critical,
            Plenty,
        ];
        assert_eq!(states, expected);
        assert_eq!(Supply::Filling.next(1, 1), Plenty, "a pool of one key is full with one");
    }

    #[test]
    fn the_period_stretches_up_to_half_the_hard_limit_and_never_shrinks() {
        let seconds = Duration::from_secs;
        let periods = |hard| {
            [Supply::Plenty, Supply::Low, Supply::Critical].map(|s| s.period(seconds(10), seconds(hard)))
        };
        assert_eq!(periods(600), [seconds(10), seconds(20), seconds(50)]);
        assert_eq!(periods(60), [seconds(10), seconds(20), seconds(30)]);
        assert_eq!(periods(11), [seconds(10); 3]);
    }
}
