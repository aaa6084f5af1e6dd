use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::TlsVersion;
use crate::source::SourceError;

/// The three PEM files of one side of mutual TLS.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// CAs that we trust to name the other side.
    pub(crate) ca: PathBuf,
    /// Our certificate, with its chain if any.
    pub(crate) cert: PathBuf,
    /// Our private key.
    pub(crate) key: PathBuf,
}

/// The crypto engine of all TLS in this crate; prefers X25519MLKEM768.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl TlsFiles {
    /// A client that shows our certificate and trusts `ca` alone.
    pub(crate) fn client_config(&self, lowest: TlsVersion) -> Result<ClientConfig, SourceError> {
        let (chain, key) = self.identity()?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(lowest.and_higher())
            .map_err(|e| self.unusable(&e))?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)
            .map_err(|e| self.unusable(&e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// A server that demands a client certificate signed by `ca`.
    pub(crate) fn server_config(&self, lowest: TlsVersion) -> Result<ServerConfig, SourceError> {
        let (chain, key) = self.identity()?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider())
            .build()
            .map_err(|e| self.file(CA, &self.ca, e.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(lowest.and_higher())
            .map_err(|e| self.unusable(&e))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|e| self.unusable(&e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, SourceError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(CA, &self.ca)? {
            roots.add(certificate).map_err(|e| self.file(CA, &self.ca, e.to_string()))?;
        }
        Ok(roots)
    }

    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SourceError> {
        let chain = self.certificates(CERTIFICATE, &self.cert)?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|e| self.file(KEY, &self.key, reason(&e)))?;
        Ok((chain, key))
    }

    fn certificates(&self, what: What, path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
        let read = |e| self.file(what, path, reason(&e));
        let found = CertificateDer::pem_file_iter(path)
            .map_err(read)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(read)?;
        if found.is_empty() {
            return Err(self.file(what, path, "it holds no PEM certificate".into()));
        }
        Ok(found)
    }

    /// rustls refuses certificate and key together: mostly they do not belong to each other.
    fn unusable(&self, error: &rustls::Error) -> SourceError {
        self.file(CERTIFICATE, &self.cert, format!("unusable with the key {} ({error})", self.key.display()))
    }

    fn file(&self, (what, remedy): What, path: &Path, reason: String) -> SourceError {
        SourceError::File { what, path: path.to_owned(), reason, remedy }
    }
}

type What = (&'static str, &'static str);
const CA: What = ("CA file", "`ca` must name a PEM file with the CA that signs the other side's certificate");
const CERTIFICATE: What =
    ("certificate file", "`cert` must name a PEM file with our certificate, and `key` its key");
const KEY: What = ("private key file", "`key` must name a PEM file with the private key of our certificate");

fn reason(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(io) => io.to_string(),
        Error::NoItemsFound => "it holds no PEM section of that kind".into(),
        // The library's Debug text of a broken section may show bytes of the file.
        _ => "it is not valid PEM".into(),
    }
}
