//! The server side of draft-cisco-skip-02, over the same store as ETSI GS QKD 014. A keyId is the key_ID, a UUID,
//! without its hyphens: a key asked for by one protocol at one site can be fetched by the other at the other site.

use std::sync::Arc;

use aws_lc_rs::rand;
use hyper::Method;
use percent_encoding::percent_decode_str;
use tracing::info;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::answer::{ApiError, Reply};
use super::api::{self, Core};
use super::config::SkipSection;
use super::exposure;
use super::identity::Caller;
use super::link::Roles;
use super::request::RawRequest;
use super::store::KeyBytes;
use crate::secret::KeyId;
use crate::skip::wire::{Capabilities, Entropy, SkipKey};

/// Serves one request of the protocol. `None`: the connection is to be closed without an answer.
pub(super) async fn handle(
    core: &Arc<Core>,
    skip: &SkipSection,
    caller: &Caller,
    request: &RawRequest,
) -> Option<Reply> {
    if let Err(reply) = exposure::pass(core).await {
        return reply;
    }
    let reply = route(core, skip, caller, request).await.unwrap_or_else(Reply::from);
    let sae = caller.sae_id().unwrap_or("without a name");
    info!(sae, method = %request.method, path = %request.path, status = reply.status, "SKIP request");
    Some(reply)
}

async fn route(
    core: &Arc<Core>,
    skip: &SkipSection,
    caller: &Caller,
    request: &RawRequest,
) -> Result<Reply, ApiError> {
    let sae = core.sae_of(caller)?;
    let key_id = request.path.strip_prefix("/key/");
    if key_id.is_none() && !["/capabilities", "/key", "/entropy"].contains(&request.path.as_str()) {
        return Err(ApiError::NoSuchPath);
    }
    if request.method != Method::GET {
        return Err(ApiError::WrongVerb { allow: "GET" });
    }
    let query = Query::read(&request.query)?;
    match (request.path.as_str(), key_id) {
        ("/capabilities", _) => Ok(capabilities(core, skip)),
        ("/entropy", _) => entropy(query.minentropy.unwrap_or(DEFAULT_BITS)),
        (_, None) => {
            query.check_remote(core, skip)?;
            let size = core.rules.size(Some(query.size.unwrap_or(DEFAULT_BITS)))?;
            let roles = Roles { master: sae.clone(), slaves: vec![core.config.peer.sae_id.clone()] };
            key(api::make_keys(core, roles, 1, size).await?)
        }
        (_, Some(id)) => {
            query.check_remote(core, skip)?;
            // Whoever may not have the key is told no more than that it is not found: the draft knows no 401 here.
            key(api::fetch(core, sae, None, &[key_id_of(id)?]).map_err(|_| ApiError::KeysNotFound)?)
        }
    }
}

fn capabilities(core: &Core, skip: &SkipSection) -> Reply {
    Reply::ok(&Capabilities {
        entropy: true,
        key: true,
        algorithm: "QKD emulator, keys from the system's RNG".into(),
        local_system_id: skip.local(&core.config).to_owned(),
        remote_system_id: vec![skip.remote(&core.config).to_owned()],
    })
}

fn entropy(bits: u64) -> Result<Reply, ApiError> {
    if !(1..=MAX_ENTROPY_BITS).contains(&bits) {
        return Err(ApiError::bad_field(
            "minentropy",
            format!("minentropy shall be 1 to {MAX_ENTROPY_BITS} bits"),
        ));
    }
    let mut random = Zeroizing::new(vec![0; bits.div_ceil(8) as usize]);
    rand::fill(&mut random).map_err(|_| ApiError::Unavailable("the system's RNG failed".into()))?;
    Ok(Reply::ok(&Entropy { random_str: Zeroizing::new(hex::encode(&*random)), minentropy: bits }))
}

fn key(mut keys: Vec<(KeyId, KeyBytes)>) -> Result<Reply, ApiError> {
    let (id, key) = keys.pop().ok_or(ApiError::KeysNotFound)?;
    let plain: String = id.as_str().chars().filter(|c| *c != '-').collect();
    let key_id = KeyId::new(plain).map_err(|_| ApiError::KeysNotFound)?;
    Ok(Reply::ok(&SkipKey { key_id, key: Zeroizing::new(hex::encode(&*key)) }))
}

fn key_id_of(segment: &str) -> Result<KeyId, ApiError> {
    let malformed = || ApiError::bad("a keyId of this key provider is 32 hexadecimal digits");
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| malformed())?;
    let uuid = Some(&*text).filter(|text| text.len() == 32).and_then(|text| Uuid::try_parse(text).ok());
    uuid.and_then(|uuid| KeyId::new(uuid.to_string()).ok()).ok_or_else(malformed)
}

/// The parameters of a request; each path uses some of them.
#[derive(Default)]
struct Query {
    remote_system: Option<String>,
    /// Bits.
    size: Option<u64>,
    /// Bits.
    minentropy: Option<u64>,
}

impl Query {
    fn read(text: &str) -> Result<Self, ApiError> {
        let mut query = Query::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let bits =
                || value.parse().map_err(|_| ApiError::bad(format!("{name} shall be a number of bits")));
            match &*name {
                "remoteSystemID" => query.remote_system = Some(value.into_owned()),
                "size" => query.size = Some(bits()?),
                "minentropy" => query.minentropy = Some(bits()?),
                _ => return Err(ApiError::bad("parameters are remoteSystemID, size and minentropy")),
            }
        }
        Ok(query)
    }

    fn check_remote(&self, core: &Core, skip: &SkipSection) -> Result<(), ApiError> {
        let known = skip.remote(&core.config);
        if self.remote_system.as_deref() == Some(known) {
            return Ok(());
        }
        let message = format!("this key provider shares keys with {known} alone; name it as remoteSystemID");
        Err(ApiError::bad_field("remoteSystemID", message))
    }
}

const DEFAULT_BITS: u64 = 256;
const MAX_ENTROPY_BITS: u64 = 8_192;
