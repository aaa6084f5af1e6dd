//! Demonstration certificates: one authority for the link channel, one for the key network.
//!
//! Real sites bring certificates of their own; these let two sites talk within a minute. The authorities' private keys
//! live only while [`generate`] runs, unless [`PkiNames::keep_authority_keys`] asks for them on disk.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

/// Days for which demonstration certificates are valid, counted from the day before they are made.
pub const VALID_DAYS: i64 = 90;

/// Whom to make certificates for.
#[derive(Clone, Debug)]
pub struct PkiNames {
    /// One entry per site; file names carry [`SiteNames::site`].
    pub sites: Vec<SiteNames>,
    /// Also write `channel-ca.key` and `kme-ca.key`, so that sites can be added later.
    pub keep_authority_keys: bool,
}

/// The names of one site, as its certificates state them.
#[derive(Clone, Debug)]
pub struct SiteNames {
    /// Short name in file names, such as `a`.
    pub site: String,
    /// SAE ID (ETSI GS QKD 014): DNS name in the link channel's and the SAE's certificate.
    pub sae_id: String,
    /// KME ID: DNS name in the key server's certificate.
    pub kme_id: String,
    /// Addresses under which the key server is reached.
    pub kme_addresses: Vec<IpAddr>,
}

/// Why no certificates were made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A name cannot stand in a file name and a certificate.
    #[error("site name `{0}`: use 1 to 32 letters, digits and hyphens")]
    Name(String),
    /// Two sites share a name, or none was given.
    #[error("name each site once, and at least one: {0}")]
    Sites(String),
    /// A file is there already; nothing was written.
    #[error("{} exists already: remove it or name another directory; nothing was changed", .0.display())]
    Exists(PathBuf),
    /// The directory or a file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The certificate library refused.
    #[error("cannot make the certificate of `{name}`: {source}")]
    Certificate {
        /// The certificate's common name.
        name: String,
        /// The library's reason.
        source: rcgen::Error,
    },
}

impl PkiNames {
    /// The names for `sites`, such as `["a", "b"]`: SAE `sae-a`, KME `kme-a` without addresses.
    pub fn for_sites<'s>(sites: impl IntoIterator<Item = &'s str>) -> Self {
        Self { sites: sites.into_iter().map(SiteNames::new).collect(), keep_authority_keys: false }
    }
}

impl SiteNames {
    /// The default names of `site`: SAE `sae-SITE`, KME `kme-SITE` without addresses.
    pub fn new(site: &str) -> Self {
        Self {
            site: site.to_owned(),
            sae_id: format!("sae-{site}"),
            kme_id: format!("kme-{site}"),
            kme_addresses: Vec::new(),
        }
    }
}

/// Makes both authorities and three certificates per site in `dir` (made with mode 0700 if absent), and returns the files
/// written: `channel-ca.pem`, `kme-ca.pem`, and per site `channel-SITE`, `kme-SITE` and `sae-SITE`, each as `.pem` and `.key`.
///
/// ECDSA P-256, X.509 v3, for both ends of TLS; private keys are PKCS#8 PEM of mode 0600. Existing files are never
/// overwritten: if any is there, nothing is written.
pub fn generate(dir: &Path, names: &PkiNames) -> Result<Vec<PathBuf>, PkiError> {
    check_names(names)?;
    let files = make_files(names)?;
    let write_error = |path: &Path| {
        let path = path.to_owned();
        move |source| PkiError::Write { path, source }
    };
    if !dir.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(write_error(dir))?;
    }
    if let Some(there) =
        files.iter().map(|file| dir.join(&file.name)).find(|path| path.symlink_metadata().is_ok())
    {
        return Err(PkiError::Exists(there));
    }
    let mut written = Vec::new();
    for file in &files {
        let path = dir.join(&file.name);
        if let Err(source) = write_new(&path, &file.pem, file.mode) {
            written.iter().for_each(|done: &PathBuf| drop(fs::remove_file(done)));
            return Err(PkiError::Write { path, source });
        }
        written.push(path);
    }
    Ok(written)
}

struct PemFile {
    name: String,
    pem: String,
    mode: u32,
}

impl PemFile {
    fn certificate(stem: &str, pem: String) -> Self {
        Self { name: format!("{stem}.pem"), pem, mode: 0o644 }
    }

    fn key(stem: &str, key: &KeyPair) -> Self {
        Self { name: format!("{stem}.key"), pem: key.serialize_pem(), mode: 0o600 }
    }
}

fn check_names(names: &PkiNames) -> Result<(), PkiError> {
    let mut seen = Vec::new();
    for name in names.sites.iter().flat_map(|site| [&site.site, &site.sae_id, &site.kme_id]) {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if name.is_empty() || name.len() > 32 || !plain {
            return Err(PkiError::Name(name.clone()));
        }
    }
    for site in names.sites.iter().map(|site| site.site.as_str()) {
        if seen.contains(&site) {
            return Err(PkiError::Sites(format!("`{site}` is named twice")));
        }
        seen.push(site);
    }
    if seen.is_empty() { Err(PkiError::Sites("none was given".to_owned())) } else { Ok(()) }
}

fn make_files(names: &PkiNames) -> Result<Vec<PemFile>, PkiError> {
    let channel = authority("qhaul demo link channel CA")?;
    let key_network = authority("qhaul demo key network CA")?;
    let mut files = Vec::new();
    for (stem, ca) in [("channel-ca", &channel), ("kme-ca", &key_network)] {
        files.push(PemFile::certificate(stem, ca.pem()));
        if names.keep_authority_keys {
            files.push(PemFile::key(stem, ca.key()));
        }
    }
    for site in &names.sites {
        let leaves = [
            ("channel", &channel, &site.sae_id, &[][..]),
            ("kme", &key_network, &site.kme_id, &site.kme_addresses),
            ("sae", &key_network, &site.sae_id, &[]),
        ];
        for (role, ca, name, addresses) in leaves {
            let stem = format!("{role}-{}", site.site);
            let (pem, key) = leaf(ca, name, addresses).map_err(at(name))?;
            files.extend([PemFile::certificate(&stem, pem), PemFile::key(&stem, &key)]);
        }
    }
    Ok(files)
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(at(name))?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params);
    CertifiedIssuer::self_signed(params, key).map_err(at(name))
}

fn leaf(
    ca: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    addresses: &[IpAddr],
) -> Result<(String, KeyPair), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.subject_alt_names.extend(addresses.iter().map(|&address| SanType::IpAddress(address)));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    set_validity(&mut params);
    Ok((params.signed_by(&key, ca)?.pem(), key))
}

/// Clocks of two sites may differ: the certificates are valid since yesterday.
fn set_validity(params: &mut CertificateParams) {
    params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
    params.not_after = params.not_before + Duration::days(VALID_DAYS);
}

fn at(name: &str) -> impl FnOnce(rcgen::Error) -> PkiError {
    let name = name.to_owned();
    move |source| PkiError::Certificate { name, source }
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn fresh_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("qhaul-pki-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        dir
    }

    #[test]
    fn openssl_accepts_the_chain_names_and_purposes() {
        let dir = fresh_dir("chain");
        let mut names = PkiNames::for_sites(["a", "b"]);
        names.sites[0].kme_addresses.push("10.88.0.11".parse().unwrap());
        assert_eq!(generate(&dir, &names).unwrap().len(), 2 + 2 * 6);
        let verify = |ca: &str, checks: &[&str], leaf: &str| {
            let file = |name: &str| dir.join(name).display().to_string();
            let output = Command::new("openssl")
                .args(["verify", "-x509_strict", "-CAfile", &file(ca)])
                .args(checks)
                .arg(file(leaf))
                .output()
                .expect("openssl is installed");
            output.status.success()
        };
        assert!(verify(
            "channel-ca.pem",
            &["-purpose", "sslserver", "-verify_hostname", "sae-a"],
            "channel-a.pem"
        ));
        assert!(verify(
            "channel-ca.pem",
            &["-purpose", "sslclient", "-verify_hostname", "sae-b"],
            "channel-b.pem"
        ));
        assert!(verify(
            "kme-ca.pem",
            &["-verify_hostname", "kme-a", "-verify_ip", "10.88.0.11"],
            "kme-a.pem"
        ));
        assert!(verify("kme-ca.pem", &["-purpose", "sslclient", "-verify_hostname", "sae-a"], "sae-a.pem"));
        assert!(
            !verify("kme-ca.pem", &[], "channel-a.pem"),
            "the two authorities must not vouch for each other"
        );
        assert!(!verify("channel-ca.pem", &["-verify_hostname", "sae-b"], "channel-a.pem"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn private_keys_are_for_the_owner_and_authority_keys_stay_off_the_disk() {
        let dir = fresh_dir("modes");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for file in generate(&dir, &PkiNames::for_sites(["a"])).unwrap() {
            let is_key = file.extension().is_some_and(|extension| extension == "key");
            assert_eq!(mode(&file) & 0o077 == 0, is_key, "{}", file.display());
        }
        assert_eq!(mode(&dir), 0o700);
        assert!(!dir.join("channel-ca.key").exists() && !dir.join("kme-ca.key").exists());
        fs::remove_dir_all(&dir).unwrap();

        generate(&dir, &PkiNames { keep_authority_keys: true, ..PkiNames::for_sites(["a"]) }).unwrap();
        assert_eq!(mode(&dir.join("channel-ca.key")), 0o600);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn nothing_is_overwritten_and_bad_names_are_refused() {
        let dir = fresh_dir("again");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("sae-b.key"), "mine").unwrap();
        let refused = generate(&dir, &PkiNames::for_sites(["a", "b"])).unwrap_err();
        assert!(matches!(&refused, PkiError::Exists(path) if path.ends_with("sae-b.key")), "{refused}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();

        assert!(matches!(generate(&dir, &PkiNames::for_sites(["../x"])), Err(PkiError::Name(_))));
        assert!(matches!(generate(&dir, &PkiNames::for_sites(["a", "a"])), Err(PkiError::Sites(_))));
        assert!(matches!(generate(&dir, &PkiNames::for_sites([])), Err(PkiError::Sites(_))));
        assert!(!dir.exists());
    }
}
