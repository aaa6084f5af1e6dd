use std::path::PathBuf;

/// Why a key source gave no keys. Each displays as one line that names the cause and the remedy, never a key byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A setting of the source cannot work.
    #[error("key source setting `{name}`: {reason}")]
    Setting {
        /// The setting's name in the configuration.
        name: &'static str,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// A certificate or key file cannot be used.
    #[error("{what} {}: {reason}; {remedy}", path.display())]
    File {
        /// What the file should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No TCP connection: refused, no route, no answer, or no such name.
    #[error(
        "cannot reach the KME at {address}: {reason}; check that it runs, its address and the route to it"
    )]
    Unreachable {
        /// Host and port.
        address: String,
        /// The network's answer.
        reason: String,
    },
    /// Connected, but the KME did not go on in time.
    #[error(
        "the KME at {address} did not finish {step} within {millis} ms; check its load and its link to the peer KME"
    )]
    Silent {
        /// Host and port.
        address: String,
        /// `"the TLS handshake"` or `"its answer"`.
        step: &'static str,
        /// The limit that passed, milliseconds.
        millis: u64,
    },
    /// The connection ended before the answer.
    #[error(
        "the KME at {address} closed the connection without an answer ({reason}); it may refuse our certificate, see the KME's log"
    )]
    Closed {
        /// Host and port.
        address: String,
        /// How it ended.
        reason: String,
    },
    /// The KME refused our certificate.
    #[error(
        "the KME at {address} refuses our certificate {} ({alert}); have it signed by a CA that the KME trusts, and check its dates",
        certificate.display()
    )]
    CertificateRefused {
        /// Host and port.
        address: String,
        /// Our certificate's file.
        certificate: PathBuf,
        /// The TLS alert received.
        alert: String,
    },
    /// We do not trust the KME's certificate.
    #[error("the certificate of the KME at {address} does not chain to {} ({reason}); give the CA that signed it, and check its dates", ca.display())]
    Untrusted {
        /// Host and port.
        address: String,
        /// The file of the CAs that we trust.
        ca: PathBuf,
        /// What the check found.
        reason: String,
    },
    /// The KME's certificate is sound but names another KME.
    #[error(
        "the KME at {address} is not {expected}: its certificate names {presented}; correct the URL or the expected KME name"
    )]
    WrongName {
        /// Host and port.
        address: String,
        /// The name that we expect.
        expected: String,
        /// The names in its certificate.
        presented: String,
    },
    /// TLS failed in another way, for example for want of a common version.
    #[error(
        "TLS with the KME at {address} failed: {reason}; the port must speak HTTPS with TLS 1.3, or 1.2 where that is allowed"
    )]
    Tls {
        /// Host and port.
        address: String,
        /// What TLS says.
        reason: String,
    },
    /// HTTP 401: the KME does not serve the SAE that our certificate names.
    #[error(
        "the KME denies {request} (401); register the SAE ID of our certificate at the KME and check the peer's SAE ID"
    )]
    Unauthorised {
        /// The method: `"status"`, `"enc_keys"`, `"dec_keys"`; of SKIP `"capabilities"`, `"key"`.
        request: &'static str,
    },
    /// At least one key_ID is not, or not yet, or no more at our KME.
    #[error(
        "our KME does not have the key of a key_ID that the peer named ({message}); check that the two KMEs are joined and that no other client fetches these keys"
    )]
    NotFound {
        /// The KME's own words.
        message: String,
    },
    /// No key now; later there may be.
    #[error(
        "the KME has no key for us now ({message}); its key rate is too low for the rotation time, or its link is down"
    )]
    Empty {
        /// The KME's own words.
        message: String,
    },
    /// The KME answered, but not as its protocol demands. Nothing of such an answer is used.
    #[error("the KME's answer to {request} cannot be used: {reason}; report it to the KME's vendor")]
    BadAnswer {
        /// The method: `"status"`, `"enc_keys"`, `"dec_keys"`; of SKIP `"capabilities"`, `"key"`.
        request: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Any other refusal.
    #[error("the KME refuses {request} with HTTP {status} ({message}); see the KME's log")]
    Refused {
        /// The method: `"status"`, `"enc_keys"`, `"dec_keys"`; of SKIP `"capabilities"`, `"key"`.
        request: &'static str,
        /// HTTP status.
        status: u16,
        /// The KME's own words.
        message: String,
    },
}

impl SourceError {
    /// Whether the same call may succeed later although nobody changes a setting.
    ///
    /// [`SourceError::NotFound`] is not transient here: the [`Feeder`](crate::feeder::Feeder) has already asked again
    /// for as long as KMEs need to relay a key.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Closed { .. } | Self::Empty { .. } => true,
            Self::Refused { status, .. } => matches!(status, 409 | 429 | 500..=599),
            Self::Setting { .. }
            | Self::File { .. }
            | Self::CertificateRefused { .. }
            | Self::Untrusted { .. }
            | Self::WrongName { .. }
            | Self::Tls { .. }
            | Self::Unauthorised { .. }
            | Self::NotFound { .. }
            | Self::BadAnswer { .. } => false,
        }
    }
}
