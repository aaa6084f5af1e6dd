use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One line of the key log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// `tx` or `rx`.
    pub direction: String,
    /// The SPI.
    pub spi: u32,
    /// AES-256 key.
    pub key: [u8; 32],
    /// Salt (RFC 4106 section 4).
    pub salt: [u8; 4],
}

/// Reads a key log: on each line a direction, an SPI, and key and salt in hexadecimal. What a killed process left of its
/// last line is no line.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = fs::read_to_string(path).with_context(|| format!("key log {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| parse(line).with_context(|| format!("key log line `{line}`"))).collect()
}

fn parse(line: &str) -> Result<Entry> {
    let mut words = line.split(' ');
    let mut word = || words.next().context("a word is missing");
    let direction = word()?.to_owned();
    ensure!(direction == "tx" || direction == "rx", "`{direction}` is no direction");
    let spi = word()?.strip_prefix("0x").context("the SPI is not hexadecimal")?;
    let spi = u32::from_str_radix(spi, 16)?;
    let bytes = from_hex(word()?)?;
    ensure!(bytes.len() == 36, "{} bytes are no key and salt", bytes.len());
    let (key, salt) = bytes.split_at(32);
    Ok(Entry { direction, spi, key: key.try_into()?, salt: salt.try_into()? })
}

/// Bytes written as hexadecimal digits.
pub fn from_hex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(2) && text.is_ascii(), "half a byte or no hexadecimal");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

/// Bytes as hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
