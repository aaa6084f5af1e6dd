//! The link between the two KMEs: one POST with keys, answered once the other KME has stored them.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::warn;
use zeroize::Zeroizing;

use super::KmeError;
use super::answer::{ApiError, Reply};
use super::api::Core;
use super::config::KmeConfig;
use super::identity::Caller;
use super::request::RawRequest;
use super::store::{KeyBytes, StoreError, Waiting};
use super::weather::What;
use crate::etsi014::wire::to_json;
use crate::https::{Client, Endpoint, TlsVersion};
use crate::secret::{KeyId, SaeId};

/// The client's end of the link.
pub(super) struct PeerLink {
    /// One push at a time. An incoming push never waits for this lock, so two KMEs cannot block each other.
    client: Mutex<Client>,
}

/// Whose keys they are, and who may fetch them by key_ID.
#[derive(Debug, Clone)]
pub(super) struct Roles {
    pub(super) master: SaeId,
    pub(super) slaves: Vec<SaeId>,
}

impl PeerLink {
    pub(super) fn new(config: &KmeConfig) -> Result<Self, KmeError> {
        let url = format!("https://{}", config.peer.address);
        let endpoint =
            Endpoint::new(&url, Some(&config.peer.kme_id), config.tls.files(), TlsVersion::V1_3, PUSH_LIMIT)
                .map_err(|e| KmeError::Config(format!("[peer] or [tls]: {e}")))?;
        Ok(PeerLink { client: Mutex::new(Client::new(endpoint)) })
    }

    /// Hands keys of our SAE to the peer KME; done when the peer has stored them. The error is one line.
    pub(super) async fn push(&self, roles: &Roles, keys: &[(KeyId, KeyBytes)]) -> Result<(), String> {
        let keys = keys.iter().map(|(key_id, key)| PushedKey {
            key_id: key_id.clone(),
            key: Zeroizing::new(STANDARD.encode(&**key)),
            master_sae_id: roles.master.clone(),
            slave_sae_ids: roles.slaves.clone(),
        });
        let message = to_json(&Push { keys: keys.collect() });
        let exchange = async { self.client.lock().await.request(PATH, Some(message)).await };
        // The limit includes the wait for pushes ahead of this one.
        let answer =
            timeout(PUSH_LIMIT, exchange).await.map_err(|_| "it did not answer in time".to_owned())?;
        match answer.map_err(|e| e.to_string())?.status {
            204 => Ok(()),
            status => Err(format!("it answered HTTP {status}; see its log")),
        }
    }
}

/// The server's end: stores what the peer KME pushes.
pub(super) fn handle(core: &Core, caller: &Caller, request: &RawRequest) -> Option<Reply> {
    let site = core.site(Instant::now());
    if site.weather.has(What::Down) || site.weather.has(What::LinkDown) {
        return None;
    }
    drop(site);
    Some(receive(core, caller, request).unwrap_or_else(|error| {
        warn!(peer = core.config.peer.kme_id, ?error, "a message on the KME link was refused");
        error.into()
    }))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    keys: Vec<PushedKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushedKey {
    #[serde(rename = "key_ID")]
    key_id: KeyId,
    key: Zeroizing<String>,
    #[serde(rename = "master_SAE_ID")]
    master_sae_id: SaeId,
    #[serde(rename = "slave_SAE_IDs")]
    slave_sae_ids: Vec<SaeId>,
}

fn receive(core: &Core, caller: &Caller, request: &RawRequest) -> Result<Reply, ApiError> {
    if !caller.is_kme(&core.config.peer.kme_id) {
        return Err(ApiError::Unauthorised);
    }
    if request.path != PATH {
        return Err(ApiError::NoSuchPath);
    }
    if request.method != Method::POST {
        return Err(ApiError::WrongVerb { allow: "POST" });
    }
    let push: Push = serde_json::from_slice(&request.body)
        .map_err(|_| ApiError::bad("the message is not a list of keys"))?;
    let keys = push.keys.into_iter().map(|key| accept(core, key)).collect::<Result<Vec<_>, _>>()?;
    let mut site = core.site(Instant::now());
    if site.weather.has(What::LostKey) {
        return Ok(Reply::empty(204));
    }
    match site.store.insert(keys, Instant::now()) {
        Ok(()) => Ok(Reply::empty(204)),
        Err(StoreError::Full) => {
            Err(ApiError::Unavailable("too many keys wait to be fetched by key_ID".into()))
        }
        Err(StoreError::Conflict) => Err(ApiError::bad("a key_ID is in use for another key")),
    }
}

fn accept(core: &Core, pushed: PushedKey) -> Result<(KeyId, Waiting), ApiError> {
    let KmeConfig { sae, peer, .. } = &core.config;
    let masters = peer.saes().any(|known| *known == pushed.master_sae_id);
    let slaves = pushed.slave_sae_ids.iter().all(|slave| sae.all().any(|known| known == slave));
    if !masters || !slaves || pushed.slave_sae_ids.is_empty() {
        return Err(ApiError::bad("the keys are for other SAEs; the two KMEs' [sae] and [peer] must match"));
    }
    let bytes = STANDARD.decode(&*pushed.key).map_err(|_| ApiError::bad("a key is not base64"))?;
    Ok((pushed.key_id, Waiting::new(Zeroizing::new(bytes), pushed.master_sae_id, pushed.slave_sae_ids)))
}

const PATH: &str = "/link/v1/keys";
/// Less than a client's usual limit, so that it gets our 503 and not its own timeout.
const PUSH_LIMIT: Duration = Duration::from_secs(2);
