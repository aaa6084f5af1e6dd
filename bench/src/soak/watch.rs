//! Looks at both encryptors' memory and open files each second, and writes down what it saw.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qhaul::lab::footprint::Footprint;
use qhaul::lab::plan::Side;

use super::memory::Sample;

const EACH: Duration = Duration::from_secs(1);

/// A process from its start to its end.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) side: Side,
    /// 1 for the site's first.
    pub(super) number: usize,
    pub(super) samples: Vec<Sample>,
    pid: u32,
    began: Instant,
    ended: bool,
}

/// Looks until it is finished.
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
}

struct Seen {
    started: Instant,
    phase: String,
    lives: Vec<Life>,
    csv: Option<BufWriter<File>>,
    stop: bool,
}

impl Watch {
    /// Writes a line for each look into `csv`, if there is one.
    pub(super) fn start(csv: Option<&Path>) -> Result<Watch> {
        let open = |path: &Path| -> Result<BufWriter<File>> {
            let mut file = BufWriter::new(
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
            );
            writeln!(file, "seconds,phase,site,life,pid,rss_kib,fds")?;
            Ok(file)
        };
        let csv = csv.map(open).transpose()?;
        let (started, phase) = (Instant::now(), "start".to_owned());
        let seen = Arc::new(Mutex::new(Seen { started, phase, lives: Vec::new(), csv, stop: false }));
        let told = seen.clone();
        let thread = thread::spawn(move || {
            while !lock(&told).look() {
                thread::sleep(EACH);
            }
        });
        Ok(Watch { seen, thread })
    }

    /// What happens from now on, for the file.
    pub(super) fn phase(&self, name: &str) {
        lock(&self.seen).phase = name.to_owned();
    }

    /// A site's process has been started.
    pub(super) fn born(&self, side: Side, pid: u32) {
        let mut seen = lock(&self.seen);
        let number = 1 + seen.lives.iter().filter(|life| life.side == side).count();
        let (samples, began) = (Vec::new(), Instant::now());
        seen.lives.push(Life { side, number, samples, pid, began, ended: false });
    }

    /// A site's process is about to end: what is seen of it from now on means nothing.
    pub(super) fn ends(&self, side: Side) {
        let mut seen = lock(&self.seen);
        seen.lives.iter_mut().filter(|life| life.side == side).for_each(|life| life.ended = true);
    }

    /// What a site's process held when it was last looked at.
    pub(super) fn latest(&self, side: Side) -> Option<Footprint> {
        let seen = lock(&self.seen);
        let life = seen.lives.iter().rfind(|life| life.side == side)?;
        life.samples.last().map(|sample| sample.held)
    }

    /// Stops looking. All lives in the order in which they began.
    pub(super) fn finish(self) -> Result<Vec<Life>> {
        lock(&self.seen).stop = true;
        self.thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        let mut seen = lock(&self.seen);
        if let Some(csv) = &mut seen.csv {
            csv.flush().context("the samples' file")?;
        }
        Ok(std::mem::take(&mut seen.lives))
    }
}

impl Seen {
    /// True if it was the last look.
    fn look(&mut self) -> bool {
        for life in self.lives.iter_mut().filter(|life| !life.ended) {
            let Ok(held) = Footprint::of(life.pid) else { continue };
            life.samples.push(Sample { at: life.began.elapsed(), held });
            if let Some(csv) = &mut self.csv {
                let (seconds, phase) = (self.started.elapsed().as_secs_f64(), &self.phase);
                let Life { side, number, pid, .. } = life;
                let Footprint { resident_kib, files } = held;
                // A full disk must not end the soak; its end tells, when the rest is written.
                drop(writeln!(csv, "{seconds:.1},{phase},{side},{number},{pid},{resident_kib},{files}"));
            }
        }
        self.stop
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
