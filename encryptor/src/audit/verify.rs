//! Whether a log is as it was written.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files;
use super::line::{self, Head, ROOT, Torn};
use super::report::{Fault, Report};

/// Bytes of a line at the most, so that a damaged file cannot exhaust memory.
const LONGEST_LINE: u64 = 16 << 20;

/// Reads the log at `path` and all that was set aside from it, and checks that every line follows from the one before.
///
/// A log that was cut off at its end, or wholly rewritten, passes: see [`verify_against`]. It may be in use.
///
/// # Errors
/// The first [`Fault`].
pub fn verify(path: &Path) -> Result<Report, Fault> {
    check(path, None)
}

/// [`verify`], and that one of the lines is the one that had the hash `head` (64 hexadecimal digits) when it was noted:
/// then it and all before it are as they were.
///
/// # Errors
/// The first [`Fault`].
pub fn verify_against(path: &Path, head: &str) -> Result<Report, Fault> {
    let head = head.trim().to_ascii_lowercase();
    if head.len() != ROOT.len() || !head.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(whole(path, "the noted head is not 64 hexadecimal digits: copy it whole".into()));
    }
    check(path, Some(&head))
}

/// Where the check has got to.
struct Check<'a> {
    noted: Option<&'a str>,
    seen_noted: bool,
    head: Option<Head>,
    /// What is no whole line, since the last one that is: its text, and the fault that it is unless the next line names it.
    rest: Option<(Vec<u8>, Fault)>,
    begins_file: bool,
    report: Report,
}

fn check(path: &Path, noted: Option<&str>) -> Result<Report, Fault> {
    let files = in_order(path)?;
    let report = Report {
        files: files.len(),
        lines: 0,
        chain: String::new(),
        first_seq: 0,
        first_time: String::new(),
        last_time: String::new(),
        head: String::new(),
        torn: 0,
        lost: 0,
        unfinished: false,
    };
    let mut check = Check { noted, seen_noted: false, head: None, rest: None, begins_file: true, report };
    let last = files.len() - 1;
    for (at, (name, file)) in files.into_iter().enumerate() {
        check.begins_file = true;
        check.file(&name, file, at == last)?;
    }
    check.result(path)
}

impl Check<'_> {
    fn file(&mut self, name: &Path, file: File, is_last: bool) -> Result<(), Fault> {
        let mut reader = BufReader::new(file);
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text);
            let read = read.map_err(|error| unreadable(name, &error))?;
            if read == 0 {
                break;
            }
            let whole_line = text.last() == Some(&b'\n');
            if !whole_line && is_last {
                self.report.unfinished = true;
                break;
            }
            let line = text.strip_suffix(b"\n").unwrap_or(&text);
            let fault = |problem: Problem| Fault {
                file: name.to_path_buf(),
                line: number,
                problem: problem.to_string(),
            };
            match serde_json::from_slice(line) {
                Ok(read) => {
                    self.torn_is_named(&read, fault).and_then(|()| self.whole_line(read, line, fault))?
                }
                Err(_) => match &mut self.rest {
                    Some((rest, _)) => rest.extend([b"\n", line].concat()),
                    None => self.rest = Some((line.to_vec(), fault(Problem::Damaged))),
                },
            }
        }
        Ok(())
    }

    /// What is torn is named by the next whole line, and nothing else is.
    fn torn_is_named(&mut self, read: &line::Read, fault: impl Fn(Problem) -> Fault) -> Result<(), Fault> {
        match (self.rest.take(), &read.remark.torn) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(fault(Problem::NothingTorn)),
            (Some((rest, _)), Some(torn)) if *torn == Torn::of_text(&rest) => {
                self.report.torn += 1;
                Ok(())
            }
            (Some((_, damaged)), _) => Err(damaged),
        }
    }

    fn whole_line(
        &mut self,
        read: line::Read,
        text: &[u8],
        fault: impl Fn(Problem) -> Fault,
    ) -> Result<(), Fault> {
        self.follows(&read).map_err(fault)?;
        self.report.lost += read.remark.lost.unwrap_or(0);
        self.report.lines += 1;
        self.report.last_time = read.time;
        self.begins_file = false;
        let hash = line::sha256(text);
        self.seen_noted |= self.noted == Some(&*hash);
        self.head = Some(Head { seq: read.seq, hash });
        Ok(())
    }

    fn follows(&mut self, read: &line::Read) -> Result<(), Problem> {
        match &self.head {
            Some(head) if read.seq != head.seq + 1 => {
                return Err(Problem::Order { found: read.seq, due: head.seq + 1 });
            }
            Some(head) if read.prev != head.hash => return Err(Problem::Changed),
            None if read.seq == 0 && read.prev != ROOT => return Err(Problem::Changed),
            None => {
                (self.report.first_seq, self.report.first_time) = (read.seq, read.time.clone());
                self.report.chain = read.remark.chain.clone().unwrap_or_default();
            }
            Some(_) => {}
        }
        match &read.remark.chain {
            None if self.begins_file => Err(Problem::Beheaded),
            Some(_) if !self.begins_file => Err(Problem::Joined),
            Some(chain) if *chain != self.report.chain => Err(Problem::OtherChain),
            _ => Ok(()),
        }
    }

    fn result(self, path: &Path) -> Result<Report, Fault> {
        if let Some((_, damaged)) = self.rest.filter(|_| !self.report.unfinished) {
            return Err(damaged);
        }
        let Some(head) = self.head else { return Err(whole(path, "it has no line yet".into())) };
        if self.noted.is_some() && !self.seen_noted {
            let older = match self.report.first_seq {
                0 => "",
                _ => ", or it is older than the files that are left",
            };
            let problem = format!(
                "no line has the noted head: the end was cut off or the log was rewritten{older} (the last line is {})",
                head.seq
            );
            return Err(whole(path, problem));
        }
        Ok(Report { head: head.hash, ..self.report })
    }
}

/// What does not fit about a line.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("it was damaged: this is no line of an audit log, and the line below does not name it as torn")]
    Damaged,
    #[error("it names a torn line above, but there is none: a line was removed")]
    NothingTorn,
    #[error("its number is {found} where {due} is due: lines were {}", match found > due {
        true => "removed before it",
        false => "exchanged, repeated or put in",
    })]
    Order { found: u64, due: u64 },
    #[error("it does not follow from the line before: one of the two was changed")]
    Changed,
    #[error("it cannot be a file's first line: lines were removed before it")]
    Beheaded,
    #[error("it is a file's first line, but lines stand before it: they were put in")]
    Joined,
    #[error("it belongs to another chain: the files are of different logs")]
    OtherChain,
}

/// All files of a log, oldest first. The newest is opened first: what is set aside meanwhile appears twice, not never.
fn in_order(path: &Path) -> Result<Vec<(PathBuf, File)>, Fault> {
    let newest = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some((path.to_path_buf(), opened.map_err(|error| unreadable(path, &error))?)),
    };
    let mut files = Vec::new();
    for (_, older) in files::set_aside(path).map_err(|error| unreadable(path, &error))? {
        let file = File::open(&older).map_err(|error| unreadable(&older, &error))?;
        files.push((older, file));
    }
    files.extend(newest);
    if files.is_empty() {
        return Err(whole(path, "there is no such audit log: check the path".into()));
    }
    let mut seen = HashSet::new();
    files.retain(|(_, file)| {
        file.metadata().is_ok_and(|metadata| seen.insert((metadata.dev(), metadata.ino())))
    });
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    whole(path, format!("cannot be read ({error}): name an audit log that you may read"))
}

fn whole(path: &Path, problem: String) -> Fault {
    Fault { file: path.to_path_buf(), line: 0, problem }
}
