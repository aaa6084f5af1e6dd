//! AES-256-GCM as ESP uses it (RFC 4106), a burst at a time, by one of two engines.
//!
//! `ring` needs nothing installed, and its keys lie inline, so that a flow's key is reached without a second cache miss. Intel's
//! ipsec-mb comes with the distribution and is looked for when the process starts. All else in the packet path sees
//! [`SealJob`], [`OpenJob`] and [`KeyStore`] only; which engine is at work was settled by [`choose`].

mod choose;
pub(crate) mod ipsec_mb;
mod ring;
mod store;
#[cfg(test)]
mod tests;
mod trial;

pub use choose::{Choice, Chosen, EngineError, choose};
pub use store::{KeyRef, KeyStore};

use crate::spi::Spi;

/// Length of the ICV in bytes (RFC 4106 section 6, the full 16).
pub const ICV_LEN: usize = 16;

/// Which implementation works. An engine that can be named has been loaded.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    /// `ring`, part of this program.
    Ring,
    /// Intel's ipsec-mb.
    IpsecMb(ipsec_mb::Library),
}

impl Engine {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Ring => "ring",
            Engine::IpsecMb(_) => "ipsec-mb",
        }
    }
}

/// A key to work with: expanded, with the four bytes that each of its nonces starts with.
#[derive(Clone, Copy)]
pub struct AeadKey<'a> {
    /// The expanded key.
    pub key: KeyRef<'a>,
    /// The salt.
    pub salt: [u8; 4],
}

impl AeadKey<'_> {
    /// RFC 4106 section 4: salt, then IV.
    fn nonce(&self, iv: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&iv.to_be_bytes());
        nonce
    }
}

/// One packet to seal.
pub struct SealJob<'a> {
    /// The flow's key.
    pub key: AeadKey<'a>,
    /// The flow's SPI.
    pub spi: Spi,
    /// The 64-bit sequence number; as IV it must be new for this key.
    pub sequence: u64,
    /// Plaintext, and [`ICV_LEN`] bytes behind it for the ICV.
    pub body: &'a mut [u8],
}

/// One packet to open.
pub struct OpenJob<'a> {
    /// The flow's key.
    pub key: AeadKey<'a>,
    /// The flow's SPI.
    pub spi: Spi,
    /// The IV as read.
    pub iv: u64,
    /// The 64-bit sequence number that the packet is taken to have.
    pub sequence: u64,
    /// Ciphertext and ICV; becomes plaintext and ICV.
    pub body: &'a mut [u8],
    /// Whether it was genuine; set by [`open_burst`].
    pub genuine: bool,
}

/// Seals a burst in place.
///
/// # Panics
///
/// When a body has no room for the ICV.
pub fn seal_burst(jobs: &mut [SealJob<'_>]) {
    for job in jobs {
        let (nonce, aad) = (job.key.nonce(job.sequence), aad(job.spi, job.sequence));
        let (text, icv) = job.body.split_last_chunk_mut().expect("a body ends with room for the ICV");
        job.key.key.seal(&nonce, &aad, text, icv);
    }
}

/// Opens a burst in place. What is not genuine is overwritten and marked so.
pub fn open_burst(jobs: &mut [OpenJob<'_>]) {
    for job in jobs {
        let (nonce, aad) = (job.key.nonce(job.iv), aad(job.spi, job.sequence));
        job.genuine = job.key.key.open(&nonce, &aad, job.body);
    }
}

/// The additional data of RFC 4106 section 5 with extended sequence numbers: SPI, high half, low half.
fn aad(spi: Spi, sequence: u64) -> [u8; 12] {
    let mut aad = [0; 12];
    aad[..4].copy_from_slice(&spi.value().to_be_bytes());
    aad[4..].copy_from_slice(&sequence.to_be_bytes());
    aad
}
