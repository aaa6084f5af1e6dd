//! The key hierarchy, each stage a type of its own: inputs -> [`EpochSecret`] -> [`EpochKey`] -> [`FlowKey`].
//!
//! A key of the wrong stage does not compile. Nothing here prints, clones or stores key bytes; each stage is zeroized
//! when dropped. Sources: HKDF is RFC 5869, the flow KDF NIST SP 800-108r1 section 4.1 (counter mode) with CMAC of
//! SP 800-38B.

mod combine;
mod psk;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{cmac, digest, hkdf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::spi::{Epoch, Spi};

pub use combine::Combine;
pub use psk::Psk;

/// A secret of 32 bytes from the link channel's TLS exporter (RFC 8446 section 7.5).
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PqSecret(pub(crate) [u8; 32]);

/// The random identity of one process; keys of one never serve another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SessionId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a session id of 32 hexadecimal digits");
        let mut id = [0; 16];
        if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad());
        }
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
        }
        Ok(SessionId(id))
    }
}

/// What went wrong while deriving.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The policy asks for an input that is not there.
    #[error("combine = \"{policy}\" requires {input}, and there is none: no epoch is made")]
    InputMissing {
        /// The policy in force.
        policy: Combine,
        /// What is missing.
        input: &'static str,
    },
    /// An input is there that the policy does not ask for.
    #[error("combine = \"{policy}\" does not use {input}: no epoch is made")]
    InputUnasked {
        /// The policy in force.
        policy: Combine,
        /// What is superfluous.
        input: &'static str,
    },
    /// The crypto library refused.
    #[error("the crypto library refused to derive a key")]
    Library,
}

/// The secrets that an epoch is made from.
pub struct Inputs<'a> {
    /// The key that the KMEs delivered to both ends.
    pub qkd: Option<&'a [u8; 32]>,
    /// The TLS exporter's secret for this offer.
    pub pq: Option<&'a PqSecret>,
    /// The pre-shared key.
    pub psk: Option<&'a Psk>,
}

/// The first stage: all inputs, combined.
pub struct EpochSecret {
    prk: hkdf::Prk,
    policy: Combine,
}

impl EpochSecret {
    /// HKDF-Extract (SHA-384) over the inputs, each behind its 2-byte length, in the order QKD, PQ, PSK. The salt is
    /// the session id of the sender followed by that of the receiver. A missing or unasked input is refused, so the
    /// policy can never be met by less or by something else.
    pub fn combine(
        policy: Combine,
        sender: SessionId,
        receiver: SessionId,
        inputs: &Inputs<'_>,
    ) -> Result<EpochSecret, KeyError> {
        demand(policy, "a QKD key", policy.needs_qkd(), inputs.qkd.is_some())?;
        demand(policy, "a post-quantum secret", policy.needs_pqc(), inputs.pq.is_some())?;
        demand(policy, "a pre-shared key", policy.needs_psk(), inputs.psk.is_some())?;
        let mut material = Zeroizing::new(Vec::with_capacity(3 * (2 + 32)));
        let pq = inputs.pq.map(|secret| &secret.0);
        for input in [inputs.qkd, pq, inputs.psk.map(Psk::bytes)] {
            let input = input.map_or(&[][..], |bytes| &bytes[..]);
            material.extend_from_slice(&(input.len() as u16).to_be_bytes());
            material.extend_from_slice(input);
        }
        let salt = [sender.0, receiver.0].concat();
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA384, &salt).extract(&material);
        Ok(EpochSecret { prk, policy })
    }

    /// HKDF-Expand to the key of one direction's epoch.
    pub fn epoch_key(&self, context: &EpochContext<'_>) -> Result<EpochKey, KeyError> {
        let info = context.info(self.policy);
        let info = [&info[..]];
        let mut bytes = Zeroizing::new([0; 32]);
        let okm = self.prk.expand(&info, Length(32)).map_err(|_| KeyError::Library)?;
        okm.fill(&mut bytes[..]).map_err(|_| KeyError::Library)?;
        EpochKey::new(&bytes)
    }
}

fn demand(policy: Combine, input: &'static str, needed: bool, present: bool) -> Result<(), KeyError> {
    match (needed, present) {
        (true, false) => Err(KeyError::InputMissing { policy, input }),
        (false, true) => Err(KeyError::InputUnasked { policy, input }),
        _ => Ok(()),
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// What an epoch key is bound to.
pub struct EpochContext<'a> {
    /// Kind of the key source, such as "etsi014".
    pub source: &'a str,
    /// The link's name.
    pub link: &'a str,
    /// SAE ID of the sender of this direction.
    pub sender: &'a str,
    /// SAE ID of its receiver.
    pub receiver: &'a str,
    /// The epoch.
    pub epoch: Epoch,
    /// key_IDs of the QKD keys, in the order of use.
    pub key_ids: &'a [&'a str],
    /// The offer's bytes, which hold a nonce: no two epochs of two processes share a key, even if a key server repeats one.
    pub offer: &'a [u8],
}

impl EpochContext<'_> {
    fn info(&self, policy: Combine) -> Vec<u8> {
        let mut info = b"qhaul v1 epoch".to_vec();
        let mut field = |bytes: &[u8]| {
            info.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            info.extend_from_slice(bytes);
        };
        for text in [policy.name(), self.source, self.link, self.sender, self.receiver] {
            field(text.as_bytes());
        }
        field(&[self.epoch.into()]);
        field(&(self.key_ids.len() as u16).to_be_bytes());
        for id in self.key_ids {
            field(id.as_bytes());
        }
        field(digest::digest(&digest::SHA256, self.offer).as_ref());
        info
    }
}

/// The second stage: the key of one direction's epoch, ready to derive flow keys.
pub struct EpochKey {
    cmac: cmac::Key,
}

impl EpochKey {
    /// From 32 bytes of key.
    pub fn new(bytes: &[u8; 32]) -> Result<EpochKey, KeyError> {
        cmac::Key::new(cmac::AES_256, bytes).map(|cmac| EpochKey { cmac }).map_err(|_| KeyError::Library)
    }

    /// The key and salt of one SPI: 288 bits of SP 800-108 counter mode over blocks of
    /// counter(4) | "qhf1" | SPI(4) | 288(4).
    pub fn flow_key(&self, spi: Spi) -> Result<FlowKey, KeyError> {
        let mut block = [0; 16];
        block[4..8].copy_from_slice(b"qhf1");
        block[8..12].copy_from_slice(&spi.value().to_be_bytes());
        block[12..16].copy_from_slice(&288u32.to_be_bytes());
        let mut bytes = Zeroizing::new([0; 48]);
        for (counter, out) in (1u32..).zip(bytes.chunks_exact_mut(16)) {
            block[0..4].copy_from_slice(&counter.to_be_bytes());
            cmac::sign_to_buffer(&self.cmac, &block, out).map_err(|_| KeyError::Library)?;
        }
        let mut key = FlowKey { key: [0; 32], salt: [0; 4] };
        key.key.copy_from_slice(&bytes[..32]);
        key.salt.copy_from_slice(&bytes[32..36]);
        Ok(key)
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochKey(..)")
    }
}

/// The last stage: AES-256-GCM key and salt (RFC 4106) of one flow in one epoch.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct FlowKey {
    key: [u8; 32],
    salt: [u8; 4],
}

impl FlowKey {
    /// The AES-256 key.
    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The four bytes that every nonce starts with.
    pub(crate) fn salt(&self) -> [u8; 4] {
        self.salt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::cmac::{Cmac, KeyInit, Mac};
    use ::hkdf::Hkdf;
    use sha2::{Digest, Sha384};

    const SENDER: SessionId = SessionId([1; 16]);
    const RECEIVER: SessionId = SessionId([2; 16]);

    fn context(epoch: Epoch) -> EpochContext<'static> {
        EpochContext {
            source: "etsi014",
            link: "l",
            sender: "a",
            receiver: "b",
            epoch,
            key_ids: &["id-1"],
            offer: b"offer",
        }
    }

    fn secret(policy: &str, inputs: &Inputs<'_>) -> Result<EpochSecret, KeyError> {
        EpochSecret::combine(policy.parse().unwrap(), SENDER, RECEIVER, inputs)
    }

    /// The whole hierarchy once more, by other libraries and written out from the protocol's text.
    fn independent(policy: &str, qkd: &[u8; 32], pq: &[u8; 32], psk: &[u8], spi: u32) -> Vec<u8> {
        let ikm = [&[0, 32][..], qkd, &[0, 32], pq, &[0, psk.len() as u8], psk].concat();
        let hk = Hkdf::<Sha384>::new(Some(&[[1; 16], [2; 16]].concat()), &ikm);
        let fields = b"\0\x07etsi014\0\x01l\0\x01a\0\x01b\0\x01\x01\0\x02\0\x01\0\x04id-1";
        let policy = [&[0, policy.len() as u8], policy.as_bytes()].concat();
        let info =
            [&b"qhaul v1 epoch"[..], &policy, fields, &[0, 32], sha2::Sha256::digest(b"offer").as_slice()]
                .concat();
        let mut epoch_key = [0; 32];
        hk.expand(&info, &mut epoch_key).unwrap();
        let block = |counter: u8| {
            let mut mac = Cmac::<aes::Aes256>::new_from_slice(&epoch_key).unwrap();
            mac.update(&[0, 0, 0, counter]);
            mac.update(b"qhf1");
            mac.update(&spi.to_be_bytes());
            mac.update(&[0, 0, 1, 32]);
            mac.finalize().into_bytes()
        };
        [block(1), block(2), block(3)].concat()[..36].to_vec()
    }

    #[test]
    fn agrees_with_an_independent_implementation() {
        let (qkd, pq, psk) = ([3; 32], PqSecret([4; 32]), Psk::of([5; 32]));
        let spi = Spi::new(Epoch::FIRST, 0, 9);
        for (policy, given, bytes) in [("qkd+pqc", None, &[][..]), ("qkd+pqc+psk", Some(&psk), &[5; 32])] {
            let secret = secret(policy, &Inputs { qkd: Some(&qkd), pq: Some(&pq), psk: given }).unwrap();
            let flow = secret.epoch_key(&context(Epoch::FIRST)).unwrap().flow_key(spi).unwrap();
            let expected = independent(policy, &qkd, &pq.0, bytes, spi.value());
            assert_eq!([&flow.key[..], &flow.salt].concat(), expected, "{policy}");
        }
    }

    #[test]
    fn the_policy_is_met_exactly_or_there_is_no_epoch() {
        let (qkd, pq, psk) = ([3; 32], PqSecret([4; 32]), Psk::of([5; 32]));
        for policy in ["qkd+pqc", "qkd", "pqc", "qkd+pqc+psk", "qkd+psk", "pqc+psk"] {
            let needs = |input| policy.split('+').any(|part| part == input);
            for mask in 0..8 {
                let (q, p, s) = (mask & 1 != 0, mask & 2 != 0, mask & 4 != 0);
                let inputs = Inputs { qkd: q.then_some(&qkd), pq: p.then_some(&pq), psk: s.then_some(&psk) };
                let made = secret(policy, &inputs).is_ok();
                assert_eq!(made, (q, p, s) == (needs("qkd"), needs("pqc"), needs("psk")), "{policy} {mask}");
            }
        }
    }

    #[test]
    fn every_part_of_the_context_changes_the_key() {
        let secret = secret("qkd", &Inputs { qkd: Some(&[3; 32]), pq: None, psk: None }).unwrap();
        let spi = Spi::new(Epoch::FIRST, 0, 1);
        let derive =
            |context: &EpochContext<'_>| secret.epoch_key(context).unwrap().flow_key(spi).unwrap().key;
        let base = || context(Epoch::FIRST);
        let variants = [
            base(),
            EpochContext { source: "skip", ..base() },
            EpochContext { link: "m", ..base() },
            EpochContext { sender: "b", receiver: "a", ..base() },
            EpochContext { sender: "ab", receiver: "", ..base() },
            EpochContext { epoch: Epoch::FIRST.next(), ..base() },
            EpochContext { key_ids: &["id-2"], ..base() },
            EpochContext { key_ids: &["id", "-1"], ..base() },
            EpochContext { offer: b"another", ..base() },
        ];
        let keys: std::collections::HashSet<[u8; 32]> = variants.iter().map(derive).collect();
        assert_eq!(keys.len(), variants.len());
    }

    #[test]
    fn debug_output_shows_no_key() {
        let key = EpochKey::new(&[0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "EpochKey(..)");
    }
}
