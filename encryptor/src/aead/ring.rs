//! The engine that is always there.

use std::hint::black_box;
use std::sync::LazyLock;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::ICV_LEN;

/// An expanded key, inline. It starts a cache line, so that reading it touches as few of them as can be.
#[derive(Clone)]
#[repr(align(64))]
pub struct Key(LessSafeKey);

impl Key {
    pub(super) fn new(key: &[u8; 32]) -> Key {
        Key(expand(key))
    }

    #[inline]
    pub(super) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], icv: &mut [u8; ICV_LEN]) {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text);
        icv.copy_from_slice(tag.expect("a packet is shorter than GCM's limit of 64 GiB").as_ref());
    }

    /// What is not genuine is zeroed.
    #[inline]
    pub(super) fn open(&self, nonce: &[u8; 12], aad: &[u8], body: &mut [u8]) -> bool {
        self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), body).is_ok()
    }
}

/// What a key is overwritten with when it goes.
static BLANK: LazyLock<LessSafeKey> = LazyLock::new(|| expand(&[0; 32]));

/// `ring` does not wipe its keys, so they are overwritten here.
impl Drop for Key {
    fn drop(&mut self) {
        self.0 = BLANK.clone();
        // Without this the stores could be seen as dead.
        black_box(self);
    }
}

fn expand(key: &[u8; 32]) -> LessSafeKey {
    let unbound = UnboundKey::new(&AES_256_GCM, key).expect("AES-256-GCM takes any 32 bytes");
    LessSafeKey::new(unbound)
}
