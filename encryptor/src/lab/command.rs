//! Runs the system's network tools; a failure reads as one line with the command and what it said.

use std::io;
use std::process::{Command, Stdio};

use super::error::{LabError, Result, io_error};

/// Runs a program to its end and returns its standard output.
pub fn run(argv: &[&str]) -> Result<String> {
    let (program, arguments) = argv.split_first().expect("a command has a program");
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| spawn_error(program, e))?;
    if !output.status.success() {
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        let said = one_line(&String::from_utf8_lossy(said));
        let stderr = if said.is_empty() { output.status.to_string() } else { said };
        return Err(LabError::Command { command: argv.join(" "), stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program inside a network namespace.
pub fn run_in(namespace: &str, argv: &[&str]) -> Result<String> {
    run(&[&["ip", "netns", "exec", namespace], argv].concat())
}

/// Runs a command written as one line of words; there is no shell and no quoting.
pub(super) fn words(line: &str) -> Result<String> {
    run(&line.split_whitespace().collect::<Vec<_>>())
}

/// Runs `lines`, each a command of words, inside a namespace, and stops at the first failure.
pub(super) fn words_in(namespace: &str, lines: &[&str]) -> Result<()> {
    lines
        .iter()
        .try_for_each(|line| run_in(namespace, &line.split_whitespace().collect::<Vec<_>>()).map(drop))
}

/// Fails with the package to install if one of the lab's tools is absent.
pub(super) fn require_tools() -> Result<()> {
    TOOLS.iter().try_for_each(|(tool, _)| match find(tool) {
        true => Ok(()),
        false => Err(spawn_error(tool, io::ErrorKind::NotFound.into())),
    })
}

const TOOLS: [(&str, &str); 9] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("curl", "curl"),
    ("python3", "python3"),
];

fn find(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

fn spawn_error(program: &str, error: io::Error) -> LabError {
    let package = TOOLS.iter().find(|(tool, _)| *tool == program).map(|(_, package)| *package);
    match package {
        Some(package) if error.kind() == io::ErrorKind::NotFound => {
            LabError::MissingTool { tool: program.to_owned(), package }
        }
        _ => io_error(format!("cannot run {program}"))(error),
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_command_and_reason() {
        let error = run(&["sh", "-c", "echo first >&2; echo second >&2; exit 3"]).unwrap_err().to_string();
        assert_eq!(error, "`sh -c echo first >&2; echo second >&2; exit 3` failed: first; second");
        assert_eq!(words("echo one  two").unwrap(), "one two\n");
    }

    #[test]
    fn an_absent_tool_names_its_package() {
        let error = spawn_error("iperf3", io::ErrorKind::NotFound.into()).to_string();
        assert!(error.contains("apt-get install iperf3"), "{error}");
    }
}
