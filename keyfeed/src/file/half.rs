use aws_lc_rs::digest;
use serde::Deserialize;

use crate::secret::KeyId;

/// Of which keys this site is the master. Both devices hold the same keys, so the two sites must never be masters of
/// the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// Of those that the other site, with [`Half::Second`], is not.
    First,
    /// Of those that the other site, with [`Half::First`], is not.
    Second,
    /// Of all: the other site takes none as a master, or its device keeps those keys in another place.
    All,
    /// Of none.
    None,
}

impl Half {
    /// Whether this site is the master of the key. The first bit of SHA-256 of the key_ID in lower case decides, so both
    /// sites see the same two halves whatever the device's names look like.
    pub(super) fn has(self, id: &KeyId) -> bool {
        let name = id.as_str().to_ascii_lowercase();
        let first = digest::digest(&digest::SHA256, name.as_bytes()).as_ref()[0] & 0x80 == 0;
        match self {
            Half::First => first,
            Half::Second => !first,
            Half::All => true,
            Half::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_in_one_half_and_both_halves_are_used() {
        let ids: Vec<KeyId> = (0..200).map(|n| KeyId::new(format!("Key-{n}")).unwrap()).collect();
        let first = ids.iter().filter(|id| Half::First.has(id)).count();
        assert!((60..140).contains(&first), "{first} of 200");
        for id in &ids {
            assert_ne!(Half::First.has(id), Half::Second.has(id));
            let upper = KeyId::new(id.as_str().to_uppercase()).unwrap();
            assert_eq!(Half::First.has(id), Half::First.has(&upper), "the same key_ID");
            assert!(Half::All.has(id) && !Half::None.has(id));
        }
    }
}
