use super::*;
use crate::kme::answer::Reply;

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
        other => panic!("not 400: {other:?}"),
    }
}

fn keys(request: &RawRequest) -> Result<NewKeys, ApiError> {
    new_keys(request, &KeysConfig::default())
}

#[test]
fn defaults_are_one_key_of_the_default_size() {
    let one = NewKeys { number: 1, size: 256 };
    assert_eq!(keys(&get("")), Ok(NewKeys { number: 1, size: 256 }));
    assert_eq!(keys(&post("{}")), Ok(one));
}

#[test]
fn the_standards_examples_are_read() {
    assert_eq!(keys(&get("number=3&size=1024")), Ok(NewKeys { number: 3, size: 1024 }));
    let body = r#"{"number":20,"size":512,"extension_optional":[{"abc_route_type":"direct"},{"abc_max_age":30000}]}"#;
    assert_eq!(keys(&post(body)), Ok(NewKeys { number: 20, size: 512 }));
    let ids = r#"{"key_IDs":[{"key_ID":"bc490419-7d60-487f-adc1-4ddcc177c139"},
        {"key_ID":"0a782fb5-3434-48fe-aa4d-14f41d46cf92","key_ID_extension":{}}]}"#;
    assert_eq!(key_ids(&post(ids), &KeysConfig::default()).unwrap().len(), 2);
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
    let multicast = post(r#"{"additional_slave_SAE_IDs":["sae-c"]}"#);
    assert!(message(keys(&multicast).unwrap_err()).contains("max_SAE_ID_count is 0"));
}

#[test]
fn get_is_for_simple_requests_only() {
    assert!(message(keys(&get("extension_optional=x")).unwrap_err()).contains("use POST"));
    let limits = KeysConfig::default();
    assert!(message(key_ids(&get("key_ID=a&key_ID=b"), &limits).unwrap_err()).contains("use POST"));
    assert_eq!(key_ids(&get("key_ID=a-b"), &limits).unwrap(), [KeyId::new("a-b").unwrap()]);
    assert!(key_ids(&get("key_ID="), &limits).is_err());
}

#[test]
fn key_ids_are_objects_and_distinct() {
    let limits = KeysConfig::default();
    for body in
        [r#"{"key_IDs":["a"]}"#, r#"{"key_IDs":[]}"#, r#"{"key_IDs":[{"key_ID":"a"},{"key_ID":"A"}]}"#]
    {
        message(key_ids(&post(body), &limits).unwrap_err());
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
    assert!(Reply::from(ApiError::Unauthorised).body.is_none());
    let reply = Reply::from(ApiError::bad_field("size", "wrong"));
    assert_eq!(reply.body.unwrap(), br#"{"message":"wrong","details":[{"parameter":"size"}]}"#);
}
