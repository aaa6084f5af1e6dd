//! A pre-shared key: 32 bytes in a file that only its owner can read.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The pre-shared key of a link.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Psk([u8; 32]);

impl Psk {
    /// Reads 64 hexadecimal digits, as `openssl rand -hex 32` writes them. A file that others can read is refused, and so is a
    /// key of zeros. The error is one line with the remedy and never shows the content.
    pub fn load(path: &Path) -> Result<Psk, String> {
        let error = |problem: &str| format!("keys.psk = {}: {problem}", path.display());
        let mode = fs::metadata(path).map_err(|cause| error(&cause.to_string()))?.mode();
        if mode & 0o077 != 0 {
            return Err(error(
                "others can read it: `chmod 600` it, and make a new key if it was so for long",
            ));
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(|cause| error(&cause.to_string()))?);
        Psk::parse(&text)
            .ok_or_else(|| error("not 64 hexadecimal digits: make one with `openssl rand -hex 32`"))
    }

    fn parse(text: &str) -> Option<Psk> {
        let digits = text.trim().as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut key = Psk([0; 32]);
        for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        (key.0 != [0; 32]).then_some(key)
    }

    #[cfg(test)]
    pub(super) fn of(bytes: [u8; 32]) -> Psk {
        Psk(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_bytes_in_hexadecimal_are_a_key() {
        assert_eq!(Psk::parse(&format!("{}\n", "aB".repeat(32))).unwrap().0, [0xab; 32]);
        for text in [
            String::new(),
            "ab".repeat(31),
            "ab".repeat(33),
            "zz".repeat(32),
            "00".repeat(32),
            "é".repeat(32),
        ] {
            assert!(Psk::parse(&text).is_none(), "{text}");
        }
        assert_eq!(format!("{:?}", Psk([0xab; 32])), "Psk(..)");
    }
}
