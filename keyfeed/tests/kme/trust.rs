use std::fs;
use std::net::SocketAddr;

use qhaul_keyfeed::{Etsi014, Etsi014Config, KeySource, SourceError, TlsVersion};

use crate::pki::Pki;
use crate::sites::Network;
use crate::sites::Site::{A, B};
use crate::wire::{canned_kme_of, exchange};

const STATUS: &str = "GET /api/v1/keys/sae-b/status HTTP/1.1\r\nHost: kme\r\nConnection: close\r\n\r\n";

#[test]
fn an_sae_that_the_kme_does_not_know_is_unauthorised() {
    let (network, _running) = Network::up("");
    let stranger = network.pki.issue("sae-x");
    let api = SocketAddr::new(network.host(A), 8443);
    let raw = exchange(&network.pki, api, &stranger, rustls::ALL_VERSIONS, STATUS).unwrap();
    assert_eq!((raw.status, raw.body.as_str()), (401, ""));
    let mut client = network.client_as(A, stranger);
    assert_eq!(client.status(), Err(SourceError::Unauthorised { request: "status" }));
    let error = client.new_keys(1).unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("register the SAE ID"), "{error}");
}

#[test]
fn the_peers_sae_is_not_ours() {
    let (network, _running) = Network::up("");
    let error = network.client_as(A, network.identity("sae-b")).status().unwrap_err();
    assert!(matches!(error, SourceError::Unauthorised { .. }));
}

#[test]
fn an_sae_id_in_the_common_name_serves_when_there_is_no_san() {
    let (network, _running) = Network::up("");
    assert!(network.client_as(A, network.pki.issue_without_san("sae-a")).status().is_ok());
}

#[test]
fn a_kme_of_another_ca_is_not_trusted() {
    let (network, _running) = Network::up("");
    let other = Pki::new();
    let config = Etsi014Config { ca: other.ca(), ..network.client_config(A) };
    let error = Etsi014::new(config).unwrap().status().unwrap_err();
    assert!(matches!(&error, SourceError::Untrusted { ca, .. } if *ca == other.ca()), "{error}");
    assert!(!error.is_transient());
}

#[test]
fn our_certificate_of_another_ca_is_refused_and_said_so_every_time() {
    let (network, _running) = Network::up("");
    let other = Pki::new();
    let mut client = network.client_as(A, other.issue("sae-a"));
    for _ in 0..10 {
        let error = client.status().unwrap_err();
        assert!(matches!(error, SourceError::CertificateRefused { .. }), "{error}");
        assert!(error.to_string().contains("sae-a.pem"), "{error}");
    }
}

#[test]
fn a_kme_of_another_name_is_refused() {
    let (network, _running) = Network::up("");
    let config = Etsi014Config { kme_name: Some("KME-B".into()), ..network.client_config(A) };
    let error = Etsi014::new(config).unwrap().new_keys(1).unwrap_err();
    assert!(matches!(&error, SourceError::WrongName { expected, .. } if expected == "KME-B"), "{error}");
    assert!(error.to_string().contains("KME-A"), "names what was presented: {error}");
    let config = Etsi014Config { kme_name: None, ..network.client_config(A) };
    let error = Etsi014::new(config).unwrap().status().unwrap_err();
    assert!(
        matches!(error, SourceError::WrongName { .. }),
        "the URL's host is no name of the certificate: {error}"
    );
}

#[test]
fn the_link_takes_keys_from_the_peer_kme_alone() {
    let (network, _running) = Network::up("");
    let link = SocketAddr::new(network.host(A), 9443);
    let body = r#"{"keys":[]}"#;
    let request = format!(
        "POST /link/v1/keys HTTP/1.1\r\nHost: kme\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let push_as = |name: &str| {
        exchange(&network.pki, link, &network.identity(name), rustls::ALL_VERSIONS, &request).unwrap().status
    };
    assert_eq!((push_as("sae-a"), push_as("KME-A"), push_as("KME-B")), (401, 401, 204));
}

#[test]
fn tls_1_2_is_for_those_who_ask_for_it() {
    let old = [&rustls::version::TLS12];
    let network = Network::new("");
    let strict = network.start(A);
    let api = SocketAddr::new(network.host(A), 8443);
    assert!(exchange(&network.pki, api, &network.identity("sae-a"), &old, STATUS).is_err());
    drop(strict);
    let network = network.with_kme(r#"tls = "1.2""#);
    let _lenient = network.start(A);
    assert_eq!(exchange(&network.pki, api, &network.identity("sae-a"), &old, STATUS).unwrap().status, 200);
    assert!(network.client(A).status().is_ok());
}

#[test]
fn a_kme_of_tls_1_2_is_served_if_that_is_allowed() {
    let network = Network::new("");
    let body = r#"{"source_KME_ID":"A","target_KME_ID":"B","master_SAE_ID":"a","slave_SAE_ID":"b","key_size":256,
        "stored_key_count":1,"max_key_count":2,"max_key_per_request":3,"max_key_size":256,"min_key_size":256}"#;
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let address = SocketAddr::new(network.host(A), 8443);
    canned_kme_of(&[&rustls::version::TLS12], &network.identity("KME-A"), address, Some(answer));
    let error = network.client(A).status().unwrap_err();
    assert!(error.to_string().contains("1.2 where that is allowed"), "{error}");
    let mut old = Etsi014::with_lowest_tls(network.client_config(A), TlsVersion::V1_2).unwrap();
    assert_eq!(old.status().unwrap().max_key_per_request, 3);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let network = Network::new("");
    let folder = network.pki.folder();
    let (missing, empty) = (folder.join("missing.pem"), folder.join("empty.pem"));
    fs::write(&empty, "").unwrap();
    let good = || network.client_config(A);
    let cases = [
        Etsi014Config { ca: missing.clone(), ..good() },
        Etsi014Config { ca: empty.clone(), ..good() },
        Etsi014Config { cert: missing.clone(), ..good() },
        Etsi014Config { key: missing, ..good() },
        Etsi014Config { key: empty, ..good() },
        Etsi014Config { key: network.client_config(B).key, ..good() },
        Etsi014Config { url: "http://kme:8443".into(), ..good() },
        Etsi014Config { url: "kme".into(), ..good() },
        Etsi014Config { kme_name: Some("KME A".into()), ..good() },
    ];
    let named = [
        "missing.pem",
        "empty.pem",
        "missing.pem",
        "missing.pem",
        "empty.pem",
        "sae-b.key",
        "https://",
        "https://",
        "KME A",
    ];
    for (config, name) in cases.into_iter().zip(named) {
        let Err(error) = Etsi014::new(config) else { panic!("accepted although {name} is wrong") };
        let line = error.to_string();
        assert!(line.contains(name) && !line.contains('\n') && !error.is_transient(), "{line}");
    }
}
