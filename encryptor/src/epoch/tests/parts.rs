//! What the world of the tests is made of: faults, keys, sessions and exporters.

use aws_lc_rs::digest;
use qhaul_keyfeed::{DeliveredKey, KeyId, QkdKey};

use crate::keys::{EpochKey, PqSecret, SessionId};
use crate::spi::{Epoch, Spi};

/// Chances of faults: of a connection break and a restart for each step, of all others for each occasion. `holds` keeps a
/// message, and all behind it, back for longer than a step of an agreement may take.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    pub(super) breaks: f64,
    pub(super) probe_loss: f64,
    pub(super) repeats: f64,
    pub(super) overtakes: f64,
    pub(super) holds: f64,
    pub(super) key_outage: f64,
    pub(super) key_lost: f64,
    pub(super) key_wrong: f64,
    pub(super) restarts: f64,
}

impl Faults {
    pub(super) const NONE: Faults = Faults {
        breaks: 0.0,
        probe_loss: 0.0,
        repeats: 0.0,
        overtakes: 0.0,
        holds: 0.0,
        key_outage: 0.0,
        key_lost: 0.0,
        key_wrong: 0.0,
        restarts: 0.0,
    };
}

/// What identifies an epoch key: a flow key of it.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(key: &EpochKey) -> Fingerprint {
    *key.flow_key(Spi::new(Epoch::FIRST, 0, 1)).unwrap().key()
}

pub(super) fn session(end: usize, start: u64) -> SessionId {
    let mut id = [end as u8; 16];
    id[8..].copy_from_slice(&start.to_be_bytes());
    SessionId(id)
}

pub(super) fn delivered(id: &str, bytes: [u8; 32]) -> DeliveredKey {
    DeliveredKey { id: KeyId::new(id).unwrap(), key: QkdKey::new(bytes).unwrap() }
}

pub(super) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    digest::digest(&digest::SHA256, &parts.concat()).as_ref().try_into().unwrap()
}

/// The TLS exporter of a connection: the same at both ends, another one for each connection.
pub(super) fn exporter(connection: Option<u64>) -> impl FnMut(&[u8]) -> Option<PqSecret> {
    move |offer| connection.map(|number| PqSecret(hash(&[&number.to_be_bytes(), offer])))
}
