//! What rotation costs: in turns with and without, at a rate at which those without lose nothing. What a turn with rotation loses is
//! then rotation's, and not the machine's.

use std::time::Duration;

use anyhow::{Context, Result};
use qhaul::lab::plan::Side;
use qhaul::lab::wait::check_interrupt;
use serde::Serialize;

use super::latency::{Percentiles, median, percentiles};
use super::measure::Bench;
use super::options::{Size, queues_text};
use super::subject::{Standing, Subject};
use super::{Run, cpu};

/// Size of the frames, in bytes without FCS.
pub(super) const SIZE: usize = 512;
/// The period of the turns without rotation: no turn takes so long.
const NEVER: &str = "1h";
/// From one try for a rate to the next.
const STEP_DOWN: f64 = 0.8;
/// Tries for a rate that holds.
const TRIES: i32 = 8;
/// The part of that rate at which rotation is measured.
const PART: f64 = 0.9;
/// How often turns are begun anew, at a rate as much lower, because one without rotation lost frames.
const ANEW: u32 = 3;

/// What one turn showed.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Packets per second that were offered.
    offered: f64,
    lost: u64,
    reordered: u64,
    rotations: u64,
    /// What the host took of the time of all cores.
    stolen: Duration,
    /// The longest time that an end of the path was kept from its core.
    absent: Duration,
    times: Percentiles,
}

/// Turns without rotation and with it.
#[derive(Debug, Default)]
struct Turns {
    still: Vec<Turn>,
    rotating: Vec<Turn>,
}

/// Under what it was measured.
#[derive(Clone, Debug, Serialize)]
struct Terms {
    subject: &'static str,
    queues: u16,
    rotate: String,
    size: String,
    flows: u16,
    sustained_pps: f64,
    /// How often its turns were begun anew, at a lower rate each time.
    begun_anew: u32,
}

/// What a rotation period cost, beside turns without rotation (`still`). Times are medians over the turns.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rotation {
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

impl Run<'_> {
    /// All periods. Without a rate that holds there is nothing to tell.
    pub(super) fn measure_rotations(&mut self) -> Result<()> {
        if self.options.rotate.is_empty() {
            return Ok(());
        }
        let subject = self.options.subject_of_rotation();
        let sustained = self.sustained(subject)?;
        self.progress.done(self.options.sustained_seconds());
        let Some(mut sustained) = sustained else {
            eprintln!(
                "rotation is left out: no rate held for {} s without loss",
                self.options.rotate_seconds
            );
            self.progress.done(self.options.rotations_seconds());
            return Ok(());
        };
        for rotate in &self.options.rotate {
            let mut begun_anew = 0;
            let turns = loop {
                if let Some(turns) = self.in_turns(subject, rotate, PART * sustained, begun_anew == ANEW)? {
                    break turns;
                }
                (begun_anew, sustained) = (begun_anew + 1, STEP_DOWN * sustained);
            };
            let terms = Terms {
                subject: subject.name(),
                queues: self.queues,
                rotate: rotate.clone(),
                size: size().name,
                flows: self.options.flows,
                sustained_pps: sustained,
                begun_anew,
            };
            let rotation = Rotation::of(terms, &turns.still, &turns.rotating).context("there was no turn")?;
            self.table.add_rotation(rotation);
        }
        Ok(())
    }

    /// A rate at which as long a trial as a turn lost nothing, from the loss-free rate downwards.
    fn sustained(&mut self, subject: Subject) -> Result<Option<f64>> {
        let size = size();
        let start = self.table.median(subject, &size.name, "loss_free_pps");
        let start = start.context("the loss-free rate at 512 bytes was not measured")?;
        self.under(subject, NEVER, |this, bench| {
            for rate in rates_down_from(start) {
                check_interrupt()?;
                this.progress.say(&format!("without rotation: does {rate:.0} pps hold?"));
                let outcome = bench.trial(&size, rate, this.options.rotate_time())?;
                if outcome.lost() == 0 {
                    return Ok(Some(outcome.offered().min(rate)));
                }
            }
            Ok(None)
        })
    }

    /// All turns; none as soon as one without rotation loses frames, unless they are `taken_anyway`.
    fn in_turns(
        &mut self,
        subject: Subject,
        rotate: &str,
        rate: f64,
        taken_anyway: bool,
    ) -> Result<Option<Turns>> {
        let mut turns = Turns::default();
        let rounds = self.options.rotate_rounds;
        for round in 1..=rounds {
            for still in [true, false] {
                check_interrupt()?;
                let (what, period) = if still { ("without", NEVER) } else { ("with", rotate) };
                self.progress.say(&format!("rotation every {rotate}, {what}: round {round} of {rounds}"));
                let turn = self.under(subject, period, |this, bench| this.turn(bench, rate));
                let turn = turn.with_context(|| format!("rotation {period}, round {round}"))?;
                self.progress.done(self.options.rotation_seconds());
                let kind = if still { &mut turns.still } else { &mut turns.rotating };
                kind.push(turn);
                if still && turn.lost > 0 && !taken_anyway {
                    let wasted = turns.still.len() + turns.rotating.len();
                    self.progress.more(wasted as f64 * self.options.rotation_seconds());
                    return Ok(None);
                }
            }
        }
        Ok(Some(turns))
    }

    fn turn(&self, bench: &mut Bench, rate: f64) -> Result<Turn> {
        let (before, stolen) = (self.sites.status(Side::A)?.switches, cpu::stolen());
        let outcome = bench.trial(&size(), rate, self.options.rotate_time())?;
        let stolen = cpu::stolen().saturating_sub(stolen);
        let rotations = self.sites.status(Side::A)?.switches - before;
        let (offered, lost, reordered) = (outcome.offered(), outcome.lost(), outcome.reordered);
        let absent = outcome.absent;
        let times = percentiles(outcome.round_trips).context("no frame came back")?;
        Ok(Turn { offered, lost, reordered, rotations, stolen, absent, times })
    }

    /// `work` with both encryptors in place under a rotation period: `rotate` is no setting that a reload changes.
    fn under<T>(
        &mut self,
        subject: Subject,
        rotate: &str,
        work: impl FnOnce(&mut Self, &mut Bench) -> Result<T>,
    ) -> Result<T> {
        let standing = Standing::put(self.sites, subject, self.queues, |config| {
            config.rotate = rotate.to_owned();
            config.pool = 64;
        })?;
        let mut bench = Bench::open(self.sites, self.options, subject, self.queues)?;
        let result = work(self, &mut bench);
        bench.close()?;
        let result = result?;
        standing.remove(self.sites)?;
        Ok(result)
    }
}

impl Rotation {
    /// `None` without any turns.
    fn of(terms: Terms, still: &[Turn], rotating: &[Turn]) -> Option<Rotation> {
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
    pub(super) fn line(&self) -> String {
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

fn rates_down_from(rate: f64) -> impl Iterator<Item = f64> {
    (0..TRIES).map(move |n| rate * STEP_DOWN.powi(n)).filter(|rate| *rate >= 1.0)
}

fn size() -> Size {
    Size { name: SIZE.to_string(), bytes: vec![SIZE] }
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

    #[test]
    fn a_rate_that_does_not_hold_is_lowered_a_few_times() {
        let rates: Vec<f64> = rates_down_from(1000.0).collect();
        assert_eq!((rates.len(), rates[0]), (8, 1000.0));
        assert!(rates.windows(2).all(|pair| (pair[1] / pair[0] - STEP_DOWN).abs() < 1e-9));
        assert_eq!(rates_down_from(0.0).count(), 0);
    }
}
