use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The names of a client as its verified certificate gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// SAN DNS names in order.
    dns_names: Vec<String>,
    common_name: Option<String>,
}

impl Caller {
    /// Reads the names. A certificate that cannot be read has none.
    pub(super) fn from_certificate(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Caller::default() };
        let dns_names = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(dns_name).collect(),
            _ => Vec::new(),
        };
        let common_name = certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .map(str::to_owned);
        Caller { dns_names, common_name }
    }

    /// The one name by which an SAE is known: its first SAN DNS name, or its CN when there is none. ETSI GS QKD 014
    /// clause 5.1 wants the SAE ID in the certificate and does not say where.
    pub(super) fn sae_id(&self) -> Option<&str> {
        self.dns_names.first().or(self.common_name.as_ref()).map(String::as_str)
    }

    /// Whether the certificate carries the DNS name, letter case aside.
    pub(super) fn is_kme(&self, kme_id: &str) -> bool {
        self.dns_names.iter().any(|name| name.eq_ignore_ascii_case(kme_id))
    }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn caller(dns_names: &[&str], common_name: &str) -> Caller {
        let names: Vec<String> = dns_names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Caller::from_certificate(certificate.der())
    }

    #[test]
    fn the_first_dns_name_goes_before_the_common_name() {
        assert_eq!(caller(&["sae-a", "other"], "cn").sae_id(), Some("sae-a"));
        assert_eq!(caller(&[], "cn").sae_id(), Some("cn"));
        assert_eq!(Caller::from_certificate(b"no certificate").sae_id(), None);
    }

    #[test]
    fn a_kme_needs_the_dns_name() {
        assert!(caller(&["x", "kme-b"], "cn").is_kme("KME-B"));
        assert!(!caller(&[], "KME-B").is_kme("KME-B"), "a CN is no pinned name");
    }
}
