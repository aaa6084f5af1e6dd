use serde::Serialize;
use serde_json::{Map, Value};

use crate::etsi014::wire::{ErrorBody, KEYS_NOT_FOUND, to_json};

/// An HTTP answer before it meets HTTP.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Body,
    /// For 405: the verbs that are allowed (RFC 9110 clause 15.5.6).
    pub(super) allow: Option<&'static str>,
    /// Whether the connection ends with this answer.
    pub(super) close: bool,
}

/// What an answer carries.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing at all.
    None,
    /// `application/json`.
    Json(Vec<u8>),
    /// What only a quirk sends.
    Other { media_type: Option<&'static str>, bytes: Vec<u8> },
}

/// Why a request is not served (ETSI GS QKD 014 clause 6, tables of HTTP status codes).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// 400 with a message, and with the field that is wrong when that helps.
    BadRequest { message: String, field: Option<&'static str> },
    /// 400 with a message that the standard fixes, for a request that is well-formed.
    Fixed(&'static str),
    /// 400 with the standard's message: at least one key_ID is unknown here.
    KeysNotFound,
    /// 401, which has no body.
    Unauthorised,
    /// 404: a path that the standard does not have.
    NoSuchPath,
    /// 405.
    WrongVerb { allow: &'static str },
    /// 409: another request has the same keys; only with a quirk.
    Conflict,
    /// 503: fewer keys are stored than asked for.
    StoreEmpty,
    /// 503 with the cause.
    Unavailable(String),
}

impl Reply {
    pub(super) fn ok(body: &impl Serialize) -> Self {
        Reply { status: 200, body: Body::Json(to_json(body)), allow: None, close: false }
    }

    pub(super) fn empty(status: u16) -> Self {
        Reply { status, body: Body::None, allow: None, close: false }
    }

    /// An Error of clause 6.5 without details.
    pub(super) fn error(status: u16, message: &str) -> Self {
        let body = ErrorBody { message: message.to_owned(), details: Vec::new() };
        Reply { status, body: Body::Json(to_json(&body)), allow: None, close: false }
    }

    /// The message of an Error, or what stands for one.
    pub(super) fn message(&self) -> String {
        match &self.body {
            Body::Json(bytes) => serde_json::from_slice::<ErrorBody>(bytes).map(|error| error.message).ok(),
            _ => None,
        }
        .unwrap_or_else(|| "Unauthorized".into())
    }
}

impl ApiError {
    /// 400 with a message of ours.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        ApiError::BadRequest { message: message.into(), field: None }
    }

    /// 400 for a field of the request.
    pub(super) fn bad_field(field: &'static str, message: impl Into<String>) -> Self {
        ApiError::BadRequest { message: message.into(), field: Some(field) }
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::BadRequest { message, field } => {
                let details =
                    field.map(|field| Map::from_iter([("parameter".to_owned(), Value::from(field))]));
                let body = ErrorBody { message, details: details.into_iter().collect() };
                Reply { body: Body::Json(to_json(&body)), ..Reply::empty(400) }
            }
            ApiError::Fixed(message) => Reply::error(400, message),
            ApiError::KeysNotFound => Reply::error(400, KEYS_NOT_FOUND),
            ApiError::Unauthorised => Reply::empty(401),
            ApiError::NoSuchPath => Reply::error(404, "there is no such path in this API"),
            ApiError::WrongVerb { allow } => {
                Reply { allow: Some(allow), ..Reply::error(405, &format!("this path takes {allow}")) }
            }
            ApiError::Conflict => Reply::error(409, "another request holds these keys"),
            ApiError::StoreEmpty => Reply::error(503, "not enough keys in the store"),
            ApiError::Unavailable(cause) => Reply::error(503, &cause),
        }
    }
}
