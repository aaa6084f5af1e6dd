use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use crate::ids::{BadId, KeyId, SaeId};

/// Bytes of a QKD key as qhaul uses it (256 bits).
pub const KEY_BYTES: usize = 32;

/// One QKD key: exactly 32 bytes, never all zero, overwritten when dropped.
///
/// It cannot be cloned, compared or serialized, and `Debug` prints `QkdKey(..)`.
// Boxed: moving the value moves a pointer, so no copy of the bytes is left behind on a stack.
pub struct QkdKey(Box<[u8; KEY_BYTES]>);

/// A key with the key_ID under which both KMEs know it.
#[derive(Debug)]
pub struct DeliveredKey {
    /// The key's name, the same at both sites; may be shown and sent.
    pub id: KeyId,
    /// The secret itself.
    pub key: QkdKey,
}

/// Why bytes were refused as a key. Never holds the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// All 32 bytes are zero: a failed RNG or an empty buffer, never a key.
    #[error("the key is all zeros")]
    AllZero,
    /// The text is not base64 of the standard alphabet with padding (RFC 4648 clause 4).
    #[error("the key is not base64 (standard alphabet, padded)")]
    NotBase64,
    /// The text is not hexadecimal.
    #[error("the key is not hexadecimal")]
    NotHex,
    /// The text decodes to another length than 32 bytes; `chars` is the length of the text.
    #[error("the key is not 256 bits long ({chars} characters where {due} are due)")]
    WrongLength {
        /// Characters in the text.
        chars: usize,
        /// Characters that 256 bits make: 44 of base64, 64 of hexadecimal.
        due: usize,
    },
}

impl QkdKey {
    /// Takes 32 key bytes. The caller's own copy of `bytes` stays the caller's to erase.
    ///
    /// # Errors
    /// [`BadKey::AllZero`].
    pub fn new(mut bytes: [u8; KEY_BYTES]) -> Result<Self, BadKey> {
        let mut key = QkdKey(Box::new([0; KEY_BYTES]));
        key.0.copy_from_slice(&bytes);
        bytes.zeroize();
        if key.0.iter().all(|byte| *byte == 0) { Err(BadKey::AllZero) } else { Ok(key) }
    }

    /// Decodes the `key` field of a key container (ETSI GS QKD 014 clause 6.3): 44 characters for 256 bits.
    ///
    /// # Errors
    /// [`BadKey::WrongLength`], [`BadKey::NotBase64`], [`BadKey::AllZero`].
    pub fn from_base64(text: &str) -> Result<Self, BadKey> {
        let wrong_length = BadKey::WrongLength { chars: text.len(), due: BASE64_CHARS };
        if text.len() != BASE64_CHARS {
            return Err(wrong_length);
        }
        // decode_slice wants room for 44 characters without padding: 33 bytes.
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES + 1]);
        let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).map_err(|_| BadKey::NotBase64)?;
        if length != KEY_BYTES {
            return Err(wrong_length);
        }
        Self::from_slice(&bytes[..KEY_BYTES])
    }

    /// Decodes the `key` field of a SKIP answer (draft-cisco-skip-02): 64 hexadecimal digits of either case.
    ///
    /// # Errors
    /// [`BadKey::WrongLength`], [`BadKey::NotHex`], [`BadKey::AllZero`].
    pub fn from_hex(text: &str) -> Result<Self, BadKey> {
        if text.len() != HEX_CHARS {
            return Err(BadKey::WrongLength { chars: text.len(), due: HEX_CHARS });
        }
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
        hex::decode_to_slice(text, bytes.as_mut_slice()).map_err(|_| BadKey::NotHex)?;
        Self::from_slice(bytes.as_slice())
    }

    /// `bytes` must be [`KEY_BYTES`] long.
    fn from_slice(bytes: &[u8]) -> Result<Self, BadKey> {
        let mut key = QkdKey(Box::new([0; KEY_BYTES]));
        key.0.copy_from_slice(bytes);
        if key.0.iter().all(|byte| *byte == 0) { Err(BadKey::AllZero) } else { Ok(key) }
    }

    /// The key bytes, for derivation only.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// SHA-256 of a label and the key: tells a repeated key without keeping it. Not for any other use.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(FINGERPRINT_LABEL);
        context.update(self.0.as_slice());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }
}

impl Drop for QkdKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for QkdKey {}

impl fmt::Debug for QkdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QkdKey(..)")
    }
}

const BASE64_CHARS: usize = 44;
const HEX_CHARS: usize = 64;
const FINGERPRINT_LABEL: &[u8] = b"qhaul v1 key fingerprint";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_key_is_refused_from_bytes_and_from_base64() {
        assert_eq!(QkdKey::new([0; 32]).unwrap_err(), BadKey::AllZero);
        assert_eq!(QkdKey::from_base64(&STANDARD.encode([0; 32])).unwrap_err(), BadKey::AllZero);
    }

    #[test]
    fn base64_gives_the_same_bytes() {
        let bytes: [u8; 32] = std::array::from_fn(|i| 0xFF - i as u8);
        let text = STANDARD.encode(bytes);
        assert!(text.contains('/'), "the sample must use the standard alphabet: {text}");
        assert_eq!(QkdKey::from_base64(&text).unwrap().as_bytes(), &bytes);
    }

    #[test]
    fn hex_of_either_case_gives_the_same_bytes() {
        let text = "a5".repeat(32);
        for text in [text.clone(), text.to_uppercase()] {
            assert_eq!(QkdKey::from_hex(&text).unwrap().as_bytes(), &[0xA5; 32]);
        }
        assert_eq!(QkdKey::from_hex(&text[2..]).unwrap_err(), BadKey::WrongLength { chars: 62, due: 64 });
        assert_eq!(QkdKey::from_hex(&text.replace('a', "g")).unwrap_err(), BadKey::NotHex);
        assert_eq!(QkdKey::from_hex(&"0".repeat(64)).unwrap_err(), BadKey::AllZero);
    }

    #[test]
    fn other_lengths_are_refused() {
        for length in [0, 16, 24, 31, 33, 34, 64] {
            let error = QkdKey::from_base64(&STANDARD.encode(vec![7u8; length])).unwrap_err();
            assert!(matches!(error, BadKey::WrongLength { .. }), "{length} bytes: {error:?}");
        }
    }

    #[test]
    fn other_alphabets_and_missing_padding_are_refused() {
        let text = STANDARD.encode([0xFB; 32]);
        assert_eq!(QkdKey::from_base64(&text.replace('+', "-")).unwrap_err(), BadKey::NotBase64);
        assert!(QkdKey::from_base64(text.trim_end_matches('=')).is_err());
        assert_eq!(QkdKey::from_base64(&format!("{} ", &text[..43])).unwrap_err(), BadKey::NotBase64);
        // A non-zero bit behind the last byte: two texts would name one key.
        assert_eq!(QkdKey::from_base64(&format!("{}9=", &text[..42])).unwrap_err(), BadKey::NotBase64);
    }

    #[test]
    fn debug_shows_no_key_byte() {
        let key = DeliveredKey { id: KeyId::new("id-1").unwrap(), key: QkdKey::new([0xA5; 32]).unwrap() };
        assert_eq!(format!("{key:?}"), r#"DeliveredKey { id: KeyId("id-1"), key: QkdKey(..) }"#);
    }

    #[test]
    fn fingerprint_tells_keys_apart_and_is_labelled() {
        let one = QkdKey::new([1; 32]).unwrap();
        assert_eq!(one.fingerprint(), QkdKey::new([1; 32]).unwrap().fingerprint());
        assert_ne!(one.fingerprint(), QkdKey::new([2; 32]).unwrap().fingerprint());
        assert_ne!(one.fingerprint().as_slice(), digest::digest(&digest::SHA256, &[1; 32]).as_ref());
    }
}
