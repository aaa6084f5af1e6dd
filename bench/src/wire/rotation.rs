//! What rotation costs: in turns with and without, at a rate at which those without lose nothing, so that what the machine loses by
//! itself is not put down to rotation. By chance a turn with rotation may still have some of that.

mod row;

use anyhow::{Context, Result};
use qhaul::lab::plan::Side;
use qhaul::lab::wait::check_interrupt;

use super::latency::percentiles;
use super::measure::Bench;
use super::options::Size;
use super::subject::{Standing, Subject};
use super::{Run, cpu};
use row::{Terms, Turn, Turns};

pub(super) use row::Rotation;

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

fn rates_down_from(rate: f64) -> impl Iterator<Item = f64> {
    (0..TRIES).map(move |n| rate * STEP_DOWN.powi(n)).filter(|rate| *rate >= 1.0)
}

fn size() -> Size {
    Size { name: SIZE.to_string(), bytes: vec![SIZE] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_does_not_hold_is_lowered_a_few_times() {
        let rates: Vec<f64> = rates_down_from(1000.0).collect();
        assert_eq!((rates.len(), rates[0]), (8, 1000.0));
        assert!(rates.windows(2).all(|pair| (pair[1] / pair[0] - STEP_DOWN).abs() < 1e-9));
        assert_eq!(rates_down_from(0.0).count(), 0);
    }
}
