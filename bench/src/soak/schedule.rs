//! What happens when: the undisturbed and disturbed phases again and again, and restarts of the sites at longer intervals.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use qhaul::lab::plan::Side;

use crate::flood::Kind;

/// Time between restarts of a site: lives are long enough to show what grows in them.
const RESTART_EACH: Duration = Duration::from_secs(600);
/// Rounds of restarts that each soak has, however short: one of each site.
const ROUNDS: u32 = 2;

/// A kind of phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Sort {
    /// Traffic and rotation, and nothing else.
    Steady,
    /// Forged packets.
    Flood,
    /// A key server is killed and started again.
    Kme,
    /// The link channel's TCP is cut, and nothing else.
    Channel,
    /// The backhaul is cut.
    Cut,
    /// A site is ended by SIGTERM and started again.
    Terminate,
    /// A site is ended by SIGKILL and started again.
    Kill,
}

/// One phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Steady,
    Flood(Kind),
    Kme(Side),
    Channel,
    Cut,
    Terminate(Side),
    Kill(Side),
}

impl Phase {
    fn sort(self) -> Sort {
        match self {
            Phase::Steady => Sort::Steady,
            Phase::Flood(_) => Sort::Flood,
            Phase::Kme(_) => Sort::Kme,
            Phase::Channel => Sort::Channel,
            Phase::Cut => Sort::Cut,
            Phase::Terminate(_) => Sort::Terminate,
            Phase::Kill(_) => Sort::Kill,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        f.write_str(&name(self.sort().to_possible_value()))?;
        match self {
            Phase::Flood(kind) => write!(f, " {}", name(kind.to_possible_value())),
            Phase::Kme(side) | Phase::Terminate(side) | Phase::Kill(side) => write!(f, " {side}"),
            Phase::Steady | Phase::Channel | Phase::Cut => Ok(()),
        }
    }
}

/// Gives one phase after the other until the time is up and each has been there.
pub(super) struct Schedule {
    total: Duration,
    restart_each: Duration,
    pass: Vec<Phase>,
    given: usize,
    restarts: Vec<Sort>,
    rounds: u32,
    due: VecDeque<Phase>,
}

impl Schedule {
    /// Of the named sorts and floods; all, unless some are named.
    pub(super) fn new(total: Duration, sorts: &[Sort], kinds: &[Kind]) -> Schedule {
        let kinds = if kinds.is_empty() { &Kind::ALL[..] } else { kinds };
        let floods = kinds.iter().map(|kind| Phase::Flood(*kind));
        let kmes = Side::BOTH.map(Phase::Kme);
        let pass = [Phase::Steady].into_iter().chain(floods).chain(kmes).chain([Phase::Channel, Phase::Cut]);
        let wanted = |sort: Sort| sorts.is_empty() || sorts.contains(&sort) || sort == Sort::Steady;
        Schedule {
            total,
            restart_each: RESTART_EACH.min(total / (ROUNDS + 1)),
            pass: pass.filter(|phase| wanted(phase.sort())).collect(),
            given: 0,
            restarts: [Sort::Terminate, Sort::Kill].into_iter().filter(|sort| wanted(*sort)).collect(),
            rounds: 0,
            due: VecDeque::new(),
        }
    }

    /// The next phase, `elapsed` after the start.
    pub(super) fn next(&mut self, elapsed: Duration) -> Option<Phase> {
        if self.due.is_empty() && elapsed >= self.restart_each * (self.rounds + 1) && !self.is_over(elapsed) {
            self.begin_round();
        }
        if let Some(phase) = self.due.pop_front() {
            return Some(phase);
        }
        if self.is_over(elapsed) && self.given >= self.pass.len() {
            return None;
        }
        let phase = self.pass[self.given % self.pass.len()];
        self.given += 1;
        Some(phase)
    }

    /// What is left of the time, if the phases of a first pass do not take longer.
    pub(super) fn left(&self, elapsed: Duration) -> Duration {
        self.total.saturating_sub(elapsed)
    }

    fn is_over(&self, elapsed: Duration) -> bool {
        elapsed >= self.total && self.rounds >= ROUNDS
    }

    /// The sites in turns; between two ends of a process, traffic that must be whole again.
    fn begin_round(&mut self) {
        let side = Side::BOTH[self.rounds as usize % 2];
        self.rounds += 1;
        for sort in &self.restarts {
            let phase = if *sort == Sort::Kill { Phase::Kill(side) } else { Phase::Terminate(side) };
            self.due.extend([phase, Phase::Steady]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All phases of a soak of which each takes so many seconds, with the second in which it begins.
    fn played(minutes: u64, seconds: u64, sorts: &[Sort]) -> Vec<(u64, Phase)> {
        let mut schedule = Schedule::new(Duration::from_secs(60 * minutes), sorts, &[]);
        let at = |number: u64| (number * seconds, Duration::from_secs(number * seconds));
        (0..).map(at).map_while(|(second, elapsed)| Some((second, schedule.next(elapsed)?))).collect()
    }

    #[test]
    fn each_phase_comes_however_short_the_time() {
        for minutes in [0, 2, 30] {
            let played = played(minutes, 7, &[]);
            let came = |wanted: Phase| played.iter().any(|(_, phase)| *phase == wanted);
            for kind in Kind::ALL {
                assert!(came(Phase::Flood(kind)), "{kind:?} within {minutes} minutes");
            }
            for side in Side::BOTH {
                assert!(came(Phase::Kme(side)) && came(Phase::Terminate(side)) && came(Phase::Kill(side)));
            }
            assert!(came(Phase::Steady) && came(Phase::Channel) && came(Phase::Cut));
            let last = played.last().unwrap().0;
            assert!(last + 7 >= 60 * minutes, "{last} s of {minutes} minutes");
        }
    }

    #[test]
    fn restarts_leave_lives_of_ten_minutes_and_a_steady_phase_behind_each() {
        let played = played(30, 5, &[]);
        let restarts: Vec<_> = played
            .windows(2)
            .filter(|pair| matches!(pair[0].1.sort(), Sort::Terminate | Sort::Kill))
            .inspect(|pair| assert_eq!(pair[1].1, Phase::Steady))
            .map(|pair| pair[0])
            .collect();
        let (a, b) = (Side::A, Side::B);
        let wanted = [
            (600, Phase::Terminate(a)),
            (610, Phase::Kill(a)),
            (1200, Phase::Terminate(b)),
            (1210, Phase::Kill(b)),
        ];
        assert_eq!(restarts, wanted);
    }

    #[test]
    fn what_is_not_wanted_is_left_out() {
        let sorts: Vec<Sort> =
            played(1, 5, &[Sort::Kill]).into_iter().map(|(_, phase)| phase.sort()).collect();
        assert!(sorts.iter().all(|sort| matches!(sort, Sort::Kill | Sort::Steady)), "{sorts:?}");
        assert_eq!(sorts.iter().filter(|sort| **sort == Sort::Kill).count(), 2);
        assert_eq!(Phase::Flood(Kind::BadIcv).to_string(), "flood bad-icv");
        assert_eq!(Phase::Kill(Side::B).to_string(), "kill b");
    }
}
