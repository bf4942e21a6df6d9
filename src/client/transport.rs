//! One HTTP exchange, without any judgement: the only place that knows the HTTP library.

use super::{error::ClientError, token::Token};
use reqwest::{
    Certificate, Client, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use std::{error::Error as _, fmt::Write as _, time::Duration};

/// Largest answer that is read, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where and how the API is called.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Base URL without `/v1`.
    pub url: String,
    /// The token.
    pub token: Token,
    /// Further certificates to trust, PEM.
    pub ca_pem: Option<String>,
    /// `User-Agent`.
    pub user_agent: String,
    /// Limit of one exchange.
    pub request_timeout: Duration,
}

/// What is done to a resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: Vec<u8>,
}

/// No answer.
#[derive(Debug)]
pub(super) struct Broken {
    /// Nothing had been sent, so nothing can have happened.
    pub(super) before_sending: bool,
    pub(super) reason: String,
}

/// A pool of connections to one API.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client,
    pub(super) base: String,
}

impl Transport {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let setup = |reason: String| ClientError::Setup { url: endpoint.url.clone(), reason };
        let url = Url::parse(&endpoint.url).map_err(|e| setup(e.to_string()))?;
        let mut authorization =
            HeaderValue::from_str(&format!("aivenv1 {}", endpoint.token.reveal()))
                .map_err(|_| setup("the token has characters that no header can carry".into()))?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut builder = Client::builder()
            .default_headers(headers)
            .user_agent(endpoint.user_agent.as_str())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(endpoint.request_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            // A redirect could carry the token elsewhere, or turn a POST into a GET.
            .redirect(redirect::Policy::none());
        if let Some(pem) = &endpoint.ca_pem {
            let certificates = Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|e| setup(format!("reading ca_certificate: {}", chain(&e))))?;
            if certificates.is_empty() {
                return Err(setup("ca_certificate holds no PEM certificate".to_owned()));
            }
            builder = builder.tls_certs_merge(certificates);
        } else if url.scheme() == "http" {
            // Without TLS the machine's certificates need not be loaded, which takes time.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|e| setup(chain(&e)))?;
        Ok(Self { client, base: endpoint.url.clone() })
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Reply, Broken> {
        let method = match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_vec());
        }
        let mut response = request.send().await.map_err(broken)?;
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                let reason = format!("the answer is larger than {BODY_BYTES_MAX} bytes");
                return Err(Broken { before_sending: false, reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, retry_after, body })
    }
}

fn broken(error: reqwest::Error) -> Broken {
    let before_sending = error.is_connect() || error.is_builder();
    let mut reason = String::new();
    if error.is_timeout() {
        reason.push_str("timed out: ");
    }
    // The URL is printed by whoever reports; here it would be repeated.
    reason.push_str(&chain(&error.without_url()));
    Broken { before_sending, reason }
}

/// The causes of an error, the innermost last.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            write!(text, ": {words}").expect("writing to a string cannot fail");
        }
        cause = inner.source();
    }
    text
}
