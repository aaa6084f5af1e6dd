use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::answer::{ApiError, Reply};
use super::api::Core;
use super::quirk::Quirk;
use super::store::KeyBytes;
use crate::etsi014::DEC_KEYS;
use crate::etsi014::wire::{Key, KeyContainer};
use crate::secret::KeyId;

/// A key of `bits` under a new key_ID, from the system's RNG.
pub(super) fn fresh_key(bits: u32) -> Result<(KeyId, KeyBytes), ApiError> {
    let mut key = Zeroizing::new(vec![0; bits as usize / 8]);
    rand::fill(&mut key).map_err(|_| ApiError::Unavailable("the system's RNG failed".into()))?;
    let id = KeyId::new(Uuid::new_v4().to_string()).expect("a UUID is 36 visible characters");
    Ok((id, key))
}

/// The answer to `method` with its key container (clause 6.3), in the order and spelling of this KME.
pub(super) fn reply(core: &Core, keys: Vec<(KeyId, KeyBytes)>, method: &str) -> Reply {
    let has = |quirk| core.rules.quirks.has(quirk);
    let upper = has(Quirk::UpperCaseIds) && method == DEC_KEYS;
    let keys = keys.into_iter().map(|(id, key)| Key {
        key_id: if upper { upper_case(&id) } else { id },
        key: Zeroizing::new(STANDARD.encode(&*key)),
    });
    let keys: Vec<Key> = keys.collect();
    match (has(Quirk::CapitalKeys), has(Quirk::KeyFirstOrder)) {
        (false, false) => Reply::ok(&KeyContainer { keys }),
        (true, false) => Reply::ok(&Capital { keys }),
        (false, true) => Reply::ok(&Plain { keys: key_first(keys) }),
        (true, true) => Reply::ok(&Capital { keys: key_first(keys) }),
    }
}

#[derive(Serialize)]
struct Plain<T> {
    keys: Vec<T>,
}

#[derive(Serialize)]
struct Capital<T> {
    #[serde(rename = "Keys")]
    keys: Vec<T>,
}

#[derive(Serialize)]
struct KeyFirst {
    key: Zeroizing<String>,
    #[serde(rename = "key_ID")]
    key_id: KeyId,
}

fn key_first(keys: Vec<Key>) -> Vec<KeyFirst> {
    keys.into_iter().map(|Key { key_id, key }| KeyFirst { key, key_id }).collect()
}

fn upper_case(id: &KeyId) -> KeyId {
    KeyId::new(id.as_str().to_uppercase()).expect("letter case changes neither length nor alphabet")
}
