//! Cisco's Secure Key Integration Protocol (draft-cisco-skip-02), client side.

mod answer;
mod config;
pub(crate) mod wire;

pub use config::SkipConfig;

use crate::etsi014::KEY_BITS;
use crate::etsi014::answer::without_repeats;
use crate::https::{Answer, Blocking, Endpoint, TlsFiles, TlsVersion};
use crate::ids::path_segment;
use crate::secret::{DeliveredKey, KeyId};
use crate::source::{KeySource, SourceError, SourceStatus, timeout};

/// A client of the key provider (KP) beside us, for the peer's KP: blocking, one kept-alive connection, one key per
/// request as the protocol has it. TLS 1.3 with certificates on both sides.
pub struct Skip {
    client: Blocking,
    /// The peer's KP, by its literal name.
    remote_system: String,
    /// Whether our KP has said that it serves the peer's.
    checked: bool,
}

impl Skip {
    /// Reads the certificate files and prepares the client; connects only at the first request.
    ///
    /// # Errors
    /// [`SourceError::File`] naming the file, [`SourceError::Setting`] naming the setting.
    pub fn new(config: SkipConfig) -> Result<Self, SourceError> {
        timeout::check(config.timeout)?;
        let remote_system = config.remote_system;
        if remote_system.is_empty() || remote_system.contains(['*', '?', '[', ']']) {
            let reason = format!(
                "`{remote_system}` is not the literal name of one KP; write the peer KP's localSystemID"
            );
            return Err(SourceError::Setting { name: "remote_system", reason });
        }
        let files = TlsFiles { ca: config.ca, cert: config.cert, key: config.key };
        let endpoint =
            Endpoint::new(&config.url, config.kp_name.as_deref(), files, TlsVersion::V1_3, config.timeout)?;
        Ok(Skip { client: Blocking::new(endpoint)?, remote_system, checked: false })
    }

    fn get(&mut self, path: &str) -> Result<Answer, SourceError> {
        self.client.request(path, None)
    }

    /// Asks the capabilities once, so that a wrong peer name is told as such and not as a failed key request.
    fn check(&mut self) -> Result<(), SourceError> {
        if !self.checked {
            self.status()?;
            self.checked = true;
        }
        Ok(())
    }

    fn new_key(&mut self) -> Result<DeliveredKey, SourceError> {
        let peer = path_segment(&self.remote_system);
        let answer = self.get(&format!("/key?remoteSystemID={peer}&size={KEY_BITS}"))?;
        if answer.status == 200 {
            return answer::key(&answer.body);
        }
        self.checked = false;
        Err(answer::new_key_refusal(&answer))
    }

    fn key_by_id(&mut self, id: &KeyId) -> Result<DeliveredKey, SourceError> {
        let (peer, key) = (path_segment(&self.remote_system), path_segment(id.as_str()));
        let answer = self.get(&format!("/key/{key}?remoteSystemID={peer}"))?;
        if answer.status == 200 {
            return answer::named_key(&answer.body, id);
        }
        Err(answer::named_key_refusal(&answer))
    }
}

impl KeySource for Skip {
    fn kind(&self) -> &'static str {
        "skip"
    }

    fn status(&mut self) -> Result<SourceStatus, SourceError> {
        let answer = self.get("/capabilities")?;
        if answer.status == 200 {
            answer::capabilities(&answer.body, &self.remote_system)
        } else {
            Err(crate::etsi014::answer::refusal(CAPABILITIES, &answer))
        }
    }

    fn new_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
        self.check()?;
        collect(number, |_| self.new_key())
    }

    fn keys_by_id(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
        collect(ids.len(), |place| self.key_by_id(&ids[place]))
    }
}

/// One key per request: what has come before an error is good, and the next call meets the error again if it lasts.
fn collect(
    number: usize,
    mut get: impl FnMut(usize) -> Result<DeliveredKey, SourceError>,
) -> Result<Vec<DeliveredKey>, SourceError> {
    let mut keys = Vec::with_capacity(number.min(MAX_CALL));
    for place in 0..number.min(MAX_CALL) {
        match get(place).and_then(|key| without_repeats(&keys, vec![key])) {
            Ok(key) => keys.extend(key),
            Err(error) if keys.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(keys)
}

pub(crate) const CAPABILITIES: &str = "capabilities";
pub(crate) const KEY: &str = "key";
/// Requests of one call at most, so that a slow KP's first keys are not held back by its later ones.
const MAX_CALL: usize = 32;
