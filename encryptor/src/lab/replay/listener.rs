//! What arrives at a host, as tcpdump hears it: other people's code, and in front of the host's own stack.

use std::fs;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::lab::error::{LabError, Result};
use crate::lab::pcap::FrameReader;
use crate::lab::plan::{Node, Side};
use crate::lab::process::Process;
use crate::lab::topology::Topology;
use crate::lab::wait::wait_for;

/// Frames held between tcpdump and the comparer; then tcpdump waits, and behind it the kernel's buffer.
const BACKLOG: usize = 4096;

/// A tcpdump at a host's interface, read as it writes.
#[derive(Debug)]
pub(super) struct Listener {
    process: Process,
    frames: Receiver<Vec<u8>>,
    files: [PathBuf; 2],
}

impl Listener {
    /// Starts to listen to what arrives at a host.
    pub(super) fn start(topology: &Topology, side: Side) -> Result<Self> {
        // A standing lab may serve several replays, one after another.
        let name = format!("replay-{side}-{}", std::process::id());
        let files = ["out", "log"].map(|kind| topology.dir().join(format!("{name}.{kind}")));
        // Whole frames, each handed over at once, and room for a burst of them. No frame of the host's own.
        let options =
            ["-n", "-U", "--immediate-mode", "-Z", "root", "-s", "262144", "-B", "32768", "-Q", "in"];
        let argv = [&["tcpdump", "-i", "eth0", "-w", "-"][..], &options].concat();
        let namespace = topology.namespace(Node::Host(side));
        let (mut process, output) = Process::start_piped(&namespace, &name, topology.dir(), &argv)?;
        wait_for("tcpdump did not listen", Duration::from_secs(20), || {
            process.check_running()?;
            Ok(process.log().contains("listening on").then_some(()))
        })?;
        let (sender, frames) = sync_channel(BACKLOG);
        thread::spawn(move || read(output, &sender));
        Ok(Self { process, frames, files })
    }

    /// The next frame that arrives, or nothing within `patience`. Fails if tcpdump has ended.
    pub(super) fn next(&mut self, patience: Duration) -> Result<Option<Vec<u8>>> {
        match self.frames.recv_timeout(patience) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                self.process.check_running()?;
                let detail = "it closed its output".to_owned();
                Err(LabError::Unreadable { what: "what tcpdump hears".to_owned(), detail })
            }
        }
    }

    /// Stops listening and removes its files.
    pub(super) fn stop(mut self) -> Result<()> {
        self.process.stop()?;
        // The lab's directory may hold on to what could not be removed: it goes with the lab.
        self.files.iter().for_each(|file| drop(fs::remove_file(file)));
        Ok(())
    }
}

/// Ends with tcpdump's output, or when nobody takes the frames any more.
fn read(output: ChildStdout, frames: &SyncSender<Vec<u8>>) {
    let Ok(mut reader) = FrameReader::new(BufReader::with_capacity(1 << 18, output)) else { return };
    while let Ok(Some(frame)) = reader.next_frame() {
        if frames.send(frame.to_vec()).is_err() {
            return;
        }
    }
}
