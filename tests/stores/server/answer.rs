//! Answers and how they reach the client, or do not.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) fn error(status: StatusCode, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>As told by {code}.</Message></Error>");
    Answer { status, headers: HeaderMap::new(), body: body.into() }
}

pub(crate) fn ok(body: impl Into<Bytes>) -> Answer {
    Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() }
}

impl Answer {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn into_response(self) -> Response {
        self.into_response_cut(None, false)
    }

    /// The answer, or the beginning of it before the connection breaks.
    pub(crate) fn into_response_cut(self, cut: Option<usize>, is_head: bool) -> Response {
        let length = self.body.len();
        let body = match cut {
            None if is_head => Body::empty(),
            None => Body::from(self.body),
            Some(bytes) => {
                let begin = self.body.slice(..bytes.min(length));
                let broken = std::io::Error::other("told to break off");
                Body::from_stream(stream::iter([Ok(begin), Err(broken)]).boxed())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        // One more than came, where the answer is so short that it would not be seen to be cut.
        let told = cut.map_or(length, |bytes| length.max(bytes.min(length) + 1));
        let headers = response.headers_mut();
        if self.status != StatusCode::NO_CONTENT || cut.is_some() {
            headers.entry("content-length").or_insert(HeaderValue::from(told));
        }
        response
    }
}
