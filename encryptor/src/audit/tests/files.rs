//! One file after another, and what may not be one.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};

use qhaul_keyfeed::{DeliveredKey, QkdKey};

use super::super::{AuditError, verify, verify_against};
use super::*;

/// Holds some ten lines.
const SMALL: u64 = 2500;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn written_in_files(name: &str) -> (Folder, String) {
    let folder = Folder::new(name);
    let mut audit = Audit::open(&folder.log(), SMALL).unwrap();
    (0..3).for_each(|_| write_rotation(&mut audit, Epoch::FIRST));
    let head = audit.head().unwrap().1.to_string();
    assert!(folder.set_aside(3).exists() && folder.log().exists());
    (folder, head)
}

#[test]
fn the_chain_goes_on_from_file_to_file() {
    let (folder, head) = written_in_files("rotation");
    let report = verify(&folder.log()).unwrap();
    let files: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!((report.files, report.first_seq, &report.head), (files.len(), 0, &head));
    // All events, the chain's beginning, and a line at the beginning of each further file.
    assert_eq!(report.lines, 3 * 16 + files.len() as u64);
    for file in files {
        assert!(fs::metadata(&file).unwrap().len() <= SMALL);
        assert_eq!(mode(&file), 0o600);
    }
}

#[test]
fn a_file_that_is_missing_shows() {
    let (folder, head) = written_in_files("missing");
    fs::rename(folder.set_aside(1), folder.0.join("elsewhere")).unwrap();
    let report = verify_against(&folder.log(), &head).expect("the oldest may be archived");
    assert!(report.first_seq > 0 && report.to_string().contains("older files are not here"), "{report}");
    fs::rename(folder.0.join("elsewhere"), folder.set_aside(1)).unwrap();

    fs::remove_file(folder.set_aside(2)).unwrap();
    let fault = verify(&folder.log()).unwrap_err();
    assert_eq!((&fault.file, fault.line), (&folder.set_aside(3), 1));
    assert!(fault.problem.contains("removed before it"), "{fault}");
}

#[test]
fn lines_missing_at_a_files_beginning_or_end_show() {
    let (folder, _) = written_in_files("edges");
    let whole = lines(&folder.set_aside(1));
    write_lines(&folder.set_aside(1), &whole[1..]);
    assert_eq!(verify(&folder.log()).unwrap_err().line, 1);
    write_lines(&folder.set_aside(1), &whole[..whole.len() - 1]);
    assert_eq!(verify(&folder.log()).unwrap_err().file, folder.set_aside(2));
}

#[test]
fn files_of_another_log_show() {
    let (folder, _) = written_in_files("ours");
    let (other, _) = written_in_files("theirs");
    fs::copy(other.set_aside(2), folder.set_aside(2)).unwrap();
    verify(&folder.log()).unwrap_err();
}

#[test]
fn a_log_that_is_reopened_goes_on() {
    let folder = Folder::new("reopened");
    for turn in 1..=3 {
        let mut audit = Audit::open(&folder.log(), 1 << 20).unwrap();
        write_rotation(&mut audit, Epoch::FIRST);
        assert_eq!(verify(&folder.log()).unwrap().lines, 1 + 16 * turn);
    }
    fs::rename(folder.log(), folder.set_aside(1)).unwrap();
    write_rotation(&mut Audit::open(&folder.log(), 1 << 20).unwrap(), Epoch::FIRST);
    let report = verify(&folder.log()).unwrap();
    assert_eq!((report.lines, report.files), (2 + 16 * 4, 2));
}

#[test]
fn a_log_that_is_moved_while_in_use_goes_on_and_one_that_is_removed_shows() {
    let folder = Folder::new("moved");
    let mut audit = Audit::open(&folder.log(), 1 << 20).unwrap();
    write_rotation(&mut audit, Epoch::FIRST);
    fs::rename(folder.log(), folder.set_aside(7)).unwrap();
    write_rotation(&mut audit, Epoch::FIRST);
    assert_eq!(verify(&folder.log()).unwrap().files, 2);

    fs::remove_file(folder.log()).unwrap();
    write_rotation(&mut audit, Epoch::FIRST);
    assert!(verify(&folder.log()).unwrap_err().problem.contains("removed before it"));
}

#[test]
fn what_is_no_log_is_left_alone() {
    let folder = Folder::new("foreign");
    fs::create_dir(&folder.0).unwrap();
    let refused = |path: &Path| Audit::open(path, 1 << 20).unwrap_err();
    for text in ["root:x:0:0:root\n", "{}\n", "precious", "\n"] {
        fs::write(folder.log(), text).unwrap();
        assert!(matches!(refused(&folder.log()), AuditError::NotALog { .. }));
        assert_eq!(fs::read_to_string(folder.log()).unwrap(), text);
    }
    let link = folder.0.join("link");
    symlink(folder.log(), &link).unwrap();
    assert!(refused(&link).to_string().contains("symbolic link"));
    let fifo = folder.0.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refused(&fifo).to_string().contains("not a regular file"));
    assert!(matches!(refused(&folder.0), AuditError::Open { .. }));
    assert!(matches!(refused(Path::new("/proc/qhaul/audit.log")), AuditError::Open { .. }));
}

#[test]
fn a_log_has_one_writer_and_its_owner_as_reader() {
    let folder = Folder::new("one");
    fs::create_dir(&folder.0).unwrap();
    File::create(folder.log()).unwrap().set_permissions(fs::Permissions::from_mode(0o666)).unwrap();
    let audit = Audit::open(&folder.log(), 1 << 20).unwrap();
    assert_eq!(mode(&folder.log()), 0o600);
    assert!(matches!(Audit::open(&folder.log(), 1 << 20), Err(AuditError::InUse { .. })));
    drop(audit);
    Audit::open(&folder.log(), 1 << 20).unwrap();
}

#[test]
fn no_log_takes_every_event() {
    let mut audit = Audit::off();
    write_rotation(&mut audit, Epoch::FIRST);
    assert_eq!((audit.head(), audit.failures()), (None, 0));
}

#[test]
fn no_form_of_a_key_reaches_the_log() {
    let folder = Folder::new("secret");
    let bytes: [u8; 32] = std::array::from_fn(|at| at as u8 * 7 + 1);
    let key = DeliveredKey { id: key_id(1), key: QkdKey::new(bytes).unwrap() };
    let mut audit = Audit::open(&folder.log(), 1 << 20).unwrap();
    let shown = format!("{key:?}");
    audit.record(&Event::new(Kind::Obtained).key(&key.id).reason(&shown)).unwrap();
    let text = fs::read_to_string(folder.log()).unwrap();
    assert!(text.contains(key.id.as_str()));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = "AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09o=";
    assert_eq!(QkdKey::from_base64(base64).unwrap().as_bytes(), &bytes);
    for form in [&hex[..16], &hex.to_uppercase()[..16], &base64[..12], "1, 8, 15", "fingerprint"] {
        assert!(!text.contains(form), "{form} in {text}");
    }
}
