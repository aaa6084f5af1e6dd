use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;

use crate::key_log::to_hex;

/// Looks for key material in text.
#[derive(Default, Debug)]
pub struct KeySearch {
    needles: Vec<(String, Vec<u8>)>,
}

impl KeySearch {
    /// Looks for a secret from now on: as bytes, in hexadecimal of either case, in base64 of either alphabet, and as a list of
    /// numbers as `Debug` prints it. A half of it gives it away as well.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        for half in secret.chunks(secret.len().div_ceil(2)) {
            let hex = to_hex(half);
            let list = |bytes: Vec<String>| bytes.join(", ").into_bytes();
            let forms = [
                half.to_vec(),
                hex.to_uppercase().into_bytes(),
                hex.into_bytes(),
                list(half.iter().map(u8::to_string).collect()),
                list(half.iter().map(|byte| format!("{byte:#x}")).collect()),
                list(half.iter().map(|byte| format!("{byte:02x}")).collect()),
            ];
            self.needles.extend(forms.map(|form| (name.to_owned(), form)));
        }
        // Base64 of the start of a text; its last characters depend on what follows.
        for text in [STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret)] {
            self.needles.push((name.to_owned(), text.as_bytes()[..secret.len() * 4 / 3 - 2].to_vec()));
        }
    }

    /// How many forms are looked for.
    pub fn forms(&self) -> usize {
        self.needles.len()
    }

    /// Fails if a secret stands in `text`, or anything that looks like a key: a long run of hexadecimal digits, 32 bytes in
    /// base64, or a long list of byte values. The TLS library's own events are searched for secrets only: they show
    /// certificates and random numbers, which are public and look like keys.
    pub fn check(&self, place: &str, text: &[u8]) -> Result<()> {
        for (name, needle) in &self.needles {
            ensure!(memmem::find(text, needle).is_none(), "{place}: {name} stands in it");
        }
        let mut is_public = false;
        for line in String::from_utf8_lossy(text).lines() {
            // An event begins with its time; lines without one belong to the event in front of them.
            let target = line.split_whitespace().nth(2).filter(|_| line.starts_with("20"));
            is_public = target
                .map_or(is_public && !line.starts_with("qhaul"), |target| target.starts_with("rustls::"));
            if is_public {
                continue;
            }
            ensure!(
                longest(line, |sign| sign.is_ascii_hexdigit()) < 64,
                "{place}: like a key in hexadecimal: {line}"
            );
            ensure!(!has_base64_key(line), "{place}: like a key in base64: {line}");
            ensure!(longest_list(line) < 16, "{place}: like a key as a list: {line}");
        }
        Ok(())
    }
}

fn longest(line: &str, is_part: impl Fn(char) -> bool) -> usize {
    line.split(|sign| !is_part(sign)).map(str::len).max().unwrap_or_default()
}

/// 32 bytes are 43 characters and one `=`; ETSI GS QKD 014 carries keys so.
fn has_base64_key(line: &str) -> bool {
    let is_part = |sign: &char| sign.is_ascii_alphanumeric() || "+/-_".contains(*sign);
    let ends = line.match_indices('=').map(|(at, _)| &line[..at]);
    ends.into_iter().any(|front| front.chars().rev().take_while(is_part).count() == 43)
}

/// Numbers up to 255 in a row, between commas.
fn longest_list(line: &str) -> usize {
    let is_byte = |part: &str| part.trim_matches(|sign: char| !sign.is_ascii_digit()).parse::<u8>().is_ok();
    let parts: Vec<&str> = line.split(',').collect();
    parts.split(|part| !is_byte(part)).map(<[&str]>::len).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_and_innocent_text_is_not() {
        let secret: Vec<u8> = (100..132).collect();
        let mut search = KeySearch::default();
        search.add("the secret", &secret);
        let texts = [
            format!("key={}", to_hex(&secret)),
            to_hex(&secret[..16]).to_uppercase(),
            format!("{secret:?}"),
            format!("{secret:02x?}"),
            format!("{secret:#x?}").replace("\n    ", " "),
            format!("\"key\": \"{}\"", STANDARD.encode(&secret)),
            URL_SAFE_NO_PAD.encode(&secret),
        ];
        for text in texts {
            let found = search.check("log", text.as_bytes()).unwrap_err().to_string();
            assert!(found.contains("the secret"), "{text}: {found}");
        }
        assert!(search.check("log", &[b"raw: ", &secret[..], b"."].concat()).is_err());
        let strange = KeySearch::default();
        let other = [9_u8; 32];
        for text in [to_hex(&other), STANDARD.encode(other), format!("{other:?}")] {
            assert!(strange.check("log", text.as_bytes()).is_err(), "{text}");
            let event = |target: &str| format!("2026-01-01T00:00:00Z TRACE {target}: {{\n  {text}\n}}\n");
            strange.check("log", event("rustls::client").as_bytes()).unwrap();
            let after = event("rustls::client") + &event("qhaul::link");
            assert!(strange.check("log", after.as_bytes()).is_err(), "{text}");
        }
        let innocent = "2026-01-01T00:00:00Z  INFO 6f1c1f0e-8f4b-4a3e-9d57-0c8f2d6a1b11: 1, 2, 3 of /run/qhaul-lab/x/a.sock";
        search.check("log", innocent.as_bytes()).unwrap();
    }
}
