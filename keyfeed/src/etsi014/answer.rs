//! What of a KME's answer may be believed. Free of I/O.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::wire::{ErrorBody, KeyContainer, Status};
use super::{DEC_KEYS, ENC_KEYS, STATUS};
use crate::https::Answer;
use crate::secret::{DeliveredKey, KeyId, QkdKey};
use crate::source::{SourceError, SourceStatus};

/// Reads a Status (clause 6.1).
pub(super) fn status(body: &[u8]) -> Result<SourceStatus, SourceError> {
    let status: Status = parse(STATUS, body)?;
    Ok(SourceStatus {
        source_kme_id: status.source_kme_id,
        target_kme_id: status.target_kme_id,
        master_sae_id: status.master_sae_id,
        slave_sae_id: status.slave_sae_id,
        key_size_bits: status.key_size,
        stored_key_count: status.stored_key_count,
        max_key_count: status.max_key_count,
        max_key_per_request: status.max_key_per_request,
        max_key_size_bits: status.max_key_size,
        min_key_size_bits: status.min_key_size,
        extension: status
            .status_extension
            .map(|fields| one_line(&serde_json::Value::from(fields).to_string(), MAX_EXTENSION)),
    })
}

/// Refuses a KME that does not deliver keys of `bits`.
pub(super) fn check_key_size(status: &SourceStatus, bits: u32) -> Result<(), SourceError> {
    let (min, max) = (status.min_key_size_bits, status.max_key_size_bits);
    if (min..=max).contains(&bits) {
        return Ok(());
    }
    Err(bad(STATUS, format!("it gives keys of {min} to {max} bits, {bits} are needed")))
}

/// Reads a key container that must hold exactly `number` keys (clause 6.3).
pub(super) fn new_keys(body: &[u8], number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
    let keys = keys(ENC_KEYS, body)?;
    if keys.len() != number {
        return Err(bad(ENC_KEYS, format!("{number} keys were asked for, {} came", keys.len())));
    }
    Ok(keys)
}

/// Reads a key container that must hold exactly the keys of `ids`, and puts them in that order.
pub(super) fn named_keys(body: &[u8], ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
    let mut keys = keys(DEC_KEYS, body)?;
    if keys.len() != ids.len() {
        return Err(bad(DEC_KEYS, format!("{} keys were asked for, {} came", ids.len(), keys.len())));
    }
    let mut ordered = Vec::with_capacity(ids.len());
    for id in ids {
        let place = keys.iter().position(|key| key.id == *id);
        let place = place
            .ok_or_else(|| bad(DEC_KEYS, format!("the key of key_ID {id} was asked for and is not there")))?;
        ordered.push(keys.swap_remove(place));
    }
    Ok(ordered)
}

/// Passes `more` on unless one of its key_IDs or keys is among `keys` already.
pub(crate) fn without_repeats(
    keys: &[DeliveredKey],
    more: Vec<DeliveredKey>,
) -> Result<Vec<DeliveredKey>, SourceError> {
    let request = "a request for several keys";
    check_distinct(request, keys.iter().chain(&more))?;
    Ok(more)
}

/// What a refusal of `enc_keys` means. No code of the standard says "no key now"; these are the ones in use.
pub(super) fn enc_keys_refusal(answer: &Answer) -> SourceError {
    match answer.status {
        409 | 429 | 503 | 504 => {
            SourceError::Empty { message: format!("HTTP {}: {}", answer.status, message(&answer.body)) }
        }
        _ => refusal(ENC_KEYS, answer),
    }
}

/// What a refusal of `dec_keys` means: 400 with the fixed message by the standard, which some servers wrap in a page of
/// HTML; 404 from many servers.
pub(super) fn dec_keys_refusal(answer: &Answer) -> SourceError {
    let message = message(&answer.body);
    let says_not_found = answer.status == 400 && message.to_ascii_lowercase().contains(NOT_FOUND);
    if says_not_found || answer.status == 404 {
        return SourceError::NotFound { message: format!("HTTP {}: {message}", answer.status) };
    }
    refusal(DEC_KEYS, answer)
}

/// Any other status but 200.
pub(crate) fn refusal(request: &'static str, answer: &Answer) -> SourceError {
    match answer.status {
        401 => SourceError::Unauthorised { request },
        status => SourceError::Refused { request, status, message: message(&answer.body) },
    }
}

fn keys(request: &'static str, body: &[u8]) -> Result<Vec<DeliveredKey>, SourceError> {
    let container: KeyContainer = parse(request, body)?;
    let mut keys = Vec::with_capacity(container.keys.len());
    for key in container.keys {
        let secret =
            QkdKey::from_base64(&key.key).map_err(|e| bad(request, format!("key_ID {}: {e}", key.key_id)))?;
        keys.push(DeliveredKey { id: key.key_id, key: secret });
    }
    check_distinct(request, keys.iter())?;
    Ok(keys)
}

fn check_distinct<'a>(
    request: &'static str,
    keys: impl Iterator<Item = &'a DeliveredKey>,
) -> Result<(), SourceError> {
    let (mut ids, mut fingerprints) = (HashSet::new(), HashSet::new());
    for key in keys {
        if !ids.insert(&key.id) {
            return Err(bad(request, format!("key_ID {} came twice", key.id)));
        }
        if !fingerprints.insert(key.key.fingerprint()) {
            return Err(bad(request, format!("the key of key_ID {} is the same as another's", key.id)));
        }
    }
    Ok(())
}

pub(crate) fn parse<T: DeserializeOwned>(request: &'static str, body: &[u8]) -> Result<T, SourceError> {
    // serde_json's own text may quote a string of the input, which may be a key: say only where and what kind.
    serde_json::from_slice(body).map_err(|e| {
        let kind = if e.is_data() { "a field is missing or of the wrong type" } else { "it is not JSON" };
        bad(request, format!("{kind} (line {}, column {})", e.line(), e.column()))
    })
}

pub(crate) fn bad(request: &'static str, reason: String) -> SourceError {
    SourceError::BadAnswer { request, reason }
}

/// The KME's words, from an Error of clause 6.5 or from whatever else it sent, as one short printable line.
pub(crate) fn message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(error) => error.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    one_line(&text, MAX_MESSAGE)
}

/// `text` as one printable line of at most about `max` characters.
fn one_line(text: &str, max: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.map(hide_if_key_like).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(max) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None if line.is_empty() => "no message".into(),
        None => line,
    }
}

/// A server that quotes a key in its error must not make us log it. A UUID, with its hyphens, passes.
fn hide_if_key_like(word: &str) -> &str {
    let mut longest = 0;
    let mut run = 0;
    for c in word.chars() {
        run = if c.is_ascii_alphanumeric() || "+/=".contains(c) { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    if longest >= 32 { "[...]" } else { word }
}

/// [`KEYS_NOT_FOUND`](super::wire::KEYS_NOT_FOUND) without its case-sensitive end.
const NOT_FOUND: &str = "keys specified are not found";
const MAX_MESSAGE: usize = 160;
const MAX_EXTENSION: usize = 480;

#[cfg(test)]
mod tests;
