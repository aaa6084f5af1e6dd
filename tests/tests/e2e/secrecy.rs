//! No key leaves a process but through the debug key log.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qhaul::lab::plan::{KME_PORT, Node, Side};
use qhaul::lab::wait::pause;
use qhaul_keyfeed::{Etsi014, Etsi014Config, KeySource, SaeId};
use qhaul_tests::TestLab;
use qhaul_tests::key_log;
use qhaul_tests::namespace::inside;
use qhaul_tests::search::KeySearch;
use qhaul_tests::traffic::Traffic;

#[test]
fn no_key_stands_in_any_log_or_status_even_at_the_finest_level() -> Result<()> {
    let mut lab = TestLab::prepare("esecret")?;
    lab.configure(|_| ())?;
    lab.sites.set_environment(&[("QHAUL_LOG", "trace")]);
    for side in Side::BOTH {
        lab.log_keys(side, &format!("keys-{side}.log"));
    }
    lab.sites.start_all()?;
    let traffic =
        [Traffic::start(lab.topology(), Side::A, 200)?, Traffic::start(lab.topology(), Side::B, 200)?];
    let mut search = KeySearch::default();
    for (number, key) in qkd_keys(&lab)?.iter().enumerate() {
        search.add(&format!("QKD key {number}"), key);
    }
    let rotated = lab.status(Side::A)?.tx.switches + 4;
    lab.wait_status(Side::A, "the keys did not rotate", |status| status.tx.switches >= rotated)?;
    // Errors are texts too: the key server goes, and is missed.
    lab.sites.kme(Side::A).context("key server a runs")?.kill()?;
    lab.wait_status(Side::A, "nobody missed the key server", |status| status.keys.trouble.is_some())?;
    for traffic in traffic {
        traffic.finish()?;
    }
    for side in Side::BOTH {
        let entries = key_log::read(&lab.key_log(side))?;
        ensure!(entries.len() > 20, "only {} flow keys at {side}", entries.len());
        for entry in entries {
            search.add(&format!("the {} key of SPI {:08x}", entry.direction, entry.spi), &entry.key);
        }
        check_status(&lab, &search, side)?;
    }
    pause(Duration::from_millis(200))?;
    check_files(&lab, &search)?;
    lab.finish()
}

#[test]
fn the_lab_prints_no_key() -> Result<()> {
    let lab = TestLab::prepare("eprints")?;
    let qhaul = lab.binary("qhaul");
    lab.finish_without_books()?;
    let lab = |command: &str| {
        let argv = ["120", &qhaul, "lab", "--prefix", "eprints", command];
        Command::new("timeout").args(argv).env("QHAUL_LOG", "trace").output()
    };
    let (up, down) = (lab("up")?, lab("down")?);
    ensure!(up.status.success(), "lab up: {}", String::from_utf8_lossy(&up.stderr));
    ensure!(down.status.success(), "lab down: {}", String::from_utf8_lossy(&down.stderr));
    let said = String::from_utf8_lossy(&up.stdout);
    ensure!(said.contains("the lab stands"), "lab up says {said}");
    let mut texts = [&up.stdout, &up.stderr, &down.stdout, &down.stderr].into_iter();
    texts.try_for_each(|text| KeySearch::default().check("the output of `qhaul lab`", text))
}

/// Keys fetched as both SAEs would: what the key servers' own logs must not show.
fn qkd_keys(lab: &TestLab) -> Result<Vec<[u8; 32]>> {
    let mut keys = Vec::new();
    for side in Side::BOTH {
        let config = Etsi014Config {
            url: format!("https://{}:{KME_PORT}", side.kme_v4()),
            ca: lab.file("kme-ca.pem"),
            cert: lab.file(&format!("{}.pem", side.sae())),
            key: lab.file(&format!("{}.key", side.sae())),
            kme_name: Some(side.kme()),
            peer_sae: SaeId::new(side.peer().sae())?,
            timeout: Duration::from_secs(10),
        };
        let fetched = inside(lab.topology(), Node::Gateway(side), || Ok(Etsi014::new(config)?.new_keys(4)?))?;
        keys.extend(fetched.iter().map(|delivered| *delivered.key.as_bytes()));
    }
    ensure!(keys.len() == 8, "{} keys were delivered", keys.len());
    Ok(keys)
}

fn check_status(lab: &TestLab, search: &KeySearch, side: Side) -> Result<()> {
    let config = lab.sites.config_path(side).display().to_string();
    let qhaul = lab.binary("qhaul");
    for format in [&["--json"][..], &[]] {
        let argv = [&[qhaul.as_str(), "status", "--config", &config], format].concat();
        let said = lab.topology().exec(Node::Gateway(side), &argv)?;
        ensure!(said.contains("epoch"), "an empty status shows nothing");
        search.check(&format!("the status of {side}"), said.as_bytes())?;
    }
    Ok(())
}

/// Every file that the processes wrote, but the key logs.
fn check_files(lab: &TestLab, search: &KeySearch) -> Result<()> {
    let is_log = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name.ends_with(".log") || name.ends_with(".out")) && !name.starts_with("keys-")
    };
    let mut lines = 0;
    for file in fs::read_dir(lab.file(""))? {
        let path = file?.path();
        if is_log(&path) {
            let text = fs::read(&path)?;
            lines += text.iter().filter(|byte| **byte == b'\n').count();
            search.check(&path.display().to_string(), &text)?;
        }
    }
    ensure!(lines > 50 && search.forms() > 100, "{lines} lines of logs, {} forms: too few", search.forms());
    Ok(())
}
