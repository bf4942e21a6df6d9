//! From the errors of clients and the answers of stores to ours.

use crate::store::{
    Condition, Lasting, StoreError,
    cloud::call::{Notes, Refusal},
    key::Key,
};
use http::StatusCode;
use std::error::Error;

/// What was being done, for an error's text and meaning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing<'a> {
    pub(super) store: &'a str,
    pub(super) what: &'static str,
    pub(super) key: &'a Key,
    pub(super) condition: &'a Condition,
}

/// Codes of answers that are 4xx and yet pass by themselves.
const PASSING: &[&str] = &[
    "BadDigest",
    "ConditionalRequestConflict",
    "Crc64Mismatch",
    "ExpiredToken",
    "Md5Mismatch",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
];
/// Codes that say that the bucket or container is missing, and not an object.
const NO_BUCKET: &[&str] = &["NoSuchBucket", "ContainerNotFound", "AccountNotFound"];

/// What an error means.
pub(super) fn fault(
    doing: Doing<'_>,
    error: &(dyn Error + Send + Sync + 'static),
    notes: &Notes,
) -> StoreError {
    let Doing { store, what, key, condition } = doing;
    let unavailable = |text: String, lasting: bool| {
        if lasting {
            StoreError::unavailable(store, what, key, Lasting(text))
        } else {
            StoreError::unavailable(store, what, key, text)
        }
    };
    let Some(refusal) = &notes.refusal else {
        return match error.downcast_ref::<object_store::Error>() {
            Some(object_store::Error::NotFound { .. }) => StoreError::NotFound(key.clone()),
            Some(_) | None => unavailable(deepest(error), false),
        };
    };
    let text = explain(refusal);
    let passing = PASSING.contains(&refusal.code.as_str());
    match refusal.status {
        _ if passing => unavailable(text, false),
        StatusCode::NOT_FOUND if NO_BUCKET.contains(&refusal.code.as_str()) => {
            unavailable(text, true)
        }
        // S3 answers so when there is nothing that could match.
        StatusCode::NOT_FOUND if matches!(condition, Condition::IfMatch(_)) => {
            StoreError::Changed(key.clone())
        }
        StatusCode::NOT_FOUND => StoreError::NotFound(key.clone()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            StoreError::Denied { store: store.to_owned(), key: key.clone(), why: text }
        }
        StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT | StatusCode::NOT_MODIFIED => {
            match condition {
                Condition::IfAbsent => StoreError::AlreadyExists(key.clone()),
                Condition::IfMatch(_) => StoreError::Changed(key.clone()),
                Condition::None => unavailable(text, false),
            }
        }
        StatusCode::INSUFFICIENT_STORAGE => {
            StoreError::NoSpace { store: store.to_owned(), key: key.clone() }
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => unavailable(text, false),
        status => unavailable(text, status.is_client_error()),
    }
}

fn explain(refusal: &Refusal) -> String {
    let Refusal { status, code, message } = refusal;
    match (code.as_str(), message.as_str()) {
        ("", "") => format!("it answered {status}"),
        (code, "") => format!("it answered {} {code}", status.as_u16()),
        (code, message) => format!("it answered {} {code}: {message}", status.as_u16()),
    }
}

/// The text of the innermost cause, which names neither addresses nor queries: those of Azure may
/// hold a signature.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
