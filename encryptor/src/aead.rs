//! AES-256-GCM as ESP uses it (RFC 4106), a burst at a time.
//!
//! The engine is `ring`: no dependency to install, and a context that lies inline, so that a flow's key is reached
//! without a second cache miss. All else in the packet path sees [`SealJob`], [`OpenJob`] and [`AeadKey`] only.

use std::fmt;
use std::hint::black_box;
use std::sync::LazyLock;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::keys::FlowKey;
use crate::spi::Spi;

/// Length of the ICV in bytes (RFC 4106 section 6, the full 16).
pub const ICV_LEN: usize = 16;

/// An expanded AES-256-GCM key and its salt.
pub struct AeadKey {
    key: LessSafeKey,
    salt: [u8; 4],
}

impl AeadKey {
    /// Expands the key of a flow.
    pub fn new(flow: &FlowKey) -> AeadKey {
        AeadKey { key: expand(flow.key()), salt: flow.salt() }
    }

    fn nonce(&self, iv: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&iv.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What a key is overwritten with when it goes.
static BLANK: LazyLock<LessSafeKey> = LazyLock::new(|| expand(&[0; 32]));

/// `ring` does not wipe its keys, so they are overwritten here.
impl Drop for AeadKey {
    fn drop(&mut self) {
        self.key = BLANK.clone();
        self.salt = [0; 4];
        // Without this the stores could be seen as dead.
        black_box(self);
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey(..)")
    }
}

fn expand(key: &[u8; 32]) -> LessSafeKey {
    let unbound = UnboundKey::new(&AES_256_GCM, key).expect("AES-256-GCM takes any 32 bytes");
    LessSafeKey::new(unbound)
}

/// The additional data of RFC 4106 section 5 with extended sequence numbers: SPI, high half, low half.
fn aad(spi: Spi, sequence_high: u32, sequence_low: u32) -> Aad<[u8; 12]> {
    let mut aad = [0; 12];
    aad[..4].copy_from_slice(&spi.value().to_be_bytes());
    aad[4..8].copy_from_slice(&sequence_high.to_be_bytes());
    aad[8..].copy_from_slice(&sequence_low.to_be_bytes());
    Aad::from(aad)
}

/// One packet to seal.
pub struct SealJob<'a> {
    /// The flow's key.
    pub key: &'a AeadKey,
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
    pub key: &'a AeadKey,
    /// The flow's SPI.
    pub spi: Spi,
    /// The IV as read.
    pub iv: u64,
    /// The high half of the sequence number, as read from the IV or inferred.
    pub sequence_high: u32,
    /// The low half of the sequence number as the ESP header has it.
    pub sequence_low: u32,
    /// Ciphertext and ICV; becomes plaintext and ICV.
    pub body: &'a mut [u8],
    /// Whether it was genuine; set by [`open_burst`].
    pub genuine: bool,
}

/// Seals a burst in place.
pub fn seal_burst(jobs: &mut [SealJob<'_>]) {
    for job in jobs {
        let (text, icv) = job.body.split_at_mut(job.body.len() - ICV_LEN);
        let aad = aad(job.spi, (job.sequence >> 32) as u32, job.sequence as u32);
        let tag = job.key.key.seal_in_place_separate_tag(job.key.nonce(job.sequence), aad, text);
        icv.copy_from_slice(tag.expect("a packet is shorter than GCM's limit of 64 GiB").as_ref());
    }
}

/// Opens a burst in place. What is not genuine is left unusable and marked so.
pub fn open_burst(jobs: &mut [OpenJob<'_>]) {
    for job in jobs {
        let aad = aad(job.spi, job.sequence_high, job.sequence_low);
        job.genuine = job.key.key.open_in_place(job.key.nonce(job.iv), aad, job.body).is_ok();
    }
}

/// Checks the engine against a known answer before the first packet: test case 14 of McGrew and Viega's GCM
/// specification (AES-256; key, IV and 16 bytes of text all zero).
pub fn self_test() -> Result<(), &'static str> {
    let mut text = [0; 16];
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let tag = expand(&[0; 32]).seal_in_place_separate_tag(nonce, Aad::empty(), &mut text);
    let expected_text = 0xcea7_403d_4d60_6b6e_074e_c5d3_baf3_9d18_u128.to_be_bytes();
    let expected_tag = 0xd0d1_c8a7_9999_6bf0_265b_98b5_d48a_b919_u128.to_be_bytes();
    match tag {
        Ok(tag) if tag.as_ref() == expected_tag && text == expected_text => Ok(()),
        _ => Err("the AES-256-GCM engine failed its known-answer test: this host must not encrypt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::EpochKey;
    use crate::spi::Epoch;
    use aes_gcm::aead::{Aead, KeyInit, Payload};

    fn spi() -> Spi {
        Spi::new(Epoch::FIRST, 0, 5)
    }

    fn flow_key() -> FlowKey {
        EpochKey::new(&[9; 32]).unwrap().flow_key(spi()).unwrap()
    }

    fn oracle(flow: &FlowKey, sequence: u64, text: &[u8]) -> Vec<u8> {
        let cipher = aes_gcm::Aes256Gcm::new(&(*flow.key()).into());
        let nonce: [u8; 12] = [&flow.salt()[..], &sequence.to_be_bytes()].concat().try_into().unwrap();
        let aad = [spi().value().to_be_bytes().as_slice(), &sequence.to_be_bytes()].concat();
        cipher.encrypt(&nonce.into(), Payload { msg: text, aad: &aad }).unwrap()
    }

    #[test]
    fn every_length_agrees_with_the_oracle_both_ways() {
        let flow = flow_key();
        let key = AeadKey::new(&flow);
        for length in 0..600usize {
            let text: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
            let sequence = 0xffff_fff0 + length as u64;
            let mut body = [&text[..], &[0; ICV_LEN]].concat();
            seal_burst(&mut [SealJob { key: &key, spi: spi(), sequence, body: &mut body }]);
            assert_eq!(body, oracle(&flow, sequence, &text), "length {length}");
            let sequence_low = sequence as u32;
            let mut jobs = [OpenJob {
                key: &key,
                spi: spi(),
                iv: sequence,
                sequence_high: (sequence >> 32) as u32,
                sequence_low,
                body: &mut body,
                genuine: false,
            }];
            open_burst(&mut jobs);
            assert!(jobs[0].genuine);
            assert_eq!(&body[..length], &text[..]);
        }
    }

    #[test]
    fn any_change_is_noticed() {
        let flow = flow_key();
        let key = AeadKey::new(&flow);
        let sealed = oracle(&flow, 77, b"sixteen bytes ok");
        let open = |iv: u64, sequence_low: u32, spi: Spi, mut body: Vec<u8>| {
            let sequence_high = (iv >> 32) as u32;
            let body = &mut body;
            let mut jobs = [OpenJob { key: &key, spi, iv, sequence_high, sequence_low, body, genuine: true }];
            open_burst(&mut jobs);
            jobs[0].genuine
        };
        assert!(open(77, 77, spi(), sealed.clone()));
        assert!(!open(78, 77, spi(), sealed.clone()));
        assert!(!open(77, 78, spi(), sealed.clone()));
        assert!(!open(77 | (1 << 40), 77, spi(), sealed.clone()));
        assert!(!open(77, 77, Spi::new(Epoch::FIRST, 0, 6), sealed.clone()));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!open(77, 77, spi(), flipped), "bit {bit}");
        }
    }

    #[test]
    fn the_self_test_passes_and_debug_shows_no_key() {
        assert_eq!(self_test(), Ok(()));
        assert_eq!(format!("{:?}", AeadKey::new(&flow_key())), "AeadKey(..)");
    }
}
