//! Answers.

use axum::{body::Body, response::Response};
use http::StatusCode;

pub(crate) fn ok(text: String) -> Response {
    Response::new(Body::from(text))
}

pub(crate) fn error(status: StatusCode, code: &str) -> Response {
    let text = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    let mut response = ok(text);
    *response.status_mut() = status;
    response
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
