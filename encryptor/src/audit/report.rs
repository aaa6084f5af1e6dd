//! What comes of a verification.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// What a sound log says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Files read.
    pub files: usize,
    /// Lines that hold on to each other.
    pub lines: u64,
    /// The chain's id.
    pub chain: String,
    /// Sequence number of the first line: 0, unless the oldest files are not there any more.
    pub first_seq: u64,
    /// When it was written, RFC 3339.
    pub first_time: String,
    /// When the last line was written, RFC 3339.
    pub last_time: String,
    /// The last line's SHA-256 in hexadecimal, which stands for all lines: to be noted elsewhere.
    pub head: String,
    /// Lines torn by a crash or a full disk, and named as such by the line after them.
    pub torn: u64,
    /// Events that the log says it could not write.
    pub lost: u64,
    /// The last line is not whole: it is being written, or its writer died.
    pub unfinished: bool,
}

/// The first thing that does not fit, in one line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; 0 for the file as a whole.
    pub line: u64,
    /// What does not fit.
    pub problem: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { files, lines, first_time, last_time, head, .. } = self;
        let files = if *files == 1 { "one file".to_string() } else { format!("{files} files") };
        write!(f, "sound: {lines} lines in {files}, {first_time} to {last_time}, head {head}")?;
        if self.first_seq > 0 {
            write!(f, "; begins at number {}: older files are not here", self.first_seq)?;
        }
        if self.torn > 0 {
            write!(f, "; {} torn lines, named as such", self.torn)?;
        }
        if self.lost > 0 {
            write!(f, "; {} events could not be written", self.lost)?;
        }
        if self.unfinished {
            f.write_str("; the last line is not whole: it is being written, or its writer died")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.problem),
            line => write!(f, "{}, line {line}: {}", self.file.display(), self.problem),
        }
    }
}
