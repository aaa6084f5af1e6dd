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
    /// The SAEs that the master named; each may fetch the key once.
    pub(super) slaves: Vec<SaeId>,
    /// Those of them that have.
    fetched: Vec<SaeId>,
}

/// Who fetches, and as whose slave.
pub(super) struct Fetch<'a> {
    pub(super) caller: &'a SaeId,
    /// `None`: the request does not say.
    pub(super) master: Option<&'a SaeId>,
    /// Leave the keys where they are.
    pub(super) keep: bool,
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

    /// Hands out all of the keys, or none. A key is removed once all of its slaves have fetched it.
    pub(super) fn fetch(
        &mut self,
        who: &Fetch<'_>,
        ids: &[KeyId],
        now: Instant,
    ) -> Result<Vec<(KeyId, KeyBytes)>, FetchError> {
        self.expire(now);
        for id in ids {
            let waiting = self.keys.get(id).ok_or(FetchError::NotFound)?;
            if !waiting.slaves.contains(who.caller) {
                return Err(FetchError::NotNamed);
            }
            let of_another = who.master.is_some_and(|master| waiting.master != *master);
            if of_another || waiting.fetched.contains(who.caller) {
                return Err(FetchError::NotFound);
            }
        }
        Ok(ids.iter().filter_map(|id| self.hand_out(who, id)).collect())
    }

    /// Forgets everything, as a restart does.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.expiry.clear();
    }

    /// Keys that wait for at least one slave.
    pub(super) fn count(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.keys.len()
    }

    fn hand_out(&mut self, who: &Fetch<'_>, id: &KeyId) -> Option<(KeyId, KeyBytes)> {
        let (known, waiting) = self.keys.get_key_value(id)?;
        if who.keep {
            return Some((known.clone(), waiting.key.clone()));
        }
        if waiting.fetched.len() + 1 < waiting.slaves.len() {
            let known = known.clone();
            let waiting = self.keys.get_mut(id)?;
            waiting.fetched.push(who.caller.clone());
            return Some((known, waiting.key.clone()));
        }
        self.keys.remove_entry(id).map(|(known, waiting)| (known, waiting.key))
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
    pub(super) fn new(key: KeyBytes, master: SaeId, slaves: Vec<SaeId>) -> Self {
        Waiting { key, master, slaves, fetched: Vec::new() }
    }

    fn same(&self, other: &Waiting) -> bool {
        *self.key == *other.key && self.master == other.master && self.slaves == other.slaves
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiting({} -> {:?}, ..)", self.master, self.slaves)
    }
}

#[cfg(test)]
mod tests;
