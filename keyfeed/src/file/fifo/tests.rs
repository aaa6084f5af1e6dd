use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::stat::Mode;
use tempfile::TempDir;

use super::*;

fn fifo(half: Half) -> (TempDir, Fifo, File) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let source = Fifo::new(FifoConfig { fifo: path.clone(), half }).unwrap();
    let device = OpenOptions::new().write(true).open(path).unwrap();
    (folder, source, device)
}

fn line(number: u8) -> String {
    format!("key-{number} {}\n", STANDARD.encode([number; 32]))
}

fn id(number: u8) -> KeyId {
    KeyId::new(format!("key-{number}")).unwrap()
}

#[test]
fn lines_become_keys_in_order_for_both_clones() {
    let (_folder, mut source, mut device) = fifo(Half::All);
    let mut by_id = source.clone();
    assert!(matches!(source.new_keys(1), Err(SourceError::Empty { .. })));
    device.write_all((line(3) + &line(1) + &line(2) + &line(4)).as_bytes()).unwrap();
    let keys = source.new_keys(2).unwrap();
    assert_eq!(keys.iter().map(|key| key.key.as_bytes()[0]).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(by_id.keys_by_id(&[id(4)]).unwrap()[0].key.as_bytes(), &[4; 32]);
    assert!(matches!(by_id.keys_by_id(&[id(4)]), Err(SourceError::NotFound { .. })));
    assert_eq!(source.status().unwrap().stored_key_count, 1);
}

#[test]
fn a_line_in_two_parts_and_a_device_that_comes_back() {
    let (folder, mut source, mut device) = fifo(Half::All);
    let text = line(1);
    device.write_all(&text.as_bytes()[..20]).unwrap();
    assert!(source.new_keys(1).is_err());
    device.write_all(&text.as_bytes()[20..]).unwrap();
    assert_eq!(source.new_keys(1).unwrap()[0].id, id(1));
    drop(device);
    assert!(matches!(source.new_keys(1), Err(SourceError::Empty { .. })));
    let mut device = OpenOptions::new().write(true).open(folder.path().join("keys")).unwrap();
    device.write_all(line(2).as_bytes()).unwrap();
    assert_eq!(source.new_keys(1).unwrap()[0].id, id(2));
}

#[test]
fn lines_that_are_no_keys_are_passed_over() {
    let (_folder, mut source, mut device) = fifo(Half::All);
    let zero = STANDARD.encode([0; 32]);
    let wrong = format!("\nalone\nkey-8 {zero}\nkey-9 c2hvcnQ=\na b c\n{}\n", "x".repeat(5000));
    device.write_all(wrong.as_bytes()).unwrap();
    device.write_all((line(1) + &line(1)).as_bytes()).unwrap();
    assert_eq!(source.new_keys(9).unwrap().len(), 1);
}

#[test]
fn what_waits_is_bounded_and_the_newest_stay() {
    let (_folder, mut source, _device) = fifo(Half::All);
    let mut shared = source.shared.lock().unwrap();
    for number in 0..MAX_WAITING + 5 {
        let key = QkdKey::new([1; 32]).unwrap();
        shared.keep(DeliveredKey { id: KeyId::new(number.to_string()).unwrap(), key });
    }
    drop(shared);
    assert_eq!(source.status().unwrap().stored_key_count, MAX_WAITING as u64);
    assert_eq!(source.new_keys(1).unwrap()[0].id.as_str(), "5");
}

#[test]
fn what_is_no_private_fifo_is_refused() {
    let (folder, ..) = fifo(Half::All);
    let refuse = |name: &str| {
        let config = FifoConfig { fifo: folder.path().join(name), half: Half::All };
        Fifo::new(config).err().expect(name).to_string()
    };
    fs::write(folder.path().join("plain"), "").unwrap();
    assert!(refuse("plain").contains("not a FIFO"));
    std::os::unix::fs::symlink(folder.path().join("keys"), folder.path().join("link")).unwrap();
    assert!(refuse("link").contains("links are not followed"));
    fs::set_permissions(folder.path().join("keys"), PermissionsExt::from_mode(0o620)).unwrap();
    assert!(refuse("keys").contains("mode 0620"));
}
