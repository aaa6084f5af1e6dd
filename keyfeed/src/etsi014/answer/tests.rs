use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::*;

fn container(keys: &[(&str, &[u8])]) -> Vec<u8> {
    let items: Vec<String> = keys
        .iter()
        .map(|(id, bytes)| {
            format!(r#"{{"key":"{}","key_ID":"{id}","key_extension":{{}}}}"#, STANDARD.encode(bytes))
        })
        .collect();
    format!(r#"{{"vendor":1,"keys":[{}]}}"#, items.join(",")).into_bytes()
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: Zeroizing::new(body.as_bytes().to_vec()) }
}

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

fn reason(error: SourceError) -> String {
    match error {
        SourceError::BadAnswer { reason, .. } => reason,
        other => panic!("not a bad answer: {other:?}"),
    }
}

#[test]
fn unknown_fields_and_other_order_do_not_matter() {
    let keys = new_keys(&container(&[("k1", &[1; 32]), ("k2", &[2; 32])]), 2).unwrap();
    assert_eq!(keys[1].id, id("k2"));
    assert_eq!(keys[1].key.as_bytes(), &[2; 32]);
}

#[test]
fn capital_keys_is_read_and_escaped_slashes_too() {
    let text = STANDARD.encode([0xFF; 32]).replace('/', "\\/");
    let body = format!(r#"{{"Keys":[{{"key_ID":"k1","key":"{text}"}}]}}"#);
    assert_eq!(new_keys(body.as_bytes(), 1).unwrap()[0].key.as_bytes(), &[0xFF; 32]);
}

#[test]
fn another_number_of_keys_is_refused() {
    let body = container(&[("k1", &[1; 32])]);
    assert!(reason(new_keys(&body, 2).unwrap_err()).contains("2 keys were asked for, 1 came"));
    assert!(reason(new_keys(br#"{"keys":[]}"#, 1).unwrap_err()).contains("0 came"));
}

#[test]
fn short_zero_and_repeated_keys_are_refused() {
    let short = reason(new_keys(&container(&[("k1", &[1; 16])]), 1).unwrap_err());
    assert!(short.contains("k1") && short.contains("not 256 bits"), "{short}");
    assert!(reason(new_keys(&container(&[("k1", &[0; 32])]), 1).unwrap_err()).contains("all zeros"));
    let same_id = container(&[("k1", &[1; 32]), ("K1", &[2; 32])]);
    assert!(reason(new_keys(&same_id, 2).unwrap_err()).contains("came twice"));
    let same_key = container(&[("k1", &[1; 32]), ("k2", &[1; 32])]);
    assert!(reason(new_keys(&same_key, 2).unwrap_err()).contains("the same as another's"));
}

#[test]
fn named_keys_come_in_the_order_asked() {
    let body = container(&[("k1", &[1; 32]), ("K2", &[2; 32])]);
    let keys = named_keys(&body, &[id("k2"), id("k1")]).unwrap();
    assert_eq!(keys.iter().map(|key| key.key.as_bytes()[0]).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_key_of_another_id_is_refused() {
    let error = named_keys(&container(&[("k9", &[1; 32])]), &[id("k1")]).unwrap_err();
    assert!(reason(error).contains("k1"));
}

#[test]
fn parse_errors_quote_nothing_of_the_answer() {
    let text = STANDARD.encode([0xA5; 32]);
    for body in [
        format!(r#"{{"keys":"{text}"}}"#),
        format!(r#"{{"keys":[{{"key_ID":1,"key":"{text}"}}]}}"#),
        text.clone(),
    ] {
        let error = new_keys(body.as_bytes(), 1).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&text[..8]), "{error}");
    }
}

#[test]
fn error_bodies_of_any_kind_become_one_line() {
    assert_eq!(message(br#"{"message":"size shall\nbe a multiple of 8"}"#), "size shall be a multiple of 8");
    assert_eq!(message(b"<html>\r\n<p>Bad</p>"), "<html> <p>Bad</p>");
    assert_eq!(message(b""), "no message");
    assert_eq!(message(b"\xff\x1b[31m"), "\u{fffd} [31m");
    assert!(message("x ".repeat(500).as_bytes()).len() < 200);
    let quoted = format!(r#"{{"message":"bad key {}"}}"#, STANDARD.encode([0xA5; 32]));
    assert_eq!(message(quoted.as_bytes()), "bad key [...]");
    let uuid = "no key 60318feb-0143-4b15-8000-aabbccddeeff";
    assert_eq!(message(uuid.as_bytes()), uuid);
}

#[test]
fn refusals_are_told_apart() {
    let fixed = r#"{"message":"one or more keys specified are not found on KME"}"#;
    assert!(matches!(dec_keys_refusal(&answer(400, fixed)), SourceError::NotFound { .. }));
    assert!(matches!(dec_keys_refusal(&answer(404, "<html>")), SourceError::NotFound { .. }));
    assert!(matches!(dec_keys_refusal(&answer(400, "{}")), SourceError::Refused { status: 400, .. }));
    assert!(matches!(dec_keys_refusal(&answer(401, "")), SourceError::Unauthorised { .. }));
    for status in [409, 429, 503, 504] {
        assert!(enc_keys_refusal(&answer(status, "")).is_transient(), "{status}");
    }
    assert!(!enc_keys_refusal(&answer(400, "")).is_transient());
    assert!(dec_keys_refusal(&answer(500, "")).is_transient());
}

#[test]
fn status_needs_its_fields_but_not_multicast() {
    let body = r#"{"source_KME_ID":"A","target_KME_ID":"B","master_SAE_ID":"a","slave_SAE_ID":"b","key_size":352,
        "stored_key_count":25000,"max_key_count":100000,"max_key_per_request":128,"max_key_size":1024,"min_key_size":64}"#;
    let status = status(body.as_bytes()).unwrap();
    assert_eq!(
        (status.key_size_bits, status.stored_key_count, status.max_key_per_request),
        (352, 25000, 128)
    );
    assert!(check_key_size(&status, 256).is_ok());
    assert!(reason(check_key_size(&status, 2048).unwrap_err()).contains("64 to 1024 bits"));
    assert!(reason(super::status(b"{}").unwrap_err()).contains("missing"));
}
