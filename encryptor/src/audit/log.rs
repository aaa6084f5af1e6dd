//! The log that is written.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

use super::AuditError;
use super::event::{Event, Kind};
use super::files;
use super::line::{self, Head, Remark, Torn};

/// [`Audit::note`] complains this often at the most.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// An audit log, or none.
#[derive(Debug)]
pub struct Audit {
    open: Option<Open>,
    failures: u64,
    complained: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    max_bytes: u64,
    chain: String,
    file: File,
    length: u64,
    /// Of the last line of all that is whole.
    head: Option<Head>,
    /// The file has no whole line yet.
    fresh: bool,
    /// The last line wants its line feed.
    open_ended: bool,
    /// To be named by the next line.
    torn: Option<Torn>,
    /// Events that could not be written, to be told by the next line.
    lost: u64,
    /// A write failed, and what of it is there could not be read back.
    unsure: bool,
}

impl Audit {
    /// No log: every event is dropped.
    pub const fn off() -> Audit {
        Audit { open: None, failures: 0, complained: None }
    }

    /// Appends to the log at `path`, a regular file of mode 0600 on a local file system; makes it and its folder if they
    /// are not there. An existing chain goes on. A file that an event would make longer than `max_bytes` is set aside.
    ///
    /// # Errors
    /// [`AuditError`] when the file cannot be written, is no audit log, or another process has it open.
    pub fn open(path: &Path, max_bytes: u64) -> Result<Audit, AuditError> {
        let file = files::open(path)?;
        let tail = files::tail(&file, path)?;
        let error = |source| AuditError::Open { path: path.to_path_buf(), source };
        let mut open = Open {
            path: path.to_path_buf(),
            max_bytes,
            chain: tail.chain.map_or_else(random_id, Ok)?,
            length: file.metadata().map_err(error)?.len(),
            open_ended: files::is_open_ended(&file).map_err(error)?,
            file,
            head: tail.head,
            fresh: tail.fresh,
            torn: tail.torn,
            lost: 0,
            unsure: false,
        };
        open.remark()?;
        Ok(Audit { open: Some(open), failures: 0, complained: None })
    }

    /// Writes an event. It is with the kernel when this returns, so that it outlives the process; [`Kind::Stop`] is on
    /// the disk. Only a local disk is waited for.
    ///
    /// # Errors
    /// [`AuditError`]: the event is missing, except for [`AuditError::Rotate`]. The next one that can be written is
    /// preceded by a line that says how many are.
    pub fn record(&mut self, event: &Event<'_>) -> Result<(), AuditError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let recorded = open.record(event);
        if let Err(error) = &recorded {
            self.failures += 1;
            open.lost += u64::from(!matches!(error, AuditError::Rotate { .. }));
        }
        recorded
    }

    /// [`Audit::record`], with failures counted and logged, every ten seconds at the most.
    pub fn note(&mut self, event: &Event<'_>) {
        let Err(error) = self.record(event) else { return };
        if self.complained.is_none_or(|moment| moment.elapsed() >= COMPLAINTS) {
            self.complained = Some(Instant::now());
            warn!("{error} ({} failures so far)", self.failures);
        }
    }

    /// Calls of [`Audit::record`] that failed.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The last line's sequence number and SHA-256 in hexadecimal: to be noted elsewhere, so that [`verify_against`] can
    /// tell when the end was cut off.
    ///
    /// [`verify_against`]: super::verify_against
    pub fn head(&self) -> Option<(u64, &str)> {
        let head = self.open.as_ref()?.head.as_ref()?;
        Some((head.seq, &head.hash))
    }
}

impl Open {
    fn record(&mut self, event: &Event<'_>) -> Result<(), AuditError> {
        if self.unsure {
            self.take_stock()?;
        }
        self.stay_at_path()?;
        let mut full = Ok(());
        let mut line = self.due_line(event)?;
        if self.length > 0 && self.length + line.0.len() as u64 + 1 > self.max_bytes {
            full = files::put_aside(&self.path)
                .map_err(|source| AuditError::Rotate { path: self.path.clone(), source });
            if full.is_ok() {
                self.stay_at_path()?;
                line = self.due_line(event)?;
            }
        }
        self.append(line)?;
        if event.kind == Kind::Stop {
            self.file.sync_data().map_err(|source| self.write_error(source))?;
        }
        full
    }

    /// The line of `event`, after those that must stand before it.
    fn due_line(&mut self, event: &Event<'_>) -> Result<(Vec<u8>, Head), AuditError> {
        self.remark()?;
        Ok(line::of_event(self.head.as_ref(), event))
    }

    /// Writes what is to be said of the log itself, if anything is.
    fn remark(&mut self) -> Result<(), AuditError> {
        let remark = Remark {
            chain: self.fresh.then(|| self.chain.clone()),
            torn: self.torn.clone(),
            lost: (self.lost > 0).then_some(self.lost),
        };
        if remark.chain.is_none() && remark.torn.is_none() && remark.lost.is_none() {
            return Ok(());
        }
        self.append(line::of_remark(self.head.as_ref(), &remark))?;
        (self.torn, self.lost) = (None, 0);
        Ok(())
    }

    fn append(&mut self, (mut line, head): (Vec<u8>, Head)) -> Result<(), AuditError> {
        if self.open_ended {
            line.insert(0, b'\n');
        }
        line.push(b'\n');
        match self.file.write_all(&line) {
            Ok(()) => {
                self.length += line.len() as u64;
                (self.head, self.fresh, self.open_ended) = (Some(head), false, false);
                Ok(())
            }
            Err(source) => {
                self.unsure = true;
                self.take_stock()?;
                let whole = self.head.as_ref() == Some(&head);
                if whole { Ok(()) } else { Err(self.write_error(source)) }
            }
        }
    }

    /// After a failed write: what of it is there.
    fn take_stock(&mut self) -> Result<(), AuditError> {
        let error = |source| AuditError::Open { path: self.path.clone(), source };
        let length = self.file.metadata().map_err(error)?.len();
        if length != self.length {
            let tail = files::tail(&self.file, &self.path)?;
            self.open_ended = files::is_open_ended(&self.file).map_err(error)?;
            (self.length, self.fresh, self.head, self.torn) = (length, tail.fresh, tail.head, tail.torn);
        }
        self.unsure = false;
        Ok(())
    }

    /// Goes on in a new file where ours was set aside, renamed or removed. The chain goes on too, so that lines which
    /// are gone with a file are seen to be missing.
    fn stay_at_path(&mut self) -> Result<(), AuditError> {
        if files::is_at(&self.file, &self.path) {
            return Ok(());
        }
        let file = files::open(&self.path)?;
        let error = |source| AuditError::Open { path: self.path.clone(), source };
        if file.metadata().map_err(error)?.len() > 0 {
            let found = "another file was put in its place";
            return Err(AuditError::NotALog { path: self.path.clone(), found });
        }
        (self.file, self.length, self.fresh, self.open_ended) = (file, 0, true, false);
        Ok(())
    }

    fn write_error(&self, source: io::Error) -> AuditError {
        AuditError::Write { path: self.path.clone(), source }
    }
}

fn random_id() -> Result<String, AuditError> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| AuditError::Random)?;
    Ok(line::hex(&id))
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.open {
            Some(open) => write!(f, "{}", open.path.display()),
            None => f.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::super::verify;
    use super::*;

    const EVENT: Kind = Kind::Start;

    fn open_at(name: &str) -> (PathBuf, Audit) {
        let path = std::env::temp_dir().join(format!("qhaul-audit-log-{name}-{}", std::process::id()));
        drop(fs::remove_file(&path));
        let mut audit = Audit::open(&path, 1 << 20).unwrap();
        audit.record(&Event::new(EVENT)).unwrap();
        (path, audit)
    }

    /// Exchanges the file for one that cannot be written, and returns what was there.
    fn obstruct(audit: &mut Audit, path: &Path) -> File {
        let open = audit.open.as_mut().unwrap();
        std::mem::replace(&mut open.file, File::open(path).unwrap())
    }

    fn clear(audit: &mut Audit, file: File) {
        audit.open.as_mut().unwrap().file = file;
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_told() {
        let (path, mut audit) = open_at("lost");
        let file = obstruct(&mut audit, &path);
        for _ in 0..3 {
            let error = audit.record(&Event::new(EVENT)).unwrap_err();
            assert!(matches!(error, AuditError::Write { .. }), "{error}");
        }
        audit.note(&Event::new(EVENT));
        assert_eq!(audit.failures(), 4);
        clear(&mut audit, file);
        audit.record(&Event::new(EVENT)).unwrap();
        let report = verify(&path).unwrap();
        assert_eq!((report.lines, report.lost, report.torn), (4, 4, 0));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_chain_goes_on_after_what_was_written_in_part() {
        for (name, left, torn) in [("begun", 20, 1), ("almost", 1, 1), ("no-feed", 0, 0)] {
            let (path, mut audit) = open_at(name);
            let head = audit.open.as_ref().unwrap().head.clone();
            let (line, _) = line::of_event(head.as_ref(), &Event::new(EVENT).reason("not whole"));
            let file = obstruct(&mut audit, &path);
            OpenOptions::new()
                .append(true)
                .open(&path)
                .unwrap()
                .write_all(&line[..line.len() - left])
                .unwrap();
            audit.record(&Event::new(EVENT)).unwrap_err();
            clear(&mut audit, file);
            audit.record(&Event::new(EVENT)).unwrap();
            let report = verify(&path).unwrap();
            assert_eq!((report.lost, report.torn), (1, torn), "{name}");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_could_not_even_be_read_back_is_looked_at_before_the_next_write() {
        let (path, mut audit) = open_at("unsure");
        let folder = File::open(std::env::temp_dir()).unwrap();
        let open = audit.open.as_mut().unwrap();
        let file = std::mem::replace(&mut open.file, folder);
        let line = line::of_event(open.head.as_ref(), &Event::new(EVENT));
        open.append(line).unwrap_err();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"seq\":2").unwrap();
        clear(&mut audit, file);
        audit.record(&Event::new(EVENT)).unwrap();
        assert_eq!(verify(&path).unwrap().torn, 1);
        fs::remove_file(path).unwrap();
    }
}
