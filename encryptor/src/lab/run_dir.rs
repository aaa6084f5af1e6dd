//! The lab's directory: configurations, certificates, logs and the capture, and the mark of who made it.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;

use super::error::{LabError, Result, io_error};

/// Root owns `/run`, so nobody else can have put a link in our way, and a reboot empties it.
const ROOT: &str = "/run/qhaul-lab";
const OWNER: &str = "owner";
const STANDING: &str = "standing";

/// The directory of the lab named `prefix`, whether it exists or not.
pub(super) fn path(prefix: &str) -> PathBuf {
    Path::new(ROOT).join(prefix)
}

/// Makes the directory and marks it as this process's. Its creation is the lock: one lab per prefix.
pub(super) fn create(prefix: &str) -> Result<PathBuf> {
    let dir = path(prefix);
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    let made = match builder.create(ROOT) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => builder.create(&dir),
    };
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(LabError::Exists(prefix.to_owned()));
        }
        other => other.map_err(io_error(format!("cannot make {}", dir.display())))?,
    }
    let pid = process::id();
    write_owner(&dir, &format!("{pid} {}", start_time(pid).unwrap_or_default()))?;
    Ok(dir)
}

/// Marks the lab as meant to outlive the process that made it.
pub(super) fn mark_standing(dir: &Path) -> Result<()> {
    write_owner(dir, STANDING)
}

/// True if the lab was made by a process that died without removing it: nobody will miss it.
pub(super) fn is_abandoned(prefix: &str) -> bool {
    let owner = fs::read_to_string(path(prefix).join(OWNER)).unwrap_or_default();
    let mut words = owner.split_whitespace();
    match (words.next().map(str::parse), words.next().map(str::parse)) {
        // A process id alone may belong to somebody else by now; with its start time it is one process.
        (Some(Ok(pid)), Some(Ok(started))) => start_time(pid) != Some(started),
        _ => false,
    }
}

/// Removes the directory and all in it; an absent one is no error.
pub(super) fn remove(prefix: &str) -> Result<()> {
    let dir = path(prefix);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(io_error(format!("cannot remove {}", dir.display()))(error))
        }
        _ => {
            // Other labs may stand beside this one; the last one out takes the root away.
            drop(fs::remove_dir(ROOT));
            Ok(())
        }
    }
}

fn write_owner(dir: &Path, text: &str) -> Result<()> {
    fs::write(dir.join(OWNER), text).map_err(io_error(format!("cannot write to {}", dir.display())))
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)): clock ticks since boot; field 2 may hold spaces, so count after it.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lab_whose_maker_died_is_abandoned() {
        let prefix = format!("o{}", process::id() % 1_000_000);
        let dir = create(&prefix).unwrap();
        assert!(!is_abandoned(&prefix), "this process lives");
        assert!(matches!(create(&prefix), Err(LabError::Exists(_))));
        write_owner(&dir, &format!("{} 1", process::id())).unwrap();
        assert!(is_abandoned(&prefix), "this process was not started at tick 1");
        mark_standing(&dir).unwrap();
        assert!(!is_abandoned(&prefix), "a standing lab is removed by hand");
        remove(&prefix).unwrap();
        remove(&prefix).unwrap();
        assert!(!is_abandoned(&prefix) && !dir.exists());
    }
}
