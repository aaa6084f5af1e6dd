//! The audit log: both sites tell the same story of each key, and a line that is missing shows.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use qhaul::lab::plan::Side;
use qhaul_tests::TestLab;
use serde_json::Value;

#[test]
fn both_sites_log_the_same_keys_and_a_missing_line_shows() -> Result<()> {
    let lab = TestLab::up("eaudit", |config| {
        config.more = format!("[audit]\nlog = \"audit-{}.log\"\n", config.side);
    })?;
    for side in Side::BOTH {
        lab.wait_status(side, "the keys did not rotate", |status| status.tx.switches >= 5)?;
    }
    let logs = Side::BOTH.map(|side| lab.file(&format!("audit-{side}.log")));
    let [a, b] = [fs::read_to_string(&logs[0])?, fs::read_to_string(&logs[1])?];
    for (sent, received) in [(&a, &b), (&b, &a)] {
        let (offered, heard) = (keys_of_epochs(sent, "tx")?, keys_of_epochs(received, "rx")?);
        ensure!(offered.len() >= 3, "only {} epochs were offered: {sent}", offered.len());
        let alike = offered.iter().filter(|(epoch, key)| heard.get(*epoch) == Some(*key)).count();
        // The last one may be on its way.
        ensure!(alike + 1 >= offered.len(), "the sites tell of other keys: {offered:?} and {heard:?}");
        for event in
            ["obtained", "announced", "confirmed", "offered", "ready", "active", "switched", "retired"]
        {
            ensure!(sent.contains(&format!("\"{event}\"")), "no {event} in {sent}");
        }
    }
    for log in &logs {
        ensure!(verify(&lab, log)?.status.success(), "{} does not verify", log.display());
    }
    let cut: Vec<&str> =
        a.lines().enumerate().filter(|(number, _)| *number != 4).map(|(_, line)| line).collect();
    let forged = lab.file("forged.log");
    fs::write(&forged, cut.join("\n") + "\n")?;
    let verdict = verify(&lab, &forged)?;
    let line = String::from_utf8_lossy(&verdict.stderr);
    ensure!(!verdict.status.success() && line.contains("line 5"), "a missing line does not show: {line}");
    lab.finish()
}

/// key_ID by epoch, of what was offered in a direction.
fn keys_of_epochs(log: &str, direction: &str) -> Result<HashMap<u64, String>> {
    let mut keys = HashMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_string())?;
        if event["event"] == "offered" && event["direction"] == direction {
            let key = event["key_IDs"][0].as_str().with_context(|| format!("no key_ID in {line}"))?;
            keys.insert(event["epoch"].as_u64().context("no epoch")?, key.to_string());
        }
    }
    Ok(keys)
}

fn verify(lab: &TestLab, log: &std::path::Path) -> Result<Output> {
    Ok(Command::new(lab.binary("qhaul")).args(["audit", "verify"]).arg(log).output()?)
}
