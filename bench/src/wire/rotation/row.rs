//! Turns of a rotation period, and the row that is made of them.

use std::time::Duration;

use serde::Serialize;

use crate::wire::latency::{Percentiles, median};
use crate::wire::options::queues_text;

/// What one turn showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Packets per second that were offered.
    pub(super) offered: f64,
    pub(super) lost: u64,
    pub(super) reordered: u64,
    pub(super) rotations: u64,
    /// What the host took of the time of all cores.
    pub(super) stolen: Duration,
    /// The longest time that an end of the path was kept from its core.
    pub(super) absent: Duration,
    pub(super) times: Percentiles,
}

/// Turns without rotation and with it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) still: Vec<Turn>,
    pub(super) rotating: Vec<Turn>,
}

/// Under what it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Terms {
    pub(super) subject: &'static str,
    pub(super) queues: u16,
    pub(super) rotate: String,
    pub(super) size: String,
    pub(super) flows: u16,
    pub(super) sustained_pps: f64,
    /// How often its turns were begun anew, at a lower rate each time.
    pub(super) begun_anew: u32,
}

/// What a rotation period cost, beside turns without rotation (`still`). Times are medians over the turns.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Rotation {
    bench: &'static str,
    #[serde(flatten)]
    terms: Terms,
    rate_pps: f64,
    rounds: usize,
    /// Over all turns, as are losses and frames that came behind later ones of their flow.
    rotations: u64,
    lost: u64,
    still_lost: u64,
    reordered: u64,
    still_reordered: u64,
    /// What the host took of the time of all cores, over all turns.
    stolen_ms: u64,
    still_stolen_ms: u64,
    /// The longest time in any turn that the generator or the sink, which share the gateways' cores, were kept from theirs.
    absent_ms: f64,
    still_absent_ms: f64,
    /// Lost packets over the offered rate, per rotation; for `still` per rotation of the other turns.
    blocked_us: Option<f64>,
    still_blocked_us: Option<f64>,
    rtt_p50_us: f64,
    still_rtt_p50_us: f64,
    rtt_p99_us: f64,
    still_rtt_p99_us: f64,
    rtt_p999_us: f64,
    still_rtt_p999_us: f64,
    figure: &'static str,
    value: f64,
    control: &'static str,
    control_value: f64,
    ratio: Option<f64>,
}

impl Rotation {
    /// `None` without any turns.
    pub(super) fn of(terms: Terms, still: &[Turn], rotating: &[Turn]) -> Option<Rotation> {
        let middle = |turns: &[Turn], of: fn(&Turn) -> f64| median(turns.iter().map(of));
        let sum = |turns: &[Turn], of: fn(&Turn) -> u64| turns.iter().map(of).sum::<u64>();
        let rotations = sum(rotating, |turn| turn.rotations);
        let rate_pps = middle(rotating, |turn| turn.offered)?;
        let [lost, still_lost] = [rotating, still].map(|turns| sum(turns, |turn| turn.lost));
        let [reordered, still_reordered] = [rotating, still].map(|turns| sum(turns, |turn| turn.reordered));
        let [stolen_ms, still_stolen_ms] =
            [rotating, still].map(|turns| sum(turns, |turn| turn.stolen.as_millis() as u64));
        let [absent_ms, still_absent_ms] = [rotating, still].map(|turns| {
            let longest = turns.iter().map(|turn| turn.absent).max().unwrap_or_default();
            longest.as_secs_f64() * 1e3
        });
        let (value, control_value) =
            (middle(rotating, |turn| turn.times.p999)?, middle(still, |turn| turn.times.p999)?);
        Some(Rotation {
            bench: "wire-rotation",
            terms,
            rate_pps,
            rounds: rotating.len(),
            rotations,
            lost,
            still_lost,
            reordered,
            still_reordered,
            stolen_ms,
            still_stolen_ms,
            absent_ms,
            still_absent_ms,
            blocked_us: blocked_us(lost, rate_pps, rotations),
            still_blocked_us: blocked_us(still_lost, middle(still, |turn| turn.offered)?, rotations),
            rtt_p50_us: middle(rotating, |turn| turn.times.p50)?,
            still_rtt_p50_us: middle(still, |turn| turn.times.p50)?,
            rtt_p99_us: middle(rotating, |turn| turn.times.p99)?,
            still_rtt_p99_us: middle(still, |turn| turn.times.p99)?,
            rtt_p999_us: value,
            still_rtt_p999_us: control_value,
            figure: "rtt_p999_us",
            value,
            control: "still",
            control_value,
            ratio: (control_value > 0.0).then(|| value / control_value),
        })
    }

    /// One line for a terminal.
    pub(in super::super) fn line(&self) -> String {
        let Rotation { terms, rate_pps, rotations, lost, still_lost, .. } = self;
        let Terms { subject, queues, rotate, size, sustained_pps, begun_anew, .. } = terms;
        let queues = queues_text(*queues);
        let anew = match begun_anew {
            0 => String::new(),
            times => format!(", begun anew {times} x"),
        };
        let us = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1} us"));
        format!(
            "rotation every {rotate:>5}, {subject}, {size} B on {queues}, {rate_pps:.0} pps (90 % of {sustained_pps:.0}{anew}): \
             {rotations} rotations, lost {lost} (still {still_lost}), blocked {} each (still {}), the host took {} ms (still {}), \
             cores kept for {:.1} ms (still {:.1}); \
             RTT {:.0} / {:.0} / {:.0} us (still {:.0} / {:.0} / {:.0}; p50, p99, p99.9), p99.9 {:.2} x still",
            us(self.blocked_us),
            us(self.still_blocked_us),
            self.stolen_ms,
            self.still_stolen_ms,
            self.absent_ms,
            self.still_absent_ms,
            self.rtt_p50_us,
            self.rtt_p99_us,
            self.rtt_p999_us,
            self.still_rtt_p50_us,
            self.still_rtt_p99_us,
            self.still_rtt_p999_us,
            self.ratio.unwrap_or(f64::NAN),
        )
    }
}

/// Nothing without a rotation.
fn blocked_us(lost: u64, rate: f64, rotations: u64) -> Option<f64> {
    (rotations > 0).then(|| lost as f64 / rate * 1e6 / rotations as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(lost: u64, rotations: u64, p999: f64) -> Turn {
        let times = Percentiles { p50: p999 / 4.0, p99: p999 / 2.0, p999, samples: 1000 };
        let [stolen, absent] = [10, 2].map(|each| Duration::from_millis(each * lost));
        Turn { offered: 100_000.0, lost, reordered: 1, rotations, stolen, absent, times }
    }

    fn terms() -> Terms {
        let (rotate, size) = ("1s".to_owned(), "512".to_owned());
        Terms {
            subject: "qhaul",
            queues: 1,
            rotate,
            size,
            flows: 16,
            sustained_pps: 111_111.0,
            begun_anew: 0,
        }
    }

    #[test]
    fn turns_with_rotation_stand_beside_those_without() {
        let still = [turn(0, 0, 80.0), turn(10, 0, 400.0), turn(0, 0, 100.0)];
        let rotating = [turn(20, 4, 300.0), turn(0, 5, 100.0), turn(0, 1, 200.0)];
        let rotation = Rotation::of(terms(), &still, &rotating).unwrap();
        assert_eq!((rotation.lost, rotation.still_lost, rotation.rotations), (20, 10, 10));
        assert_eq!((rotation.reordered, rotation.still_reordered), (3, 3));
        assert_eq!((rotation.stolen_ms, rotation.still_stolen_ms), (200, 100));
        assert_eq!((rotation.absent_ms, rotation.still_absent_ms), (40.0, 20.0), "the longest of all turns");
        assert_eq!((rotation.blocked_us, rotation.still_blocked_us), (Some(20.0), Some(10.0)));
        assert_eq!((rotation.value, rotation.control_value, rotation.ratio), (200.0, 100.0, Some(2.0)));
        assert_eq!((rotation.rtt_p50_us, rotation.still_rtt_p99_us), (50.0, 50.0));
        assert!(
            rotation
                .line()
                .contains("lost 20 (still 10), blocked 20.0 us each (still 10.0 us), the host took 200 ms")
        );
    }

    #[test]
    fn without_a_rotation_nothing_was_blocked_by_one() {
        let rotation = Rotation::of(terms(), &[turn(0, 0, 8.0)], &[turn(3, 0, 8.0)]).unwrap();
        assert_eq!(rotation.blocked_us, None);
        assert!(Rotation::of(terms(), &[], &[]).is_none());
    }

    #[test]
    fn a_lower_rate_shows() {
        let at = |begun_anew| {
            let terms = Terms { begun_anew, ..terms() };
            Rotation::of(terms, &[turn(0, 0, 8.0)], &[turn(0, 1, 8.0)]).unwrap().line()
        };
        assert!(at(0).contains("(90 % of 111111):") && at(2).contains("(90 % of 111111, begun anew 2 x):"));
    }

    #[test]
    fn a_row_in_json_names_what_programs_ask_for() {
        let rotation = Rotation::of(terms(), &[turn(0, 0, 8.0)], &[turn(3, 1, 8.0)]).unwrap();
        let row = serde_json::to_value(rotation).unwrap();
        for name in [
            "bench",
            "subject",
            "queues",
            "size",
            "flows",
            "figure",
            "value",
            "control",
            "control_value",
            "ratio",
        ] {
            assert!(row.get(name).is_some_and(|value| !value.is_null()), "{name} in {row}");
        }
    }
}
