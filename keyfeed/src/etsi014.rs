pub(crate) mod answer;
mod config;
pub(crate) mod wire;

pub use config::Etsi014Config;

use crate::https::{Answer, Blocking, Endpoint, TlsFiles, TlsVersion};
use crate::secret::{DeliveredKey, KEY_BYTES, KeyId};
use crate::source::{KeySource, SourceError, SourceStatus, timeout};
use wire::{KeyIds, KeyRequest};

/// A client of the REST API of ETSI GS QKD 014 V1.1.1 for one peer SAE: blocking, one kept-alive connection, strict
/// about what it takes for a key and lenient about the rest.
pub struct Etsi014 {
    client: Blocking,
    /// `/api/v1/keys/{peer SAE}`.
    base: String,
    /// Keys per request that the KME allows, once it has said so.
    batch: Option<usize>,
}

impl Etsi014 {
    /// For a KME that speaks TLS 1.3. Reads the certificate files and prepares the client; connects only at the first request.
    ///
    /// # Errors
    /// [`SourceError::File`] naming the file, [`SourceError::Setting`] naming the setting.
    pub fn new(config: Etsi014Config) -> Result<Self, SourceError> {
        Self::with_lowest_tls(config, TlsVersion::default())
    }

    /// As [`Etsi014::new`], for a KME that speaks TLS 1.2 only.
    ///
    /// # Errors
    /// As [`Etsi014::new`].
    pub fn with_lowest_tls(config: Etsi014Config, lowest: TlsVersion) -> Result<Self, SourceError> {
        timeout::check(config.timeout)?;
        let files = TlsFiles { ca: config.ca, cert: config.cert, key: config.key };
        let endpoint = Endpoint::new(&config.url, config.kme_name.as_deref(), files, lowest, config.timeout)?;
        let base = format!("/api/v1/keys/{}", config.peer_sae.path_segment());
        Ok(Etsi014 { client: Blocking::new(endpoint)?, base, batch: None })
    }

    fn request(&mut self, method: &str, json: Option<Vec<u8>>) -> Result<Answer, SourceError> {
        self.client.request(&format!("{}/{method}", self.base), json)
    }

    /// Keys per request, asked of the KME once. Also refuses a KME that has no 256-bit keys.
    fn batch(&mut self) -> Result<usize, SourceError> {
        if let Some(batch) = self.batch {
            return Ok(batch);
        }
        let status = self.status()?;
        answer::check_key_size(&status, KEY_BITS)?;
        let batch = usize::try_from(status.max_key_per_request).unwrap_or(usize::MAX).clamp(1, MAX_BATCH);
        self.batch = Some(batch);
        Ok(batch)
    }

    fn enc_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
        let body = wire::to_json(&KeyRequest { number, size: KEY_BITS });
        let answer = self.request(ENC_KEYS, Some(body))?;
        if answer.status == 200 {
            return answer::new_keys(&answer.body, number);
        }
        let refused = self.refused(answer::enc_keys_refusal(&answer));
        // No status code is set aside for "no key now" (clause 6.2): where the refusal leaves it open, the count tells.
        match refused {
            SourceError::Refused { status: code @ (400 | 404), message, .. }
                if !wire::is_fixed_message(&message)
                    && self.status().is_ok_and(|status| status.stored_key_count == 0) =>
            {
                Err(SourceError::Empty { message: format!("HTTP {code}: {message}") })
            }
            other => Err(other),
        }
    }

    /// How many keys to ask for after a request for `asked` met an empty store: some KMEs give all or nothing.
    fn smaller_batch(&mut self, asked: usize) -> usize {
        let stored = self.status().map_or(1, |status| status.stored_key_count);
        usize::try_from(stored).unwrap_or(usize::MAX).clamp(1, (asked / 2).max(1))
    }

    fn dec_keys(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
        let answer = self.request(DEC_KEYS, Some(wire::to_json(&KeyIds::from(ids))))?;
        if answer.status == 200 {
            return answer::named_keys(&answer.body, ids);
        }
        Err(self.refused(answer::dec_keys_refusal(&answer)))
    }

    /// After a refusal the limits are asked anew: the KME may have come back with others.
    fn refused(&mut self, error: SourceError) -> SourceError {
        if matches!(error, SourceError::Refused { .. }) {
            self.batch = None;
        }
        error
    }
}

impl KeySource for Etsi014 {
    fn kind(&self) -> &'static str {
        "etsi014"
    }

    fn status(&mut self) -> Result<SourceStatus, SourceError> {
        let answer = self.request(STATUS, None)?;
        if answer.status == 200 {
            answer::status(&answer.body)
        } else {
            Err(answer::refusal(STATUS, &answer))
        }
    }

    fn new_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
        let mut batch = self.batch()?;
        let mut keys: Vec<DeliveredKey> = Vec::with_capacity(number);
        while keys.len() < number {
            let asked = batch.min(number - keys.len());
            match self.enc_keys(asked).and_then(|more| answer::without_repeats(&keys, more)) {
                Ok(more) => keys.extend(more),
                Err(SourceError::Empty { .. }) if asked > 1 && keys.is_empty() => {
                    batch = self.smaller_batch(asked)
                }
                Err(error) if keys.is_empty() => return Err(error),
                // What has come is good; the next call meets the error again if it lasts.
                Err(_) => break,
            }
        }
        Ok(keys)
    }

    fn keys_by_id(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
        let batch = self.batch()?;
        let mut keys: Vec<DeliveredKey> = Vec::with_capacity(ids.len());
        for asked in ids.chunks(batch) {
            match self.dec_keys(asked).and_then(|more| answer::without_repeats(&keys, more)) {
                Ok(more) => keys.extend(more),
                Err(error) if keys.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(keys)
    }
}

pub(crate) const STATUS: &str = "status";
pub(crate) const ENC_KEYS: &str = "enc_keys";
pub(crate) const DEC_KEYS: &str = "dec_keys";

/// Always sent: servers' defaults differ, and some have meant bytes.
pub(crate) const KEY_BITS: u32 = KEY_BYTES as u32 * 8;
/// Cap of one request whatever the KME allows, so that an answer stays small.
const MAX_BATCH: usize = 128;
