//! Departures from ETSI GS QKD 014 that key servers in the field are known for, so that clients can be tried on each.

use clap::ValueEnum;
use serde::Deserialize;

use super::answer::{ApiError, Body, Reply};

/// One departure from the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Quirk {
    /// An unknown key_ID is 404 `Element not found`, not 400 with the fixed message
    #[value(name = "not-found-404")]
    #[serde(rename = "not-found-404")]
    NotFound404,
    /// An unknown key_ID is 401
    #[value(name = "not-found-401")]
    #[serde(rename = "not-found-401")]
    NotFound401,
    /// An empty store is 404 `Element not found`, not 503
    #[value(name = "empty-404")]
    #[serde(rename = "empty-404")]
    Empty404,
    /// An empty store is 400 with free text, not 503
    #[value(name = "empty-400")]
    #[serde(rename = "empty-400")]
    Empty400,
    /// The key container's array is called `Keys`
    CapitalKeys,
    /// Errors are HTML pages, 401 included
    HtmlErrors,
    /// Errors are `{"detail": ..}`, and 422 where the request is malformed
    DetailErrors,
    /// Errors have no Content-Type
    UntypedErrors,
    /// `size` is ignored: keys have the default size
    SizeIgnored,
    /// `size` and the sizes of status mean bytes
    SizeInBytes,
    /// `number` is ignored: one key comes
    NumberIgnored,
    /// `key` stands before `key_ID`
    KeyFirstOrder,
    /// key_IDs come back in upper case from dec_keys
    UpperCaseIds,
    /// A key can be fetched by its key_ID again and again
    RepeatableDec,
    /// key_IDs may be bare strings
    BareKeyIds,
    /// dec_keys wants the caller's own SAE ID in its path, as the example of clause 6.4 prints it
    SlaveIdInDecPath,
    /// status counts are wrong: no key stored, ten at most
    StatusLies,
    /// enc_keys is answered half a second before the peer KME gets the keys
    EarlyAnswer,
    /// Every second enc_keys is 409
    #[value(name = "conflict-409")]
    #[serde(rename = "conflict-409")]
    Conflict409,
    /// Broken JSON counts as `{}`, mandatory extensions are ignored, `number` 0 gives no key
    LenientRequests,
    /// Every answer closes the connection
    NoKeepAlive,
}

/// The quirks of one KME.
#[derive(Debug, Clone, Default)]
pub(super) struct Quirks(Vec<Quirk>);

impl Quirks {
    pub(super) fn new(quirks: &[Quirk]) -> Self {
        Quirks(quirks.to_vec())
    }

    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.0.contains(&quirk)
    }

    /// Words an error as this KME does.
    pub(super) fn reply(&self, error: ApiError) -> Reply {
        let not_found = matches!(error, ApiError::KeysNotFound);
        let empty = matches!(error, ApiError::StoreEmpty);
        let malformed = matches!(error, ApiError::BadRequest { .. });
        let mut reply = Reply::from(error);
        let mut reword = |applies: bool, quirk: Quirk, status: u16, message: &str| {
            if applies && self.has(quirk) {
                reply = Reply::error(status, message);
            }
        };
        reword(not_found, Quirk::NotFound404, 404, "Element not found");
        reword(empty, Quirk::Empty404, 404, "Element not found");
        reword(empty, Quirk::Empty400, 400, "no keys for the moment, sorry");
        if not_found && self.has(Quirk::NotFound401) {
            return Reply::empty(401);
        }
        self.dress(reply, malformed)
    }

    fn dress(&self, mut reply: Reply, malformed: bool) -> Reply {
        let message = reply.message();
        if self.has(Quirk::HtmlErrors) {
            let page = format!("<!doctype html>\n<title>{}</title>\n<p>{message}</p>\n", reply.status);
            reply.body = Body::Other { media_type: Some("text/html; charset=utf-8"), bytes: page.into() };
        } else if self.has(Quirk::DetailErrors) {
            let detail = serde_json::json!({ "detail": message }).to_string();
            reply.status = if malformed { 422 } else { reply.status };
            reply.body = Body::Json(detail.into());
        } else if let (true, Body::Json(bytes)) = (self.has(Quirk::UntypedErrors), &reply.body) {
            reply.body = Body::Other { media_type: None, bytes: bytes.clone() };
        }
        reply
    }
}
