//! Which packets the path to the peer carries: padded dummies of chosen sizes are sent, and the peer says on the link channel
//! which it saw. Nothing else would show that a switch in between drops large frames: they just do not arrive.

use std::time::{Duration, Instant};

/// How long an answer may take.
const WAIT: Duration = Duration::from_millis(300);
/// A probe may be lost for other reasons than its size.
const TRIES: u8 = 3;
/// Less than this is no path for Ethernet frames: IPv4's least (RFC 791).
const LEAST: u32 = 576;
/// ESP ends on 4 bytes (RFC 4303 section 2.4), so that sizes are told apart no finer.
const STEP: u32 = 4;

/// What is known of the path. Sizes are bytes of the packet on the backhaul, its IP header included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Path {
    /// Not looked at yet, or no probe was answered.
    Unknown,
    /// It is being looked at.
    Checking,
    /// It carries what is needed.
    Full,
    /// It carries packets of so many bytes and no more.
    Narrow(u32),
}

/// The search: for the size that is needed first, then between the largest that arrived and the smallest that did not.
#[derive(Debug)]
pub(super) struct PathCheck {
    wanted: u32,
    arrived: u32,
    lost: u32,
    at: u32,
    tries: u8,
    due: Option<Instant>,
    path: Path,
}

impl PathCheck {
    /// A check for packets of `wanted` bytes that waits for [`Self::start`].
    pub(super) fn new(wanted: u32) -> PathCheck {
        let (arrived, lost, at) = (0, wanted.saturating_add(1), wanted);
        PathCheck { wanted, arrived, lost, at, tries: 0, due: None, path: Path::Unknown }
    }

    /// Begins, the first time: keys are in use.
    pub(super) fn start(&mut self, now: Instant) {
        if self.path == Path::Unknown && self.tries == 0 {
            (self.path, self.due) = (Path::Checking, Some(now));
        }
    }

    /// What is needed.
    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// What is known.
    pub(super) fn path(&self) -> Path {
        self.path
    }

    /// When [`Self::turn`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The size of the probe that is to be sent now. When the search has ended, [`Self::path`] has changed.
    pub(super) fn turn(&mut self, now: Instant) -> Option<u32> {
        self.due.filter(|due| now >= *due)?;
        if self.tries == TRIES {
            self.lost = self.at;
            self.narrow(now);
        }
        self.due?;
        self.tries += 1;
        self.due = Some(now + WAIT);
        Some(self.at)
    }

    /// The peer saw a probe of `bytes`.
    pub(super) fn heard(&mut self, now: Instant, bytes: u32) {
        if self.path != Path::Checking || bytes > self.wanted {
            return;
        }
        let is_current = bytes + STEP > self.at;
        self.arrived = self.arrived.max(if is_current { self.at } else { bytes });
        if is_current {
            self.narrow(now);
        }
    }

    /// Chooses the next size, or ends the search.
    fn narrow(&mut self, now: Instant) {
        self.tries = 0;
        self.due = None;
        if self.arrived >= self.wanted {
            self.path = Path::Full;
        } else if self.arrived == 0 && self.lost <= LEAST {
            // Tries stay counted, so that no new search begins.
            (self.path, self.tries) = (Path::Unknown, TRIES);
        } else if self.arrived > 0 && self.lost - self.arrived <= STEP {
            self.path = Path::Narrow(self.arrived);
        } else {
            // Halfway, but no lower than the least, whose loss ends the search.
            let low = self.arrived.max(LEAST - STEP);
            self.at = (low + (self.lost - low) / 2).next_multiple_of(STEP).clamp(LEAST, self.lost - 1);
            self.due = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a check over a path that carries `carried` bytes, and loses every `lossy`th probe; what is known, and after how
    /// long.
    fn check(wanted: u32, carried: u32, lossy: u32) -> (Path, Duration) {
        let start = Instant::now();
        let (mut now, mut sent) = (start, 0);
        let mut check = PathCheck::new(wanted);
        assert_eq!((check.path(), check.turn(now)), (Path::Unknown, None));
        check.start(now);
        while let Some(due) = check.next_deadline() {
            now = now.max(due);
            let Some(bytes) = check.turn(now) else { continue };
            sent += 1;
            assert!(sent < 100, "the search ends");
            // What ESP makes of it: up to 3 bytes less.
            let bytes = bytes - bytes % 4;
            if bytes <= carried && sent % lossy != 0 {
                check.heard(now, bytes);
            }
        }
        check.start(now);
        assert_eq!(check.next_deadline(), None, "it is done once");
        (check.path(), now - start)
    }

    #[test]
    fn a_path_that_carries_all_is_known_at_once() {
        for wanted in [576, 1596, 1598, 9292] {
            assert_eq!(check(wanted, 9300, 100), (Path::Full, Duration::ZERO));
        }
        assert_eq!(check(1596, 1600, 2).0, Path::Full, "one lost probe says nothing");
    }

    #[test]
    fn the_largest_size_of_a_narrow_path_is_found() {
        for (wanted, carried) in
            [(1596, 1500), (1596, 1592), (9292, 1500), (9292, 9000), (1596, 576), (1600, 1280)]
        {
            let (path, took) = check(wanted, carried, 100);
            let Path::Narrow(found) = path else { panic!("{wanted} over {carried}: {path:?}") };
            assert!(found <= carried && found + 8 > carried, "{wanted} over {carried}: {found}");
            assert!(took < Duration::from_secs(15), "{took:?}");
        }
    }

    #[test]
    fn a_peer_that_says_nothing_leaves_it_unknown() {
        assert_eq!(check(1596, 0, 100).0, Path::Unknown);
    }

    #[test]
    fn what_was_not_asked_is_not_believed() {
        let now = Instant::now();
        let mut check = PathCheck::new(1596);
        check.heard(now, 1596);
        assert_eq!(check.path(), Path::Unknown, "before it began");
        check.start(now);
        check.heard(now, 9000);
        check.heard(now, u32::MAX);
        assert_eq!(check.path(), Path::Checking);
    }
}
