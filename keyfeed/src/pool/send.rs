use std::collections::BTreeMap;

use super::Repeated;
use super::seen::Seen;
use crate::secret::{DeliveredKey, KeyId};

/// Keys fetched ahead for which this site is the master: announced to the peer, and used once the peer holds them too.
///
/// Each key has an absolute *place*, counted from 0 and never given twice in the life of the pool, so that lost or
/// repeated messages cannot shift the two ends apart. Keys are used in the order of their places.
#[derive(Debug)]
pub struct SendPool {
    depth: usize,
    next_place: u64,
    entries: BTreeMap<u64, Entry>,
    seen: Seen,
}

#[derive(Debug)]
struct Entry {
    key: DeliveredKey,
    stage: Stage,
    /// The peer may have fetched it, so that its KME does not have it any more.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The peer does not know of it.
    New,
    /// The peer was told the key_ID in this session.
    Announced,
    /// The peer said in this session that it has the key.
    Held,
}

impl SendPool {
    /// An empty pool that wants `depth` keys.
    pub fn new(depth: usize) -> Self {
        SendPool { depth, next_place: 0, entries: BTreeMap::new(), seen: Seen::default() }
    }

    /// How many keys it is to hold.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// How many keys to fetch to reach the depth.
    pub fn want(&self) -> usize {
        self.depth.saturating_sub(self.entries.len())
    }

    /// Takes a fetched key and returns its place.
    ///
    /// # Errors
    /// [`Repeated`] when its key_ID or its bytes are among the last 65,536 seen; the key is dropped.
    pub fn add(&mut self, key: DeliveredKey) -> Result<u64, Repeated> {
        self.seen.admit(&key)?;
        let place = self.next_place;
        self.next_place += 1;
        self.entries.insert(place, Entry { key, stage: Stage::New, told: false });
        Ok(place)
    }

    /// Up to `max` keys that the peer does not know of, lowest place first. They count as announced from now on.
    pub fn to_announce(&mut self, max: usize) -> Vec<(u64, KeyId)> {
        let new = self.entries.iter_mut().filter(|(_, entry)| entry.stage == Stage::New).take(max);
        new.map(|(place, entry)| {
            entry.stage = Stage::Announced;
            entry.told = true;
            (*place, entry.key.id.clone())
        })
        .collect()
    }

    /// The peer has the key of `place`. Without effect unless that place was announced in this session.
    pub fn held(&mut self, place: u64) {
        if let Some(entry) = self.entries.get_mut(&place)
            && entry.stage == Stage::Announced
        {
            entry.stage = Stage::Held;
        }
    }

    /// The peer cannot get the key of `place`: it is dropped.
    pub fn missing(&mut self, place: u64) {
        self.entries.remove(&place);
    }

    /// Removes and returns the key of the lowest place that both sites hold.
    ///
    /// Keys of lower places, which the peer has not confirmed, are dropped: the peer drops them too when it takes
    /// this one ([`ReceivePool::take`](super::ReceivePool::take)).
    pub fn take(&mut self) -> Option<(u64, DeliveredKey)> {
        let place =
            self.entries.iter().find(|(_, entry)| entry.stage == Stage::Held).map(|(place, _)| *place)?;
        let entry = self.entries.remove(&place)?;
        self.entries = self.entries.split_off(&place);
        Some((place, entry.key))
    }

    /// The session with the peer ended: everything is to be announced again in the next.
    pub fn channel_lost(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.stage = Stage::New);
    }

    /// The peer restarted: what it was ever told of is dropped, for its KME handed those keys to a process that is gone
    /// and does not have them a second time. The rest is announced in the next session.
    pub fn peer_restarted(&mut self) {
        self.entries.retain(|_, entry| !entry.told);
    }

    /// Keys that both sites hold.
    pub fn ready(&self) -> usize {
        self.entries.values().filter(|entry| entry.stage == Stage::Held).count()
    }

    /// All keys in the pool.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key in the pool.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::QkdKey;

    fn key(number: u8) -> DeliveredKey {
        DeliveredKey {
            id: KeyId::new(format!("id-{number}")).unwrap(),
            key: QkdKey::new([number; 32]).unwrap(),
        }
    }

    fn pool_of(count: u8) -> SendPool {
        let mut pool = SendPool::new(4);
        (1..=count).for_each(|number| assert_eq!(pool.add(key(number)), Ok(u64::from(number) - 1)));
        pool
    }

    fn places(announced: &[(u64, KeyId)]) -> Vec<u64> {
        announced.iter().map(|(place, _)| *place).collect()
    }

    #[test]
    fn wants_what_is_missing_to_its_depth() {
        assert_eq!(SendPool::new(4).want(), 4);
        assert_eq!(pool_of(3).want(), 1);
        assert_eq!(pool_of(5).want(), 0);
    }

    #[test]
    fn only_keys_held_by_the_peer_are_taken_and_in_order() {
        let mut pool = pool_of(3);
        pool.held(0);
        assert!(pool.take().is_none(), "held before it was announced");
        assert_eq!(places(&pool.to_announce(2)), [0, 1]);
        assert_eq!(places(&pool.to_announce(9)), [2]);
        assert!(pool.to_announce(9).is_empty());
        pool.held(1);
        pool.held(0);
        assert_eq!(pool.ready(), 2);
        let (place, first) = pool.take().unwrap();
        assert_eq!((place, first.id.as_str(), first.key.as_bytes()), (0, "id-1", &[1; 32]));
        assert_eq!(pool.take().unwrap().0, 1);
        assert!(pool.take().is_none());
        assert_eq!(pool.len(), 1);
    }

    #[test]
    fn a_place_overtaken_is_gone() {
        let mut pool = pool_of(3);
        pool.to_announce(9);
        pool.held(1);
        assert_eq!(pool.take().unwrap().0, 1);
        pool.held(0);
        assert!(pool.take().is_none());
        assert_eq!(pool.len(), 1, "place 2 stays");
    }

    #[test]
    fn missing_keys_are_dropped_and_their_places_never_come_back() {
        let mut pool = pool_of(2);
        pool.missing(0);
        pool.missing(1);
        pool.missing(77);
        assert!(pool.is_empty());
        assert_eq!(pool.add(key(9)), Ok(2));
    }

    #[test]
    fn a_lost_channel_announces_all_again_under_the_same_places() {
        let mut pool = pool_of(2);
        pool.to_announce(9);
        pool.held(0);
        pool.channel_lost();
        assert_eq!(pool.ready(), 0);
        assert!(pool.take().is_none());
        assert_eq!(places(&pool.to_announce(9)), [0, 1]);
    }

    #[test]
    fn a_restarted_peer_is_offered_only_what_no_peer_was_told_of() {
        let mut pool = pool_of(4);
        pool.to_announce(2);
        pool.held(0);
        pool.channel_lost();
        pool.peer_restarted();
        assert_eq!((pool.len(), pool.want()), (2, 2));
        assert_eq!(places(&pool.to_announce(9)), [2, 3]);
    }

    #[test]
    fn repeats_are_refused_even_after_use() {
        let mut pool = pool_of(1);
        pool.to_announce(1);
        pool.held(0);
        let (_, used) = pool.take().unwrap();
        assert_eq!(pool.add(used), Err(Repeated::KeyId));
        let renamed = DeliveredKey { id: KeyId::new("other").unwrap(), ..key(1) };
        assert_eq!(pool.add(renamed), Err(Repeated::Key));
        assert!(pool.is_empty());
    }
}
