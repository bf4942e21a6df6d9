//! A small HTTP server for tests: it answers with what a function says, and remembers the requests.

use super::{endpoints::Api, retry::RetryPolicy, token::Token, transport::Endpoint};
use crate::sys::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
}

/// What to answer. Status 0 closes the connection without an answer.
pub(crate) struct Answer(pub(crate) u16, pub(crate) String);

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server; it ends with the test's runtime.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(crate) async fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (handler, log): (Arc<Handler>, _) = (Arc::new(handler), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        Self { url, asked }
    }

    /// A client of this server that never really waits.
    pub(crate) fn api(&self, clock: Arc<FastClock>) -> Api {
        Api::new(&endpoint(&self.url), RetryPolicy::default(), clock).unwrap()
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.method == method).count()
    }
}

pub(crate) fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        url: url.to_owned(),
        token: Token::new("token-of-the-test".to_owned()),
        ca_pem: None,
        user_agent: "test".to_owned(),
        request_timeout: Duration::from_secs(5),
    }
}

async fn serve(stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
        });
        let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        let mut words = head.split(' ');
        let asked = Asked {
            method: words.next().unwrap().to_owned(),
            path: words.next().unwrap().to_owned(),
            head,
        };
        log.lock().unwrap().push(asked.clone());
        let Answer(status, text) = handler(&asked);
        if status == 0 {
            return;
        }
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A clock whose sleeps take no time and move it on.
#[derive(Debug)]
pub(crate) struct FastClock {
    start: DateTime<Utc>,
    passed: Arc<Mutex<Duration>>,
}

impl FastClock {
    pub(crate) fn at(start: &str) -> Arc<Self> {
        Arc::new(Self { start: start.parse().unwrap(), passed: Arc::default() })
    }

    pub(crate) fn advance(&self, period: Duration) {
        *self.passed.lock().unwrap() += period;
    }

    pub(crate) fn slept(&self) -> Duration {
        *self.passed.lock().unwrap()
    }
}

impl Clock for FastClock {
    fn now(&self) -> DateTime<Utc> {
        self.start + TimeDelta::from_std(self.slept()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.slept()
    }

    fn sleep(&self, period: Duration) -> BoxFuture<'static, ()> {
        let passed = Arc::clone(&self.passed);
        Box::pin(async move {
            *passed.lock().unwrap() += period;
            tokio::task::yield_now().await;
        })
    }
}
