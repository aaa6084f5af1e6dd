//! Requests of ETSI GS QKD 014 clauses 6.2 and 6.4 as typed values. Free of I/O; strict, so that a client's slip shows
//! here and not at a customer's KME.

use std::collections::HashSet;

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::ApiError;
use super::config::KeysConfig;
use crate::etsi014::wire::{MANDATORY_UNSUPPORTED, NOT_MULTIPLE_OF_8};
use crate::secret::KeyId;

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
}

/// Reads Get key: GET with at most `number` and `size` in the query, or POST with a Key request.
pub(super) fn new_keys(request: &RawRequest, limits: &KeysConfig) -> Result<NewKeys, ApiError> {
    let asked = match request.method {
        Method::GET => key_request_of_query(&request.query)?,
        Method::POST => json::<KeyRequest>(request)?,
        _ => return Err(ApiError::WrongVerb { allow: "GET, POST" }),
    };
    if asked.extension_mandatory.is_some_and(|list| !list.is_empty()) {
        return Err(ApiError::bad(MANDATORY_UNSUPPORTED));
    }
    if asked.additional_slave_sae_ids.is_some_and(|list| !list.is_empty()) {
        return Err(ApiError::bad_field(
            "additional_slave_SAE_IDs",
            "max_SAE_ID_count is 0: no additional SAEs",
        ));
    }
    let size = asked.size.unwrap_or(limits.size.into());
    if size % 8 != 0 {
        return Err(ApiError::bad(NOT_MULTIPLE_OF_8));
    }
    let size = u32::try_from(size)
        .ok()
        .filter(|size| (limits.min_size..=limits.max_size).contains(size))
        .ok_or_else(|| {
            ApiError::bad_field(
                "size",
                format!("size shall be {} to {} bits", limits.min_size, limits.max_size),
            )
        })?;
    let number = asked.number.unwrap_or(1);
    if !(1..=limits.max_per_request).contains(&number) {
        let message = format!("number shall be 1 to {}", limits.max_per_request);
        return Err(ApiError::bad_field("number", message));
    }
    Ok(NewKeys { number, size })
}

/// Reads Get key with key IDs: GET with one `key_ID` in the query, or POST with Key IDs.
pub(super) fn key_ids(request: &RawRequest, limits: &KeysConfig) -> Result<Vec<KeyId>, ApiError> {
    let ids = match request.method {
        Method::GET => vec![key_id_of_query(&request.query)?],
        Method::POST => json::<KeyIds>(request)?.key_ids.into_iter().map(|named| named.key_id).collect(),
        _ => return Err(ApiError::WrongVerb { allow: "GET, POST" }),
    };
    let count = ids.len() as u64;
    if !(1..=limits.max_per_request).contains(&count) {
        let message = format!("key_IDs shall name 1 to {} keys", limits.max_per_request);
        return Err(ApiError::bad_field("key_IDs", message));
    }
    if ids.iter().collect::<HashSet<_>>().len() != ids.len() {
        return Err(ApiError::bad_field("key_IDs", "key_IDs names a key twice"));
    }
    Ok(ids)
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
struct KeyIds {
    #[serde(rename = "key_IDs")]
    key_ids: Vec<NamedKey>,
    #[serde(rename = "key_IDs_extension")]
    _extension: Option<Map<String, Value>>,
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
