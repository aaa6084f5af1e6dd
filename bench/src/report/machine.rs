//! The machine on which the page is made.

use std::fs;

/// What a reader wants to know of it.
#[derive(Debug)]
pub(super) struct Machine {
    /// Name and value.
    pub(super) facts: Vec<(&'static str, String)>,
}

impl Machine {
    /// Reads `/proc`.
    pub(super) fn look() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            facts: vec![
                ("processor", field(&cpuinfo, "model name")),
                ("cores", cores.to_string()),
                ("vector AES", vector_aes(&field(&cpuinfo, "flags"))),
                ("memory", field(&memory, "MemTotal")),
                ("kernel", kernel.trim().to_owned()),
                ("qhaul", env!("CARGO_PKG_VERSION").to_owned()),
            ],
        }
    }
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value);
    value.trim().to_owned()
}

fn vector_aes(flags: &str) -> String {
    let has = |flag: &str| flags.split_whitespace().any(|one| one == flag);
    match (has("vaes"), has("avx512f")) {
        (true, true) => "VAES, AVX-512",
        (true, false) => "VAES",
        (false, _) => "no",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_missing_ones_said() {
        assert_eq!(field("a: 1\nmodel name\t: X Y\n", "model name"), "X Y");
        assert_eq!(field("", "model name"), "unknown");
        assert_eq!(vector_aes("aes vaes avx2"), "VAES");
        assert_eq!(vector_aes("aes"), "no");
    }
}
