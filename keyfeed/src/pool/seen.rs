use std::collections::{HashSet, VecDeque};

use aws_lc_rs::digest;

use crate::secret::{DeliveredKey, KeyId};

/// A KME delivered a key that it had delivered before. Such a key is dropped: using it again could repeat epoch keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Repeated {
    /// The key_ID was seen before.
    #[error("the KME delivered a key_ID a second time; report it to the KME's vendor")]
    KeyId,
    /// The key bytes were seen before, under another key_ID.
    #[error("the KME delivered the same key under a second key_ID; report it to the KME's vendor")]
    Key,
}

/// The last [`REMEMBERED`] key_IDs and keys, as digests: enough to tell a repeat, nothing to learn a key from.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: Window,
    keys: Window,
}

/// How many keys back a repeat is noticed: 18 hours at one key a second.
pub(super) const REMEMBERED: usize = 65_536;

impl Seen {
    /// Remembers the key, or says what of it was seen before. A refused key's other half is remembered too.
    pub(super) fn admit(&mut self, key: &DeliveredKey) -> Result<(), Repeated> {
        let new_id = self.ids.insert(id_digest(&key.id));
        let new_key = self.keys.insert(half(&key.key.fingerprint()));
        match (new_id, new_key) {
            (true, true) => Ok(()),
            (false, _) => Err(Repeated::KeyId),
            (true, false) => Err(Repeated::Key),
        }
    }

    /// Whether a key of this key_ID was seen.
    pub(super) fn knows(&self, id: &KeyId) -> bool {
        self.ids.known.contains(&id_digest(id))
    }
}

/// The most recent digests, first in, first out.
#[derive(Debug, Default)]
struct Window {
    known: HashSet<Digest>,
    order: VecDeque<Digest>,
}

/// Half of a SHA-256: chance collisions of 65,536 entries have a probability below 2^-96.
type Digest = [u8; 16];

impl Window {
    fn insert(&mut self, digest: Digest) -> bool {
        if !self.known.insert(digest) {
            return false;
        }
        self.order.push_back(digest);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

fn id_digest(id: &KeyId) -> Digest {
    half(digest::digest(&digest::SHA256, id.as_str().to_ascii_lowercase().as_bytes()).as_ref())
}

fn half(digest: &[u8]) -> Digest {
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::QkdKey;

    fn key(id: &str, number: u32) -> DeliveredKey {
        let mut bytes = [1; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        DeliveredKey { id: KeyId::new(id).unwrap(), key: QkdKey::new(bytes).unwrap() }
    }

    #[test]
    fn repeats_are_named() {
        let mut seen = Seen::default();
        assert_eq!(seen.admit(&key("a", 1)), Ok(()));
        assert_eq!(seen.admit(&key("A", 2)), Err(Repeated::KeyId));
        assert_eq!(seen.admit(&key("b", 1)), Err(Repeated::Key));
        assert!(seen.knows(&KeyId::new("B").unwrap()));
        assert!(!seen.knows(&KeyId::new("c").unwrap()));
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest_first() {
        let mut seen = Seen::default();
        for number in 0..=REMEMBERED as u32 {
            seen.admit(&key(&number.to_string(), number)).unwrap();
        }
        assert_eq!((seen.ids.known.len(), seen.keys.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!seen.knows(&KeyId::new("0").unwrap()));
        assert_eq!(seen.admit(&key("1", 999_999)), Err(Repeated::KeyId));
    }
}
