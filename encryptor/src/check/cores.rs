//! Whether the workers' cores are there, near the network cards, and not where these interrupt.

use std::fs;

use super::{Config, Findings, Grade};

/// Looks at each worker's core.
pub(super) fn look(config: &Config, findings: &mut Findings) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let ids: Vec<String> = cores.iter().map(|core| core.id.to_string()).collect();
    for wanted in &config.cores {
        let there = cores.iter().any(|core| core.id == *wanted);
        let otherwise = format!("worker core {wanted}: not among this process's cores {}", ids.join(", "));
        findings.expect(there, Grade::Fault, format!("worker core {wanted} is there"), otherwise);
    }
    for port in [&config.plain, &config.cipher] {
        nodes(&config.cores, port, findings);
        interrupts(&config.cores, port, findings);
    }
}

/// Memory of another node is reached over a link that all cores share.
fn nodes(cores: &[usize], port: &str, findings: &mut Findings) {
    let path = format!("/sys/class/net/{port}/device/numa_node");
    // Absent for virtual ports, -1 on hosts with one node.
    let Some(node) = number(&path).filter(|node| *node >= 0) else { return };
    for core in cores {
        let own = format!("/sys/devices/system/cpu/cpu{core}/node{node}");
        if !fs::exists(own).unwrap_or(true) {
            findings.add(Grade::Warning, format!(
                "worker core {core} is not on NUMA node {node}, where {port} is: name cores that `lscpu` lists for node {node}"
            ));
        }
    }
}

/// A core that serves a card's interrupts does the kernel's work between the worker's bursts.
fn interrupts(cores: &[usize], port: &str, findings: &mut Findings) {
    let text = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    for interrupt in of_port(&text, port) {
        let path = format!("/proc/irq/{interrupt}/effective_affinity_list");
        let serving = list(&fs::read_to_string(path).unwrap_or_default());
        if let Some(core) = cores.iter().find(|core| serving.contains(core)) {
            findings.add(
                Grade::Warning,
                format!(
                    "worker core {core} serves interrupt {interrupt} of {port} as well: \
                 `echo OTHER_CORE > /proc/irq/{interrupt}/smp_affinity_list`"
                ),
            );
        }
    }
}

/// Numbers of the interrupts that are named after a port, such as `mlx5_comp3@...`'s "eth1-TxRx-0".
fn of_port<'t>(interrupts: &'t str, port: &str) -> Vec<&'t str> {
    let named = |line: &&str| {
        let name = line.split_whitespace().last().unwrap_or_default();
        name == port || name.strip_prefix(port).is_some_and(|rest| rest.starts_with(['-', ':', '@']))
    };
    let numbers = interrupts.lines().filter(named).filter_map(|line| line.split(':').next());
    numbers.map(str::trim).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// The kernel's list format, such as "0-2,5".
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTS: &str = "           CPU0       CPU1
  25:        100          0  PCI-MSI 1-edge      eth1-TxRx-0
  26:          0        100  PCI-MSI 2-edge      eth1
  27:          0        100  PCI-MSI 3-edge      eth10-TxRx-0
 NMI:          0          0   Non-maskable interrupts
";

    #[test]
    fn the_interrupts_of_a_port_are_told_from_its_neighbours() {
        assert_eq!(of_port(INTERRUPTS, "eth1"), ["25", "26"]);
        assert_eq!(of_port(INTERRUPTS, "eth10"), ["27"]);
        assert!(of_port(INTERRUPTS, "interrupts").is_empty());
    }

    #[test]
    fn core_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!([list(""), list("3"), list("x-2")], [vec![], vec![3], vec![]]);
    }
}
