use std::fmt;
use std::hash::{Hash, Hasher};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// A key_ID: an opaque string of 1 to 128 visible ASCII characters.
///
/// ETSI GS QKD 014 calls for a UUID, but servers send UUID-like hashes and other strings too, so only equality
/// counts. Two key_IDs that differ in letter case alone are the same key_ID (RFC 4122 clause 3).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

/// An SAE ID: a string of 1 to 128 visible ASCII characters, unique in the QKD network, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SaeId(String);

/// Why a string is no key_ID or SAE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an ID is 1 to 128 visible ASCII characters without spaces, this one has {length} characters or others"
)]
pub struct BadId {
    /// Bytes in the string.
    pub length: usize,
}

impl KeyId {
    /// Checks and takes a key_ID.
    ///
    /// # Errors
    /// [`BadId`] unless it is 1 to 128 visible ASCII characters.
    pub fn new(id: impl Into<String>) -> Result<Self, BadId> {
        checked(id.into()).map(KeyId)
    }

    /// The key_ID as its KME wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for KeyId {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for KeyId {}

impl Hash for KeyId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.bytes().for_each(|byte| state.write_u8(byte.to_ascii_lowercase()));
        state.write_u8(0xFF);
    }
}

impl SaeId {
    /// Checks and takes an SAE ID.
    ///
    /// # Errors
    /// [`BadId`] unless it is 1 to 128 visible ASCII characters.
    pub fn new(id: impl Into<String>) -> Result<Self, BadId> {
        checked(id.into()).map(SaeId)
    }

    /// The SAE ID as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SAE ID as one segment of a URL's path: all but RFC 3986 unreserved characters percent-encoded.
    pub fn path_segment(&self) -> String {
        path_segment(&self.0)
    }
}

macro_rules! string_like {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $type {
            type Error = BadId;
            fn try_from(id: String) -> Result<Self, BadId> {
                checked(id).map($type)
            }
        }
        impl std::str::FromStr for $type {
            type Err = BadId;
            fn from_str(id: &str) -> Result<Self, BadId> {
                Self::new(id)
            }
        }
        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.0
            }
        }
    };
}
string_like!(KeyId);
string_like!(SaeId);

/// `text` with all but RFC 3986 unreserved characters percent-encoded.
pub(crate) fn path_segment(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

const MAX_CHARS: usize = 128;
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn checked(id: String) -> Result<String, BadId> {
    let fits = (1..=MAX_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(id) } else { Err(BadId { length: id.len() }) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn letter_case_does_not_make_another_key_id() {
        let lower = KeyId::new("60318feb-0143-b15d-8000-aabbccddeeff").unwrap();
        let upper = KeyId::new(lower.as_str().to_uppercase()).unwrap();
        assert_eq!(lower, upper);
        assert!(HashSet::from([lower.clone()]).contains(&upper));
        assert_ne!(lower, KeyId::new("60318feb-0143-b15d-8000-aabbccddeefe").unwrap());
        assert_eq!(upper.to_string(), lower.as_str().to_uppercase());
    }

    #[test]
    fn sae_ids_are_compared_exactly() {
        assert_ne!(SaeId::new("sae-a").unwrap(), SaeId::new("SAE-A").unwrap());
    }

    #[test]
    fn only_visible_ascii_of_bounded_length() {
        for bad in [String::new(), "a b".into(), "tab\t".into(), "line\n".into(), "ä".into(), "x".repeat(129)]
        {
            assert_eq!(KeyId::new(bad.clone()).unwrap_err().length, bad.len(), "{bad:?}");
            assert!(SaeId::new(bad).is_err());
        }
        assert!(KeyId::new("x".repeat(128)).is_ok());
        assert!(serde_json::from_str::<KeyId>(r#""two words""#).is_err());
    }

    #[test]
    fn path_segment_leaves_no_delimiter() {
        let id = SaeId::new("site/a?b#c%d:e~f").unwrap();
        assert_eq!(id.path_segment(), "site%2Fa%3Fb%23c%25d%3Ae~f");
    }
}
