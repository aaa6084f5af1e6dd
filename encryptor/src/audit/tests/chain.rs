//! What is written, and whatever is done to it afterwards shows.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::{verify, verify_against};
use super::*;

const MAX: u64 = 1 << 20;

fn written(name: &str) -> (Folder, Vec<String>, String) {
    let folder = Folder::new(name);
    let mut audit = Audit::open(&folder.log(), MAX).unwrap();
    audit.record(&Event::new(Kind::Start)).unwrap();
    write_rotation(&mut audit, Epoch::FIRST);
    let head = audit.head().unwrap().1.to_string();
    let lines = lines(&folder.log());
    (folder, lines, head)
}

fn fault(folder: &Folder, lines: &[String]) -> (u64, String) {
    write_lines(&folder.log(), lines);
    let fault = verify(&folder.log()).unwrap_err();
    assert_eq!(fault.file, folder.log());
    assert!(!fault.to_string().contains('\n'), "{fault}");
    (fault.line, fault.problem)
}

#[test]
fn prev_is_the_sha256_of_the_line_before() {
    let (folder, lines, head) = written("prev");
    let sha256 =
        |line: &str| Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed[0]["prev"], "0".repeat(64));
    assert_eq!(parsed[0]["chain"].as_str().unwrap().len(), 32);
    for (at, line) in parsed.iter().enumerate() {
        assert_eq!(line["seq"], at);
        if at > 0 {
            assert_eq!(line["prev"], sha256(&lines[at - 1]));
        }
    }
    assert_eq!(head, sha256(lines.last().unwrap()));
    let report = verify(&folder.log()).unwrap();
    assert_eq!((report.lines, report.first_seq, report.head), (lines.len() as u64, 0, head));
    assert_eq!((report.torn, report.lost, report.unfinished), (0, 0, false));
    assert_eq!(report.chain, parsed[0]["chain"]);
    assert_eq!(report.first_time, parsed[0]["time"]);
    assert_eq!(report.last_time, parsed.last().unwrap()["time"]);
}

#[test]
fn a_line_says_what_happened_to_which_key() {
    let (_folder, lines, _) = written("fields");
    let mut line: Value = serde_json::from_str(&lines[5]).unwrap();
    for hashed in ["prev", "time"] {
        line.as_object_mut().unwrap().remove(hashed).unwrap();
    }
    let expected = json!({
        "seq": 5, "event": "missing", "direction": "tx", "link": "madrid-lisbon",
        "key_IDs": ["60318feb-0143-b15d-8000-000000000002"],
        "reason": "our KME does not have \"it\"\nnor ever had",
    });
    assert_eq!(line, expected);
    let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<String> = events
        .map(|line| [&line["event"], &line["state"]].map(|text| text.as_str().unwrap_or_default()).join(" "))
        .collect();
    let expected = [
        "chain ",
        "start ",
        "obtained ",
        "announced ",
        "confirmed ",
        "missing ",
        "offered ",
        "refused ",
        "ready ",
        "active ",
        "switched ",
        "retired ",
        "limit soft",
        "limit hard",
        "alarm empty",
        "limit expired",
        "withdrawn ",
        "stop ",
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_removed_line_shows() {
    let (folder, lines, _) = written("removed");
    for at in 0..lines.len() - 1 {
        let mut cut = lines.clone();
        cut.remove(at);
        let (line, problem) = fault(&folder, &cut);
        assert_eq!(line, at as u64 + 1);
        assert!(problem.contains("removed before it"), "{problem}");
    }
}

#[test]
fn a_changed_byte_shows() {
    let (folder, lines, head) = written("changed");
    for at in 0..lines.len() - 1 {
        for byte in (0..lines[at].len()).step_by(7) {
            let mut changed = lines.clone();
            let other = if lines[at].as_bytes()[byte] == b'4' { "5" } else { "4" };
            changed[at].replace_range(byte..=byte, other);
            let (line, _) = fault(&folder, &changed);
            assert!((at as u64 + 1..=at as u64 + 2).contains(&line), "byte {byte} of line {at}: {line}");
        }
    }
    let mut changed = lines.clone();
    let last = changed.last_mut().unwrap();
    *last = last.replace("stop", "step");
    write_lines(&folder.log(), &changed);
    verify(&folder.log()).expect("nothing follows the last line");
    verify_against(&folder.log(), &head).unwrap_err();
}

#[test]
fn exchanged_repeated_and_inserted_lines_show() {
    let (folder, lines, _) = written("exchanged");
    for at in 0..lines.len() - 1 {
        let mut exchanged = lines.clone();
        exchanged.swap(at, at + 1);
        fault(&folder, &exchanged);
        let mut repeated = lines.clone();
        repeated.insert(at, lines[at].clone());
        let (line, problem) = fault(&folder, &repeated);
        assert_eq!(line, at as u64 + 2);
        assert!(problem.contains("exchanged, repeated or put in"), "{problem}");
        for foreign in ["", "{}", "no line"] {
            let mut inserted = lines.clone();
            inserted.insert(at + 1, foreign.into());
            let (line, problem) = fault(&folder, &inserted);
            assert_eq!(line, at as u64 + 2);
            assert!(problem.contains("damaged"), "{problem}");
        }
    }
}

#[test]
fn a_line_cut_short_shows() {
    let (folder, lines, _) = written("short");
    for at in 0..lines.len() {
        let mut cut = lines.clone();
        cut[at].truncate(40);
        let (line, problem) = fault(&folder, &cut);
        assert_eq!(line, at as u64 + 1);
        assert!(problem.contains("damaged"), "{problem}");
    }
}

#[test]
fn a_cut_in_the_middle_that_joins_two_lines_shows() {
    let (folder, lines, _) = written("middle");
    let text = lines.join("\n") + "\n";
    for (from, to) in [(100, 130), (300, 1400), (50, 2000)] {
        fs::write(folder.log(), [&text[..from], &text[to..]].concat()).unwrap();
        verify(&folder.log()).unwrap_err();
    }
}

#[test]
fn a_cut_end_shows_against_a_noted_head() {
    let (folder, lines, head) = written("end");
    write_lines(&folder.log(), &lines[..lines.len() - 3]);
    let cut = verify(&folder.log()).unwrap();
    assert_eq!(cut.lines, lines.len() as u64 - 3);
    let fault = verify_against(&folder.log(), &head).unwrap_err();
    assert_eq!(fault.line, 0);
    assert!(fault.problem.contains("the end was cut off"), "{fault}");

    write_lines(&folder.log(), &lines);
    assert_eq!(verify_against(&folder.log(), &head.to_uppercase()).unwrap().head, head);
    verify_against(&folder.log(), &cut.head).expect("the log has grown since this head was noted");
    assert!(verify_against(&folder.log(), &head[1..]).unwrap_err().problem.contains("64 hexadecimal digits"));
}

#[test]
fn a_log_written_anew_shows_against_a_noted_head() {
    let (_old, _, head) = written("old");
    let (new, ..) = written("new");
    verify(&new.log()).unwrap();
    verify_against(&new.log(), &head).unwrap_err();
}

#[test]
fn nothing_to_verify_is_a_fault() {
    let folder = Folder::new("nothing");
    assert!(verify(&folder.log()).unwrap_err().problem.contains("name an audit log"));
    fs::create_dir(&folder.0).unwrap();
    assert!(verify(&folder.log()).unwrap_err().problem.contains("there is no such audit log"));
    fs::write(folder.log(), "").unwrap();
    assert!(verify(&folder.log()).unwrap_err().problem.contains("no line yet"));
    fs::write(folder.log(), "root:x:0:0\n").unwrap();
    assert_eq!(verify(&folder.log()).unwrap_err().line, 1);
}
