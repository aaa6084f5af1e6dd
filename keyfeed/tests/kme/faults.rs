use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qhaul_keyfeed::{Etsi014, Etsi014Config, KeySource, SourceError};

use crate::sites::Network;
use crate::sites::Site::{A, B};
use crate::wire::canned_kme;

fn impatient(network: &Network) -> Etsi014 {
    Etsi014::new(Etsi014Config { timeout: Duration::from_millis(300), ..network.client_config(A) }).unwrap()
}

/// A client of a server that answers every request with `status` and `body`.
fn client_of(status: &str, body: &str) -> Etsi014 {
    let network = Network::new("");
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    canned_kme(&network.identity("KME-A"), SocketAddr::new(network.host(A), 8443), Some(answer));
    network.client(A)
}

#[test]
fn a_kme_that_is_away_is_unreachable() {
    let network = Network::new("");
    let error = network.client(A).status().unwrap_err();
    let address = format!("{}:8443", network.host(A));
    assert!(
        matches!(&error, SourceError::Unreachable { address: named, .. } if *named == address),
        "{error}"
    );
    assert!(error.is_transient() && error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_kme_that_accepts_and_says_nothing_times_out() {
    let network = Network::new("");
    let _listener = TcpListener::bind((network.host(A), 8443)).unwrap();
    let error = impatient(&network).new_keys(1).unwrap_err();
    assert!(matches!(error, SourceError::Silent { step: "the TLS handshake" | "its answer", .. }), "{error}");
    assert!(error.is_transient());
}

#[test]
fn a_kme_that_hangs_after_tls_times_out() {
    let network = Network::new("");
    canned_kme(&network.identity("KME-A"), SocketAddr::new(network.host(A), 8443), None);
    let mut client = impatient(&network);
    for _ in 0..2 {
        let error = client.status().unwrap_err();
        assert!(matches!(error, SourceError::Silent { step: "its answer", millis: 300, .. }), "{error}");
    }
}

#[test]
fn a_port_that_does_not_speak_tls_is_said_so() {
    let network = Network::new("");
    let listener = TcpListener::bind((network.host(A), 8443)).unwrap();
    std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut tcp, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        std::io::Read::read_to_end(&mut tcp, &mut Vec::new()).unwrap_or_default();
    });
    let error = network.client(A).status().unwrap_err();
    assert!(matches!(&error, SourceError::Tls { .. }) && error.to_string().contains("not TLS"), "{error}");
}

#[test]
fn a_restarted_kme_is_found_again_without_an_error() {
    let (network, [a, _b]) = Network::up("");
    let mut client = network.client(A);
    client.new_keys(1).unwrap();
    drop(a);
    assert!(matches!(client.new_keys(1), Err(SourceError::Unreachable { .. })));
    let a = network.start(A);
    client.new_keys(1).unwrap();
    drop(a);
    let _a = network.start(A);
    client.new_keys(1).unwrap();
}

#[test]
fn a_peer_kme_that_is_down_is_503_and_transient_and_burns_no_key() {
    let network = Network::new("rate = 0.0");
    let _a = network.start(A);
    let raw = network.get(A, "/api/v1/keys/sae-b/enc_keys");
    assert_eq!(raw.status, 503);
    assert!(raw.json()["message"].as_str().unwrap().contains("KME-B"), "{}", raw.body);
    let mut client = network.client(A);
    let error = client.new_keys(4).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("KME-B"), "{error}");
    assert_eq!(client.status().unwrap().stored_key_count, 1000);
    let _b = network.start(B);
    assert_eq!(client.new_keys(4).unwrap().len(), 4);
}

#[test]
fn a_peer_kme_that_hangs_is_503_too() {
    let network = Network::new("");
    let _listener = TcpListener::bind((network.host(B), 9443)).unwrap();
    let _a = network.start(A);
    let error = network.client(A).new_keys(1).unwrap_err();
    assert!(matches!(error, SourceError::Empty { .. }), "{error}");
}

#[test]
fn error_pages_that_are_not_json_are_quoted_in_one_line() {
    let error = client_of("500 Internal Server Error", "<html>\n<h1>Oops</h1>").status().unwrap_err();
    assert!(
        matches!(&error, SourceError::Refused { status: 500, message, .. } if message == "<html> <h1>Oops</h1>")
    );
    assert!(error.is_transient());
}

#[test]
fn an_answer_that_is_not_json_or_too_long_is_a_bad_answer() {
    assert!(matches!(client_of("200 OK", "<html>").status(), Err(SourceError::BadAnswer { .. })));
    let error = client_of("200 OK", &"x".repeat(300_000)).status().unwrap_err();
    assert!(matches!(&error, SourceError::BadAnswer { reason, .. } if reason.contains("longer")), "{error}");
}

#[test]
fn a_server_that_quotes_a_key_in_an_error_does_not_make_us_show_it() {
    let key = STANDARD.encode([0x5A; 32]);
    let error = client_of("400 Bad Request", &format!("cannot give {key}")).status().unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&key[..12]), "{error}");
}
