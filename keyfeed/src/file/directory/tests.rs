use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;

use tempfile::TempDir;

use super::*;

fn drop_key(folder: &TempDir, id: &str, content: impl AsRef<[u8]>, mode: u32) {
    let path = folder.path().join("incoming");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    fs::rename(&path, folder.path().join(format!("{id}.key"))).unwrap();
}

fn folder_of(numbers: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    numbers.iter().for_each(|n| drop_key(&folder, &format!("key-{n:03}"), [*n; 32], 0o600));
    folder
}

fn source(folder: &TempDir, half: Half) -> Directory {
    Directory::new(DirectoryConfig { directory: folder.path().to_owned(), half }).unwrap()
}

fn names(keys: &[DeliveredKey]) -> Vec<&str> {
    keys.iter().map(|key| key.id.as_str()).collect()
}

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

#[test]
fn keys_come_in_the_order_of_their_names_and_are_gone_then() {
    let folder = folder_of(&[3, 1, 2, 4]);
    let mut source = source(&folder, Half::All);
    assert_eq!((source.kind(), source.status().unwrap().stored_key_count), ("file", 4));
    let keys = source.new_keys(3).unwrap();
    assert_eq!(names(&keys), ["key-001", "key-002", "key-003"]);
    assert_eq!(keys[2].key.as_bytes(), &[3; 32]);
    assert_eq!(names(&source.new_keys(3).unwrap()), ["key-004"], "what there is");
    assert!(matches!(source.new_keys(1), Err(SourceError::Empty { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
}

#[test]
fn a_taken_file_is_overwritten_before_it_is_removed() {
    let folder = folder_of(&[7]);
    let mut open_before = File::open(folder.path().join("key-007.key")).unwrap();
    source(&folder, Half::All).new_keys(1).unwrap();
    let mut left = Vec::new();
    open_before.read_to_end(&mut left).unwrap();
    assert_eq!(left, [0; 32]);
}

#[test]
fn a_key_is_found_by_name_once() {
    let folder = folder_of(&[1, 2]);
    let mut source = source(&folder, Half::None);
    assert!(matches!(source.new_keys(1), Err(SourceError::Empty { .. })), "master of none");
    assert_eq!(names(&source.keys_by_id(&[id("key-002"), id("key-001")]).unwrap()), ["key-002", "key-001"]);
    assert!(matches!(source.keys_by_id(&[id("key-001")]), Err(SourceError::NotFound { .. })));
}

#[test]
fn the_peers_names_reach_no_other_file() {
    let folder = folder_of(&[1]);
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::copy(folder.path().join("key-001.key"), folder.path().join("sub/x.key")).unwrap();
    fs::copy(folder.path().join("key-001.key"), folder.path().join(".hidden.key")).unwrap();
    let mut source = source(&folder, Half::All);
    for name in ["sub/x", "../x", ".hidden", "/etc/passwd"] {
        assert!(matches!(source.keys_by_id(&[id(name)]), Err(SourceError::NotFound { .. })), "{name}");
    }
    assert_eq!(names(&source.new_keys(9).unwrap()), ["key-001"]);
}

#[test]
fn the_two_sites_halves_never_meet() {
    let numbers: Vec<u8> = (1..=40).collect();
    let (a, b) = (folder_of(&numbers), folder_of(&numbers));
    let (mut first, mut second) = (source(&a, Half::First), source(&b, Half::Second));
    let (of_a, of_b) = (first.new_keys(40).unwrap(), second.new_keys(40).unwrap());
    assert_eq!(of_a.len() + of_b.len(), 40);
    for key in &of_a {
        assert_eq!(
            second.keys_by_id(std::slice::from_ref(&key.id)).unwrap()[0].key.as_bytes(),
            key.key.as_bytes()
        );
    }
    for key in &of_b {
        assert_eq!(
            first.keys_by_id(std::slice::from_ref(&key.id)).unwrap()[0].key.as_bytes(),
            key.key.as_bytes()
        );
    }
}

#[test]
fn what_others_can_reach_is_refused_and_passed_over() {
    let folder = folder_of(&[9]);
    drop_key(&folder, "a-open", [1; 32], 0o640);
    drop_key(&folder, "b-short", [1; 16], 0o600);
    drop_key(&folder, "c-zero", [0; 32], 0o600);
    symlink(folder.path().join("key-009.key"), folder.path().join("d-link.key")).unwrap();
    fs::create_dir(folder.path().join("e-folder.key")).unwrap();
    let mut source = source(&folder, Half::All);
    assert_eq!(names(&source.new_keys(9).unwrap()), ["key-009"]);
    for (name, reason) in [
        ("a-open", "mode 0640"),
        ("b-short", "not 256 bits"),
        ("c-zero", "all zeros"),
        ("d-link", "links are not followed"),
        ("e-folder", "Is a directory"),
    ] {
        let error = source.keys_by_id(&[id(name)]).unwrap_err();
        assert!(matches!(error, SourceError::File { .. }) && error.to_string().contains(reason), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(matches!(source.new_keys(1), Err(SourceError::File { .. })), "nothing else is left");
}

#[test]
fn a_directory_that_others_can_reach_is_refused() {
    let folder = folder_of(&[1]);
    let mut before = source(&folder, Half::All);
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o750)).unwrap();
    let make = |directory: PathBuf| Directory::new(DirectoryConfig { directory, half: Half::All });
    assert!(make(folder.path().to_owned()).err().unwrap().to_string().contains("mode 0750"));
    assert!(before.new_keys(1).is_err(), "also when it becomes so later");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let other = folder_of(&[]);
    symlink(folder.path(), other.path().join("link")).unwrap();
    assert!(make(other.path().join("link")).err().unwrap().to_string().contains("not a directory"));
    assert!(make(other.path().join("none")).is_err());
}

#[test]
fn two_readers_never_get_the_same_key() {
    let folder = folder_of(&(1..=200).collect::<Vec<_>>());
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let mut source = source(&folder, Half::All);
            thread::spawn(move || {
                let mut ids = Vec::new();
                while let Ok(keys) = source.new_keys(7) {
                    ids.extend(keys.into_iter().map(|key| key.id));
                }
                ids
            })
        })
        .collect();
    let mut all: Vec<KeyId> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
    all.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    let count = all.len();
    all.dedup();
    assert_eq!((count, all.len()), (200, 200));
}
