use std::path::PathBuf;

use anyhow::{Result, ensure};
use qhaul::lab::eavesdrop::{Eavesdropper, Sightings};
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::{Topology, for_each_frame};

use crate::tap::{Direction, Tap};

/// Taps at both ends of the backhaul, each at what its gateway sends.
#[derive(Debug)]
pub struct Backhaul {
    taps: [Tap; 2],
}

/// What they heard: a pcap file of what each gateway sent, a's first.
#[derive(Debug)]
pub struct Heard {
    /// The files.
    pub files: [PathBuf; 2],
}

impl Backhaul {
    /// Starts listening; once per lab.
    pub fn listen(topology: &Topology) -> Result<Backhaul> {
        let tap = |side: Side| {
            let (port, name) = (format!("wan-{side}"), format!("backhaul-{side}"));
            Tap::start(topology, Node::Backhaul, &port, Direction::In, &name)
        };
        Ok(Backhaul { taps: [tap(Side::A)?, tap(Side::B)?] })
    }

    /// Stops listening.
    pub fn finish(self) -> Result<Heard> {
        let [a, b] = self.taps.map(Tap::finish_file);
        Ok(Heard { files: [a?, b?] })
    }
}

impl Heard {
    /// [`sealed`] of both files.
    pub fn sealed(&self) -> Result<Sightings> {
        sealed(&self.files)
    }
}

/// What an eavesdropper makes of captures. Fails with the first frame that has anything of the hosts in clear, or that is of
/// no kind that belongs on the backhaul.
pub fn sealed(files: &[PathBuf]) -> Result<Sightings> {
    let mut eavesdropper = Eavesdropper::default();
    let mut first = None;
    for file in files {
        for_each_frame(file, |frame| {
            eavesdropper.look_at(frame);
            if first.is_none() && is_readable(frame) {
                first = Some(frame.to_vec());
            }
        })?;
    }
    let seen = eavesdropper.into_sightings();
    let (count, found) = (seen.plaintext, &seen.findings);
    ensure!(count == 0, "{count} frames in clear, {found:?}; the first: {:02x?}", first.unwrap_or_default());
    Ok(seen)
}

fn is_readable(frame: &[u8]) -> bool {
    let mut eavesdropper = Eavesdropper::default();
    eavesdropper.look_at(frame);
    eavesdropper.into_sightings().plaintext > 0
}
