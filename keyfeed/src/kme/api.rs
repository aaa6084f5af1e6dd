use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use percent_encoding::percent_decode_str;
use tracing::{info, warn};

use super::KmeError;
use super::answer::{ApiError, Reply};
use super::config::KmeConfig;
use super::container::{self, fresh_key};
use super::exposure;
use super::identity::Caller;
use super::link::{PeerLink, Roles};
use super::quirk::{Quirk, Quirks};
use super::request::{RawRequest, Rules};
use super::site::Site;
use super::store::{Fetch, FetchError, KeyBytes};
use super::weather::What;
use crate::etsi014::wire::Status;
use crate::etsi014::{DEC_KEYS, ENC_KEYS, STATUS};
use crate::secret::{KeyId, SaeId};

/// What a KME is, apart from its sockets.
pub(super) struct Core {
    pub(super) config: KmeConfig,
    pub(super) rules: Rules,
    site: Mutex<Site>,
    peer: PeerLink,
    /// Calls of Get key so far, for the quirk that refuses every second one.
    calls: AtomicU64,
}

impl Core {
    pub(super) fn new(config: KmeConfig, now: Instant) -> Result<Self, KmeError> {
        config.check().map_err(KmeError::Config)?;
        let rules = Rules {
            limits: config.keys.clone(),
            quirks: Quirks::new(&config.kme.quirks),
            extensions: config.extensions.clone(),
        };
        let peer = PeerLink::new(&config)?;
        let site = Mutex::new(Site::new(&config, now));
        Ok(Core { site, peer, rules, config, calls: 0.into() })
    }

    /// Keys and weather as they are at `now`.
    pub(super) fn site(&self, now: Instant) -> MutexGuard<'_, Site> {
        let mut site = self.site.lock().unwrap_or_else(PoisonError::into_inner);
        site.advance(now);
        site
    }

    fn has(&self, quirk: Quirk) -> bool {
        self.rules.quirks.has(quirk)
    }

    /// The SAE of this KME that the certificate names.
    pub(super) fn sae_of(&self, caller: &Caller) -> Result<&SaeId, ApiError> {
        let name = caller.sae_id();
        self.config.sae.all().find(|sae| Some(sae.as_str()) == name).ok_or(ApiError::Unauthorised)
    }

    /// The SAE of the peer KME that a path names.
    fn peer_sae(&self, id: &str) -> Result<&SaeId, ApiError> {
        self.config.peer.saes().find(|sae| sae.as_str() == id).ok_or_else(|| {
            let known: Vec<&str> = self.config.peer.saes().map(SaeId::as_str).collect();
            ApiError::bad(format!(
                "this KME delivers no keys for an SAE of that ID, only for {}",
                known.join(", ")
            ))
        })
    }
}

/// Serves one request of the API (ETSI GS QKD 014 clause 5). `None`: the connection is to be closed without an answer.
pub(super) async fn handle(core: &Arc<Core>, caller: &Caller, request: RawRequest) -> Option<Reply> {
    if let Err(reply) = exposure::pass(core).await {
        return reply;
    }
    let mut reply =
        route(core, caller, &request).await.unwrap_or_else(|error| core.rules.quirks.reply(error));
    reply.close |= core.has(Quirk::NoKeepAlive);
    let sae = caller.sae_id().unwrap_or("without a name");
    info!(sae, method = %request.method, path = %request.path, status = reply.status, "request");
    Some(reply)
}

async fn route(core: &Arc<Core>, caller: &Caller, request: &RawRequest) -> Result<Reply, ApiError> {
    let sae = core.sae_of(caller)?;
    let rest = request.path.strip_prefix("/api/v1/keys/").ok_or(ApiError::NoSuchPath)?;
    let (other, method) = rest.split_once('/').ok_or(ApiError::NoSuchPath)?;
    if ![STATUS, ENC_KEYS, DEC_KEYS].contains(&method) {
        return Err(ApiError::NoSuchPath);
    }
    let other =
        percent_decode_str(other).decode_utf8().map_err(|_| ApiError::bad("the SAE ID is not UTF-8"))?;
    if method == DEC_KEYS && core.has(Quirk::SlaveIdInDecPath) {
        if other != sae.as_str() {
            return Err(ApiError::bad("the path of dec_keys shall name the slave SAE"));
        }
        return dec_keys(core, sae, None, request);
    }
    let other = core.peer_sae(&other)?;
    match method {
        STATUS => status(core, sae, other, request),
        ENC_KEYS => enc_keys(core, sae, other, request).await,
        _ => dec_keys(core, sae, Some(other), request),
    }
}

/// Clause 6.1.
fn status(core: &Core, master: &SaeId, slave: &SaeId, request: &RawRequest) -> Result<Reply, ApiError> {
    if request.method != Method::GET {
        return Err(ApiError::WrongVerb { allow: "GET" });
    }
    let KmeConfig { kme, peer, keys, .. } = &core.config;
    let lies = core.has(Quirk::StatusLies);
    let mut site = core.site(Instant::now());
    let unit = if core.has(Quirk::SizeInBytes) { 8 } else { 1 };
    Ok(Reply::ok(&Status {
        source_kme_id: kme.id.clone(),
        target_kme_id: peer.kme_id.clone(),
        master_sae_id: master.to_string(),
        slave_sae_id: slave.to_string(),
        key_size: keys.size / unit,
        stored_key_count: if lies { 0 } else { site.bucket.count(Instant::now()) },
        max_key_count: if lies { 10 } else { keys.store },
        max_key_per_request: keys.max_per_request,
        max_key_size: keys.max_size / unit,
        min_key_size: keys.min_size / unit,
        max_sae_id_count: keys.max_sae_ids,
        status_extension: site.weather.alarm(),
    }))
}

/// Clause 6.2.
async fn enc_keys(
    core: &Arc<Core>,
    master: &SaeId,
    slave: &SaeId,
    request: &RawRequest,
) -> Result<Reply, ApiError> {
    let asked = core.rules.new_keys(request)?;
    let mut slaves = vec![slave.clone()];
    for named in asked.additional {
        slaves.push(core.peer_sae(named.as_str())?.clone());
    }
    if slaves.iter().collect::<HashSet<_>>().len() != slaves.len() {
        return Err(ApiError::bad_field("additional_slave_SAE_IDs", "the slave of the path is named again"));
    }
    let odd = core.calls.fetch_add(1, Ordering::Relaxed) % 2 == 1;
    if odd && core.has(Quirk::Conflict409) {
        return Err(ApiError::Conflict);
    }
    let keys = make_keys(core, Roles { master: master.clone(), slaves }, asked.number, asked.size).await?;
    Ok(container::reply(core, keys, ENC_KEYS))
}

/// Takes keys out of the store and hands them to the peer KME: they are there before the master learns their key_IDs.
pub(super) async fn make_keys(
    core: &Arc<Core>,
    roles: Roles,
    number: u64,
    size: u32,
) -> Result<Vec<(KeyId, KeyBytes)>, ApiError> {
    let config = &core.config;
    let cost = number * u64::from(size.div_ceil(config.keys.size));
    if !core.site(Instant::now()).bucket.take(cost, Instant::now()) {
        return Err(ApiError::StoreEmpty);
    }
    let mut keys = (0..number).map(|_| fresh_key(size)).collect::<Result<Vec<_>, _>>()?;
    if core.has(Quirk::EarlyAnswer) {
        push_later(core, roles, keys.clone());
    } else if let Err(error) = push(core, &roles, &keys).await {
        core.site(Instant::now()).bucket.give_back(cost);
        warn!(peer = config.peer.kme_id, %error, "keys were not handed to the peer KME");
        let message = format!("the peer {} did not take the keys: {error}", config.peer.kme_id);
        return Err(ApiError::Unavailable(message));
    }
    core.site(Instant::now()).expose(&mut keys);
    Ok(keys)
}

async fn push(core: &Core, roles: &Roles, keys: &[(KeyId, KeyBytes)]) -> Result<(), String> {
    if core.site(Instant::now()).weather.has(What::LinkDown) {
        return Err("the link to it is cut".into());
    }
    core.peer.push(roles, keys).await
}

fn push_later(core: &Arc<Core>, roles: Roles, keys: Vec<(KeyId, KeyBytes)>) {
    let core = Arc::clone(core);
    tokio::spawn(async move {
        tokio::time::sleep(EARLINESS).await;
        if let Err(error) = push(&core, &roles, &keys).await {
            warn!(%error, "keys that their master has were not handed to the peer KME");
        }
    });
}

/// Clause 6.4.
fn dec_keys(
    core: &Core,
    caller: &SaeId,
    master: Option<&SaeId>,
    request: &RawRequest,
) -> Result<Reply, ApiError> {
    let ids = core.rules.key_ids(request)?;
    let keys = fetch(core, caller, master, &ids)?;
    Ok(container::reply(core, keys, DEC_KEYS))
}

/// Hands out keys that the peer KME has sent for `caller`.
pub(super) fn fetch(
    core: &Core,
    caller: &SaeId,
    master: Option<&SaeId>,
    ids: &[KeyId],
) -> Result<Vec<(KeyId, KeyBytes)>, ApiError> {
    let who = Fetch { caller, master, keep: core.has(Quirk::RepeatableDec) };
    let mut site = core.site(Instant::now());
    let mut keys = site.store.fetch(&who, ids, Instant::now()).map_err(|error| match error {
        FetchError::NotFound => ApiError::KeysNotFound,
        FetchError::NotNamed => ApiError::Unauthorised,
    })?;
    site.expose(&mut keys);
    Ok(keys)
}

/// How long the quirk's answer runs ahead of the keys.
const EARLINESS: Duration = Duration::from_millis(500);
