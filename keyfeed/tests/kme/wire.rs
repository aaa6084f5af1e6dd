use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use crate::pki::{Identity, Pki};
use crate::sites::{Network, PATIENCE, Site};

/// An answer as it came.
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Raw {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// Asserts an Error of clause 6.5 with this message.
    pub(crate) fn assert_error(&self, status: u16, message: &str) {
        assert_eq!((self.status, self.json()["message"].as_str()), (status, Some(message)), "{}", self.body);
        assert!(self.head.to_ascii_lowercase().contains("content-type: application/json"), "{}", self.head);
    }
}

impl Network {
    pub(crate) fn identity(&self, name: &str) -> Identity {
        let path = |ending: &str| self.pki.folder().join(format!("{name}.{ending}"));
        Identity { cert: path("pem"), key: path("key") }
    }

    /// GET at a site's API as its SAE.
    pub(crate) fn get(&self, site: Site, path: &str) -> Raw {
        self.send(site, &format!("GET {path} HTTP/1.1\r\nHost: kme\r\nConnection: close\r\n\r\n"))
    }

    /// POST of JSON at a site's API as its SAE.
    pub(crate) fn post(&self, site: Site, path: &str, json: &str) -> Raw {
        self.send(
            site,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: kme\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{json}",
                json.len()
            ),
        )
    }

    /// GET at a site's API as the SAE of that name.
    pub(crate) fn get_as(&self, sae: &str, site: Site, path: &str) -> Raw {
        let address = SocketAddr::new(self.host(site), 8443);
        let request = format!("GET {path} HTTP/1.1\r\nHost: kme\r\nConnection: close\r\n\r\n");
        exchange(&self.pki, address, &self.identity(sae), rustls::ALL_VERSIONS, &request).unwrap()
    }

    fn send(&self, site: Site, request: &str) -> Raw {
        let address = SocketAddr::new(self.host(site), 8443);
        exchange(&self.pki, address, &self.identity(site.sae()), rustls::ALL_VERSIONS, request).unwrap()
    }
}

/// Sends `request` as `identity` and reads until the server closes.
pub(crate) fn exchange(
    pki: &Pki,
    address: SocketAddr,
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
    request: &str,
) -> std::io::Result<Raw> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.ca()).unwrap()).unwrap();
    let (chain, key) = load(identity);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    // These names are in use among the tests' servers; which one it is does not matter here.
    let mut last = None;
    for name in ["KME-A", "KME-B", "AAAABBBBCCCCDDDD"] {
        let tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let tls =
            ClientConnection::new(Arc::new(config.clone()), ServerName::try_from(name).unwrap()).unwrap();
        let mut stream = StreamOwned::new(tls, tcp);
        match stream.write_all(request.as_bytes()).and_then(|()| read_answer(&mut stream)) {
            Err(e) if e.to_string().contains("not valid for name") => last = Some(e),
            other => return other,
        }
    }
    Err(last.unwrap())
}

/// A server with the KME's certificate that reads one request per connection and answers `answer`, or never if `None`.
pub(crate) fn canned_kme(identity: &Identity, address: SocketAddr, answer: Option<String>) {
    canned_kme_of(rustls::ALL_VERSIONS, identity, address, answer);
}

/// The same with other TLS versions.
pub(crate) fn canned_kme_of(
    versions: &[&'static SupportedProtocolVersion],
    identity: &Identity,
    address: SocketAddr,
    answer: Option<String>,
) {
    let (chain, key) = load(identity);
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind(address).unwrap());
    thread::spawn(move || {
        for tcp in listener.incoming().take(100) {
            let (tcp, answer) = (tcp.unwrap(), answer.clone());
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            thread::spawn(move || {
                let mut request = [0; 8192];
                let Ok(_) = stream.read(&mut request) else { return };
                match answer {
                    Some(answer) => stream.write_all(answer.as_bytes()).unwrap_or_default(),
                    // Holds the connection open until the client gives up.
                    None => while stream.read(&mut request).is_ok_and(|read| read > 0) {},
                }
            });
        }
    });
}

fn load(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from_pem_file(&identity.cert).unwrap()];
    (chain, PrivateKeyDer::from_pem_file(&identity.key).unwrap())
}

fn read_answer(stream: &mut impl Read) -> std::io::Result<Raw> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A server need not say goodbye in TLS after a complete answer.
        Err(e) if e.kind() != ErrorKind::UnexpectedEof => return Err(e),
        _ => {}
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
    Ok(Raw { status, head: head.to_owned(), body: body.to_owned() })
}
