//! What is told of each phase and of the whole.

use std::time::Duration;

use qhaul::lab::plan::Side;
use qhaul::status::Rows;
use serde::Serialize;

use super::memory::{FLAT_KIB, Trend};
use super::watch::{Life, Watch};

/// What became of one phase.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) bench: &'static str,
    pub(super) phase: String,
    /// Seconds since the start, and what is left of the time.
    pub(super) at: u64,
    pub(super) left: u64,
    /// Legitimate frames, both directions together.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    /// Packets that neither site sent.
    pub(super) forged: u64,
    /// Probes that were sent and not opened.
    pub(super) probes_lost: u64,
    /// Where lost frames and probes, and forged packets, were left.
    pub(super) left_at: Rows,
    /// Frames that no counter and no absence explains.
    pub(super) unexplained: u64,
    /// Frames that a later one of their flow overtook when the keys changed.
    pub(super) reordered: u64,
    /// What a phase of its kind must not show.
    pub(super) wrong: Vec<String>,
    /// Switches of traffic to new epochs, as the wire shows them, in both directions.
    pub(super) rotations: u64,
    pub(super) rss_kib: [u64; 2],
    pub(super) fds: [usize; 2],
}

impl Row {
    /// Fills in what both processes held when they were last looked at.
    pub(super) fn hold(&mut self, watch: &Watch) {
        for side in Side::BOTH {
            if let Some(held) = watch.latest(side) {
                (self.rss_kib[side.index()], self.fds[side.index()]) = (held.resident_kib, held.files);
            }
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.unexplained == 0 && self.wrong.is_empty()
    }

    pub(super) fn line(&self) -> String {
        let Row { phase, at, left, sent, received, lost, forged, unexplained, rotations, .. } = self;
        let ([rss_a, rss_b], [fds_a, fds_b]) = (self.rss_kib, self.fds);
        let forged = if *forged > 0 { format!(", {forged} forged") } else { String::new() };
        let named: Vec<String> = self.left_at.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let late = if self.reordered > 0 { format!(", reordered {}", self.reordered) } else { String::new() };
        let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
        let wrong = self.wrong.iter().map(|wrong| format!("\n        WRONG: {wrong}")).collect::<String>();
        format!(
            "[{at:5} s, {left:5} s left] {phase:<24} sent {sent:>6} received {received:>6} lost {lost:>5}{forged}{named}, \
             unexplained {unexplained}{late}; {rotations} rotations; rss {rss_a} {rss_b} KiB, fds {fds_a} {fds_b}{wrong}"
        )
    }
}

/// What became of one process.
#[derive(Serialize)]
pub(super) struct LifeRow {
    site: String,
    life: usize,
    seconds: u64,
    /// Growth behind the warm-up, in KiB and in open files; nothing for a life too short to tell.
    rss_growth_kib: Option<i64>,
    more_fds: Option<i64>,
    flat: bool,
}

impl LifeRow {
    pub(super) fn of(life: &Life) -> LifeRow {
        let trend = Trend::of(&life.samples);
        LifeRow {
            site: life.side.to_string(),
            life: life.number,
            seconds: life.samples.last().map_or(Duration::ZERO, |sample| sample.at).as_secs(),
            rss_growth_kib: trend.map(|trend| trend.growth_kib),
            more_fds: trend.map(|trend| trend.more_files),
            flat: trend.is_none_or(Trend::is_flat),
        }
    }

    pub(super) fn line(&self) -> String {
        let LifeRow { site, life, seconds, .. } = self;
        let trend = match (self.rss_growth_kib, self.more_fds) {
            (Some(kib), Some(fds)) => format!("{kib:+} KiB and {fds:+} open files after its warm-up"),
            _ => "too short to tell of its memory".to_owned(),
        };
        format!("site {site}, process {life}: lived {seconds} s; {trend}")
    }
}

/// What became of the whole.
#[derive(Default, Serialize)]
pub(super) struct Verdict {
    pub(super) pass: bool,
    pub(super) minutes: f64,
    pub(super) phases: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Legitimate frames that did not arrive and whose place is known.
    pub(super) explained: u64,
    pub(super) unexplained: u64,
    pub(super) reordered: u64,
    pub(super) forged: u64,
    pub(super) rotations: u64,
    pub(super) restarts: u64,
    /// The most that a process grew behind its warm-up; nothing, if none lived long enough.
    pub(super) rss_growth_kib: Option<i64>,
    /// Open files of both sites in the end.
    pub(super) fds: [usize; 2],
    /// The first thing that was not as it must be.
    pub(super) reason: Option<String>,
    pub(super) lives: Vec<LifeRow>,
}

impl Verdict {
    pub(super) fn add(&mut self, row: &Row) {
        self.phases += 1;
        self.sent += row.sent;
        self.received += row.received;
        self.explained += row.lost.saturating_sub(row.unexplained);
        self.unexplained += row.unexplained;
        self.reordered += row.reordered;
        self.forged += row.forged;
        self.rotations += row.rotations;
        self.fds = row.fds;
        if !row.is_good() {
            let wrong = row.wrong.first().cloned().unwrap_or_default();
            self.reason.get_or_insert(format!("{} at {} s: {wrong}", row.phase, row.at));
        }
    }

    /// Judges the processes, once they have ended.
    pub(super) fn judge(&mut self, lives: &[Life]) {
        self.lives = lives.iter().map(LifeRow::of).collect();
        self.rss_growth_kib = self.lives.iter().filter_map(|life| life.rss_growth_kib).max();
        if let Some(life) = self.lives.iter().find(|life| !life.flat) {
            let reason = format!("{}, and {FLAT_KIB} KiB and no file is flat", life.line());
            self.reason.get_or_insert(reason);
        }
        self.pass = self.reason.is_none();
    }

    /// The line for scripts.
    pub(super) fn line(&self) -> String {
        let Verdict {
            minutes, sent, received, explained, unexplained, rotations, restarts, reordered, ..
        } = self;
        let verdict = match &self.reason {
            None => "pass".to_owned(),
            Some(reason) => format!("FAIL {reason};"),
        };
        let growth = self.rss_growth_kib.map_or("none".to_owned(), |kib| kib.to_string());
        let [fds_a, fds_b] = self.fds;
        format!(
            "soak: {verdict} minutes={minutes:.1} sent={sent} received={received} explained={explained} \
             unexplained={unexplained} reordered={reordered} rotations={rotations} restarts={restarts} rss_growth_kib={growth} fds={fds_a},{fds_b}"
        )
    }
}
