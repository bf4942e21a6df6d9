//! Who may call: the SHA-256 of the token must be one of the configuration's.

use crate::engine::{app::App, error::AppError, http::answer};
use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::Response,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tracing::debug;

/// Lets a request through whose token is known.
pub(super) async fn require(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(name) = given.and_then(|given| who(&app, given)) else {
        return answer::failure(&AppError::InvalidToken);
    };
    debug!(token = name, method = %request.method(), path = request.uri().path(), "a request");
    next.run(request).await
}

/// The name of the token in `aivenv1 TOKEN` or `Bearer TOKEN`.
fn who<'a>(app: &'a App, given: &str) -> Option<&'a str> {
    let (scheme, token) = given.trim().split_once(' ')?;
    if !["aivenv1", "bearer"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return None;
    }
    let sum: [u8; 32] = Sha256::digest(token.trim()).into();
    // All are compared: how long it takes tells nothing but their number.
    let mut name = None;
    for known in &app.settings.tokens {
        let differs = known.sha256.iter().zip(sum).fold(0, |acc, (a, b)| acc | (a ^ b));
        if differs == 0 {
            name = Some(known.name.as_str());
        }
    }
    name
}
