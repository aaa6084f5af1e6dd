//! Frames through a lab that stands, in one direction or both at once, and the account of all of them at the end.

use std::time::Duration;

use super::compare::{Fault, FaultKind};
use super::lane::{Lane, Unsendable};
use crate::lab::error::{LabError, Result};
use crate::lab::ledger::Ledger;
use crate::lab::plan::Side;
use crate::lab::topology::Topology;
use crate::lab::wait::wait_for;

/// Faults that are told one by one; the rest are counted.
const TOLD: usize = 20;
/// What the far host's kernel counts may lag behind what its sockets show.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// A lab's plain ports, ready to replay.
#[derive(Debug)]
pub struct Session<'a> {
    topology: &'a Topology,
    lanes: Vec<Lane>,
    /// By lane: frames that arrived and were not sent by us, and a few of them in words.
    strangers: Vec<(u64, Vec<String>)>,
    start: Ledger,
}

/// What became of a series of frames, all directions together.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// Frames that were sent.
    pub frames: u64,
    /// Those of them that arrived bit for bit.
    pub matched: u64,
    /// Those that did not arrive.
    pub missing: u64,
    /// Those that arrived with other bytes.
    pub changed: u64,
    /// Those that arrived, and after a later frame of their flow.
    pub reordered: u64,
    /// Frames that arrived and that nobody sent.
    pub extra: u64,
    /// Frames that could not be sent: shorter than an Ethernet header.
    pub too_short: u64,
    /// Frames that could not be sent: longer than the plain side's MTU allows.
    pub too_long: u64,
    /// Whether sending was given up because nothing arrived any more.
    pub stopped: bool,
    /// What is wrong, frame by frame, up to a limit.
    pub faults: Vec<String>,
}

impl<'a> Session<'a> {
    /// Listens at the far host of each direction; `from` are the hosts that send. The hosts must be silent otherwise, but for
    /// what their kernels say by themselves.
    pub fn open(topology: &'a Topology, from: &[Side]) -> Result<Self> {
        let mut lanes = from.iter().map(|side| Lane::open(topology, *side)).collect::<Result<Vec<_>>>()?;
        let start = wait_for("the hosts did not fall silent", SETTLED_WITHIN, || {
            let settled = Ledger::settled(topology)?;
            lanes.iter_mut().try_for_each(Lane::forget)?;
            Ok((Ledger::read(topology)? == settled).then_some(settled))
        })?;
        Ok(Self { topology, strangers: vec![Default::default(); lanes.len()], lanes, start })
    }

    /// Sends all that `next` gives, in all directions, and waits for it. Frames that nobody sent are judged by
    /// [`Session::close`]: they may be the hosts' own.
    pub fn pass(&mut self, mut next: impl FnMut() -> Result<Option<Vec<u8>>>) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut number = 0;
        while !outcome.stopped
            && let Some(frame) = next()?
        {
            number += 1;
            for lane in &mut self.lanes {
                match lane.send(number, &frame)? {
                    None => outcome.frames += 1,
                    Some(Unsendable::TooShort) => outcome.too_short += 1,
                    Some(Unsendable::TooLong) => outcome.too_long += 1,
                }
            }
            outcome.stopped = self.lanes.iter().any(Lane::is_hopeless);
        }
        for (lane, strangers) in self.lanes.iter_mut().zip(&mut self.strangers) {
            let compared = lane.conclude()?;
            outcome.matched += compared.matched;
            for fault in compared.faults {
                outcome.count(&fault, lane.from, strangers);
            }
        }
        Ok(outcome)
    }

    /// Stops, and settles what can only be told in the end: frames that nobody sent, and frames that only the far kernel's
    /// counters saw.
    pub fn close(mut self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let end = self.settle()?;
        for (lane, (strangers, told)) in self.lanes.into_iter().zip(self.strangers) {
            let (from, to) = (lane.from, lane.from.peer());
            let own = (end.sent_by(from) - self.start.sent_by(from)).saturating_sub(lane.sent);
            let received = end.received_by(to) - self.start.received_by(to);
            let heard = lane.arrived + lane.unseen;
            if received > heard {
                let detail = format!("it missed {} frames", received - heard);
                return Err(LabError::Unreadable {
                    what: format!("what tcpdump hears at host {to}"),
                    detail,
                });
            }
            outcome.missing += heard - received;
            if heard > received {
                let lost = heard - received;
                outcome.tell(format!(
                    "{from} to {to}: {lost} frames that end within their VLAN tag did not arrive"
                ));
            }
            outcome.extra += strangers.saturating_sub(own);
            if strangers > own {
                told.into_iter().for_each(|line| outcome.tell(line));
            }
            lane.close()?;
        }
        Ok(outcome)
    }

    /// Waits until the kernels' counters say what the listeners heard, and reads them; at the limit as they are.
    fn settle(&mut self) -> Result<Ledger> {
        let Self { topology, lanes, start, strangers } = self;
        let agreed = wait_for("the counters did not settle", SETTLED_WITHIN, || {
            for (lane, strangers) in lanes.iter_mut().zip(strangers.iter_mut()) {
                while lane.take(Duration::ZERO)? {}
                for fault in lane.conclude()?.faults {
                    Outcome::default().count(&fault, lane.from, strangers);
                }
            }
            let now = Ledger::read(topology)?;
            let agrees = |lane: &Lane| {
                let to = lane.from.peer();
                now.received_by(to) - start.received_by(to) == lane.arrived + lane.unseen
            };
            Ok(lanes.iter().all(agrees).then_some(now))
        });
        match agreed {
            Err(LabError::Timeout { .. }) => Ledger::read(topology),
            other => other,
        }
    }
}

impl Outcome {
    /// Frames that could not be sent.
    pub fn unsendable(&self) -> u64 {
        self.too_short + self.too_long
    }

    /// Whether every frame that can be sent was, and arrived bit for bit and in order, and nothing else did.
    pub fn is_transparent(&self) -> bool {
        let Self { frames, matched, missing, changed, reordered, extra, stopped, .. } = self;
        frames == matched && missing + changed + reordered + extra == 0 && !stopped
    }

    /// Adds another series.
    pub fn add(&mut self, other: &Outcome) {
        self.frames += other.frames;
        self.matched += other.matched;
        self.missing += other.missing;
        self.changed += other.changed;
        self.reordered += other.reordered;
        self.extra += other.extra;
        self.too_short += other.too_short;
        self.too_long += other.too_long;
        self.stopped |= other.stopped;
        other.faults.iter().for_each(|fault| self.tell(fault.clone()));
    }

    fn count(&mut self, fault: &Fault, from: Side, strangers: &mut (u64, Vec<String>)) {
        let line = format!("{from} to {}: {fault}", from.peer());
        match fault.kind {
            FaultKind::Missing => self.missing += 1,
            FaultKind::Changed { .. } => self.changed += 1,
            FaultKind::Overtaken { .. } => self.reordered += 1,
            FaultKind::Extra => {
                strangers.0 += 1;
                if strangers.1.len() < TOLD {
                    strangers.1.push(line);
                }
                return;
            }
        }
        self.tell(line);
    }

    fn tell(&mut self, line: String) {
        if self.faults.len() < TOLD {
            self.faults.push(line);
        }
    }
}
