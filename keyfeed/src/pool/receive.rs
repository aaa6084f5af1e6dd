use std::collections::BTreeMap;

use super::Repeated;
use super::seen::Seen;
use crate::secret::{DeliveredKey, KeyId};

/// Keys for which the peer is the master: fetched by key_ID as the peer announced them, until the peer offers them.
///
/// Places are the peer's, see [`SendPool`](super::SendPool).
#[derive(Debug)]
pub struct ReceivePool {
    capacity: usize,
    entries: BTreeMap<u64, DeliveredKey>,
    /// Places below this one were taken or overtaken.
    floor: u64,
    seen: Seen,
}

/// What to do about an announced key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// It is in the pool: tell the peer that it is held.
    Have,
    /// It is not here: fetch it by its key_ID. A fetch that is under way already is not known to the pool.
    Fetch,
    /// It will not be taken: tell the peer that it is missing.
    Refuse(RefuseReason),
}

/// Why an announced key is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefuseReason {
    /// A key of this or a higher place was taken.
    #[error("its place was passed already")]
    Overtaken,
    /// The place holds the key of another key_ID.
    #[error("its place holds another key_ID")]
    OtherKeyId,
    /// The key_ID was here before, at another place or used.
    #[error("its key_ID was seen before")]
    Repeated,
    /// As many keys as the pool takes are here.
    #[error("the pool is full")]
    Full,
}

/// Why a fetched key was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdded {
    /// The KME delivered it before.
    #[error(transparent)]
    Repeated(#[from] Repeated),
    /// While it was fetched, its place was passed, taken by another key, or the pool became full.
    #[error("{0}")]
    Unwanted(#[from] RefuseReason),
}

impl ReceivePool {
    /// An empty pool for at most `capacity` keys.
    pub fn new(capacity: usize) -> Self {
        ReceivePool { capacity, entries: BTreeMap::new(), floor: 0, seen: Seen::default() }
    }

    /// What to do about the key that the peer announces as `id` at `place`.
    pub fn wants(&self, place: u64, id: &KeyId) -> Want {
        match self.entries.get(&place) {
            Some(key) if key.id == *id => return Want::Have,
            Some(_) => return Want::Refuse(RefuseReason::OtherKeyId),
            None => {}
        }
        match self.room_for(place) {
            Err(reason) => Want::Refuse(reason),
            Ok(()) if self.seen.knows(id) => Want::Refuse(RefuseReason::Repeated),
            Ok(()) => Want::Fetch,
        }
    }

    /// Takes a fetched key for the place at which the peer announced its key_ID.
    ///
    /// # Errors
    /// [`NotAdded`]; the key is dropped.
    pub fn add(&mut self, place: u64, key: DeliveredKey) -> Result<(), NotAdded> {
        if self.entries.contains_key(&place) {
            return Err(RefuseReason::OtherKeyId.into());
        }
        self.room_for(place)?;
        self.seen.admit(&key)?;
        self.entries.insert(place, key);
        Ok(())
    }

    /// Removes and returns the key that the peer offers, if it is here under both this place and this key_ID.
    ///
    /// The peer uses keys in the order of places, so a match also drops every key of a lower place.
    pub fn take(&mut self, place: u64, id: &KeyId) -> Option<DeliveredKey> {
        if self.entries.get(&place)?.id != *id {
            return None;
        }
        let key = self.entries.remove(&place);
        self.floor = place.saturating_add(1);
        self.entries = self.entries.split_off(&self.floor);
        key
    }

    /// The peer restarted: its keys are gone and its places begin anew. Repeats stay remembered.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.floor = 0;
    }

    /// Keys in the pool.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key in the pool.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn room_for(&self, place: u64) -> Result<(), RefuseReason> {
        if place < self.floor {
            return Err(RefuseReason::Overtaken);
        }
        if self.entries.len() >= self.capacity { Err(RefuseReason::Full) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::QkdKey;

    fn id(number: u8) -> KeyId {
        KeyId::new(format!("id-{number}")).unwrap()
    }

    fn key(number: u8) -> DeliveredKey {
        DeliveredKey { id: id(number), key: QkdKey::new([number; 32]).unwrap() }
    }

    fn pool_of(count: u8) -> ReceivePool {
        let mut pool = ReceivePool::new(8);
        (1..=count).for_each(|number| pool.add(u64::from(number), key(number)).unwrap());
        pool
    }

    #[test]
    fn announced_keys_are_fetched_once() {
        let mut pool = ReceivePool::new(8);
        assert_eq!(pool.wants(5, &id(1)), Want::Fetch);
        pool.add(5, key(1)).unwrap();
        assert_eq!(pool.wants(5, &id(1)), Want::Have);
        assert_eq!(pool.wants(5, &id(2)), Want::Refuse(RefuseReason::OtherKeyId));
        assert_eq!(pool.wants(6, &id(1)), Want::Refuse(RefuseReason::Repeated));
    }

    #[test]
    fn place_and_id_must_both_match() {
        let mut pool = pool_of(2);
        assert!(pool.take(1, &id(2)).is_none());
        assert!(pool.take(9, &id(1)).is_none());
        assert_eq!(pool.len(), 2, "a mismatch drops nothing");
        assert_eq!(pool.take(1, &id(1)).unwrap().key.as_bytes(), &[1; 32]);
        assert!(pool.take(1, &id(1)).is_none());
    }

    #[test]
    fn taking_drops_lower_places_and_refuses_them_from_then_on() {
        let mut pool = pool_of(3);
        assert!(pool.take(2, &id(2)).is_some());
        assert_eq!(pool.len(), 1);
        assert_eq!(pool.wants(1, &id(1)), Want::Refuse(RefuseReason::Overtaken));
        assert_eq!(pool.wants(2, &id(7)), Want::Refuse(RefuseReason::Overtaken));
        assert_eq!(pool.add(1, key(9)), Err(NotAdded::Unwanted(RefuseReason::Overtaken)));
        assert_eq!(pool.wants(3, &id(3)), Want::Have);
    }

    #[test]
    fn capacity_is_kept() {
        let mut pool = ReceivePool::new(1);
        pool.add(0, key(1)).unwrap();
        assert_eq!(pool.wants(1, &id(2)), Want::Refuse(RefuseReason::Full));
        assert_eq!(pool.add(1, key(2)), Err(NotAdded::Unwanted(RefuseReason::Full)));
        assert_eq!(pool.len(), 1);
        pool.take(0, &id(1)).unwrap();
        assert_eq!(pool.wants(1, &id(2)), Want::Fetch);
    }

    #[test]
    fn a_restarted_peer_begins_at_place_zero_but_repeats_stay_refused() {
        let mut pool = pool_of(2);
        pool.take(1, &id(1)).unwrap();
        pool.clear();
        assert!(pool.is_empty());
        assert_eq!(pool.wants(0, &id(3)), Want::Fetch);
        assert_eq!(pool.wants(0, &id(2)), Want::Refuse(RefuseReason::Repeated));
        assert_eq!(pool.add(0, key(2)), Err(NotAdded::Repeated(Repeated::KeyId)));
        let renamed = DeliveredKey { id: id(8), ..key(1) };
        assert_eq!(pool.add(0, renamed), Err(NotAdded::Repeated(Repeated::Key)));
    }
}
