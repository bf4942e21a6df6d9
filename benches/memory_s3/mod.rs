//! A fast S3 server in memory for benchmarks: no signatures are checked, so that it is not what is
//! measured, but checksums are, and it counts requests.
//!
//! Besides S3 there is `/-/`: `POST /-/fill?bucket=&count=&size=` makes objects, `POST
//! /-/drop?bucket=` removes them, `GET /-/count` tells the requests since the last time.

mod objects;
mod xml;

use axum::{Router, body::Body, extract::State, response::Response, serve::ListenerExt};
use btar::sys::clock::{Clock, SystemClock};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, StatusCode, request::Parts};
use objects::{Blob, Objects};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

struct Shared {
    objects: Mutex<Objects>,
    latency: Duration,
    clock: SystemClock,
    counts: Mutex<BTreeMap<String, u64>>,
}

/// Serves until the process ends. `told` gets the address.
pub(crate) async fn serve(latency: Duration, told: impl FnOnce(&str)) {
    let shared = Shared {
        objects: Mutex::new(Objects::new()),
        latency,
        clock: SystemClock::new(),
        counts: Mutex::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    told(&format!("http://{}", listener.local_addr().unwrap()));
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::new(shared));
    axum::serve(listener, router).await.unwrap();
}

/// A request without its body.
pub(crate) struct Request {
    head: Parts,
    pub(crate) bucket: String,
    pub(crate) key: String,
    query: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A number of the query.
    fn number(&self, name: &str) -> usize {
        self.query(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: http::Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let path = decoded(head.uri.path());
    let path = path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    let pairs = head.uri.query().unwrap_or_default().split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(&value.replace('+', " ")))
    });
    let request = Request { query: pairs.collect(), head, bucket, key };
    if request.bucket == "-" {
        return ours(&shared, &request);
    }
    let method = request.head.method.clone();
    *shared.counts.lock().unwrap().entry(method.to_string()).or_default() += 1;
    if !shared.latency.is_zero() {
        shared.clock.sleep(shared.latency).await;
    }
    let Some(blob) = read(&request, body).await else {
        return xml::error(StatusCode::BAD_REQUEST, "IncompleteBody");
    };
    let mut objects = shared.objects.lock().unwrap();
    let has = |name: &str| request.query.contains_key(name);
    match method {
        Method::GET if request.key.is_empty() && has("location") => {
            xml::ok("<LocationConstraint></LocationConstraint>".to_owned())
        }
        Method::GET if request.key.is_empty() => objects.list(&request),
        Method::HEAD | Method::PUT if request.key.is_empty() => xml::ok(String::new()),
        Method::GET | Method::HEAD => objects.read(&request, method == Method::HEAD),
        Method::PUT if has("uploadId") => objects.put_part(&request, blob),
        Method::PUT => objects.put(&request, blob),
        Method::POST if has("uploads") => objects.begin(&request),
        Method::POST if has("uploadId") => objects.complete(&request),
        Method::DELETE => objects.delete(&request),
        _ => xml::error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
    }
}

/// What is not S3's.
fn ours(shared: &Shared, request: &Request) -> Response {
    let bucket = request.query("bucket").unwrap_or_default();
    match request.key.as_str() {
        "fill" => {
            let (count, size) = (request.number("count"), request.number("size"));
            shared.objects.lock().unwrap().fill(bucket, count, size);
            xml::ok(String::new())
        }
        "drop" => xml::ok(shared.objects.lock().unwrap().drop_bucket(bucket).to_string()),
        "count" => {
            let counts = std::mem::take(&mut *shared.counts.lock().unwrap());
            let counts: Vec<_> = counts.iter().map(|(m, n)| format!("\"{m}\": {n}")).collect();
            xml::ok(format!("{{{}}}", counts.join(", ")))
        }
        _ => xml::error(StatusCode::NOT_FOUND, "NotFound"),
    }
}

/// Takes a body in the pieces in which it comes; `None` when it breaks off.
async fn read(request: &Request, body: Body) -> Option<Blob> {
    let (mut body, mut pieces) = (body.into_data_stream(), Vec::new());
    while let Some(piece) = body.next().await {
        pieces.push(piece.ok()?);
    }
    let streaming = request.header("x-amz-content-sha256");
    if streaming.is_some_and(|payload| payload.starts_with("STREAMING-")) {
        pieces = unchunked(&pieces)?;
    }
    Some(Blob::of(pieces))
}

/// The contents of AWS's own chunks: `size;…\r\n…\r\n`, the last of size 0, then trailers.
fn unchunked(pieces: &[Bytes]) -> Option<Vec<Bytes>> {
    let all = Bytes::from(pieces.concat());
    let (mut at, mut contents) = (0, Vec::new());
    loop {
        let line = all[at..].windows(2).position(|two| two == b"\r\n")? + at;
        let head = std::str::from_utf8(&all[at..line]).ok()?;
        let size = usize::from_str_radix(head.split(';').next()?, 16).ok()?;
        if size == 0 {
            return Some(contents);
        }
        contents.push(all.slice(line + 2..line + 2 + size));
        at = line + 2 + size + 2;
    }
}

fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap()
}
