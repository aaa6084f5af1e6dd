//! Requests of ETSI GS QKD 014 clauses 6.2 and 6.4 as typed values. Free of I/O; strict, so that a client's slip shows
//! here and not at a customer's KME.

use std::collections::{BTreeMap, HashSet};

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::ApiError;
use super::config::KeysConfig;
use super::quirk::{Quirk, Quirks};
use crate::etsi014::wire::{MANDATORY_UNMET, MANDATORY_UNSUPPORTED, NOT_MULTIPLE_OF_8};
use crate::secret::{KeyId, SaeId};

/// What of an HTTP request the rules see.
#[derive(Debug)]
pub(super) struct RawRequest {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

/// A Get key request within the limits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NewKeys {
    pub(super) number: u64,
    /// Bits, a multiple of 8.
    pub(super) size: u32,
    /// SAEs that may fetch the keys besides the slave of the path.
    pub(super) additional: Vec<SaeId>,
}

/// By what a KME judges requests.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) limits: KeysConfig,
    pub(super) quirks: Quirks,
    /// Mandatory extensions that are supported, with the values that can be met.
    pub(super) extensions: BTreeMap<String, Vec<Value>>,
}

impl Rules {
    /// Reads Get key: GET with at most `number` and `size` in the query, or POST with a Key request.
    pub(super) fn new_keys(&self, request: &RawRequest) -> Result<NewKeys, ApiError> {
        let lenient = self.quirks.has(Quirk::LenientRequests);
        let asked = match request.method {
            Method::GET => key_request_of_query(&request.query)?,
            Method::POST if lenient => json::<KeyRequest>(request).unwrap_or_default(),
            Method::POST => json::<KeyRequest>(request)?,
            _ => return Err(ApiError::WrongVerb { allow: "GET, POST" }),
        };
        if !lenient {
            self.check_mandatory(&asked.extension_mandatory.unwrap_or_default())?;
        }
        let additional = self.additional(asked.additional_slave_sae_ids.unwrap_or_default())?;
        let size = self.size(asked.size)?;
        let number = if self.quirks.has(Quirk::NumberIgnored) { 1 } else { asked.number.unwrap_or(1) };
        if !(u64::from(!lenient)..=self.limits.max_per_request).contains(&number) {
            let message = format!("number shall be 1 to {}", self.limits.max_per_request);
            return Err(ApiError::bad_field("number", message));
        }
        Ok(NewKeys { number, size, additional })
    }

    /// Reads Get key with key IDs: GET with one `key_ID` in the query, or POST with Key IDs.
    pub(super) fn key_ids(&self, request: &RawRequest) -> Result<Vec<KeyId>, ApiError> {
        let ids = match request.method {
            Method::GET => vec![key_id_of_query(&request.query)?],
            Method::POST if self.quirks.has(Quirk::BareKeyIds) => {
                json::<KeyIds<AnyKey>>(request)?.key_ids.into_iter().map(AnyKey::id).collect()
            }
            Method::POST => {
                json::<KeyIds<NamedKey>>(request)?.key_ids.into_iter().map(|it| it.key_id).collect()
            }
            _ => return Err(ApiError::WrongVerb { allow: "GET, POST" }),
        };
        let count = ids.len() as u64;
        if !(1..=self.limits.max_per_request).contains(&count) {
            let message = format!("key_IDs shall name 1 to {} keys", self.limits.max_per_request);
            return Err(ApiError::bad_field("key_IDs", message));
        }
        if ids.iter().collect::<HashSet<_>>().len() != ids.len() {
            return Err(ApiError::bad_field("key_IDs", "key_IDs names a key twice"));
        }
        Ok(ids)
    }

    /// Clause 6.2: a KME that cannot honour all mandatory extensions refuses the request.
    fn check_mandatory(&self, extensions: &[Map<String, Value>]) -> Result<(), ApiError> {
        let mut asked = extensions.iter().flatten();
        if asked.clone().any(|(name, _)| !self.extensions.contains_key(name)) {
            return Err(ApiError::Fixed(MANDATORY_UNSUPPORTED));
        }
        if !asked.all(|(name, value)| self.extensions[name].contains(value)) {
            return Err(ApiError::Fixed(MANDATORY_UNMET));
        }
        Ok(())
    }

    fn additional(&self, named: Vec<String>) -> Result<Vec<SaeId>, ApiError> {
        let bad = |message: String| ApiError::bad_field("additional_slave_SAE_IDs", message);
        let max = self.limits.max_sae_ids;
        if named.len() as u64 > max {
            return Err(bad(format!("max_SAE_ID_count is {max}: no more additional SAEs than that")));
        }
        let ids = named.into_iter().map(|id| SaeId::new(id).map_err(|e| bad(e.to_string())));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        if ids.iter().collect::<HashSet<_>>().len() != ids.len() {
            return Err(bad("an SAE is named twice".into()));
        }
        Ok(ids)
    }

    /// The size of the keys in bits, whatever unit this KME counts in.
    pub(super) fn size(&self, asked: Option<u64>) -> Result<u32, ApiError> {
        let KeysConfig { size: default, min_size, max_size, .. } = self.limits;
        let size = asked.filter(|_| !self.quirks.has(Quirk::SizeIgnored));
        let in_bytes = self.quirks.has(Quirk::SizeInBytes);
        let Some(size) = size.map(|size| if in_bytes { size.saturating_mul(8) } else { size }) else {
            return Ok(default);
        };
        if size % 8 != 0 {
            return Err(ApiError::Fixed(NOT_MULTIPLE_OF_8));
        }
        u32::try_from(size).ok().filter(|size| (min_size..=max_size).contains(size)).ok_or_else(|| {
            ApiError::bad_field("size", format!("size shall be {min_size} to {max_size} bits"))
        })
    }
}

/// Clause 6.2, Key request. Optional extensions are read and, as the standard allows, ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRequest {
    number: Option<u64>,
    size: Option<u64>,
    #[serde(rename = "additional_slave_SAE_IDs")]
    additional_slave_sae_ids: Option<Vec<String>>,
    extension_mandatory: Option<Vec<Map<String, Value>>>,
    #[serde(rename = "extension_optional")]
    _extension_optional: Option<Vec<Map<String, Value>>>,
}

/// Clause 6.4, Key IDs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyIds<T> {
    #[serde(rename = "key_IDs")]
    key_ids: Vec<T>,
    #[serde(rename = "key_IDs_extension")]
    _extension: Option<Map<String, Value>>,
}

/// A key_ID as the standard has it, or as old clients send it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum AnyKey {
    Object(NamedKey),
    Bare(KeyId),
}

impl AnyKey {
    fn id(self) -> KeyId {
        match self {
            AnyKey::Object(named) => named.key_id,
            AnyKey::Bare(id) => id,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedKey {
    #[serde(rename = "key_ID")]
    key_id: KeyId,
    #[serde(rename = "key_ID_extension")]
    _extension: Option<Map<String, Value>>,
}

fn key_request_of_query(query: &str) -> Result<KeyRequest, ApiError> {
    let mut asked = KeyRequest::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let slot = match &*name {
            "number" => &mut asked.number,
            "size" => &mut asked.size,
            _ => return Err(ApiError::bad("GET takes number and size only; use POST for the rest")),
        };
        let number = value.parse().map_err(|_| ApiError::bad("number and size shall be integers"))?;
        if slot.replace(number).is_some() {
            return Err(ApiError::bad("number and size shall be given once"));
        }
    }
    Ok(asked)
}

fn key_id_of_query(query: &str) -> Result<KeyId, ApiError> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((name, id)), None) if name == "key_ID" => {
            KeyId::new(id).map_err(|e| ApiError::bad_field("key_ID", e.to_string()))
        }
        _ => Err(ApiError::bad("GET takes exactly one key_ID; use POST for several")),
    }
}

fn json<T: DeserializeOwned>(request: &RawRequest) -> Result<T, ApiError> {
    let media_type = request.content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::bad("Content-Type shall be application/json"));
    }
    if !request.query.is_empty() {
        return Err(ApiError::bad("POST takes its parameters in the body, not in the URL"));
    }
    serde_json::from_slice(&request.body)
        .map_err(|e| ApiError::bad(format!("the request's JSON is wrong: {e}")))
}

#[cfg(test)]
mod tests;
