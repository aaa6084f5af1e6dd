//! A crash or a full disk in the middle of a line.

use std::fs::OpenOptions;
use std::io::Write;

use super::super::verify;
use super::*;

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// A log, and another one of the same text with a line more, cut after `keep` of its bytes.
fn crashed(name: &str, keep: usize) -> Folder {
    let folder = Folder::new(name);
    let mut audit = Audit::open(&folder.log(), 1 << 20).unwrap();
    write_rotation(&mut audit, Epoch::FIRST);
    let before = fs::read(folder.log()).unwrap();
    audit.record(&Event::new(Kind::Start)).unwrap();
    let after = fs::read(folder.log()).unwrap();
    drop(audit);
    fs::write(folder.log(), &after[..before.len().saturating_add(keep).min(after.len())]).unwrap();
    folder
}

#[test]
fn a_torn_line_stays_and_is_named() {
    for keep in 1..100 {
        let folder = crashed("torn", keep);
        assert!(verify(&folder.log()).unwrap().unfinished);
        write_rotation(&mut Audit::open(&folder.log(), 1 << 20).unwrap(), Epoch::FIRST);
        let report = verify(&folder.log()).unwrap();
        assert_eq!((report.lines, report.torn, report.unfinished), (1 + 16 + 1 + 16, 1, false));
        let lines = lines(&folder.log());
        assert_eq!(lines[17].len(), keep, "it stays");
        assert!(lines[18].contains(r#""event":"torn","torn":{"bytes":"#), "{}", lines[18]);
    }
}

#[test]
fn a_line_that_lacks_its_line_feed_alone_is_whole() {
    let folder = crashed("whole", usize::MAX);
    let whole = fs::read(folder.log()).unwrap();
    fs::write(folder.log(), &whole[..whole.len() - 1]).unwrap();
    assert!(verify(&folder.log()).unwrap().unfinished);
    write_rotation(&mut Audit::open(&folder.log(), 1 << 20).unwrap(), Epoch::FIRST);
    let report = verify(&folder.log()).unwrap();
    assert_eq!((report.lines, report.torn), (1 + 17 + 16, 0));
}

#[test]
fn crash_after_crash_is_recovered_from() {
    let folder = crashed("again", 30);
    for rest in ["", "\n", "\n{\"seq\":18", "\n{\"seq\":18\n", "\n\n"] {
        append(&folder.log(), rest.as_bytes());
        write_rotation(&mut Audit::open(&folder.log(), 1 << 20).unwrap(), Epoch::FIRST);
        verify(&folder.log()).unwrap_or_else(|fault| panic!("after {rest:?}: {fault}"));
        append(&folder.log(), b"{\"seq\":");
    }
}

#[test]
fn a_crash_in_the_first_line_of_a_file_is_recovered_from() {
    let folder = Folder::new("first");
    fs::create_dir(&folder.0).unwrap();
    for first in ["{", "{\"seq\":0,\"time\""] {
        fs::write(folder.log(), first).unwrap();
        drop(Audit::open(&folder.log(), 1 << 20).unwrap());
        let report = verify(&folder.log()).unwrap();
        assert_eq!((report.lines, report.torn, report.first_seq), (1, 1, 0));
    }
    fs::rename(folder.log(), folder.set_aside(1)).unwrap();
    fs::write(folder.log(), "{\"seq\":1").unwrap();
    write_rotation(&mut Audit::open(&folder.log(), 1 << 20).unwrap(), Epoch::FIRST);
    let report = verify(&folder.log()).unwrap();
    assert_eq!((report.lines, report.torn, report.files), (1 + 1 + 16, 2, 2));
}

#[test]
fn a_torn_line_in_a_file_that_was_set_aside_is_recovered_from() {
    let folder = crashed("aside", 50);
    fs::rename(folder.log(), folder.set_aside(1)).unwrap();
    write_rotation(&mut Audit::open(&folder.log(), 1 << 20).unwrap(), Epoch::FIRST);
    let report = verify(&folder.log()).unwrap();
    assert_eq!((report.lines, report.torn, report.files), (17 + 1 + 16, 1, 2));
}

#[test]
fn a_torn_line_hides_nothing() {
    let folder = crashed("hides", 50);
    drop(Audit::open(&folder.log(), 1 << 20).unwrap());
    let sound = lines(&folder.log());
    verify(&folder.log()).unwrap();
    let torn = sound.len() - 2;

    let mut changed = sound.clone();
    changed[torn].push(' ');
    write_lines(&folder.log(), &changed);
    assert_eq!(verify(&folder.log()).unwrap_err().line, torn as u64 + 1);

    let mut removed = sound.clone();
    removed.remove(torn);
    write_lines(&folder.log(), &removed);
    assert!(verify(&folder.log()).unwrap_err().problem.contains("a line was removed"));
}

#[test]
fn lines_of_any_length_are_found_again() {
    let folder = Folder::new("long");
    let keys: Vec<KeyId> = (0..4096).map(key_id).collect();
    for _ in 0..2 {
        let mut audit = Audit::open(&folder.log(), 1 << 20).unwrap();
        audit.record(&Event::new(Kind::Obtained).keys(&keys)).unwrap();
    }
    let report = verify(&folder.log()).unwrap();
    assert_eq!((report.lines, report.torn), (3, 0));
}
