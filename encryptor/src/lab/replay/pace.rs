//! Spreads frames over key rotations: as many at first, between and behind them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lab::error::Result;
use crate::lab::plan::Side;
use crate::lab::topology::Topology;
use crate::lab::wait::{pause, wait_for};
use crate::status::{self, Status};

/// The longest pause between two frames: a few frames are not spread over minutes.
const LONGEST: Duration = Duration::from_millis(10);
/// What frames of one stretch are spread over, so that some are under way when the keys change.
const STRETCH: Duration = Duration::from_secs(1);
const ROTATES_WITHIN: Duration = Duration::from_secs(30);

/// Holds frames back until the keys have changed often enough.
#[derive(Debug)]
pub(super) struct Pace {
    sockets: [PathBuf; 2],
    start: [u64; 2],
    rotations: u64,
    frames: u64,
    passed: u64,
    interval: Duration,
    next: Instant,
}

impl Pace {
    /// For `frames` in all, over `rotations` of both senders; 0 for none.
    pub(super) fn new(topology: &Topology, frames: u64, rotations: u64) -> Result<Self> {
        let sockets = Side::BOTH.map(|side| topology.dir().join(format!("{side}.sock")));
        let start = switches(&sockets)?;
        let stretch = u32::try_from(frames / (rotations + 1)).unwrap_or(u32::MAX).max(1);
        let interval = if rotations == 0 { Duration::ZERO } else { LONGEST.min(STRETCH / stretch) };
        Ok(Self { sockets, start, rotations, frames, passed: 0, interval, next: Instant::now() })
    }

    /// To be called in front of each frame.
    pub(super) fn wait(&mut self) -> Result<()> {
        // As many rotations as the frames that have passed are due; the last frames come after the last one.
        let due = self.passed * (self.rotations + 1) / self.frames.max(1);
        let due_before = self.passed.saturating_sub(1) * (self.rotations + 1) / self.frames.max(1);
        if due > due_before {
            wait_for("the keys did not change", ROTATES_WITHIN, || {
                Ok(self.seen()?.into_iter().all(|seen| seen >= due).then_some(()))
            })?;
        }
        self.passed += 1;
        let ahead = self.next.saturating_duration_since(Instant::now());
        // Shorter sleeps take longer than they are told to.
        if ahead >= Duration::from_millis(1) {
            pause(ahead)?;
        }
        // A machine that was busy elsewhere makes the pace slower, never a burst.
        self.next = self.next.max(Instant::now()) + self.interval;
        Ok(())
    }

    /// Rotations since the start, by sender.
    pub(super) fn seen(&self) -> Result<[u64; 2]> {
        let now = switches(&self.sockets)?;
        Ok([0, 1].map(|side| now[side].saturating_sub(self.start[side])))
    }
}

fn switches(sockets: &[PathBuf; 2]) -> Result<[u64; 2]> {
    let [a, b] = sockets.each_ref().map(|socket| ask(socket).map(|status| status.tx.switches));
    Ok([a?, b?])
}

/// The status of an encryptor; a socket that is busy is asked again.
pub(super) fn ask(socket: &std::path::Path) -> Result<Status> {
    let failure = format!("{} gave no status", socket.display());
    wait_for(&failure, Duration::from_secs(10), || Ok(status::ask(socket).ok()))
}
