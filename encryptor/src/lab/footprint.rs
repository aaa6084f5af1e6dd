//! What a process holds of the host: memory and open files.

use std::fs;
use std::io;

use super::error::{LabError, Result, io_error};

/// Memory and files of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Memory in use, in KiB.
    pub resident_kib: u64,
    /// Open file descriptors.
    pub files: usize,
}

impl Footprint {
    /// Reads what a process holds now. Fails if it has ended.
    pub fn of(pid: u32) -> Result<Footprint> {
        let failed = || io_error(format!("cannot look at process {pid}"));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(failed())?;
        let files = open_files(pid).map_err(failed())?;
        // A process that has ended and was not waited for has no memory to tell of.
        let resident_kib = resident(&status).ok_or_else(|| LabError::Unreadable {
            what: format!("the memory of process {pid}"),
            detail: "no VmRSS".to_owned(),
        })?;
        Ok(Footprint { resident_kib, files })
    }
}

fn open_files(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// `VmRSS:    1234 kB` (proc_pid_status(5)).
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files_and_one_that_is_gone_has_none() {
        let before = Footprint::of(std::process::id()).unwrap();
        assert!(before.resident_kib > 100 && before.files >= 3, "{before:?}");
        assert!(Footprint::of(4_194_305).is_err(), "above the largest process id");
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1234));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
