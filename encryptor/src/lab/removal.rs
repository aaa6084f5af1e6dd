//! Takes a lab away by its name alone, whoever made it and however far it got.

use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::command::{run, words};
use super::error::{LabError, Result, io_error};
use super::plan::{Node, check_prefix};
use super::run_dir;

/// How long processes may take to leave after SIGTERM.
const LEAVE: Duration = Duration::from_secs(3);

/// Removes the lab named `prefix`: processes, namespaces with their interfaces, and files. Doing it twice is no error.
/// Returns how many processes and namespaces there were.
pub fn remove(prefix: &str) -> Result<(usize, usize)> {
    let removed = remove_network(prefix)?;
    run_dir::remove(prefix)?;
    Ok(removed)
}

/// The same, leaving the files.
pub(super) fn remove_network(prefix: &str) -> Result<(usize, usize)> {
    check_prefix(prefix)?;
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    let namespaces = namespaces(prefix)?;
    let processes = stop_all(&namespaces)?;
    for namespace in &namespaces {
        words(&format!("ip netns del {namespace}"))?;
    }
    Ok((processes, namespaces.len()))
}

/// The namespaces of this lab that exist now; no other name is ever touched.
pub(super) fn namespaces(prefix: &str) -> Result<Vec<String>> {
    let listed = run(&["ip", "netns", "list"])?;
    let existing: Vec<_> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let ours = Node::ALL.into_iter().map(|node| node.namespace(prefix));
    Ok(ours.filter(|name| existing.contains(&name.as_str())).collect())
}

/// Stops every process inside the namespaces, and returns how many there were.
fn stop_all(namespaces: &[String]) -> Result<usize> {
    let found = inside(namespaces)?;
    found.iter().try_for_each(|&pid| signal(pid, Signal::SIGTERM))?;
    let end = Instant::now() + LEAVE;
    while !inside(namespaces)?.is_empty() {
        if Instant::now() >= end {
            inside(namespaces)?.into_iter().try_for_each(|pid| signal(pid, Signal::SIGKILL))?;
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(found.len())
}

fn inside(namespaces: &[String]) -> Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for namespace in namespaces {
        let listed = words(&format!("ip netns pids {namespace}"))?;
        pids.extend(listed.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
    }
    Ok(pids)
}

fn signal(pid: Pid, signal: Signal) -> Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(io_error(format!("cannot stop process {pid}"))(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::mem;

    use super::*;
    use crate::lab::Topology;

    fn is_gone(prefix: &str) -> bool {
        namespaces(prefix).unwrap().is_empty() && !run_dir::path(prefix).exists()
    }

    #[test]
    fn a_lab_goes_with_its_processes_and_without_its_maker() {
        let topology = Topology::up("tgone").unwrap();
        assert!(matches!(Topology::up("tgone"), Err(LabError::Exists(_))), "one lab per prefix");
        let stubborn = "trap '' TERM; while :; do sleep 0.1; done";
        let mut process = topology.start(Node::Backhaul, "stubborn", &["sh", "-c", stubborn]).unwrap();
        // As after SIGKILL of the maker: nothing of it runs any more.
        mem::forget(topology);
        let (processes, namespaces) = remove("tgone").unwrap();
        assert!(
            processes >= 1 && namespaces == Node::ALL.len(),
            "{processes} processes, {namespaces} namespaces"
        );
        assert!(is_gone("tgone"));
        assert!(process.wait(Duration::from_secs(5)).unwrap().code().is_none(), "it fell to a signal");
        assert_eq!(remove("tgone").unwrap(), (0, 0), "twice is no error");
    }

    #[test]
    fn half_a_lab_goes_too_and_an_abandoned_one_makes_way() {
        words("ip netns add thalf-gw-a").unwrap();
        assert!(matches!(Topology::up("thalf"), Err(LabError::Exists(_))), "nobody knows whose it is");
        assert!(!run_dir::path("thalf").exists());
        assert_eq!(remove("thalf").unwrap(), (0, 1));

        mem::forget(Topology::up("thalf").unwrap());
        fs::write(run_dir::path("thalf").join("owner"), "4194305 1").unwrap();
        Topology::up("thalf").unwrap().down().unwrap();
        assert!(is_gone("thalf"));
    }
}
