use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::secret::{KeyId, SaeId};

/// Keys that the peer KME has delivered to their master and that wait here for their slave. Bounded; keys expire. Time
/// is the caller's.
#[derive(Debug)]
pub(super) struct Store {
    keys: HashMap<KeyId, Waiting>,
    /// In order of arrival, which is the order of expiry. May name keys that were fetched already.
    expiry: VecDeque<(Instant, KeyId)>,
    ttl: Duration,
    max: usize,
}

/// One key that waits.
pub(super) struct Waiting {
    pub(super) key: KeyBytes,
    pub(super) master: SaeId,
    pub(super) slave: SaeId,
}

/// Key bytes of any size, erased when dropped.
pub(super) type KeyBytes = Zeroizing<Vec<u8>>;

/// Why no key is given (clause 6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchError {
    /// At least one key_ID is unknown, expired, fetched before, or of another master.
    NotFound,
    /// At least one key is for another SAE.
    NotNamed,
}

/// Why keys are not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreError {
    Full,
    /// Another key is known under one of the key_IDs.
    Conflict,
}

impl Store {
    pub(super) fn new(ttl: Duration, max: usize) -> Self {
        Store { keys: HashMap::new(), expiry: VecDeque::new(), ttl, max }
    }

    /// Stores all keys or none. A key that is here already, the same in all, is no error: the peer repeats a message
    /// whose acknowledgement was lost.
    pub(super) fn insert(&mut self, keys: Vec<(KeyId, Waiting)>, now: Instant) -> Result<(), StoreError> {
        self.expire(now);
        let known = |(id, new): &(KeyId, Waiting)| self.keys.get(id).map(|old| old.same(new));
        let verdicts: Vec<Option<bool>> = keys.iter().map(known).collect();
        if verdicts.contains(&Some(false)) {
            return Err(StoreError::Conflict);
        }
        let fresh = verdicts.iter().filter(|verdict| verdict.is_none()).count();
        if self.keys.len() + fresh > self.max {
            return Err(StoreError::Full);
        }
        for (id, key) in keys {
            if self.keys.insert(id.clone(), key).is_none() {
                self.expiry.push_back((now + self.ttl, id));
            }
        }
        Ok(())
    }

    /// Removes and returns all of the keys, or none.
    pub(super) fn fetch(
        &mut self,
        caller: &SaeId,
        master: &SaeId,
        ids: &[KeyId],
        now: Instant,
    ) -> Result<Vec<(KeyId, KeyBytes)>, FetchError> {
        self.expire(now);
        for id in ids {
            let waiting = self.keys.get(id).ok_or(FetchError::NotFound)?;
            if waiting.slave != *caller {
                return Err(FetchError::NotNamed);
            }
            if waiting.master != *master {
                return Err(FetchError::NotFound);
            }
        }
        Ok(ids
            .iter()
            .filter_map(|id| self.keys.remove_entry(id))
            .map(|(id, waiting)| (id, waiting.key))
            .collect())
    }

    fn expire(&mut self, now: Instant) {
        let keys = &mut self.keys;
        // An entry of a key that was fetched is dropped early, so that the queue stays as bounded as the map.
        while let Some((at, id)) = self.expiry.front()
            && (*at <= now || !keys.contains_key(id))
        {
            keys.remove(id);
            self.expiry.pop_front();
        }
        if self.expiry.len() > 2 * self.max {
            self.expiry.retain(|(_, id)| keys.contains_key(id));
        }
    }
}

impl Waiting {
    fn same(&self, other: &Waiting) -> bool {
        *self.key == *other.key && self.master == other.master && self.slave == other.slave
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiting({} -> {}, ..)", self.master, self.slave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn sae(id: &str) -> SaeId {
        SaeId::new(id).unwrap()
    }

    fn id(number: u8) -> KeyId {
        KeyId::new(format!("id-{number}")).unwrap()
    }

    fn waiting(number: u8) -> (KeyId, Waiting) {
        (id(number), Waiting { key: Zeroizing::new(vec![number; 32]), master: sae("a"), slave: sae("b") })
    }

    fn store_of(numbers: &[u8], now: Instant) -> Store {
        let mut store = Store::new(TTL, 4);
        store.insert(numbers.iter().map(|n| waiting(*n)).collect(), now).unwrap();
        store
    }

    #[test]
    fn a_key_is_given_once() {
        let now = Instant::now();
        let mut store = store_of(&[1], now);
        assert_eq!(*store.fetch(&sae("b"), &sae("a"), &[id(1)], now).unwrap()[0].1, vec![1; 32]);
        assert_eq!(store.fetch(&sae("b"), &sae("a"), &[id(1)], now), Err(FetchError::NotFound));
    }

    #[test]
    fn one_unknown_key_id_leaves_the_others_in_place() {
        let now = Instant::now();
        let mut store = store_of(&[1, 2], now);
        assert_eq!(store.fetch(&sae("b"), &sae("a"), &[id(1), id(9), id(2)], now), Err(FetchError::NotFound));
        assert_eq!(store.fetch(&sae("b"), &sae("a"), &[id(2), id(1)], now).unwrap().len(), 2);
    }

    #[test]
    fn only_the_slave_named_by_the_master_gets_the_key() {
        let now = Instant::now();
        let mut store = store_of(&[1], now);
        assert_eq!(store.fetch(&sae("c"), &sae("a"), &[id(1)], now), Err(FetchError::NotNamed));
        assert_eq!(store.fetch(&sae("b"), &sae("x"), &[id(1)], now), Err(FetchError::NotFound));
        assert!(store.fetch(&sae("b"), &sae("a"), &[id(1)], now).is_ok());
    }

    #[test]
    fn keys_expire() {
        let now = Instant::now();
        let mut store = store_of(&[1], now);
        store.insert(vec![waiting(2)], now + TTL / 2).unwrap();
        let later = now + TTL;
        assert_eq!(store.fetch(&sae("b"), &sae("a"), &[id(1)], later), Err(FetchError::NotFound));
        assert!(store.fetch(&sae("b"), &sae("a"), &[id(2)], later).is_ok());
        store.expire(later + TTL);
        assert!(store.keys.is_empty() && store.expiry.is_empty());
    }

    #[test]
    fn the_store_is_bounded_and_takes_all_or_none() {
        let now = Instant::now();
        let mut store = store_of(&[1, 2, 3], now);
        assert_eq!(store.insert(vec![waiting(4), waiting(5)], now), Err(StoreError::Full));
        assert_eq!(store.keys.len(), 3);
        for round in 0..1000u32 {
            let key = KeyId::new(format!("round-{round}")).unwrap();
            store.insert(vec![(key.clone(), waiting(7).1)], now).unwrap();
            store.fetch(&sae("b"), &sae("a"), &[key], now).unwrap();
        }
        assert!(store.expiry.len() <= 9, "{} entries for 3 keys", store.expiry.len());
    }

    #[test]
    fn a_repeated_message_is_no_error_but_another_key_is() {
        let now = Instant::now();
        let mut store = store_of(&[1], now);
        assert_eq!(store.insert(vec![waiting(1)], now), Ok(()));
        assert_eq!(store.insert(vec![(id(1), waiting(2).1)], now), Err(StoreError::Conflict));
        assert!(!format!("{store:?}").contains("[1, 1"));
    }
}
