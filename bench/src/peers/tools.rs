//! Programs of the distribution: where they are, which version they are, and which package has those that are not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use qhaul::lab::LabError;

/// Places that root's PATH may lack.
const PLACES: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/ipsec"];

/// A program, or a file such as a plug-in by its full path, and Debian's package that has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
}

impl Tool {
    pub(super) const fn new(name: &'static str, package: &'static str) -> Tool {
        Tool { name, package }
    }
}

/// One line that names all that is not there; `None` if nothing is missing.
pub(super) fn missing(tools: &[Tool]) -> Option<String> {
    let gone: Vec<&Tool> = tools.iter().filter(|tool| find(tool.name).is_none()).collect();
    let names: Vec<String> = gone.iter().map(|tool| format!("`{}`", tool.name)).collect();
    let mut packages: Vec<&str> = gone.iter().map(|tool| tool.package).collect();
    packages.dedup();
    let (names, packages) = (names.join(", "), packages.join(" "));
    (!gone.is_empty()).then(|| format!("{names} not found: `apt-get install {packages}`"))
}

/// The path of a program.
pub(super) fn path(name: &str) -> Result<String> {
    let found = find(name).with_context(|| format!("`{name}` was not found"))?;
    Ok(found.display().to_string())
}

/// The version that a program tells, whatever its exit code (OpenVPN's was 1 for a long time) and on whichever output.
pub(super) fn version(name: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(path(name)?).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run `{name}`"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    number(&text).map(str::to_owned).with_context(|| format!("`{name}` tells no version: {text}"))
}

/// The kernel's version.
pub(super) fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's version")?;
    Ok(format!("Linux {}", release.trim()))
}

/// What a command said when it failed, without the command.
pub(super) fn said(error: &LabError) -> String {
    match error {
        LabError::Command { stderr, .. } => {
            stderr.trim_start_matches("Error: ").trim_end_matches('.').to_owned()
        }
        other => other.to_string(),
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    places.map(|place| place.join(Path::new(name))).find(|file| file.is_file())
}

/// The first word that looks like a version: digits, a dot, more.
fn number(text: &str) -> Option<&str> {
    let words = text.split([' ', '/', ',', '\'', '\n']);
    words.map(|word| word.trim_start_matches(['v', 'U'])).find(|word| {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && word[digits..].starts_with('.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("wireguard-go v0.0.20220316\n\nUserspace WireGuard daemon\n", "0.0.20220316"),
            ("OpenVPN 2.6.14 x86_64-pc-linux-gnu [SSL (OpenSSL)]\nlibrary versions: 3.0\n", "2.6.14"),
            ("Linux strongSwan 5.9.8\n", "5.9.8"),
            ("Linux strongSwan U5.9.8/K6.1.0\n", "5.9.8"),
            ("EAL: Detected CPU lcores: 2\nEAL: RTE Version: 'DPDK 22.11.11'\n", "22.11.11"),
            ("ip utility, iproute2-6.1.0\n", ""),
            ("", ""),
        ] {
            assert_eq!(number(said).unwrap_or_default(), version, "{said}");
        }
    }

    #[test]
    fn what_is_missing_is_one_line_with_its_packages() {
        const SHELL: Tool = Tool::new("sh", "dash");
        assert_eq!(missing(&[SHELL]), None);
        let tools = [SHELL, Tool::new("no-such-a", "a-pack"), Tool::new("/no/such.so", "a-pack")];
        let said = missing(&tools).unwrap();
        assert_eq!(said, "`no-such-a`, `/no/such.so` not found: `apt-get install a-pack`");
    }

    #[test]
    fn what_a_kernel_lacks_is_told_without_the_command() {
        let (command, stderr) = ("ip link add".to_owned(), "Error: Unknown device type.".to_owned());
        assert_eq!(said(&LabError::Command { command, stderr }), "Unknown device type");
        assert_eq!(said(&LabError::Interrupted), "interrupted");
    }

    #[test]
    fn a_program_that_is_not_there_has_no_version() {
        assert!(version("no-such-program", &[]).is_err());
        assert!(kernel().unwrap().starts_with("Linux "));
    }
}
