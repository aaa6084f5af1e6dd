//! The JSON of ETSI GS QKD 014 V1.1.1 clause 6, for both ends. Field names are the standard's.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::KeyId;

/// Clause 6.1, Status.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    #[serde(rename = "source_KME_ID")]
    pub(crate) source_kme_id: String,
    #[serde(rename = "target_KME_ID")]
    pub(crate) target_kme_id: String,
    #[serde(rename = "master_SAE_ID")]
    pub(crate) master_sae_id: String,
    #[serde(rename = "slave_SAE_ID")]
    pub(crate) slave_sae_id: String,
    pub(crate) key_size: u32,
    pub(crate) stored_key_count: u64,
    pub(crate) max_key_count: u64,
    pub(crate) max_key_per_request: u64,
    pub(crate) max_key_size: u32,
    pub(crate) min_key_size: u32,
    /// We never ask for multicast, so a KME that leaves this out serves us all the same.
    #[serde(rename = "max_SAE_ID_count", default)]
    pub(crate) max_sae_id_count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status_extension: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Clause 6.2, Key request, as we send it.
#[derive(Debug, Serialize)]
pub(crate) struct KeyRequest {
    pub(crate) number: usize,
    /// Bits.
    pub(crate) size: u32,
}

/// Clause 6.3, Key container. The table prints `Keys`, the examples `keys`.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyContainer {
    #[serde(alias = "Keys")]
    pub(crate) keys: Vec<Key>,
}

/// One key of a container.
#[derive(Serialize, Deserialize)]
pub(crate) struct Key {
    #[serde(rename = "key_ID")]
    pub(crate) key_id: KeyId,
    /// Base64, standard alphabet.
    pub(crate) key: Zeroizing<String>,
}

/// Clause 6.4, Key IDs: objects, not bare strings.
#[derive(Debug, Serialize)]
pub(crate) struct KeyIds {
    #[serde(rename = "key_IDs")]
    key_ids: Vec<NamedKey>,
}

#[derive(Debug, Serialize)]
struct NamedKey {
    #[serde(rename = "key_ID")]
    key_id: KeyId,
}

/// Clause 6.5, Error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// Some servers call it `detail` or `error`.
    #[serde(alias = "detail", alias = "error")]
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) details: Vec<serde_json::Map<String, serde_json::Value>>,
}

pub(crate) const NOT_MULTIPLE_OF_8: &str = "size shall be a multiple of 8";
pub(crate) const MANDATORY_UNSUPPORTED: &str = "not all extension_mandatory parameters are supported";
pub(crate) const MANDATORY_UNMET: &str = "not all extension_mandatory request options could be met";
pub(crate) const OPTIONAL_UNHANDLED: &str = "not all extension_optional request options handled";
pub(crate) const KEYS_NOT_FOUND: &str = "one or more keys specified are not found on KME";

/// Whether a refusal's message is one that clause 6 fixes, so that its cause is certain.
pub(crate) fn is_fixed_message(message: &str) -> bool {
    [NOT_MULTIPLE_OF_8, MANDATORY_UNSUPPORTED, MANDATORY_UNMET, OPTIONAL_UNHANDLED, KEYS_NOT_FOUND]
        .iter()
        .any(|fixed| message.eq_ignore_ascii_case(fixed))
}

/// Serializes one of this module's messages.
pub(crate) fn to_json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("strings and integers always serialize")
}

impl From<&[KeyId]> for KeyIds {
    fn from(ids: &[KeyId]) -> Self {
        KeyIds { key_ids: ids.iter().map(|id| NamedKey { key_id: id.clone() }).collect() }
    }
}
