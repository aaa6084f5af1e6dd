//! `lab replay`: the frames of capture files through both encryptors, held bit for bit against what comes out.

use std::path::{Path, PathBuf};

use super::error::Result;
use super::pcap::{CaptureFile, for_each_frame};
use super::plan::{BACKHAUL_MTU, PLAIN_MTU, Side};
use super::progress::Progress;
use super::sites::Sites;
use super::topology::Topology;
use super::wait::catch_signals;
use super::{LabError, Options};
use crate::status::Status;
use crate::wire::ETH_HLEN;

mod compare;
mod flow;
mod lane;
mod listener;
mod pace;
mod report;
mod session;

use pace::{Pace, ask};
use report::Report;
pub use report::{Dropped, FileReport};
pub use session::{Outcome, Session};

/// The plain side's largest MTU: frames of 9,216 bytes.
const LARGEST_MTU: u16 = 9202;

/// What `lab replay` is told.
#[derive(Clone, Debug)]
pub struct Request {
    /// Capture files, pcap or pcapng.
    pub files: Vec<PathBuf>,
    /// From host b to host a as well, at the same time.
    pub reverse: bool,
    /// Use the lab that stands under the prefix, instead of one of its own.
    pub standing: bool,
    /// Key rotations of both sites that the frames are spread over.
    pub rotations: u64,
    /// One JSON object instead of a page.
    pub json: bool,
}

/// Replays the files and prints what was found; the last line is for scripts, `replay: pass frames=N ...` or
/// `replay: FAIL REASON frames=N ...`. Returns true for a pass. A lab of its own is removed afterwards.
pub fn replay(options: &Options, request: &Request) -> Result<bool> {
    catch_signals()?;
    let say = Say { progress: Progress::start(), silent: request.json };
    let mut report = Report::default();
    let sound = scan(request, &mut report);
    let ran = if sound.is_empty() { Ok(()) } else { run(options, request, &sound, say, &mut report) };
    if let Err(error) = &ran {
        report.failure = Some(error.to_string());
    }
    match request.json {
        true => println!("{}", report.json()),
        false => print!("{}", report.page()),
    }
    Ok(report.fault().is_none())
}

#[derive(Clone, Copy)]
struct Say {
    progress: Progress,
    silent: bool,
}

impl Say {
    fn say(self, text: impl AsRef<str>) {
        if !self.silent {
            self.progress.say(text);
        }
    }
}

/// A file that can be read to its end.
#[derive(Clone, Copy)]
struct Sound<'a> {
    path: &'a Path,
    frames: u64,
    /// The longest frame's length.
    longest: usize,
}

/// Reads every file once.
fn scan<'a>(request: &'a Request, report: &mut Report) -> Vec<Sound<'a>> {
    let mut sound = Vec::new();
    for path in &request.files {
        let mut longest = 0;
        match for_each_frame(path, |frame| longest = longest.max(frame.len())) {
            Ok(frames) => sound.push(Sound { path, frames, longest }),
            Err(error) => report.unreadable.push(error.to_string()),
        }
    }
    sound
}

/// Gives a lab that is not at work yet the MTUs that the longest frame asks for, as far as there are any.
fn make_room(topology: &Topology, files: &[Sound<'_>]) -> Result<()> {
    let longest = files.iter().map(|file| file.longest).max().unwrap_or_default();
    let wanted = u16::try_from(longest.saturating_sub(ETH_HLEN)).unwrap_or(u16::MAX).min(LARGEST_MTU);
    if wanted <= PLAIN_MTU {
        return Ok(());
    }
    topology.set_mtus(wanted, wanted + (BACKHAUL_MTU - PLAIN_MTU))
}

fn run(
    options: &Options,
    request: &Request,
    files: &[Sound<'_>],
    say: Say,
    report: &mut Report,
) -> Result<()> {
    if request.standing {
        return through(&Topology::standing(&options.prefix)?, request, files, say, report);
    }
    say.say("bringing up two sites, with hosts that say nothing by themselves");
    let mut sites = Sites::prepare(options)?;
    let ran = make_room(sites.topology(), files).and_then(|()| sites.topology().silence_hosts());
    let ran = ran.and_then(|()| sites.start_all()).and_then(|()| {
        say.say("both encryptors are active");
        through(sites.topology(), request, files, say, report)
    });
    // When a process has ended, its last words are the reason; what failed for want of it is not.
    let ran = ran.map_err(|error| match error {
        LabError::Interrupted => error,
        other => sites.check_running().err().unwrap_or(other),
    });
    say.say("removing everything");
    sites.down().and(ran)
}

/// All files through a lab that stands.
fn through(
    topology: &Topology,
    request: &Request,
    files: &[Sound<'_>],
    say: Say,
    report: &mut Report,
) -> Result<()> {
    let before = statuses(topology)?;
    let directions: &[Side] = if request.reverse { &Side::BOTH } else { &[Side::A] };
    let frames = files.iter().map(|file| file.frames).sum();
    let mut pace = Pace::new(topology, frames, request.rotations)?;
    let mut session = Session::open(topology, directions)?;
    for Sound { path, frames, .. } in files {
        say.say(format!("{}: {frames} frames", path.display()));
        let mut file = CaptureFile::open(path)?;
        let outcome = session.pass(|| {
            let Some(frame) = file.next_frame()? else { return Ok(None) };
            pace.wait()?;
            Ok(Some(frame.to_vec()))
        })?;
        report.total.add(&outcome);
        let stopped = outcome.stopped;
        report.files.push(FileReport { file: path.display().to_string(), outcome });
        if stopped {
            break;
        }
    }
    report.rotations = pace.seen()?.into_iter().min().unwrap_or_default();
    report.drops = drops(&before, &statuses(topology)?);
    let closing = session.close()?;
    report.total.add(&closing);
    report.left_over = closing.faults;
    Ok(())
}

fn statuses(topology: &Topology) -> Result<[Status; 2]> {
    let [a, b] = Side::BOTH.map(|side| ask(&topology.dir().join(format!("{side}.sock"))));
    Ok([a?, b?])
}

/// What both encryptors dropped meanwhile.
fn drops(before: &[Status; 2], after: &[Status; 2]) -> Vec<Dropped> {
    let mut drops = Vec::new();
    for (side, (before, after)) in Side::BOTH.into_iter().zip(before.iter().zip(after)) {
        for (reason, count) in &after.counters.drops {
            let count = count.saturating_sub(*before.counters.drops.get(reason).unwrap_or(&0));
            if count > 0 {
                drops.push(Dropped { site: side.to_string(), reason: reason.clone(), count });
            }
        }
    }
    drops
}
