use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::key_log::{Entry, from_hex, to_hex};

/// One ESP packet as the script opened it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Opened {
    /// Which key.
    pub spi: u32,
    /// The 64-bit sequence number.
    pub sequence: u64,
    /// What the payload is.
    pub next: u8,
    /// Padding in bytes.
    pub padding: usize,
    /// The key and salt that opened it, in hexadecimal.
    pub key: String,
    /// The payload, in hexadecimal.
    pub payload: String,
}

/// Opens every ESP packet of a capture with the `tx` keys of a key log, twice: with Scapy, and with python3-cryptography after
/// RFC 4303 and RFC 4106. Fails if the two differ or a packet does not open.
pub fn open_all(capture: &Path, key_log: &Path) -> Result<Vec<Opened>> {
    let script = capture.with_file_name("oracle.py");
    fs::write(&script, include_str!("oracle.py"))?;
    // Debian's own interpreter: Scapy comes with Debian's packages.
    let output = run(bounded("/usr/bin/python3").args([&*script, capture, key_log]))?;
    output
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the oracle says {line}")))
        .collect()
}

/// The frames of a standard ESP peer, as `standard_peer.py` describes it, made by Scapy.
pub fn standard_peer(script: &Path, request: &serde_json::Value) -> Result<Vec<Vec<u8>>> {
    fs::write(script, include_str!("standard_peer.py"))?;
    let output = run(bounded("/usr/bin/python3").arg(script).arg(request.to_string()))?;
    output.lines().map(from_hex).collect()
}

/// The UDP payloads that tshark finds inside the ESP packets of one SPI.
pub fn tshark_inner_udp(capture: &Path, key: &Entry) -> Result<Vec<Vec<u8>>> {
    let secret = to_hex(&[&key.key[..], &key.salt].concat());
    let association = format!(
        r#"uat:esp_sa:"IPv4","*","*","0x{:08x}","AES-GCM with 16 octet ICV [RFC4106]","0x{secret}","NULL","""#,
        key.spi
    );
    let output = run(bounded("tshark")
        .arg("-r")
        .arg(capture)
        .args(["-o", "esp.enable_encryption_decode:TRUE", "-o", &association])
        .args(["-Y", &format!("esp.spi == 0x{:08x}", key.spi)])
        .args(["-T", "fields", "-e", "udp.payload", "-E", "occurrence=l"]))?;
    output.lines().map(|line| from_hex(&line.replace(':', ""))).collect()
}

/// Groups packets by their SPI.
pub fn by_spi(packets: &[Opened]) -> HashMap<u32, Vec<&Opened>> {
    let mut groups = HashMap::<u32, Vec<&Opened>>::new();
    packets.iter().for_each(|packet| groups.entry(packet.spi).or_default().push(packet));
    groups
}

/// A command that is ended after two minutes.
fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["120", program]);
    command
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("timeout(1) does not run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let program = command.get_args().nth(1).unwrap_or_default().to_string_lossy();
    // 127 is what timeout(1) says of a program that is not there.
    ensure!(output.status.code() != Some(127), "{program} was not found: `make deps` installs it");
    ensure!(output.status.success(), "{program}, {}: {}", output.status, said.trim());
    Ok(String::from_utf8(output.stdout)?)
}
