//! Who we are on the link channel, and whom we accept: TLS 1.3, X25519MLKEM768, mutual certificates, pinned peer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version::TLS13};

/// ALPN of the channel, so that no other TLS service is taken for it.
pub(super) const ALPN: &[u8] = b"qhaul/1";

/// What is wrong with the channel's certificates, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or holds nothing of use.
    #[error("{setting} = {path:?}: {cause}")]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Our certificate would not be accepted by a peer that trusts the same CA.
    #[error(
        "channel.cert = {path:?} does not prove \"{name}\" under channel.ca: {cause}; make a new one or fix channel.ca"
    )]
    Own {
        /// The certificate.
        path: PathBuf,
        /// The name it should prove.
        name: String,
        /// What the verifier said.
        cause: String,
    },
    /// A name that no certificate can carry.
    #[error(
        "\"{0}\" cannot stand in a certificate as a DNS name: set channel.peer_name or site.sae to one that can"
    )]
    Name(String),
    /// The TLS library refused.
    #[error("channel.cert and channel.key: {0}; the key must be the certificate's own")]
    Tls(rustls::Error),
}

/// Where the files are and whom to expect.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// CA certificates, PEM.
    pub ca: PathBuf,
    /// Our certificate chain, PEM.
    pub cert: PathBuf,
    /// Our private key, PEM.
    pub key: PathBuf,
    /// The name in our certificate.
    pub name: String,
    /// The name in the peer's certificate.
    pub peer_name: String,
    /// SHA-256 of the peer's certificate (DER), if that is pinned too.
    pub peer_fingerprint: Option<[u8; 32]>,
}

/// Both TLS configurations and the peer's pins.
#[derive(Clone, Debug)]
pub struct ChannelIdentity {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) peer_name: ServerName<'static>,
    peer_fingerprint: Option<[u8; 32]>,
}

impl ChannelIdentity {
    /// Reads and checks the files: what a peer would refuse is refused here, with the remedy.
    pub fn load(files: &IdentityFiles) -> Result<ChannelIdentity, IdentityError> {
        let provider = Arc::new(CryptoProvider {
            kx_groups: vec![provider::kx_group::X25519MLKEM768],
            cipher_suites: vec![provider::cipher_suite::TLS13_AES_256_GCM_SHA384],
            ..provider::default_provider()
        });
        let roots = Arc::new(read_roots(&files.ca)?);
        let chain = read_chain(&files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| file_error("channel.key", &files.key, &error.to_string()))?;
        check_own(files, &roots, &chain, &provider)?;
        let client_verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| file_error("channel.ca", &files.ca, &error.to_string()))?;
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| {
                builder.with_root_certificates(roots).with_client_auth_cert(chain.clone(), key.clone_key())
            })
            .map_err(IdentityError::Tls)?;
        // Every session makes a fresh ML-KEM secret: nothing is resumed.
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![ALPN.to_vec()];
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| {
                builder.with_client_cert_verifier(client_verifier).with_single_cert(chain, key)
            })
            .map_err(IdentityError::Tls)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(ChannelIdentity {
            client: Arc::new(client),
            server: Arc::new(server),
            peer_name: server_name(&files.peer_name)?,
            peer_fingerprint: files.peer_fingerprint,
        })
    }

    /// Whether a certificate, already chained to the CA, is the peer's.
    pub(super) fn admit(&self, certificate: &CertificateDer<'_>) -> Result<(), String> {
        let entity = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
        entity.verify_is_valid_for_subject_name(&self.peer_name).map_err(|_| {
            format!("its certificate does not prove the name \"{}\"", self.peer_name.to_str())
        })?;
        let fingerprint = digest::digest(&digest::SHA256, certificate);
        match &self.peer_fingerprint {
            Some(pinned) if pinned[..] != *fingerprint.as_ref() => {
                Err("its certificate is not the one that channel.peer_fingerprint pins".to_string())
            }
            _ => Ok(()),
        }
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("channel.ca", path)? {
        roots.add(certificate).map_err(|error| file_error("channel.ca", path, &error.to_string()))?;
    }
    Ok(roots)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    read_certificates("channel.cert", path)
}

fn read_certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(file_error(setting, path, "no PEM certificate in the file"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(file_error(setting, path, &error.to_string())),
    }
}

fn check_own(
    files: &IdentityFiles,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<(), IdentityError> {
    let own =
        |cause: String| IdentityError::Own { path: files.cert.clone(), name: files.name.clone(), cause };
    let name = server_name(&files.name)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| file_error("channel.ca", &files.ca, &error.to_string()))?;
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now())
        .map(|_| ())
        .map_err(|error| own(error.to_string()))
}

fn server_name(name: &str) -> Result<ServerName<'static>, IdentityError> {
    ServerName::try_from(name.to_string()).map_err(|_| IdentityError::Name(name.to_string()))
}

fn file_error(setting: &'static str, path: &Path, cause: &str) -> IdentityError {
    IdentityError::File { setting, path: path.to_path_buf(), cause: cause.to_string() }
}
