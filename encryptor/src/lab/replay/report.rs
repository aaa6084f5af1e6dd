//! What a replay found, for people, for scripts and as JSON.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use super::session::Outcome;

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) files: Vec<FileReport>,
    /// A line for each file that could not be read.
    pub(super) unreadable: Vec<String>,
    pub(super) total: Outcome,
    /// What is wrong and belongs to no file.
    pub(super) left_over: Vec<String>,
    /// Rotations of the site that rotated less.
    pub(super) rotations: u64,
    /// What the encryptors dropped meanwhile.
    pub(super) drops: Vec<Dropped>,
    /// Why the replay ended early.
    pub(super) failure: Option<String>,
}

/// What became of one file's frames.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// The file as it was named.
    pub file: String,
    /// Its frames, all directions together.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Frames that an encryptor dropped.
#[derive(Clone, Debug, Serialize)]
pub struct Dropped {
    /// `a` or `b`.
    pub site: String,
    /// The drop counter's name.
    pub reason: String,
    /// How many.
    pub count: u64,
}

impl Report {
    /// The first thing that is not as it must be.
    pub(super) fn fault(&self) -> Option<String> {
        let Outcome { frames, missing, changed, reordered, extra, stopped, .. } = self.total;
        let checks = [
            (!self.unreadable.is_empty(), format!("{} files could not be read", self.unreadable.len())),
            (stopped, "it was given up: nothing arrives any more".to_owned()),
            (changed > 0, format!("{changed} frames arrived changed")),
            (missing > 0, format!("{missing} frames did not arrive")),
            (reordered > 0, format!("{reordered} frames arrived out of order")),
            (extra > 0, format!("{extra} frames arrived that nobody sent")),
            (frames == 0, "there was no frame to send".to_owned()),
            (!self.total.is_transparent(), "the account does not add up".to_owned()),
        ];
        let found = || checks.into_iter().find(|(failed, _)| *failed).map(|(_, reason)| reason);
        self.failure.clone().or_else(found)
    }

    /// A line per file, what is wrong frame by frame, and the line for scripts.
    pub(super) fn page(&self) -> String {
        let mut page = String::new();
        for FileReport { file, outcome } in &self.files {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "{file}: {}", counts(outcome));
            let Outcome { too_short, too_long, .. } = outcome;
            if *too_short > 0 {
                let _ = writeln!(page, "    {too_short} unsendable: shorter than an Ethernet header");
            }
            if *too_long > 0 {
                let _ = writeln!(page, "    {too_long} unsendable: longer than the plain side's MTU allows");
            }
            write_faults(&mut page, &outcome.faults);
        }
        for line in &self.unreadable {
            let _ = writeln!(page, "{line}");
        }
        write_faults(&mut page, &self.left_over);
        if self.fault().is_some() {
            for Dropped { site, reason, count } in &self.drops {
                let _ = writeln!(page, "encryptor {site} dropped {count}: {reason}");
            }
        }
        let numbers =
            format!("{} files={} rotations={}", counts(&self.total), self.files.len(), self.rotations);
        let _ = match self.fault() {
            None => writeln!(page, "replay: pass {numbers}"),
            Some(reason) => writeln!(page, "replay: FAIL {reason} {numbers}"),
        };
        page
    }

    /// The same as one JSON object.
    pub(super) fn json(&self) -> String {
        let fault = self.fault();
        let report = json!({
            "result": if fault.is_none() { "pass" } else { "FAIL" },
            "reason": fault,
            "total": self.total,
            "rotations": self.rotations,
            "files": self.files,
            "unreadable": self.unreadable,
            "drops": self.drops,
        });
        report.to_string()
    }
}

fn write_faults(page: &mut String, faults: &[String]) {
    for fault in faults {
        let _ = writeln!(page, "    {fault}");
    }
}

fn counts(outcome: &Outcome) -> String {
    let Outcome { frames, matched, missing, changed, reordered, extra, .. } = outcome;
    format!(
        "frames={frames} matched={matched} missing={missing} changed={changed} reordered={reordered} extra={extra} \
         unsendable={}",
        outcome.unsendable()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome) -> Report {
        let total = outcome.clone();
        Report { files: vec![FileReport { file: "x.pcap".to_owned(), outcome }], total, ..Report::default() }
    }

    #[test]
    fn a_pass_is_a_pass_in_every_form() {
        let outcome = Outcome { frames: 7, matched: 7, too_short: 1, ..Outcome::default() };
        let report = report(outcome);
        let page = report.page();
        let line = "replay: pass frames=7 matched=7 missing=0 changed=0 reordered=0 extra=0 unsendable=1 files=1 rotations=0\n";
        assert!(page.ends_with(line), "{page}");
        assert!(page.starts_with("x.pcap: frames=7 ") && page.contains("1 unsendable: shorter"), "{page}");
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&json["result"], &json["files"][0]["matched"]), (&json!("pass"), &json!(7)));
    }

    #[test]
    fn nothing_wrong_passes_for_a_pass() {
        let sound = Outcome { frames: 7, matched: 7, ..Outcome::default() };
        let wrong = [
            Outcome { missing: 1, matched: 6, ..sound.clone() },
            Outcome { changed: 1, matched: 6, ..sound.clone() },
            Outcome { reordered: 1, ..sound.clone() },
            Outcome { extra: 1, ..sound.clone() },
            Outcome { stopped: true, ..sound.clone() },
            Outcome { matched: 6, ..sound.clone() },
            Outcome::default(),
        ];
        for outcome in wrong {
            assert!(!outcome.is_transparent() || outcome.frames == 0, "{outcome:?}");
            let report = report(outcome);
            assert!(report.fault().is_some(), "{report:?}");
            assert!(report.page().contains("replay: FAIL ") && report.json().contains("\"FAIL\""));
        }
        let unreadable = Report { unreadable: vec!["cannot read y".to_owned()], ..report(sound.clone()) };
        assert!(unreadable.page().contains("cannot read y\nreplay: FAIL 1 files could not be read"));
        let failed = Report { failure: Some("no root".to_owned()), ..report(sound) };
        assert!(failed.page().contains("replay: FAIL no root "));
    }

    #[test]
    fn faults_and_drops_are_told() {
        let fault = "a to b: frame 3 did not arrive".to_owned();
        let outcome =
            Outcome { frames: 2, matched: 1, missing: 1, faults: vec![fault], ..Outcome::default() };
        let mut report = report(outcome);
        report.left_over.push("an extra one".to_owned());
        report.drops = vec![Dropped { site: "a".to_owned(), reason: "too_big".to_owned(), count: 1 }];
        let page = report.page();
        for line in
            ["    a to b: frame 3 did not arrive\n", "    an extra one\n", "encryptor a dropped 1: too_big\n"]
        {
            assert_eq!(page.matches(line).count(), 1, "{line}: {page}");
        }
    }
}
