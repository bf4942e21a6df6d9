//! Error bodies, and the status of each error. The one place where they come from.

use crate::{
    api::error::ErrorBody,
    engine::error::{AppError, chain},
};
use axum::{
    Json,
    body::Bytes,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use tracing::error;

/// An error on its way out.
pub(super) struct Failure(pub(super) AppError);

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self(error)
    }
}

/// The body and status of an error.
pub(super) fn failure(failed: &AppError) -> Response {
    let (status, code) = match failed {
        AppError::Violation(violation) => (StatusCode::BAD_REQUEST, violation.code()),
        AppError::Refused { code, .. } => (StatusCode::BAD_REQUEST, *code),
        AppError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        AppError::NameTaken => (StatusCode::CONFLICT, "service_already_exists"),
        AppError::Protected => (StatusCode::FORBIDDEN, "request_forbidden"),
        AppError::InvalidToken => (StatusCode::UNAUTHORIZED, "authentication_failed"),
        AppError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
        AppError::State(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error"),
    };
    if status.is_server_error() {
        error!(error = %chain(failed), "a request failed");
    }
    // What a store said helps the person; the state's own words are for the log.
    let text = match failed {
        AppError::Store(inner) => format!("{failed}: {}", chain(inner)),
        AppError::Violation(_)
        | AppError::Refused { .. }
        | AppError::NotFound(_)
        | AppError::NameTaken
        | AppError::Protected
        | AppError::InvalidToken
        | AppError::State(_) => failed.to_string(),
    };
    with_status(status, code, &text)
}

pub(super) fn no_such_path(path: &str) -> Response {
    with_status(StatusCode::NOT_FOUND, "not_found", &format!("there is no path {path} in this API"))
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let text = format!("{method} is not possible for {}", uri.path());
    with_status(StatusCode::METHOD_NOT_ALLOWED, "bad_request", &text)
}

fn with_status(status: StatusCode, code: &str, text: &str) -> Response {
    (status, Json(ErrorBody::new(status.as_u16(), Some(code), text))).into_response()
}

/// Reads a body, whatever its content type says: clients differ.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    let body = if body.is_empty() { b"{}" } else { body.as_ref() };
    serde_json::from_slice(body).map_err(|error| {
        Failure(AppError::refused("bad_request", format!("Invalid input: {error}")))
    })
}
