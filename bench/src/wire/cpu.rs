//! The time that processes spent on the cores, as the scheduler accounts it.

use std::fs;
use std::time::Duration;

/// Time on a core of all threads of `pid`, in user space and in the kernel on its behalf; what it sends in system calls is
/// among it (kernel: Documentation/scheduler/sched-stats.rst). Zero for a process that is gone.
pub(crate) fn time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(texts.filter_map(|text| on_core(&text)).sum())
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
