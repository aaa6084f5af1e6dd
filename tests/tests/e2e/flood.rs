//! Forged packets at a bounded rate: legitimate traffic does not feel them, and they leave nothing behind.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use qhaul_tests::lab::bin_dir;

#[test]
fn no_forged_packet_costs_a_legitimate_one_or_memory() -> Result<()> {
    let options =
        ["flood", "--rate", "3000", "--seconds", "2", "--traffic", "300", "--prefix", "eflood", "--json"];
    let flood = Command::new(bin_dir()?.join("qhaul-bench")).args(options).output().context("qhaul-bench")?;
    let (said, log) = (String::from_utf8_lossy(&flood.stdout), String::from_utf8_lossy(&flood.stderr));
    println!("{said}");
    ensure!(flood.status.success(), "it ended with {}: {log}", flood.status);
    let rows: Vec<serde_json::Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(rows.len() == 10, "{} kinds", rows.len());
    for row in &rows {
        let number = |name: &str| row[name].as_u64().with_context(|| format!("no {name}"));
        ensure!(number("forged")? > 1000 && number("sent")? > 100, "too little was sent: {row}");
        ensure!(number("lost")? == 0, "legitimate packets were lost: {row}");
        ensure!(number("memory_after")? < number("memory_before")? + 2048, "memory grew: {row}");
        let dropped: u64 =
            row["drops"].as_object().context("drops")?.values().filter_map(|count| count.as_u64()).sum();
        ensure!(dropped == number("forged")?, "each forged packet has one drop counter: {row}");
    }
    Ok(())
}
