//! What of a key provider's answer may be believed. Free of I/O.

use glob::Pattern;

use super::wire::{Capabilities, SkipKey};
use super::{CAPABILITIES, KEY};
use crate::etsi014::KEY_BITS;
use crate::etsi014::answer::{bad, message, parse, refusal};
use crate::https::Answer;
use crate::secret::{DeliveredKey, KeyId, QkdKey};
use crate::source::{SourceError, SourceStatus};

/// Reads the capabilities, and refuses a KP that has no keys for `remote_system`.
pub(super) fn capabilities(body: &[u8], remote_system: &str) -> Result<SourceStatus, SourceError> {
    let found: Capabilities = parse(CAPABILITIES, body)?;
    if !found.key {
        return Err(bad(CAPABILITIES, "it says that it serves no keys".into()));
    }
    if !found.remote_system_id.iter().any(|glob| serves(glob, remote_system)) {
        let reason = format!(
            "our KP {} serves no KP named `{remote_system}`, only {}; write the peer KP's localSystemID",
            printable(&found.local_system_id),
            printable(&found.remote_system_id.join(", "))
        );
        return Err(SourceError::Setting { name: "remote_system", reason });
    }
    Ok(SourceStatus {
        source_kme_id: found.local_system_id.clone(),
        target_kme_id: remote_system.to_owned(),
        master_sae_id: found.local_system_id,
        slave_sae_id: remote_system.to_owned(),
        key_size_bits: KEY_BITS,
        stored_key_count: 0,
        max_key_count: 0,
        max_key_per_request: 1,
        max_key_size_bits: KEY_BITS,
        min_key_size_bits: KEY_BITS,
        extension: None,
    })
}

/// Reads a fresh key.
pub(super) fn key(body: &[u8]) -> Result<DeliveredKey, SourceError> {
    let SkipKey { key_id, key } = parse(KEY, body)?;
    let key = QkdKey::from_hex(&key).map_err(|e| bad(KEY, format!("keyId {key_id}: {e}")))?;
    Ok(DeliveredKey { id: key_id, key })
}

/// Reads the key of `id`.
pub(super) fn named_key(body: &[u8], id: &KeyId) -> Result<DeliveredKey, SourceError> {
    let found = key(body)?;
    if found.id != *id {
        return Err(bad(KEY, format!("the key of keyId {id} was asked for, {} came", found.id)));
    }
    Ok(found)
}

/// What a refusal of a fresh key means. The draft has no code for an empty pool or a peer KP that is down: servers
/// answer 500 or 503.
pub(super) fn new_key_refusal(answer: &Answer) -> SourceError {
    match answer.status {
        429 | 500 | 503 | 504 => {
            SourceError::Empty { message: format!("HTTP {}: {}", answer.status, message(&answer.body)) }
        }
        _ => refusal(KEY, answer),
    }
}

/// What a refusal of a key by keyId means: 400 by the draft, malformed or not found; 404 from some servers.
pub(super) fn named_key_refusal(answer: &Answer) -> SourceError {
    match answer.status {
        400 | 404 => {
            SourceError::NotFound { message: format!("HTTP {}: {}", answer.status, message(&answer.body)) }
        }
        _ => refusal(KEY, answer),
    }
}

fn serves(glob: &str, remote_system: &str) -> bool {
    glob == remote_system || Pattern::new(glob).is_ok_and(|pattern| pattern.matches(remote_system))
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn of(remote: &str) -> Vec<u8> {
        format!(
            r#"{{"entropy":true,"key":true,"algorithm":"PRF","localSystemID":"KP_A","remoteSystemID":[{remote}]}}"#
        )
        .into()
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: Zeroizing::new(body.as_bytes().to_vec()) }
    }

    #[test]
    fn the_peer_is_found_by_name_or_by_glob() {
        for list in [r#""KP_B""#, r#""x","KP_*""#, r#""KP_[A-C]""#, r#""K?_[!A]""#, r#""[broken","KP_B""#] {
            assert_eq!(capabilities(&of(list), "KP_B").unwrap().source_kme_id, "KP_A", "{list}");
        }
        for list in ["", r#""KP_A""#, r#""KP_[!B]""#, r#""[broken""#] {
            let error = capabilities(&of(list), "KP_B").unwrap_err();
            assert!(error.to_string().contains("localSystemID") && !error.is_transient(), "{error}");
        }
        let no_keys = String::from_utf8(of(r#""KP_B""#)).unwrap().replace(r#""key":true"#, r#""key":false"#);
        assert!(matches!(capabilities(no_keys.as_bytes(), "KP_B"), Err(SourceError::BadAnswer { .. })));
    }

    #[test]
    fn a_key_is_256_bits_of_hex_under_the_name_asked_for() {
        let body = format!(r#"{{"keyId":"0aBC","key":"{}","more":1}}"#, "A5".repeat(32));
        assert_eq!(key(body.as_bytes()).unwrap().key.as_bytes(), &[0xA5; 32]);
        assert!(named_key(body.as_bytes(), &KeyId::new("0ABc").unwrap()).is_ok());
        assert!(named_key(body.as_bytes(), &KeyId::new("0abd").unwrap()).is_err());
        for wrong in ["A5".repeat(16), "zz".repeat(32), "00".repeat(32), "pe".repeat(22)] {
            let error = key(format!(r#"{{"keyId":"0a","key":"{wrong}"}}"#).as_bytes()).unwrap_err();
            assert!(matches!(error, SourceError::BadAnswer { .. }) && !error.to_string().contains(&wrong));
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        assert!(
            matches!(named_key_refusal(&answer(400, r#"{"error":"gone"}"#)), SourceError::NotFound { message } if message.contains("gone"))
        );
        assert!(matches!(named_key_refusal(&answer(404, "")), SourceError::NotFound { .. }));
        assert!(named_key_refusal(&answer(500, "")).is_transient());
        assert!(new_key_refusal(&answer(500, "")).is_transient());
        assert!(!new_key_refusal(&answer(400, "")).is_transient());
    }
}
