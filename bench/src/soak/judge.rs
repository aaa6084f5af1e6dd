//! What a phase of its kind must not show.

use std::time::{Duration, Instant};

use qhaul::lab::plan::Side;
use qhaul::lab::traffic::Passed;

use super::account::Account;
use super::play::Played;
use super::report::Row;
use super::schedule::Phase;
use crate::flood::is_overflow;

/// By so much may one queue be slower than another.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// The tap may have to wait for a core to hear of a switch.
const HEARD_WITHIN: Duration = Duration::from_millis(250);

/// Makes a row of what the counters and the programs saw of a phase. `at`, `left` and what the processes hold are to be
/// filled in.
pub(super) fn judge(
    phase: Phase,
    played: Played,
    passed: &[Passed; 2],
    mut account: Account,
    switches: &[Vec<Instant>; 2],
) -> Row {
    let mut reordered = 0;
    for (side, passed) in Side::BOTH.into_iter().zip(passed) {
        blame_frames(side, played, passed, &mut account);
        reordered += excuse_late(side, passed, &switches[side.index()], &mut account);
    }
    blame_strangers(passed, &mut account);
    let may_lose = may_lose(phase, &account);
    let (mut wrong, lost) = (std::mem::take(&mut account.wrong), account.lost());
    if lost > may_lose {
        wrong.push(format!("{lost} frames lost where {may_lose} may be"));
    }
    Row {
        bench: "soak",
        phase: phase.to_string(),
        at: 0,
        left: 0,
        sent: account.sent,
        received: account.received,
        lost,
        forged: played.forged,
        probes_lost: account.probes_lost,
        left_at: account.left_at,
        unexplained: account.unexplained,
        reordered,
        wrong,
        rotations: switches.iter().map(Vec::len).sum::<usize>() as u64,
        rss_kib: [0; 2],
        fds: [0; 2],
    }
}

/// Each frame by its number: lost while nothing was disturbed, or repeated.
fn blame_frames(from: Side, played: Played, passed: &Passed, account: &mut Account) {
    if let Some((began, ended)) = played.disturbed {
        let first = under_way(passed, began);
        let lost: Vec<_> = passed.lost().into_iter().map(|number| passed.sent[number as usize]).collect();
        let early = lost.iter().filter(|sent| **sent < first).count() as u64;
        account.blame(early, format!("lost from {from} before anything was disturbed"));
        let late = lost.iter().filter(|sent| **sent > ended).count() as u64;
        account.blame(late, format!("lost from {from} when all was well again"));
    }
    account.blame(passed.duplicates() as u64, format!("from {from} arrived twice"));
}

/// Frames sent since then may have been under way at `moment`. A machine that is busy elsewhere lets them wait for long: as
/// long as the last ones that had arrived by then.
fn under_way(passed: &Passed, moment: Instant) -> Instant {
    let arrived = passed.arrivals.iter().filter(|arrival| arrival.at <= moment);
    let newest = arrived.map(|arrival| passed.sent[arrival.number as usize]).max();
    newest.map_or(moment, |newest| newest.min(moment)) - UNDER_WAY
}

/// Frames that arrived behind one of their flow that was sent later. The switch of the keys may bring a flow to another worker of
/// the receiver, which overtakes one that waits for a core; where no switch was, nothing may.
fn excuse_late(from: Side, passed: &Passed, switches: &[Instant], account: &mut Account) -> u64 {
    let mut excused = 0;
    for late in passed.reordered() {
        let sent = passed.sent[late.number as usize];
        if switches.iter().any(|switch| (sent..late.at + HEARD_WITHIN).contains(switch)) {
            excused += 1;
        } else {
            let took = late.at.saturating_duration_since(sent);
            account.blame(1, format!("from {from} out of order in its flow, {took:?} after it was sent"));
        }
    }
    excused
}

/// The programs and the hosts' kernels must have counted the same frames.
fn blame_strangers(passed: &[Passed; 2], account: &mut Account) {
    let sum = |count: fn(&Passed) -> usize| passed.iter().map(count).sum::<usize>() as u64;
    let (sent, arrived) = (sum(|passed| passed.sent.len()), sum(|passed| passed.arrivals.len()));
    let (more, fewer) = (account.sent.abs_diff(sent), account.received.abs_diff(arrived));
    account.blame(more, "between programs and hosts, of what was sent".to_owned());
    account.blame(fewer, "between hosts and programs, of what arrived".to_owned());
}

/// Frames that may be lost, so long as all of them are explained.
fn may_lose(phase: Phase, account: &Account) -> u64 {
    match phase {
        Phase::Steady | Phase::Kme(_) | Phase::Channel => 0,
        Phase::Flood(_) => {
            let full = account.left_at.iter().filter(|(name, _)| is_overflow(name));
            full.map(|(_, count)| count).sum()
        }
        Phase::Cut | Phase::Terminate(_) | Phase::Kill(_) => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use qhaul::lab::traffic::Arrival;

    use super::*;

    /// 20 frames, one each 100 ms, of which those are missing.
    fn passed(began: Instant, missing: &[u64]) -> Passed {
        let sent: Vec<Instant> = (0..20).map(|number| began + Duration::from_millis(100 * number)).collect();
        let arrivals = (0..20).filter(|number| !missing.contains(number));
        let arrivals = arrivals.map(|number| Arrival { number, at: sent[number as usize] }).collect();
        Passed { flows: 4, sent, arrivals }
    }

    fn row(phase: Phase, disturbed: Option<(Instant, Instant)>, passed: &[Passed; 2]) -> Row {
        let sum = |count: fn(&Passed) -> usize| passed.iter().map(count).sum::<usize>() as u64;
        let (sent, received) = (sum(|passed| passed.sent.len()), sum(|passed| passed.arrivals.len()));
        let account = Account { sent, received, ..Account::default() };
        judge(phase, Played { forged: 0, disturbed }, passed, account, &Default::default())
    }

    #[test]
    fn a_disturbance_excuses_what_was_lost_while_it_lasted_and_nothing_else() {
        let began = Instant::now();
        let at = |tenths: u64| began + Duration::from_millis(100 * tenths + 50);
        let both = [passed(began, &[14, 15]), passed(began, &[])];
        let kill = Phase::Kill(Side::A);
        assert!(row(kill, Some((at(13), at(16))), &both).is_good());
        assert_eq!(row(kill, Some((at(13), at(14))), &both).unexplained, 1, "sent when all was well again");
        assert!(!row(Phase::Steady, None, &both).is_good(), "nothing was disturbed");
        let mut early = [passed(began, &[]), passed(began, &[1])];
        assert_eq!(row(kill, Some((at(13), at(16))), &early).unexplained, 1, "sent long before");
        early[1]
            .arrivals
            .iter_mut()
            .filter(|arrival| arrival.number > 4)
            .for_each(|arrival| arrival.at = at(19));
        assert!(
            row(kill, Some((at(13), at(16))), &early).is_good(),
            "the last that had arrived was not much younger"
        );
    }

    #[test]
    fn repeated_frames_are_never_excused_and_late_ones_by_a_switch_alone() {
        let began = Instant::now();
        let mut both = [passed(began, &[]), passed(began, &[])];
        assert!(row(Phase::Steady, None, &both).is_good());
        both[1].arrivals.swap(3, 7);
        assert!(!row(Phase::Cut, None, &both).is_good(), "3 and 7 are of one flow");
        let mut account = Account::default();
        let at = |tenths: u64| began + Duration::from_millis(100 * tenths + 50);
        let mut excused = |passed: &Passed, switch| excuse_late(Side::B, passed, &[switch], &mut account);
        both[1].arrivals[7].at = at(8);
        assert_eq!(excused(&both[1], at(2)), 0, "before it was sent");
        assert_eq!(excused(&both[1], at(5)), 1);
        assert_eq!(excused(&both[1], at(15)), 0, "long after it arrived");
        assert_eq!(account.unexplained, 2);
        let again = both[0].arrivals[19];
        both[0].arrivals.push(again);
        assert!(row(Phase::Cut, None, &both).unexplained >= 2);
    }
}
