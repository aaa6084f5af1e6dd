//! The time that processes spent on the cores, as the kernel accounts it, and what the host took of it.

use std::fs;
use std::time::Duration;

/// Time on a core of all threads of `pid`, in user space and in the kernel on its behalf; what it sends in system calls is
/// among it (kernel: Documentation/scheduler/sched-stats.rst). Zero for a process that is gone.
pub(crate) fn time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(texts.filter_map(|text| on_core(&text)).sum())
}

/// The time of `pid` in user space and in the kernel, in hundredths of a second (proc_pid_stat(5), utime and stime). Zero for a
/// process that is gone.
pub(crate) fn split(pid: u32) -> [Duration; 2] {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    user_and_kernel(&text).unwrap_or_default()
}

/// What the host of a virtual machine gave to others of the time of all cores since it started, in hundredths of a second
/// (proc_stat(5), steal). Zero where there is no host, or where it does not tell.
pub(super) fn stolen() -> Duration {
    steal(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default()
}

/// The eighth number of the line for all cores.
fn steal(stat: &str) -> Option<Duration> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
    Some(TICK * numbers.split_whitespace().nth(7)?.parse().ok()?)
}

/// Of the kernel's interface, whatever its own clock is: USER_HZ.
const TICK: Duration = Duration::from_millis(10);

/// Fields 14 and 15. The second one, a name in brackets, may hold blanks.
fn user_and_kernel(stat: &str) -> Option<[Duration; 2]> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut next = || Some(TICK * fields.next()?.parse().ok()?);
    Some([next()?, next()?])
}

fn on_core(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_the_time() {
        assert_eq!(on_core("1234567 89 10\n"), Some(1_234_567));
        assert_eq!(on_core(""), None);
    }

    #[test]
    fn user_and_kernel_time_stand_behind_a_name_of_any_kind() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194304 100 0 0 0 250 30 0 0 20 0 5 0 12345 1 2";
        assert_eq!(user_and_kernel(stat), Some([Duration::from_millis(2500), Duration::from_millis(300)]));
        assert_eq!(user_and_kernel("77 (a) S 1"), None);
    }

    #[test]
    fn what_the_host_took_is_the_eighth_number_of_the_first_line() {
        let stat = "cpu  100 0 200 9000 5 0 7 42 0 0\ncpu0 50 0 100 4500 2 0 3 21 0 0\n";
        assert_eq!(steal(stat), Some(Duration::from_millis(420)));
        assert_eq!(steal("cpu  100 0 200 9000 5 0 7\n"), None, "a kernel before 2.6.11");
        assert_eq!(steal(""), None);
    }

    #[test]
    fn a_process_that_works_is_seen_to() {
        let pid = std::process::id();
        let before = time(pid);
        let mut sum = 0u64;
        while time(pid) < before + Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
        assert_eq!(time(u32::MAX), Duration::ZERO);
    }
}
