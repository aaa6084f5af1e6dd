use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qhaul_keyfeed::kme::KmeConfig;

use crate::sites::Site::{A, B};
use crate::sites::{Network, start};

const ENC_KEYS: &str = "/api/v1/keys/sae-b/enc_keys";
const DEC_KEYS: &str = "/api/v1/keys/sae-a/dec_keys";

fn key(json: &serde_json::Value, index: usize) -> (String, Vec<u8>) {
    let item = &json["keys"][index];
    (item["key_ID"].as_str().unwrap().to_owned(), STANDARD.decode(item["key"].as_str().unwrap()).unwrap())
}

#[test]
fn status_has_every_mandatory_field() {
    let (network, _running) = Network::up("rate = 0.0");
    let answer = network.get(A, "/api/v1/keys/sae-b/status");
    assert_eq!(answer.status, 200);
    let expected = serde_json::json!({
        "source_KME_ID": "KME-A", "target_KME_ID": "KME-B", "master_SAE_ID": "sae-a", "slave_SAE_ID": "sae-b",
        "key_size": 256, "stored_key_count": 1000, "max_key_count": 1000, "max_key_per_request": 128,
        "max_key_size": 1024, "min_key_size": 64, "max_SAE_ID_count": 0,
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(network.post(A, "/api/v1/keys/sae-b/status", "{}").status, 405);
}

#[test]
fn the_standards_example_of_a_status_comes_out_word_for_word() {
    let network = Network::new("rate = 0.0\nsize = 352\nstore = 100000\ninitial = 25000");
    let names = [
        ("KME-A", "AAAABBBBCCCCDDDD"),
        ("KME-B", "EEEEFFFFGGGGHHHH"),
        ("sae-a", "IIIIJJJJKKKKLLLL"),
        ("sae-b", "MMMMNNNNOOOOPPPP"),
    ];
    let path = network.config_file(A);
    let mut text = fs::read_to_string(&path).unwrap();
    for (ours, standard) in names {
        network.pki.issue(standard);
        text = text.replace(ours, standard);
    }
    fs::write(&path, text).unwrap();
    let _running = start(KmeConfig::load(&path).unwrap());
    let answer = network.get_as("IIIIJJJJKKKKLLLL", A, "/api/v1/keys/MMMMNNNNOOOOPPPP/status");
    let expected = r#"{"source_KME_ID":"AAAABBBBCCCCDDDD","target_KME_ID":"EEEEFFFFGGGGHHHH",
        "master_SAE_ID":"IIIIJJJJKKKKLLLL","slave_SAE_ID":"MMMMNNNNOOOOPPPP","key_size":352,
        "stored_key_count":25000,"max_key_count":100000,"max_key_per_request":128,
        "max_key_size":1024,"min_key_size":64,"max_SAE_ID_count":0}"#;
    assert_eq!(answer.body, expected.split_whitespace().collect::<String>());
}

#[test]
fn get_key_by_get_and_by_post() {
    let (network, _running) = Network::up("");
    let one = network.get(A, ENC_KEYS);
    assert_eq!((one.status, key(&one.json(), 0).1.len()), (200, 32));
    let three = network.get(A, &format!("{ENC_KEYS}?number=3&size=1024")).json();
    assert_eq!((three["keys"].as_array().unwrap().len(), key(&three, 2).1.len()), (3, 128));
    let twenty = network.post(A, ENC_KEYS, r#"{"number":20,"size":512}"#).json();
    assert_eq!((twenty["keys"].as_array().unwrap().len(), key(&twenty, 19).1.len()), (20, 64));
    assert_eq!(key(&network.post(A, ENC_KEYS, "{}").json(), 0).0.len(), 36);
}

#[test]
fn get_key_with_key_ids_by_get_and_by_post() {
    let (network, _running) = Network::up("");
    let keys = network.get(A, &format!("{ENC_KEYS}?number=3")).json();
    let ids: Vec<String> = (0..3).map(|index| key(&keys, index).0).collect();
    let first = network.get(B, &format!("{DEC_KEYS}?key_ID={}", ids[0])).json();
    assert_eq!(key(&first, 0), key(&keys, 0));
    let body = serde_json::json!({ "key_IDs": [{ "key_ID": ids[1] }, { "key_ID": ids[2] }] }).to_string();
    let rest = network.post(B, DEC_KEYS, &body);
    assert_eq!((key(&rest.json(), 0), key(&rest.json(), 1)), (key(&keys, 1), key(&keys, 2)));
    network.post(B, DEC_KEYS, &body).assert_error(400, "one or more keys specified are not found on KME");
}

#[test]
fn fixed_messages_come_word_for_word() {
    let (network, _running) = Network::up("");
    let not_found = "one or more keys specified are not found on KME";
    network
        .get(B, &format!("{DEC_KEYS}?key_ID=00000000-0000-4000-8000-000000000000"))
        .assert_error(400, not_found);
    network.get(A, &format!("{ENC_KEYS}?size=257")).assert_error(400, "size shall be a multiple of 8");
    let mandatory = r#"{"extension_mandatory":[{"abc_route_type":"direct"}]}"#;
    network
        .post(A, ENC_KEYS, mandatory)
        .assert_error(400, "not all extension_mandatory parameters are supported");
}

#[test]
fn malformed_requests_are_400_and_burn_no_key() {
    let (network, _running) = Network::up("rate = 0.0");
    for body in ["", "{", "[]", r#"{"number":0}"#, r#"{"number":129}"#, r#"{"size":8}"#, r#"{"unknown":1}"#] {
        let answer = network.post(A, ENC_KEYS, body);
        assert!(answer.status == 400 && answer.json()["message"].is_string(), "{body}: {}", answer.body);
    }
    let extra = network.post(A, ENC_KEYS, r#"{"additional_slave_SAE_IDs":["sae-c"]}"#);
    assert_eq!(
        (extra.status, extra.json()["details"][0]["parameter"].as_str()),
        (400, Some("additional_slave_SAE_IDs"))
    );
    assert_eq!(network.get(A, "/api/v1/keys/sae-z/enc_keys").status, 400);
    assert_eq!(network.get(A, "/api/v1/keys/sae-b/status").json()["stored_key_count"], 1000);
}

#[test]
fn other_paths_and_percent_encoded_sae_ids() {
    let (network, _running) = Network::up("");
    for path in ["/", "/api/v1/keys", "/api/v2/keys/sae-b/status", "/api/v1/keys/sae-b/status/x"] {
        assert_eq!(network.get(A, path).status, 404, "{path}");
    }
    assert_eq!(network.get(A, "/api/v1/keys/s%61e%2Db/status").status, 200);
}

#[test]
fn an_empty_store_is_503_with_an_error() {
    let (network, _running) = Network::up("rate = 0.0\ninitial = 1");
    network.get(A, &format!("{ENC_KEYS}?number=2")).assert_error(503, "not enough keys in the store");
    assert_eq!(network.get(A, ENC_KEYS).status, 200, "what was refused is still there");
    network.get(A, ENC_KEYS).assert_error(503, "not enough keys in the store");
}

#[test]
fn keys_that_nobody_fetches_are_bounded() {
    let (network, _running) = Network::up("max_unfetched = 2");
    let keys = network.get(A, &format!("{ENC_KEYS}?number=2")).json();
    let full = network.get(A, ENC_KEYS);
    assert_eq!(full.status, 503);
    assert!(
        full.json()["message"].as_str().unwrap().contains("KME-B did not take the keys"),
        "{}",
        full.body
    );
    assert_eq!(network.get(B, &format!("{DEC_KEYS}?key_ID={}", key(&keys, 0).0)).status, 200);
    assert_eq!(network.get(A, ENC_KEYS).status, 200);
}

#[test]
fn keys_that_nobody_fetches_expire() {
    let (network, _running) = Network::up("ttl = 1");
    let keys = network.get(A, ENC_KEYS).json();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let not_found = "one or more keys specified are not found on KME";
    network.get(B, &format!("{DEC_KEYS}?key_ID={}", key(&keys, 0).0)).assert_error(400, not_found);
}

#[test]
fn each_named_sae_fetches_a_shared_key_once() {
    let (network, _running) = Network::up("max_sae_ids = 1");
    let shared = network.post(A, ENC_KEYS, r#"{"additional_slave_SAE_IDs":["sae-b2"]}"#).json();
    let path = format!("{DEC_KEYS}?key_ID={}", key(&shared, 0).0);
    let not_found = "one or more keys specified are not found on KME";
    for sae in ["sae-b2", "sae-b"] {
        assert_eq!(key(&network.get_as(sae, B, &path).json(), 0), key(&shared, 0), "{sae}");
        network.get_as(sae, B, &path).assert_error(400, not_found);
    }
    let own = network.get(A, ENC_KEYS).json();
    let refused = network.get_as("sae-b2", B, &format!("{DEC_KEYS}?key_ID={}", key(&own, 0).0));
    assert_eq!((refused.status, refused.body.as_str()), (401, ""), "it was not named");
}

#[test]
fn additional_saes_are_checked() {
    let (network, _running) = Network::up("max_sae_ids = 1");
    for list in [r#"["sae-b2","sae-a2"]"#, r#"["sae-z"]"#, r#"["sae-b"]"#] {
        let answer = network.post(A, ENC_KEYS, &format!(r#"{{"additional_slave_SAE_IDs":{list}}}"#));
        assert!(answer.status == 400 && answer.json()["message"].is_string(), "{list}: {}", answer.body);
    }
    assert_eq!(network.get(A, "/api/v1/keys/sae-b/status").json()["max_SAE_ID_count"], 1);
}

#[test]
fn extensions_are_met_refused_or_ignored() {
    let network = Network::new("").with_sections("[extensions]\nabc_route_type = [\"direct\"]");
    let _running = [network.start(A), network.start(B)];
    let ask = |kind: &str, name: &str, value: &str| {
        network.post(A, ENC_KEYS, &format!(r#"{{"extension_{kind}":[{{"abc_{name}":"{value}"}}]}}"#))
    };
    assert_eq!(ask("mandatory", "route_type", "direct").status, 200);
    ask("mandatory", "route_type", "indirect")
        .assert_error(400, "not all extension_mandatory request options could be met");
    ask("mandatory", "max_age", "1")
        .assert_error(400, "not all extension_mandatory parameters are supported");
    assert_eq!(ask("optional", "max_age", "1").status, 200);
}
