use zeroize::Zeroizing;

use crate::secret::{BadKey, KEY_BYTES, QkdKey};

/// Reads a key from 32 raw bytes, 64 hexadecimal digits or 44 characters of base64; a line end may follow the text forms.
pub(super) fn key(content: &[u8]) -> Result<QkdKey, BadKey> {
    if let Ok(raw) = <&[u8; KEY_BYTES]>::try_from(content) {
        return QkdKey::new(*Zeroizing::new(*raw));
    }
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| BadKey::NotBase64)?;
    if text.len() == 2 * KEY_BYTES { QkdKey::from_hex(text) } else { QkdKey::from_base64(text) }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_three_forms_give_the_same_key() {
        let bytes: [u8; 32] = std::array::from_fn(|i| 0xC0 + i as u8);
        let (hex, base64) = (hex::encode(bytes), STANDARD.encode(bytes));
        let forms = [bytes.to_vec(), hex.clone().into(), base64.clone().into()];
        let lines = [format!("{hex}\n").into_bytes(), format!("{base64}\r\n").into_bytes()];
        for form in forms.into_iter().chain(lines) {
            assert_eq!(key(&form).unwrap().as_bytes(), &bytes);
        }
    }

    #[test]
    fn other_lengths_and_zeros_are_refused() {
        assert_eq!(key(&[0; 32]).unwrap_err(), BadKey::AllZero);
        for length in [0, 1, 16, 31, 33, 48, 65, 100] {
            assert!(key(&vec![b'A'; length]).is_err(), "{length}");
        }
        assert!(key(&[0xFF; 44]).is_err());
    }
}
