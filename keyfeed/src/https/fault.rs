use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::Endpoint;
use crate::source::SourceError;

/// Tells what a failed handshake or exchange means for the one who configures the source.
///
/// With TLS 1.3 a server's refusal of our certificate arrives only after our side of the handshake is done, so both
/// the handshake's and the exchange's errors pass here.
pub(super) fn classify(error: &(dyn Error + 'static), endpoint: &Endpoint) -> SourceError {
    let address = endpoint.address.clone();
    match rustls_error(error) {
        Some(tls) => from_tls(tls, endpoint),
        None => SourceError::Closed { address, reason: root_cause(error) },
    }
}

fn from_tls(error: &rustls::Error, endpoint: &Endpoint) -> SourceError {
    let address = endpoint.address.clone();
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => SourceError::WrongName {
            address,
            expected: endpoint.server_name.to_str().into_owned(),
            presented: presented_names(error),
        },
        rustls::Error::InvalidCertificate(reason) => {
            SourceError::Untrusted { address, ca: endpoint.files.ca.clone(), reason: reason.to_string() }
        }
        rustls::Error::AlertReceived(alert) if is_certificate_refusal(*alert) => {
            SourceError::CertificateRefused {
                address,
                certificate: endpoint.files.cert.clone(),
                alert: format!("alert {alert:?}"),
            }
        }
        rustls::Error::InvalidMessage(_) => {
            SourceError::Tls { address, reason: "the answer is not TLS".into() }
        }
        other => SourceError::Tls { address, reason: other.to_string() },
    }
}

fn is_certificate_refusal(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

fn presented_names(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })
            if !presented.is_empty() =>
        {
            presented.join(", ")
        }
        _ => "no usable name".into(),
    }
}

/// The TLS error inside hyper's and std's wrappings. `io::Error::source` skips the error that it wraps, hence `get_ref`.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let wrapped = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = wrapped.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls);
        }
        next = current.source();
    }
    None
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
