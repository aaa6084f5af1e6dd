//! Every frame that enters one plain port leaves the other bit for bit, in order per flow, whatever it is, while keys change.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use qhaul::lab::plan::Side;
use qhaul::lab::replay::{Outcome, Session};
use qhaul::lab::{CaptureFile, LabError};
use qhaul_tests::TestLab;
use qhaul_tests::books::drops_since;
use qhaul_tests::corpus::{LONGEST, corpus};

/// Rotations of each site that a corpus is spread over.
const ROTATIONS: u64 = 3;

#[test]
fn every_kind_of_frame_crosses_bit_for_bit_and_in_order_while_keys_change() -> Result<()> {
    crosses(quiet("etrans", (1500, 1600))?, LONGEST)
}

#[test]
fn frames_of_up_to_9216_bytes_cross_as_well() -> Result<()> {
    crosses(quiet("etrans9k", (9202, 9302))?, 9216)
}

/// The corpus both ways at once, through rotations; all accounts at both sites say the same of it.
fn crosses(lab: TestLab, size: usize) -> Result<()> {
    let mut session = Session::open(lab.topology(), &Side::BOTH)?;
    // Whatever the hosts themselves said is counted by now.
    let before = lab.settled()?;
    let frames = corpus(size);
    let mut total = Outcome::default();
    // A part before each rotation, and one behind the last.
    for part in frames.chunks(frames.len().div_ceil(ROTATIONS as usize + 1)) {
        let switches = [lab.status(Side::A)?.tx.switches, lab.status(Side::B)?.tx.switches];
        total.add(&send(&mut session, part)?);
        for (side, switches) in Side::BOTH.into_iter().zip(switches) {
            lab.wait_status(side, "the keys did not rotate", |status| status.tx.switches > switches)?;
        }
    }
    total.add(&session.close()?);
    check("the corpus", &total)?;
    ensure!(total.frames == 2 * frames.len() as u64, "{} frames both ways were sent", total.frames);
    let after = lab.settled()?;
    for (from, to) in [(0, 1), (1, 0)] {
        let grown = |side: usize, name: &str| {
            after[side].counters.tallies[name] - before[side].counters.tallies[name]
        };
        let steps = [grown(from, "plain_in"), grown(from, "cipher_out"), grown(to, "plain_out")];
        ensure!(
            steps == [frames.len() as u64; 3],
            "of {} frames these were counted: {steps:?}",
            frames.len()
        );
    }
    for (now, before) in after.iter().zip(&before) {
        let drops = drops_since(now, before);
        ensure!(drops.is_empty(), "dropped: {drops:?}");
        let rotations = now.tx.switches - before.tx.switches;
        ensure!(rotations >= ROTATIONS, "{rotations} rotations");
    }
    lab.finish()
}

/// Those beside this crate, and all in the directory that the environment variable QHAUL_PCAPS names.
#[test]
fn captured_frames_cross_bit_for_bit_and_in_order() -> Result<()> {
    let mut files = captures(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps"))?;
    ensure!(files.len() >= 6, "the captures are not where they belong: {files:?}");
    if let Some(further) = std::env::var_os("QHAUL_PCAPS") {
        let found = captures(Path::new(&further))?;
        ensure!(!found.is_empty(), "QHAUL_PCAPS: no .pcap and no .pcapng in {}", further.display());
        files.extend(found);
    }
    let lab = quiet("epcaps", (9202, 9302))?;
    let mut session = Session::open(lab.topology(), &Side::BOTH)?;
    for path in &files {
        let mut file = CaptureFile::open(path)?;
        let outcome = session.pass(|| Ok(file.next_frame()?.map(<[u8]>::to_vec)))?;
        ensure!(file.frames() > 0, "{} is empty", path.display());
        println!("{}: {} frames, {} unsendable", path.display(), outcome.frames, outcome.unsendable());
        check(&path.display().to_string(), &outcome)?;
    }
    check("what was left over", &session.close()?)?;
    lab.finish()
}

#[test]
fn the_command_replays_files_and_names_what_it_cannot() -> Result<()> {
    let lab = quiet("ereplay", (1500, 1600))?;
    let file = lab.file("few.pcap");
    let frames: [&[u8]; 4] = [&[0x11; 60], &[0x22; 13], &[0x33; 1600], &[0x44; 14]];
    std::fs::write(&file, pcap(&frames))?;
    let replay = |file: &Path| {
        let argv = ["lab", "--prefix", "ereplay", "replay", "--standing", "--reverse", "--json"];
        std::process::Command::new(lab.binary("qhaul")).args(argv).arg(file).output()
    };
    let ran = replay(&file)?;
    let said: serde_json::Value = serde_json::from_slice(&ran.stdout)
        .with_context(|| String::from_utf8_lossy(&ran.stderr).into_owned())?;
    let numbers =
        ["frames", "matched", "missing", "too_short", "too_long"].map(|name| said["total"][name].as_u64());
    ensure!(ran.status.success() && said["result"] == "pass", "it says {said}");
    ensure!(numbers == [4, 4, 0, 2, 2].map(Some), "it says {said}");

    let damaged = lab.file("damaged.pcap");
    std::fs::write(&damaged, &pcap(&frames)[..60])?;
    let ran = replay(&damaged)?;
    let said: serde_json::Value = serde_json::from_slice(&ran.stdout)?;
    ensure!(!ran.status.success() && said["result"] == "FAIL", "it says {said}");
    let line = said["unreadable"][0].as_str().context("no line for the damaged file")?;
    ensure!(line.contains("damaged.pcap") && line.contains("cut short"), "it says {line}");
    lab.finish()
}

/// A lab whose hosts say nothing by themselves, with the MTUs of both plain sides and of the backhaul.
fn quiet(prefix: &str, mtus: (u16, u16)) -> Result<TestLab> {
    let lab = TestLab::up_with_mtus(prefix, mtus, |_| ())?;
    lab.topology().silence_hosts()?;
    Ok(lab)
}

fn send(session: &mut Session<'_>, frames: &[Vec<u8>]) -> Result<Outcome, LabError> {
    let mut left: VecDeque<&Vec<u8>> = frames.iter().collect();
    session.pass(|| Ok(left.pop_front().cloned()))
}

fn check(what: &str, outcome: &Outcome) -> Result<()> {
    let faults = outcome.faults.join("\n    ");
    ensure!(outcome.is_transparent(), "{what}: {outcome:?}\n    {faults}");
    Ok(())
}

fn captures(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_capture = path.extension().is_some_and(|kind| kind == "pcap" || kind == "pcapng");
        files.extend(is_capture.then_some(path));
    }
    files.sort();
    Ok(files)
}

fn pcap(frames: &[&[u8]]) -> Vec<u8> {
    let mut words = vec![0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1];
    let mut file = Vec::new();
    for frame in frames {
        let length = frame.len() as u32;
        words.extend([0, 0, length, length]);
        file.extend(words.drain(..).flat_map(u32::to_le_bytes));
        file.extend(*frame);
    }
    file
}
