//! Intel's multi-buffer library (`libIPSec_MB.so.1`), found when the process starts.
//!
//! Of the library only the AES-256-GCM functions that take a key and a packet are used, in the variant for this processor, by
//! their exported names: they need no manager, so no layout of it is assumed. What is assumed (the signatures and two structs of
//! `intel-ipsec-mb.h`) was read in version 1.3, and no other version is taken. This folder's unsafe code is calls into
//! the library, nothing else.

#![allow(unsafe_code)]

mod load;

pub(crate) use load::{LoadError, has_vaes_avx512, load};

use std::fmt;
use std::mem::MaybeUninit;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ICV_LEN;

/// `struct gcm_key_data`: 15 round keys and up to 48 powers of the hash key, 1,008 bytes in units of 64.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
#[repr(C, align(64))]
pub struct Key([u8; 1024]);

/// `struct gcm_context_data`, 88 bytes that the library writes before it reads them.
#[repr(C, align(64))]
struct Context([u8; 128]);

/// `aes_gcm_pre_t`
type Expand = unsafe extern "C" fn(*const [u8; 32], *mut Key);

/// `aes_gcm_enc_dec_t`: key, context, out, in, length, IV, AAD, its length, tag, its length.
type Crypt = unsafe extern "C" fn(
    *const Key,
    *mut Context,
    *mut u8,
    *const u8,
    u64,
    *const [u8; 12],
    *const u8,
    u64,
    *mut [u8; ICV_LEN],
    u64,
);

/// What is called, all of one variant.
struct Functions {
    variant: &'static str,
    version: String,
    expand: Expand,
    seal: Crypt,
    open: Crypt,
}

/// The library, loaded for good. Whoever has one may call it.
#[derive(Clone, Copy)]
pub struct Library(&'static Functions);

impl Library {
    /// Version and variant, such as "1.3.0, avx_gen4".
    pub(super) fn describe(self) -> String {
        format!("{}, {}", self.0.version, self.0.variant)
    }

    /// Expands a key.
    pub(super) fn expand(self, key: &[u8; 32]) -> Key {
        let mut expanded = Key([0; 1024]);
        // SAFETY: `load` took the function from a library of the version whose signature `Expand` is, in a variant that this
        // processor can run. It reads the 32 bytes of an AES-256 key and writes fields of `struct gcm_key_data`, which has the
        // size and alignment of `Key`; both references are valid for that.
        unsafe { (self.0.expand)(key, &mut expanded) };
        expanded
    }

    #[inline]
    pub(super) fn seal(
        self,
        key: &Key,
        nonce: &[u8; 12],
        aad: &[u8],
        text: &mut [u8],
        icv: &mut [u8; ICV_LEN],
    ) {
        crypt(self.0.seal, key, nonce, aad, text, icv);
    }

    /// What is not genuine is zeroed.
    #[inline]
    pub(super) fn open(self, key: &Key, nonce: &[u8; 12], aad: &[u8], body: &mut [u8]) -> bool {
        let Some((text, icv)) = body.split_last_chunk_mut::<ICV_LEN>() else { return false };
        let mut expected = [0; ICV_LEN];
        crypt(self.0.open, key, nonce, aad, text, &mut expected);
        // One comparison of all bits: its time does not depend on where they differ.
        let genuine = u128::from_ne_bytes(expected) ^ u128::from_ne_bytes(*icv) == 0;
        if !genuine {
            text.fill(0);
        }
        genuine
    }
}

#[inline]
fn crypt(function: Crypt, key: &Key, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], icv: &mut [u8; ICV_LEN]) {
    let mut context = MaybeUninit::<Context>::uninit();
    let (place, length) = (text.as_mut_ptr(), text.len() as u64);
    // SAFETY: `load` took the function from a library of the version whose signature `Crypt` is, in a variant that this
    // processor can run. `key` was made by the same library's `expand`, the only maker of a `Key`. The context is larger and
    // more aligned than `struct gcm_context_data`, and the library initialises it before use. In place is allowed
    // ("may be same as source"), and `place` is the exclusive borrow of `length` bytes. Nonce, AAD and ICV are borrowed for as
    // many bytes as are told. The function keeps none of the pointers.
    unsafe {
        function(
            key,
            context.as_mut_ptr(),
            place,
            place,
            length,
            nonce,
            aad.as_ptr(),
            aad.len() as u64,
            icv,
            ICV_LEN as u64,
        )
    };
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ipsec-mb {}", self.describe())
    }
}
