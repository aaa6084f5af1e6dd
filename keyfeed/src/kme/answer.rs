use serde::Serialize;
use serde_json::{Map, Value};

use crate::etsi014::wire::{ErrorBody, to_json};

/// An HTTP answer before it meets HTTP.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// JSON; `None` sends no body at all.
    pub(super) body: Option<Vec<u8>>,
    /// For 405: the verbs that are allowed (RFC 9110 clause 15.5.6).
    pub(super) allow: Option<&'static str>,
}

/// Why a request is not served (ETSI GS QKD 014 clause 6, tables of HTTP status codes).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// 400 with a message, and with the field that is wrong when that helps.
    BadRequest { message: String, field: Option<&'static str> },
    /// 401, which has no body.
    Unauthorised,
    /// 404: a path that the standard does not have.
    NoSuchPath,
    /// 405.
    WrongVerb { allow: &'static str },
    /// 503 with the cause.
    Unavailable(String),
}

impl Reply {
    pub(super) fn ok(body: &impl Serialize) -> Self {
        Reply { status: 200, body: Some(to_json(body)), allow: None }
    }

    pub(super) fn empty(status: u16) -> Self {
        Reply { status, body: None, allow: None }
    }
}

impl ApiError {
    /// 400 with a message of the standard or of ours.
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
        let (status, message, field, allow) = match error {
            ApiError::BadRequest { message, field } => (400, message, field, None),
            ApiError::Unauthorised => return Reply::empty(401),
            ApiError::NoSuchPath => (404, "there is no such path in ETSI GS QKD 014".into(), None, None),
            ApiError::WrongVerb { allow } => (405, format!("this path takes {allow}"), None, Some(allow)),
            ApiError::Unavailable(cause) => (503, cause, None, None),
        };
        let details = field.map(|field| Map::from_iter([("parameter".to_owned(), Value::from(field))]));
        let body = ErrorBody { message, details: details.into_iter().collect() };
        Reply { status, body: Some(to_json(&body)), allow }
    }
}
