use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use percent_encoding::percent_decode_str;
use tracing::{info, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::KmeError;
use super::answer::{ApiError, Reply};
use super::bucket::Bucket;
use super::config::KmeConfig;
use super::identity::Caller;
use super::link::PeerLink;
use super::request::{self, RawRequest};
use super::store::{FetchError, KeyBytes, Store};
use crate::etsi014::wire::{KEYS_NOT_FOUND, Key, KeyContainer, Status};
use crate::etsi014::{DEC_KEYS, ENC_KEYS, STATUS};
use crate::secret::KeyId;

/// What a KME is, apart from its sockets.
pub(super) struct Core {
    pub(super) config: KmeConfig,
    /// Keys that can be given to our SAE as their master.
    bucket: Mutex<Bucket>,
    /// Keys that our SAE may fetch as their slave.
    store: Mutex<Store>,
    peer: PeerLink,
}

impl Core {
    pub(super) fn new(config: KmeConfig, now: Instant) -> Result<Self, KmeError> {
        config.check().map_err(KmeError::Config)?;
        let keys = &config.keys;
        let bucket = Bucket::new(keys.initial.unwrap_or(keys.store), keys.rate, keys.store, now);
        let store = Store::new(keys.ttl(), keys.max_unfetched);
        let peer = PeerLink::new(&config)?;
        Ok(Core { bucket: Mutex::new(bucket), store: Mutex::new(store), peer, config })
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one request of the API (ETSI GS QKD 014 clause 5).
pub(super) async fn handle(core: &Core, caller: &Caller, request: RawRequest) -> Reply {
    let reply = route(core, caller, &request).await.unwrap_or_else(Reply::from);
    let sae = caller.sae_id().unwrap_or("without a name");
    info!(sae, method = %request.method, path = %request.path, status = reply.status, "request");
    reply
}

async fn route(core: &Core, caller: &Caller, request: &RawRequest) -> Result<Reply, ApiError> {
    if caller.sae_id() != Some(core.config.sae.id.as_str()) {
        return Err(ApiError::Unauthorised);
    }
    let rest = request.path.strip_prefix("/api/v1/keys/").ok_or(ApiError::NoSuchPath)?;
    let (sae, method) = rest.split_once('/').ok_or(ApiError::NoSuchPath)?;
    if ![STATUS, ENC_KEYS, DEC_KEYS].contains(&method) {
        return Err(ApiError::NoSuchPath);
    }
    let sae = percent_decode_str(sae).decode_utf8().map_err(|_| ApiError::bad("the SAE ID is not UTF-8"))?;
    if sae != core.config.peer.sae_id.as_str() {
        return Err(ApiError::bad(format!(
            "this KME delivers no keys for an SAE of that ID, only for {}",
            core.config.peer.sae_id
        )));
    }
    match method {
        STATUS => status(core, request),
        ENC_KEYS => enc_keys(core, request).await,
        _ => dec_keys(core, request),
    }
}

/// Clause 6.1.
fn status(core: &Core, request: &RawRequest) -> Result<Reply, ApiError> {
    if request.method != Method::GET {
        return Err(ApiError::WrongVerb { allow: "GET" });
    }
    let KmeConfig { kme, sae, peer, keys, .. } = &core.config;
    Ok(Reply::ok(&Status {
        source_kme_id: kme.id.clone(),
        target_kme_id: peer.kme_id.clone(),
        master_sae_id: sae.id.to_string(),
        slave_sae_id: peer.sae_id.to_string(),
        key_size: keys.size,
        stored_key_count: core.bucket().count(Instant::now()),
        max_key_count: keys.store,
        max_key_per_request: keys.max_per_request,
        max_key_size: keys.max_size,
        min_key_size: keys.min_size,
        max_sae_id_count: 0,
    }))
}

/// Clause 6.2: the keys are at the peer KME before the master learns their key_IDs.
async fn enc_keys(core: &Core, request: &RawRequest) -> Result<Reply, ApiError> {
    let config = &core.config;
    let asked = request::new_keys(request, &config.keys)?;
    let cost = asked.number * u64::from(asked.size.div_ceil(config.keys.size));
    if !core.bucket().take(cost, Instant::now()) {
        return Err(ApiError::Unavailable("not enough keys in the store".into()));
    }
    let mut keys = Vec::with_capacity(config.keys.max_per_request as usize);
    for _ in 0..asked.number {
        keys.push(fresh_key(asked.size)?);
    }
    if let Err(error) = core.peer.push(config, &keys).await {
        core.bucket().give_back(cost);
        warn!(peer = config.peer.kme_id, %error, "keys were not handed to the peer KME");
        return Err(ApiError::Unavailable(format!(
            "the peer {} did not take the keys: {error}",
            config.peer.kme_id
        )));
    }
    Ok(Reply::ok(&container(keys)))
}

/// Clause 6.4.
fn dec_keys(core: &Core, request: &RawRequest) -> Result<Reply, ApiError> {
    let ids = request::key_ids(request, &core.config.keys)?;
    let (caller, master) = (&core.config.sae.id, &core.config.peer.sae_id);
    match core.store().fetch(caller, master, &ids, Instant::now()) {
        Ok(keys) => Ok(Reply::ok(&container(keys))),
        Err(FetchError::NotFound) => Err(ApiError::bad(KEYS_NOT_FOUND)),
        Err(FetchError::NotNamed) => Err(ApiError::Unauthorised),
    }
}

fn fresh_key(bits: u32) -> Result<(KeyId, KeyBytes), ApiError> {
    let mut key = Zeroizing::new(vec![0; bits as usize / 8]);
    aws_lc_rs::rand::fill(&mut key).map_err(|_| ApiError::Unavailable("the system's RNG failed".into()))?;
    let id = KeyId::new(Uuid::new_v4().to_string()).expect("a UUID is 36 visible characters");
    Ok((id, key))
}

fn container(keys: Vec<(KeyId, KeyBytes)>) -> KeyContainer {
    let keys =
        keys.into_iter().map(|(key_id, key)| Key { key_id, key: Zeroizing::new(STANDARD.encode(&*key)) });
    KeyContainer { keys: keys.collect() }
}
