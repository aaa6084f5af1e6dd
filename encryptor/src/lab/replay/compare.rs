//! Holds what was sent against what arrived: each frame bit for bit, and in order within its flow.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use super::flow::flow_of;

/// Frames that arrived and were not sent are kept up to this number, to find out which frame each of them was.
const STRANGERS: usize = 256;

/// One direction's frames under way. Frames are known by their number, which grows.
#[derive(Debug, Default)]
pub(super) struct Comparer {
    flows: HashMap<String, Flow>,
    outstanding: u64,
    matched: u64,
    faults: Vec<Fault>,
    strangers: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Flow {
    under_way: VecDeque<(u64, Vec<u8>)>,
    last_arrived: u64,
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The frame's number, counted from 1; 0 for a frame that was not sent.
    pub number: u64,
    /// Its flow, as `flow_of` words it.
    pub flow: String,
    /// Its length as it was sent.
    pub length: usize,
    /// What happened to it.
    pub kind: FaultKind,
}

/// What can happen to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// It did not arrive.
    Missing,
    /// It arrived with other bytes.
    Changed {
        /// Where the first one stands.
        at: usize,
        /// What was sent there; nothing behind the end.
        sent: Option<u8>,
        /// What arrived there.
        received: Option<u8>,
        /// The length that arrived.
        length: usize,
    },
    /// It arrived after a later frame of its flow.
    Overtaken {
        /// That frame's number.
        by: u64,
    },
    /// It arrived, and nobody sent it: a copy of another frame, or of unknown origin.
    Extra,
}

/// What became of the frames of one direction.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Frames that arrived as they were sent.
    pub(super) matched: u64,
    /// By number; extra ones at the end.
    pub(super) faults: Vec<Fault>,
}

impl Comparer {
    /// A frame was sent.
    pub(super) fn sent(&mut self, number: u64, frame: &[u8]) {
        let flow = self.flows.entry(flow_of(frame)).or_default();
        flow.under_way.push_back((number, frame.to_vec()));
        self.outstanding += 1;
    }

    /// A frame was received.
    pub(super) fn received(&mut self, frame: &[u8]) {
        let name = flow_of(frame);
        let flow = self.flows.get_mut(&name);
        let found = flow.and_then(|flow| {
            let place = flow.under_way.iter().position(|(_, sent)| sent == frame)?;
            let (number, _) = flow.under_way.remove(place)?;
            let last = flow.last_arrived;
            flow.last_arrived = last.max(number);
            Some((number, last))
        });
        let Some((number, last)) = found else {
            // Beyond the limit it is a fault all the same, without a frame that it could have been.
            match self.strangers.len() < STRANGERS {
                true => self.strangers.push(frame.to_vec()),
                false => self.faults.push(extra(frame)),
            }
            return;
        };
        self.outstanding -= 1;
        self.matched += 1;
        if number < last {
            let kind = FaultKind::Overtaken { by: last };
            self.faults.push(Fault { number, flow: name, length: frame.len(), kind });
        }
    }

    /// Frames that have not arrived yet.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Draws the line: what has not arrived is missing, unless something arrived that can only be it.
    pub(super) fn conclude(&mut self) -> Compared {
        let Self { flows, matched, mut faults, mut strangers, .. } = std::mem::take(self);
        let mut left: Vec<(u64, String, Vec<u8>)> = Vec::new();
        for (name, flow) in flows {
            left.extend(flow.under_way.into_iter().map(|(number, frame)| (number, name.clone(), frame)));
        }
        left.sort_unstable_by_key(|(number, ..)| *number);
        for (number, flow, frame) in left {
            let kind = match likest(&frame, &strangers) {
                Some(place) => changed(&frame, &strangers.swap_remove(place)),
                None => FaultKind::Missing,
            };
            faults.push(Fault { number, flow, length: frame.len(), kind });
        }
        faults.sort_by_key(|fault| fault.number);
        faults.extend(strangers.iter().map(|frame| extra(frame)));
        Compared { matched, faults }
    }
}

/// The frame that has most bytes in common with the one that was sent, if that is more than half of them.
fn likest(sent: &[u8], received: &[Vec<u8>]) -> Option<usize> {
    let alike = |other: &[u8]| sent.iter().zip(other).filter(|(a, b)| a == b).count();
    let candidates = received.iter().enumerate().map(|(place, other)| (alike(other), place));
    // Of equals the first: frames arrive in about the order in which they were sent.
    let best = candidates.max_by_key(|(count, place)| (*count, std::cmp::Reverse(*place)));
    let is_alike = |(count, place): &(usize, usize)| 2 * count > sent.len().max(received[*place].len());
    best.filter(is_alike).map(|(_, place)| place)
}

fn changed(sent: &[u8], received: &[u8]) -> FaultKind {
    let at = sent.iter().zip(received).take_while(|(a, b)| a == b).count();
    let (length, sent, received) = (received.len(), sent.get(at).copied(), received.get(at).copied());
    FaultKind::Changed { at, sent, received, length }
}

fn extra(frame: &[u8]) -> Fault {
    Fault { number: 0, flow: flow_of(frame), length: frame.len(), kind: FaultKind::Extra }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, flow, length, kind } = self;
        let byte = |byte: Option<u8>| byte.map_or("none".to_owned(), |byte| format!("{byte:02x}"));
        match kind {
            FaultKind::Extra => write!(f, "a frame of {length} bytes arrived that was not sent ({flow})"),
            FaultKind::Missing => write!(f, "frame {number}, {length} bytes, did not arrive ({flow})"),
            FaultKind::Overtaken { by } => {
                write!(f, "frame {number}, {length} bytes, arrived after frame {by} of its flow ({flow})")
            }
            FaultKind::Changed { at, sent, received, length: arrived } => write!(
                f,
                "frame {number}, {length} bytes, arrived changed: {arrived} bytes, the first difference at offset {at}: \
                 sent {}, received {} ({flow})",
                byte(*sent),
                byte(*received)
            ),
        }
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
