use super::*;
use crate::kme::answer::{Body, Reply};

fn get(query: &str) -> RawRequest {
    RawRequest {
        method: Method::GET,
        path: String::new(),
        query: query.into(),
        content_type: String::new(),
        body: Vec::new(),
    }
}

fn post(body: &str) -> RawRequest {
    RawRequest { method: Method::POST, content_type: "application/json".into(), body: body.into(), ..get("") }
}

fn message(error: ApiError) -> String {
    match error {
        ApiError::BadRequest { message, .. } => message,
        ApiError::Fixed(message) => message.into(),
        other => panic!("not 400: {other:?}"),
    }
}

fn rules(quirks: &[Quirk]) -> Rules {
    let extensions = BTreeMap::from([("abc_transfer_method".to_owned(), vec![Value::from("qkd")])]);
    Rules {
        limits: KeysConfig { max_sae_ids: 2, ..KeysConfig::default() },
        quirks: Quirks::new(quirks),
        extensions,
    }
}

fn keys(request: &RawRequest) -> Result<NewKeys, ApiError> {
    rules(&[]).new_keys(request)
}

fn key_ids(request: &RawRequest) -> Result<Vec<KeyId>, ApiError> {
    rules(&[]).key_ids(request)
}

fn plain(number: u64, size: u32) -> NewKeys {
    NewKeys { number, size, additional: Vec::new() }
}

#[test]
fn defaults_are_one_key_of_the_default_size() {
    assert_eq!(keys(&get("")), Ok(plain(1, 256)));
    assert_eq!(keys(&post("{}")), Ok(plain(1, 256)));
}

#[test]
fn the_standards_examples_are_read() {
    assert_eq!(keys(&get("number=3&size=1024")), Ok(plain(3, 1024)));
    let body = r#"{"number":20,"size":512,"extension_optional":[{"abc_route_type":"direct"},{"abc_max_age":30000}]}"#;
    assert_eq!(keys(&post(body)), Ok(plain(20, 512)));
    let ids = r#"{"key_IDs":[{"key_ID":"bc490419-7d60-487f-adc1-4ddcc177c139"},
        {"key_ID":"0a782fb5-3434-48fe-aa4d-14f41d46cf92","key_ID_extension":{}}]}"#;
    assert_eq!(key_ids(&post(ids)).unwrap().len(), 2);
}

#[test]
fn fixed_messages_are_the_standards() {
    assert_eq!(message(keys(&get("size=257")).unwrap_err()), "size shall be a multiple of 8");
    assert_eq!(message(keys(&post(r#"{"size":2047}"#)).unwrap_err()), "size shall be a multiple of 8");
    let mandatory = post(r#"{"extension_mandatory":[{"abc_route_type":"direct"}]}"#);
    assert_eq!(
        message(keys(&mandatory).unwrap_err()),
        "not all extension_mandatory parameters are supported"
    );
    let unmet = post(r#"{"extension_mandatory":[{"abc_transfer_method":"pigeon"}]}"#);
    assert_eq!(
        message(keys(&unmet).unwrap_err()),
        "not all extension_mandatory request options could be met"
    );
    assert!(keys(&post(r#"{"extension_mandatory":[{"abc_transfer_method":"qkd"}]}"#)).is_ok());
}

#[test]
fn what_is_out_of_the_limits_is_refused() {
    for query in ["size=32", "size=2048", "size=-8", "size=x", "number=0", "number=129", "number=1&number=1"]
    {
        message(keys(&get(query)).unwrap_err());
    }
    for body in ["", "[]", "{", r#"{"number":"1"}"#, r#"{"number":0}"#, r#"{"bits":256}"#, r#"{"size":1e3}"#]
    {
        message(keys(&post(body)).unwrap_err());
    }
    for list in [r#"["b","c","d"]"#, r#"["b","b"]"#, r#"["two words"]"#, r#""b""#] {
        message(keys(&post(&format!(r#"{{"additional_slave_SAE_IDs":{list}}}"#))).unwrap_err());
    }
    let two = keys(&post(r#"{"additional_slave_SAE_IDs":["c","d"]}"#)).unwrap();
    assert_eq!(two.additional, [SaeId::new("c").unwrap(), SaeId::new("d").unwrap()]);
}

#[test]
fn get_is_for_simple_requests_only() {
    assert!(message(keys(&get("extension_optional=x")).unwrap_err()).contains("use POST"));
    assert!(message(key_ids(&get("key_ID=a&key_ID=b")).unwrap_err()).contains("use POST"));
    assert_eq!(key_ids(&get("key_ID=a-b")).unwrap(), [KeyId::new("a-b").unwrap()]);
    assert!(key_ids(&get("key_ID=")).is_err());
}

#[test]
fn key_ids_are_objects_and_distinct() {
    for body in
        [r#"{"key_IDs":["a"]}"#, r#"{"key_IDs":[]}"#, r#"{"key_IDs":[{"key_ID":"a"},{"key_ID":"A"}]}"#]
    {
        message(key_ids(&post(body)).unwrap_err());
    }
}

#[test]
fn verbs_and_content_types_are_checked() {
    let delete = RawRequest { method: Method::DELETE, ..get("") };
    assert_eq!(keys(&delete), Err(ApiError::WrongVerb { allow: "GET, POST" }));
    let form = RawRequest { content_type: "application/x-www-form-urlencoded".into(), ..post("{}") };
    assert!(message(keys(&form).unwrap_err()).contains("Content-Type"));
    let charset = RawRequest { content_type: "Application/JSON; charset=utf-8".into(), ..post("{}") };
    assert!(keys(&charset).is_ok());
    assert!(keys(&RawRequest { query: "size=256".into(), ..post("{}") }).is_err());
}

#[test]
fn a_401_has_no_body_and_a_400_names_the_field() {
    assert!(matches!(Reply::from(ApiError::Unauthorised).body, Body::None));
    let reply = Reply::from(ApiError::bad_field("size", "wrong"));
    let Body::Json(body) = reply.body else { panic!("no JSON") };
    assert_eq!(body, br#"{"message":"wrong","details":[{"parameter":"size"}]}"#);
}

#[test]
fn quirks_bend_the_rules_that_they_name() {
    let bare = post(r#"{"key_IDs":["a",{"key_ID":"b"}]}"#);
    assert_eq!(rules(&[Quirk::BareKeyIds]).key_ids(&bare).unwrap().len(), 2);
    assert_eq!(rules(&[Quirk::SizeIgnored]).new_keys(&get("size=512")), Ok(plain(1, 256)));
    assert_eq!(rules(&[Quirk::SizeInBytes]).new_keys(&get("size=32")), Ok(plain(1, 256)));
    assert_eq!(rules(&[Quirk::NumberIgnored]).new_keys(&get("number=7")), Ok(plain(1, 256)));
    let lenient = rules(&[Quirk::LenientRequests]);
    assert_eq!(lenient.new_keys(&post("{{")), Ok(plain(1, 256)));
    assert_eq!(lenient.new_keys(&get("number=0")), Ok(plain(0, 256)));
    assert!(lenient.new_keys(&post(r#"{"extension_mandatory":[{"x_y":1}]}"#)).is_ok());
}

#[test]
fn sizes_are_the_multiples_of_8_within_the_limits() {
    for size in 0..=1100u32 {
        let result = keys(&get(&format!("size={size}")));
        match (size % 8, (64..=1024).contains(&size)) {
            (0, true) => assert_eq!(result, Ok(plain(1, size))),
            (0, false) => assert_eq!(message(result.unwrap_err()), "size shall be 64 to 1024 bits"),
            _ => assert_eq!(message(result.unwrap_err()), "size shall be a multiple of 8"),
        }
    }
}
