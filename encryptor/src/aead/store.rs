//! Expanded keys in one array: an epoch's, by the index of their flow.

use std::fmt;

use super::{Engine, ICV_LEN, ipsec_mb, ring};
use crate::keys::FlowKey;
use crate::xsk::{huge_pages, prefetch};

/// Expanded keys of one engine, each at the start of a cache line. Room is taken once; a key is wiped when it goes.
pub struct KeyStore(Keys);

enum Keys {
    Ring(Vec<ring::Key>),
    IpsecMb(ipsec_mb::Library, Vec<ipsec_mb::Key>),
}

/// One of them.
#[derive(Clone, Copy)]
pub enum KeyRef<'a> {
    /// A key of `ring`.
    Ring(&'a ring::Key),
    /// A key of ipsec-mb.
    IpsecMb(ipsec_mb::Library, &'a ipsec_mb::Key),
}

impl KeyStore {
    /// Room for `capacity` keys.
    pub fn with_capacity(engine: Engine, capacity: usize) -> KeyStore {
        let mut keys = match engine {
            Engine::Ring => Keys::Ring(Vec::with_capacity(capacity)),
            Engine::IpsecMb(library) => Keys::IpsecMb(library, Vec::with_capacity(capacity)),
        };
        match &mut keys {
            Keys::Ring(keys) => huge_pages(keys.spare_capacity_mut()),
            Keys::IpsecMb(_, keys) => huge_pages(keys.spare_capacity_mut()),
        }
        KeyStore(keys)
    }

    /// Bytes that one key takes.
    pub fn key_size(engine: Engine) -> usize {
        match engine {
            Engine::Ring => size_of::<ring::Key>(),
            Engine::IpsecMb(_) => size_of::<ipsec_mb::Key>(),
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Keys::Ring(keys) => keys.len(),
            Keys::IpsecMb(_, keys) => keys.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Expands a flow's key and puts it behind the others.
    pub fn push(&mut self, flow: &FlowKey) {
        self.push_bytes(flow.key());
    }

    pub(super) fn push_bytes(&mut self, key: &[u8; 32]) {
        match &mut self.0 {
            Keys::Ring(keys) => keys.push(ring::Key::new(key)),
            Keys::IpsecMb(library, keys) => keys.push(library.expand(key)),
        }
    }

    /// Puts a copy of key `index` of another store behind the others.
    ///
    /// # Panics
    ///
    /// When the stores are of two engines: there is one in a process.
    pub fn push_from(&mut self, other: &KeyStore, index: usize) {
        match (&mut self.0, &other.0) {
            (Keys::Ring(keys), Keys::Ring(others)) => keys.push(others[index].clone()),
            (Keys::IpsecMb(_, keys), Keys::IpsecMb(_, others)) => keys.push(others[index].clone()),
            _ => unreachable!("a process has one engine"),
        }
    }

    /// The key at an index.
    #[inline]
    pub fn get(&self, index: usize) -> KeyRef<'_> {
        match &self.0 {
            Keys::Ring(keys) => KeyRef::Ring(&keys[index]),
            Keys::IpsecMb(library, keys) => KeyRef::IpsecMb(*library, &keys[index]),
        }
    }

    /// Asks for the memory of a key that is worked with soon.
    #[inline]
    pub fn prefetch(&self, index: usize) {
        match &self.0 {
            Keys::Ring(keys) => prefetch(&keys[index]),
            Keys::IpsecMb(_, keys) => prefetch(&keys[index]),
        }
    }

    /// Wipes all keys; the room stays.
    pub fn clear(&mut self) {
        match &mut self.0 {
            Keys::Ring(keys) => keys.clear(),
            Keys::IpsecMb(_, keys) => keys.clear(),
        }
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyStore({} keys)", self.len())
    }
}

impl KeyRef<'_> {
    #[inline]
    pub(super) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], icv: &mut [u8; ICV_LEN]) {
        match self {
            KeyRef::Ring(key) => key.seal(nonce, aad, text, icv),
            KeyRef::IpsecMb(library, key) => library.seal(key, nonce, aad, text, icv),
        }
    }

    /// Whether `body`, text and ICV, is genuine; then it is opened, else overwritten.
    #[inline]
    pub(super) fn open(&self, nonce: &[u8; 12], aad: &[u8], body: &mut [u8]) -> bool {
        match self {
            KeyRef::Ring(key) => key.open(nonce, aad, body),
            KeyRef::IpsecMb(library, key) => library.open(key, nonce, aad, body),
        }
    }
}
