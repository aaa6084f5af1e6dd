use std::net::SocketAddr;

use qhaul_keyfeed::{DeliveredKey, KeyId, KeySource, Skip, SkipConfig, SourceError};

use crate::sites::Network;
use crate::sites::Site::{self, A, B};
use crate::wire::{Raw, exchange};

fn network(keys: &str) -> Network {
    Network::new(keys).with_sections("[skip]\nlisten = \"HOST:8080\"")
}

fn config(network: &Network, site: Site, remote_system: &str) -> SkipConfig {
    let etsi = network.client_config(site);
    SkipConfig {
        url: format!("https://{}:8080", network.host(site)),
        ca: etsi.ca,
        cert: etsi.cert,
        key: etsi.key,
        kp_name: etsi.kme_name,
        remote_system: remote_system.into(),
        timeout: etsi.timeout,
    }
}

fn clients(network: &Network) -> [Skip; 2] {
    [(A, "KME-B"), (B, "KME-A")].map(|(site, peer)| Skip::new(config(network, site, peer)).unwrap())
}

fn ask(network: &Network, site: Site, verb: &str, path: &str) -> Raw {
    let request = format!("{verb} {path} HTTP/1.1\r\nHost: kp\r\nConnection: close\r\n\r\n");
    let address = SocketAddr::new(network.host(site), 8080);
    let who = network.identity(["sae-a", "sae-b"][site as usize]);
    exchange(&network.pki, address, &who, rustls::ALL_VERSIONS, &request).unwrap()
}

fn ids(keys: &[DeliveredKey]) -> Vec<KeyId> {
    keys.iter().map(|key| key.id.clone()).collect()
}

#[test]
fn keys_are_the_same_at_both_sites_and_are_given_once() {
    let network = network("rate = 0.0");
    let _running = [network.start(A), network.start(B)];
    let [mut a, mut b] = clients(&network);
    assert_eq!((a.kind(), a.status().unwrap().source_kme_id.as_str()), ("skip", "KME-A"));
    let keys = a.new_keys(5).unwrap();
    assert!(keys.iter().all(|key| key.id.as_str().len() == 32), "128 bits of hex");
    let fetched = b.keys_by_id(&ids(&keys)).unwrap();
    assert_eq!(ids(&fetched), ids(&keys));
    assert!(keys.iter().zip(&fetched).all(|(a, b)| a.key.as_bytes() == b.key.as_bytes()));
    assert!(matches!(b.keys_by_id(&ids(&keys)), Err(SourceError::NotFound { .. })), "zeroised");
    let back = b.new_keys(1).unwrap();
    assert_eq!(a.keys_by_id(&ids(&back)).unwrap()[0].key.as_bytes(), back[0].key.as_bytes());
}

#[test]
fn a_key_of_skip_can_be_fetched_by_etsi_014() {
    let network = network("");
    let _running = [network.start(A), network.start(B)];
    let key = clients(&network)[0].new_keys(1).unwrap().remove(0);
    let uuid = uuid::Uuid::try_parse(key.id.as_str()).unwrap().to_string();
    let fetched = network.client(B).keys_by_id(&[KeyId::new(uuid).unwrap()]).unwrap();
    assert_eq!(fetched[0].key.as_bytes(), key.key.as_bytes());
}

#[test]
fn an_empty_store_and_a_peer_that_is_down_are_transient() {
    let network = network("rate = 0.0\nstore = 2");
    let _a = network.start(A);
    let [mut a, _] = clients(&network);
    assert!(matches!(a.new_keys(1), Err(SourceError::Empty { message }) if message.contains("KME-B")));
    let _b = network.start(B);
    assert_eq!(a.new_keys(9).unwrap().len(), 2, "what there is");
    assert!(matches!(a.new_keys(1), Err(SourceError::Empty { .. })));
}

#[test]
fn a_wrong_peer_is_named_with_the_right_one() {
    let network = network("");
    let _a = network.start(A);
    let error = Skip::new(config(&network, A, "KP-Z")).unwrap().new_keys(1).unwrap_err();
    assert!(error.to_string().contains("KP-Z") && error.to_string().contains("KME-B"), "{error}");
    let Err(glob) = Skip::new(config(&network, A, "KP_*")) else { panic!("a glob is no name") };
    assert!(glob.to_string().contains("remote_system"), "{glob}");
}

#[test]
fn the_protocol_by_the_letter_of_the_draft() {
    let network = network("");
    let _running = [network.start(A), network.start(B)];
    let get = |path: &str| ask(&network, A, "GET", path);
    let capabilities = get("/capabilities").json();
    assert_eq!((&capabilities["key"], &capabilities["entropy"]), (&true.into(), &true.into()));
    assert_eq!(capabilities["remoteSystemID"], serde_json::json!(["KME-B"]));
    let key = get("/key?remoteSystemID=KME-B").json();
    assert_eq!((key["keyId"].as_str().unwrap().len(), key["key"].as_str().unwrap().len()), (32, 64));
    let short = get("/key?remoteSystemID=KME-B&size=128").json();
    assert_eq!(short["key"].as_str().unwrap().len(), 32);
    let upper = key["keyId"].as_str().unwrap().to_uppercase();
    let fetch = format!("/key/{upper}?remoteSystemID=KME-A");
    assert_eq!(ask(&network, B, "GET", &fetch).json()["key"], key["key"]);
    assert_eq!(ask(&network, B, "GET", &fetch).status, 400, "a second fetch");
    let entropy = get("/entropy?minentropy=130").json();
    assert_eq!((entropy["randomStr"].as_str().unwrap().len(), &entropy["minentropy"]), (34, &130.into()));
    assert_eq!(get("/entropy").json()["randomStr"].as_str().unwrap().len(), 64);
}

#[test]
fn what_the_draft_does_not_have_is_refused() {
    let network = network("");
    let _a = network.start(A);
    let cases = [
        ("GET", "/", 404),
        ("GET", "/keys", 404),
        ("POST", "/key", 405),
        ("GET", "/key", 400),
        ("GET", "/key?remoteSystemID=KP-Z", 400),
        ("GET", "/key?remoteSystemID=KME-B&size=257", 400),
        ("GET", "/key?remoteSystemID=KME-B&size=many", 400),
        ("GET", "/key?remoteSystemID=KME-B&bits=256", 400),
        ("GET", "/key/SKIP-1?remoteSystemID=KME-B", 400),
        ("GET", "/entropy?minentropy=0", 400),
    ];
    for (verb, path, status) in cases {
        assert_eq!(ask(&network, A, verb, path).status, status, "{verb} {path}");
    }
}
