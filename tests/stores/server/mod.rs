//! A server of buckets in memory that speaks S3 or Google's XML API, and refuses what they refuse:
//! wrong signatures, unsigned `x-amz-` headers, wrong checksums, unmet conditions, small parts.

pub(crate) mod fault;
pub(crate) mod tls;

mod answer;
mod copies;
mod objects;
mod sign;

use answer::error;
use axum::{Router, body::Body, extract::State, response::Response};
use btar::sys::clock::{Clock, SystemClock};
use bytes::Bytes;
use fault::{Fault, Seen};
use http::{Method, StatusCode, request::Parts};
use objects::Objects;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    S3,
    Google,
}

/// How the server behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) dialect: Dialect,
    /// Whether it tells checksums of what it holds.
    pub(crate) tells_checksums: bool,
    /// Whether it does so in its answer to a copy.
    pub(crate) tells_of_copies: bool,
    /// Objects in one page of a listing.
    pub(crate) page: usize,
}

impl Manners {
    pub(crate) fn of(dialect: Dialect) -> Self {
        Self { dialect, tells_checksums: true, tells_of_copies: true, page: 3 }
    }
}

pub(crate) const ACCESS_KEY: &str = "BTARTESTKEY";
pub(crate) const SECRET_KEY: &str = "btar/test+secret";
pub(crate) const TOKEN: &str = "btar-test-token";
pub(crate) const BUCKET: &str = "backups";
/// Another bucket.
pub(crate) const PRIMARY: &str = "primary";
const COPY_SOURCE: &str = "x-amz-copy-source";

type Decide = Box<dyn Fn(&Seen) -> Fault + Send + Sync>;

/// The server. It ends with the runtime of the test.
pub(crate) struct Server {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    manners: Manners,
    objects: Mutex<Objects>,
    decide: Mutex<Decide>,
    requests: AtomicU64,
    taken_bytes: AtomicU64,
    log: Mutex<Vec<String>>,
}

/// A request that was taken in whole.
pub(crate) struct Request {
    pub(crate) head: Parts,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }
}

impl Server {
    pub(crate) async fn start(manners: Manners) -> Self {
        let shared = Arc::new(Shared {
            manners,
            objects: Mutex::new(Objects::new(manners)),
            decide: Mutex::new(Box::new(|_| Fault::None)),
            requests: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
            log: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(serve).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// From now on `decide` says what goes wrong with each request.
    pub(crate) fn faults(&self, decide: impl Fn(&Seen) -> Fault + Send + Sync + 'static) {
        self.shared.requests.store(0, Ordering::SeqCst);
        *self.shared.decide.lock().unwrap() = Box::new(decide);
    }

    /// Bytes of bodies that were sent to it so far, and forgets them.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.shared.taken_bytes.swap(0, Ordering::SeqCst)
    }

    /// Requests so far, such as `PUT /backups/a?partNumber=1` or `PUT /backups/a from primary/a`, and
    /// forgets them.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.log.lock().unwrap())
    }

    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.shared.objects.lock().unwrap()
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: http::Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let source = head.headers.get(COPY_SOURCE).and_then(|source| source.to_str().ok());
    let source = source.map(|source| format!(" from {source}")).unwrap_or_default();
    let line = format!("{} {}{source}", head.method, head.uri);
    shared.log.lock().unwrap().push(line.clone());
    let number = shared.requests.fetch_add(1, Ordering::SeqCst);
    let fault = (shared.decide.lock().unwrap())(&Seen { number, line });
    match fault {
        Fault::Status(status, code) => return error(status, code).into_response(),
        Fault::Late(period) => SystemClock::new().sleep(period).await,
        Fault::None | Fault::Lost | Fault::Break(_) | Fault::Hidden(_) | Fault::Damage => {}
    }
    let Ok(body) = axum::body::to_bytes(body, 1 << 30).await else {
        return error(StatusCode::BAD_REQUEST, "IncompleteBody").into_response();
    };
    shared.taken_bytes.fetch_add(body.len() as u64, Ordering::SeqCst);
    let request = match taken(&shared, head, body) {
        Ok(request) => request,
        Err((status, code)) => return error(status, &code).into_response(),
    };
    let answer = {
        let mut objects = shared.objects.lock().unwrap();
        objects.damage = fault == Fault::Damage;
        objects.hidden = match fault {
            Fault::Hidden(code) => Some(code),
            Fault::None
            | Fault::Status(..)
            | Fault::Late(_)
            | Fault::Lost
            | Fault::Break(_)
            | Fault::Damage => None,
        };
        objects.answer(&request)
    };
    let cut = match fault {
        Fault::Lost => Some(0),
        Fault::Break(bytes) => Some(bytes),
        Fault::None | Fault::Status(..) | Fault::Late(_) | Fault::Hidden(_) | Fault::Damage => None,
    };
    let is_head = request.head.method == Method::HEAD;
    answer.into_response_cut(cut, is_head)
}

/// Checks who asks and takes the address apart.
fn taken(shared: &Shared, head: Parts, body: Bytes) -> Result<Request, sign::Refused> {
    match shared.manners.dialect {
        Dialect::S3 => sign::check(&head, &body)?,
        Dialect::Google => {
            let given = head.headers.get("authorization").and_then(|v| v.to_str().ok());
            if given != Some(&format!("Bearer {TOKEN}")) {
                return Err((StatusCode::UNAUTHORIZED, "AuthenticationRequired".to_owned()));
            }
        }
    }
    let path = sign::decoded(head.uri.path());
    let path = path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    let query = sign::pairs(head.uri.query().unwrap_or_default()).into_iter().collect();
    Ok(Request { head, bucket, key, query, body })
}
