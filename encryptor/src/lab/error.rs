//! What can go wrong while the lab is built, used and removed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::pki::PkiError;

/// Why the lab could not do what it was asked; each text is one line and names the remedy where there is one.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces need privileges.
    #[error("the lab needs root to make network namespaces: run it as root or with sudo")]
    NotRoot,
    /// The prefix cannot stand in names of namespaces.
    #[error("prefix `{0}`: use 1 to 8 lower-case letters and digits, such as `qh`")]
    Prefix(String),
    /// A lab of this name is standing, or another demo is using it.
    #[error(
        "a lab named `{0}` is up: remove it with `qhaul lab down --prefix {0}`, or choose another --prefix"
    )]
    Exists(String),
    /// No lab of this name is standing.
    #[error(
        "no lab named `{0}` is up: bring it up with `qhaul lab up --prefix {0}`, or leave --standing out"
    )]
    Absent(String),
    /// A program is absent.
    #[error("`{tool}` was not found: install it with `apt-get install {package}` (or `make deps`)")]
    MissingTool {
        /// The program.
        tool: String,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// One of our own binaries is absent.
    #[error("{} was not found: build it with `cargo build --release`", .0.display())]
    MissingBinary(PathBuf),
    /// A command ran and failed.
    #[error("`{command}` failed: {stderr}")]
    Command {
        /// As it was run.
        command: String,
        /// What it wrote to standard error, on one line.
        stderr: String,
    },
    /// A file or process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A process ended that should be running.
    #[error("{name} ended early ({status}): {last_line}")]
    Ended {
        /// Its name in the lab.
        name: String,
        /// Exit code or signal.
        status: String,
        /// The last line that it logged.
        last_line: String,
    },
    /// Something did not happen in time.
    #[error("{what} within {} s", limit.as_secs_f32())]
    Timeout {
        /// What was waited for, worded as a failure.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// A tool answered in a way that was not understood.
    #[error("cannot read {what}: {detail}")]
    Unreadable {
        /// Whose answer.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The file system is too full for the capture.
    #[error("{} has {free_mib} MiB free and the demo's capture needs {needed_mib}: free some", dir.display())]
    Space {
        /// Where the capture would be written.
        dir: PathBuf,
        /// What is there.
        free_mib: u64,
        /// What is wanted.
        needed_mib: u64,
    },
    /// SIGINT or SIGTERM arrived.
    #[error("interrupted")]
    Interrupted,
    /// The certificates could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// The lab's result.
pub type Result<T> = std::result::Result<T, LabError>;

/// Gives an I/O error its context.
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
    let what = what.into();
    move |source| LabError::Io { what, source }
}
