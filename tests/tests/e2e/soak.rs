//! A soak as short as they come: whatever a restart costs is accounted for, frame by frame, and nothing stays behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qhaul_tests::lab::bin_dir;
use serde_json::Value;

#[test]
fn a_short_soak_explains_each_lost_frame() -> Result<()> {
    let csv = std::env::temp_dir().join(format!("qhaul-soak-{}.csv", std::process::id()));
    let soak = soak("esoak", "0.1", &["--phase", "flood,kill", "--flood", "bad-icv", "--traffic", "200"])?
        .args(["--flood-rate", "1000", "--csv"])
        .arg(&csv)
        .output()?;
    let (said, log) = (String::from_utf8_lossy(&soak.stdout), String::from_utf8_lossy(&soak.stderr));
    println!("{said}");
    ensure!(soak.status.success(), "it ended with {}: {log}", soak.status);
    let rows: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (verdict, phases) = rows.split_last().context("it says nothing")?;
    for side in ["a", "b"] {
        let row = phase(phases, &format!("kill {side}"))?;
        let away = number(&row["left_at"], &format!("site_{side}_down"))?;
        ensure!(away > 10 && number(row, "lost")? >= away, "it was hardly away: {row}");
    }
    let flood = phase(phases, "flood bad-icv")?;
    ensure!(number(&flood["left_at"], "rx:icv")? > 500, "hardly a flood: {flood}");
    for row in phases {
        ensure!(number(row, "sent")? > 100 && number(row, "unexplained")? == 0, "{row}");
    }
    ensure!(verdict["pass"] == true && number(verdict, "restarts")? == 2, "{verdict}");
    let (sent, received) = (number(verdict, "sent")?, number(verdict, "received")?);
    ensure!(sent == received + number(verdict, "explained")?, "{verdict}");
    let samples = fs::read_to_string(&csv)?;
    fs::remove_file(&csv)?;
    // Of the first and the second process of each site.
    for life in ["a,1,", "a,2,", "b,1,", "b,2,"] {
        ensure!(samples.contains(life), "no sample of {life}: {samples}");
    }
    ensure!(!lab_dir("esoak").exists(), "its lab was not removed");
    Ok(())
}

#[test]
fn a_soak_that_is_interrupted_says_so_and_leaves_nothing() -> Result<()> {
    let mut soak = soak("esoaki", "2", &["--phase", "steady"])?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(soak.stdout.take().context("its output")?).lines();
    let first = lines.next().context("it says nothing")??;
    ensure!(first.contains("steady"), "{first}");
    kill(Pid::from_raw(soak.id().try_into()?), Signal::SIGINT)?;
    let last = lines.last().context("no verdict")??;
    let verdict: Value = serde_json::from_str(&last)?;
    ensure!(verdict["pass"] == false && verdict["reason"].to_string().contains("interrupted"), "{verdict}");
    ensure!(!soak.wait()?.success(), "an interrupted soak passes");
    ensure!(!lab_dir("esoaki").exists(), "its lab was not removed");
    ensure!(!Path::new("/run/netns/esoaki-gw-a").exists(), "a namespace was not removed");
    Ok(())
}

fn soak(prefix: &str, minutes: &str, options: &[&str]) -> Result<Command> {
    let mut command = Command::new(bin_dir()?.join("qhaul-bench"));
    command.args(["soak", "--minutes", minutes, "--json", "--prefix", prefix]).args(options);
    Ok(command)
}

fn lab_dir(prefix: &str) -> std::path::PathBuf {
    Path::new("/run/qhaul-lab").join(prefix)
}

fn phase<'a>(rows: &'a [Value], name: &str) -> Result<&'a Value> {
    rows.iter().find(|row| row["phase"] == name).with_context(|| format!("no phase {name}"))
}

fn number(row: &Value, name: &str) -> Result<u64> {
    row[name].as_u64().with_context(|| format!("no {name} in {row}"))
}
