mod chain;
mod files;
mod recovery;

use std::fs;
use std::path::{Path, PathBuf};

use qhaul_keyfeed::KeyId;

use super::{Audit, Direction, Event, Kind, Limit};
use crate::epoch::Supply;
use crate::spi::Epoch;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("qhaul-audit-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        Folder(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join("audit.log")
    }

    fn set_aside(&self, number: u32) -> PathBuf {
        self.0.join(format!("audit.log.{number}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn key_id(number: u32) -> KeyId {
    KeyId::new(format!("60318feb-0143-b15d-8000-{number:012x}")).unwrap()
}

/// A rotation as the sending site tells it, one of each kind of event.
fn write_rotation(audit: &mut Audit, epoch: Epoch) {
    let keys = [key_id(1), key_id(2)];
    let tx = |kind| Event::new(kind).link("madrid-lisbon").direction(Direction::Tx);
    let key = |kind| tx(kind).epoch(epoch).key(&keys[0]);
    let events = [
        tx(Kind::Obtained).keys(&keys),
        tx(Kind::Announced).keys(&keys),
        tx(Kind::Confirmed).key(&keys[0]),
        tx(Kind::Missing).key(&keys[1]).reason("our KME does not have \"it\"\nnor ever had"),
        key(Kind::Offered),
        key(Kind::Refused).reason("keys of an epoch of this number are still held"),
        key(Kind::Ready),
        key(Kind::Active),
        key(Kind::Switched),
        key(Kind::Retired),
        Event::limit(Limit::Soft).direction(Direction::Tx).epoch(epoch),
        Event::limit(Limit::Hard).direction(Direction::Tx).epoch(epoch),
        Event::alarm(Supply::Empty).direction(Direction::Tx),
        Event::limit(Limit::Expired).direction(Direction::Tx).epoch(epoch),
        tx(Kind::Withdrawn),
        Event::new(Kind::Stop),
    ];
    events.iter().for_each(|event| audit.record(event).unwrap());
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_string).collect()
}

fn write_lines(path: &Path, lines: &[String]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}
