//! One trial: frames at a rate for a time from one end, counted (and some sent back) at the other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::poll::PollTimeout;
use qhaul::xsk::{Frame, ask_for_short_slices};

use super::end::Line;
use super::frame::{Mark, build, read_mark, turn_round, write_mark};
use super::pace::Pace;
use super::presence::Presence;

/// Frames handed to the kernel in one go, at the most.
const BURST: usize = 32;
/// How long the far end may be silent before what is missing counts as lost.
const SETTLE: Duration = Duration::from_millis(100);
/// The longest wait for silence.
const SETTLE_MOST: Duration = Duration::from_secs(2);

/// How long the far end looks for frames before it sleeps. Whoever sends to one that sleeps has to wake it, and here that is a gateway.
const LOOK: Duration = Duration::from_millis(1);

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Sizes of frames in bytes without FCS, taken in turn.
    pub(super) sizes: Vec<usize>,
    /// Flows, told apart by their UDP source port, taken in turn.
    pub(super) flows: u16,
    /// Packets per second.
    pub(super) rate: f64,
    /// For how long.
    pub(super) time: Duration,
    /// Every so many-th frame comes back; 0 for none.
    pub(super) echo_each: u32,
    /// Hardware addresses of this end and the other.
    pub(super) macs: [[u8; 6]; 2],
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Frames that the kernel took.
    pub(crate) sent: u64,
    /// Frames that arrived.
    pub(crate) received: u64,
    /// Frames that arrived after one that was sent later in the same flow.
    pub(crate) reordered: u64,
    /// How long sending took.
    pub(crate) time: Duration,
    /// Round trips in nanoseconds, from the moment when a frame was written.
    pub(crate) round_trips: Vec<u64>,
    /// The longest time that either end was kept from its core.
    pub(crate) absent: Duration,
}

impl Outcome {
    /// Frames that did not arrive.
    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// Packets per second that were really offered.
    pub(crate) fn offered(&self) -> f64 {
        self.sent as f64 / self.time.as_secs_f64()
    }
}

/// What the far end tells while it listens.
#[derive(Default)]
struct Far {
    received: AtomicU64,
    reordered: AtomicU64,
    stop: AtomicBool,
}

/// Runs one trial. `number` tells its frames from those of the last ones.
pub(super) fn run(near: &mut Line, far: &mut Line, load: &Load, number: u8) -> Result<Outcome> {
    let told = Far::default();
    thread::scope(|scope| {
        let listener = scope.spawn(|| listen(far, &told, number, load.flows));
        // A thread of its own: what else this one starts must not inherit how it is scheduled.
        let sent = scope.spawn(|| send(near, load, number, &told)).join();
        told.stop.store(true, Ordering::Release);
        let far_absent = listener.join().map_err(|_| anyhow!("the far end panicked"))??;
        let mut outcome = sent.map_err(|_| anyhow!("the near end panicked"))??;
        outcome.absent = outcome.absent.max(far_absent);
        outcome.received = told.received.load(Ordering::Acquire);
        outcome.reordered = told.reordered.load(Ordering::Acquire);
        Ok(outcome)
    })
}

fn send(line: &mut Line, load: &Load, trial: u8, told: &Far) -> Result<Outcome> {
    line.take_core()?;
    ask_for_short_slices()?;
    let templates = templates(load);
    let mut outcome = Outcome::default();
    let (mut back, mut next) = (Vec::new(), 0u64);
    let (start, mut pace) = (Instant::now(), Pace::new(load.rate));
    let total = (load.rate * load.time.as_secs_f64()) as u64;
    let mut presence = Presence::new();
    // A generator that cannot keep the rate ends in time all the same.
    while next < total && start.elapsed() < load.time.mul_f64(1.05) {
        presence.note();
        let due = pace.due(start.elapsed(), next).min(total);
        while next < due && line.waiting() < BURST {
            let Some(mut frame) = line.umem.alloc() else { break };
            let template = &templates[(next % templates.len() as u64) as usize];
            let echo = load.echo_each > 0 && next.is_multiple_of(u64::from(load.echo_each));
            let sent_ns = start.elapsed().as_nanos() as u64;
            if !frame.fill_from(template) {
                line.umem.free(frame);
                anyhow::bail!("a frame of {} bytes does not fit", template.len());
            }
            write_mark(frame.data_mut(), Mark { trial, echo, number: next as u32, sent_ns });
            line.push((next % u64::from(load.flows)) as usize, frame);
            next += 1;
        }
        if line.waiting() == 0 {
            rest(line, pace.when(next).saturating_sub(start.elapsed()), &mut presence)?;
        }
        outcome.sent += line.send()? as u64;
        take_back(line, &mut back, trial, start, &mut outcome);
    }
    outcome.sent += line.send()? as u64;
    line.discard();
    outcome.time = start.elapsed().max(Duration::from_nanos(1));
    outcome.absent = presence.longest_absence();
    settle(line, &mut back, trial, start, told, &mut outcome)?;
    Ok(outcome)
}

/// Sleeps until the next frame is due, which is in `left`, where there is time for that; frames that come back end it. Where there is
/// not, it lets others have the core: one that spun would take from the gateways what their loss-free rate is made of.
fn rest(line: &Line, left: Duration, presence: &mut Presence) -> Result<()> {
    if left > Duration::from_micros(1500) {
        line.wait(PollTimeout::from(1u8))?;
        presence.woke();
    } else if !left.is_zero() {
        thread::yield_now();
    }
    Ok(())
}

fn settle(
    line: &mut Line,
    back: &mut Vec<Frame>,
    trial: u8,
    start: Instant,
    told: &Far,
    outcome: &mut Outcome,
) -> Result<()> {
    let begun = Instant::now();
    let (mut last, mut since) = (told.received.load(Ordering::Acquire), begun);
    while since.elapsed() < SETTLE && begun.elapsed() < SETTLE_MOST {
        line.wait(PollTimeout::from(1u8))?;
        line.send()?;
        take_back(line, back, trial, start, outcome);
        let now = told.received.load(Ordering::Acquire);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if now >= outcome.sent && outcome.round_trips.is_empty() {
            break;
        }
    }
    Ok(())
}

fn take_back(line: &mut Line, back: &mut Vec<Frame>, trial: u8, start: Instant, outcome: &mut Outcome) {
    while line.receive(back) > 0 {
        let now = start.elapsed().as_nanos() as u64;
        for frame in back.drain(..) {
            if let Some(mark) = read_mark(frame.data()).filter(|mark| mark.trial == trial) {
                outcome.round_trips.push(now.saturating_sub(mark.sent_ns));
            }
            line.umem.free(frame);
        }
    }
}

/// How long it was kept from its core at the most.
fn listen(line: &mut Line, told: &Far, trial: u8, flows: u16) -> Result<Duration> {
    line.take_core()?;
    let mut arrived = Vec::with_capacity(64);
    let mut newest: Vec<Option<u32>> = vec![None; flows.into()];
    let (mut last, mut presence) = (Instant::now(), Presence::new());
    while !told.stop.load(Ordering::Acquire) {
        presence.note();
        if line.receive(&mut arrived) == 0 {
            line.send()?;
            if last.elapsed() < LOOK {
                thread::yield_now();
            } else {
                line.wait(PollTimeout::from(5u8))?;
                presence.woke();
            }
            continue;
        }
        last = Instant::now();
        let (mut received, mut reordered) = (0, 0);
        for mut frame in arrived.drain(..) {
            let Some(mark) = read_mark(frame.data()).filter(|mark| mark.trial == trial) else {
                line.umem.free(frame);
                continue;
            };
            received += 1;
            let flow = mark.number as usize % usize::from(flows);
            let newest = &mut newest[flow];
            reordered += u64::from(newest.is_some_and(|newest| mark.number < newest));
            *newest = (*newest).max(Some(mark.number));
            match mark.echo {
                true => {
                    turn_round(frame.data_mut());
                    line.push(flow, frame);
                }
                false => line.umem.free(frame),
            }
        }
        line.send()?;
        told.received.fetch_add(received, Ordering::AcqRel);
        told.reordered.fetch_add(reordered, Ordering::AcqRel);
    }
    line.discard();
    Ok(presence.longest_absence())
}

/// One frame for each pair of size and flow; frame n is of flow n modulo the number of flows.
fn templates(load: &Load) -> Vec<Vec<u8>> {
    let count = load.sizes.len() * usize::from(load.flows);
    let [source, destination] = load.macs;
    (0..count)
        .map(|n| {
            build(
                source,
                destination,
                load.sizes[n / usize::from(load.flows) % load.sizes.len()],
                (n % usize::from(load.flows)) as u16,
            )
        })
        .collect()
}
