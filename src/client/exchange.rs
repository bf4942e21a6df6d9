//! Sends a request until it succeeds or there is no sense in repeating it, and reads the answer.
//!
//! 1. A permit limits how many requests are under way.
//! 2. `retry.rs` decides after each failure.
//! 3. The status becomes a [`ClientError`], or the body is decoded.

use super::{
    error::ClientError,
    retry::{self, Failure, RetryPolicy},
    transport::{Endpoint, Method, Reply, Transport},
};
use crate::{api::error::ErrorBody, sys::clock::Clock};
use rand::Rng as _;
use serde::de::DeserializeOwned;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Requests under way at the same time.
const CONCURRENCY_MAX: usize = 16;
/// How long it is remembered that the API could not be reached.
const OUTAGE_REMEMBERED: Duration = Duration::from_secs(5);

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Option<&'a [u8]>,
    /// What it is for, as in `reading service demo/orders`.
    pub(super) doing: &'a str,
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Exchange {
    transport: Transport,
    policy: RetryPolicy,
    clock: Arc<dyn Clock>,
    permits: Semaphore,
    outage: Mutex<Option<Duration>>,
}

impl Exchange {
    pub(super) fn new(
        endpoint: &Endpoint,
        policy: RetryPolicy,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let transport = Transport::new(endpoint)?;
        let permits = Semaphore::new(CONCURRENCY_MAX);
        Ok(Self { transport, policy, clock, permits, outage: Mutex::new(None) })
    }

    /// Sends `request` and decodes the answer.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
    ) -> Result<T, ClientError> {
        let reply = self.reply(request).await?;
        serde_json::from_slice(&reply.body).map_err(|e| ClientError::Undecodable {
            doing: request.doing.to_owned(),
            reason: e.to_string(),
        })
    }

    /// Sends `request` until there is an answer with a status of success.
    pub(super) async fn reply(&self, request: Request<'_>) -> Result<Reply, ClientError> {
        let started = self.clock.monotonic();
        // Whoever comes while the API is away tries once: a thousand resources must not each wait.
        let policy = match self.outage() {
            Some(since) if started.saturating_sub(since) < OUTAGE_REMEMBERED => {
                RetryPolicy { retries_max: 0, ..self.policy }
            }
            _ => self.policy,
        };
        let mut repetition = 0;
        loop {
            let (failure, after, error) = match self.attempt(request).await {
                Attempt::Done(reply) => return Ok(reply),
                Attempt::Failed(failure, after, error) => (failure, after, error),
            };
            let elapsed = self.clock.monotonic().saturating_sub(started);
            let chance = rand::rng().random_range(0.0..1.0);
            let wait = retry::may_repeat(request.method, failure)
                .then(|| retry::wait(&policy, repetition, elapsed, after, chance))
                .flatten();
            let Some(wait) = wait else {
                if matches!(failure, Failure::Broken { .. }) {
                    self.set_outage(Some(self.clock.monotonic()));
                }
                return Err(error);
            };
            tracing::debug!(doing = request.doing, repetition, ?wait, %error, "trying again");
            self.clock.sleep(wait).await;
            repetition += 1;
        }
    }

    async fn attempt(&self, request: Request<'_>) -> Attempt {
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let outcome = self.transport.send(request.method, request.path, request.body).await;
        drop(permit);
        match outcome {
            Err(broken) => {
                let failure = Failure::Broken { before_sending: broken.before_sending };
                let error = ClientError::Unreachable {
                    url: self.transport.base.clone(),
                    reason: broken.reason,
                    maybe_done: !broken.before_sending,
                };
                Attempt::Failed(failure, None, error)
            }
            Ok(reply) => {
                self.set_outage(None);
                if (200..300).contains(&reply.status) {
                    return Attempt::Done(reply);
                }
                let after = reply.retry_after.as_deref();
                let after = after.and_then(|text| retry::retry_after(text, self.clock.now()));
                let error = refusal(&self.transport.base, request.doing, &reply);
                Attempt::Failed(Failure::Status(reply.status), after, error)
            }
        }
    }

    fn outage(&self) -> Option<Duration> {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_outage(&self, since: Option<Duration>) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

enum Attempt {
    Done(Reply),
    Failed(Failure, Option<Duration>, ClientError),
}

/// The error that an answer without success stands for.
fn refusal(url: &str, doing: &str, reply: &Reply) -> ClientError {
    let body: Option<ErrorBody> = serde_json::from_slice(&reply.body).ok();
    let code = body.as_ref().and_then(|b| b.code()).map(str::to_owned);
    let message = body.map(|b| b.message).filter(|text| !text.is_empty());
    let message = message.unwrap_or_else(|| format!("status {} without a reason", reply.status));
    let doing = doing.to_owned();
    match reply.status {
        401 => ClientError::Unauthorized { url: url.to_owned(), message },
        403 => ClientError::Forbidden { doing, message },
        404 => ClientError::NotFound { doing, message },
        409 => ClientError::Conflict { doing, message },
        300..=399 => {
            let reason = format!("status {}, a redirect, which is not followed", reply.status);
            ClientError::Undecodable { doing, reason }
        }
        429 | 500.. => ClientError::Server { doing, status: reply.status, message },
        status => ClientError::Refused { status, code, message },
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        api::service::ServiceCreate,
        client::{
            endpoints::Api,
            error::ClientError,
            fake::{Answer, Fake, FastClock, endpoint},
            retry::RetryPolicy,
        },
        domain::ids::{ProjectName, ServiceId, ServiceName},
    };
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    fn id(service: &str) -> ServiceId {
        ServiceId {
            project: ProjectName::parse("demo").unwrap(),
            service: ServiceName::parse(service).unwrap(),
        }
    }

    pub(super) fn service(name: &str) -> String {
        serde_json::json!({"service": {
            "service_name": name, "service_type": "pg", "cloud_name": "aws-eu-west-1",
            "plan": "startup-4", "state": "RUNNING", "user_config": {}, "backups": [],
            "create_time": "2026-11-23T07:00:00Z", "update_time": "2026-11-23T07:00:00Z",
        }})
        .to_string()
    }

    fn clock() -> Arc<FastClock> {
        FastClock::at("2026-11-23T08:00:00Z")
    }

    /// Answers with each status in turn, then with success.
    async fn failing(statuses: &'static [u16]) -> Fake {
        let turn = AtomicUsize::new(0);
        Fake::start(move |_| match statuses.get(turn.fetch_add(1, Ordering::SeqCst)) {
            Some(status) => Answer(*status, r#"{"message": "not now"}"#.to_owned()),
            None => Answer(200, service("orders")),
        })
        .await
    }

    #[tokio::test]
    async fn a_read_is_repeated_until_it_succeeds() {
        let fake = failing(&[503, 0, 429]).await;
        let api = fake.api(clock());
        assert_eq!(api.service(&id("orders")).await.unwrap().service_name, "orders");
        assert_eq!(fake.count("GET"), 4);
        let head = fake.asked.lock().unwrap()[0].head.to_ascii_lowercase();
        assert!(head.contains("authorization: aivenv1 token-of-the-test"), "{head}");
        assert!(head.contains("user-agent: test"), "{head}");
    }

    #[tokio::test]
    async fn a_create_is_sent_once_unless_nothing_can_have_happened() {
        let body = ServiceCreate::default();
        let fake = failing(&[503]).await;
        let error = fake.api(clock()).create(&id("orders"), &body).await.unwrap_err();
        assert!(matches!(error, ClientError::Server { status: 503, .. }), "{error}");
        assert_eq!(fake.count("POST"), 1);
        let fake = failing(&[0]).await;
        let error = fake.api(clock()).create(&id("orders"), &body).await.unwrap_err();
        assert!(error.maybe_done(), "{error}");
        assert_eq!(fake.count("POST"), 1);
        let fake = failing(&[429, 429]).await;
        fake.api(clock()).create(&id("orders"), &body).await.unwrap();
        assert_eq!(fake.count("POST"), 3);
    }

    #[tokio::test]
    async fn statuses_become_their_errors_and_the_token_stays_hidden() {
        for (status, words) in
            [(401, "AIVEN_TOKEN"), (403, "not allowed"), (404, "not found"), (409, "conflict")]
        {
            let fake = Fake::start(move |_| Answer(status, r#"{"message": "no"}"#.into())).await;
            let error = fake.api(clock()).service(&id("orders")).await.unwrap_err();
            assert!(error.explain().contains(words), "{}", error.explain());
            assert!(!format!("{error:?} {}", error.explain()).contains("token-of-the-test"));
            assert_eq!(fake.count("GET"), 1);
        }
        let body = r#"{"message": "outside", "errors": [{"message": "outside", "status": 400,
            "error_code": "time_outside_window"}]}"#;
        let fake = Fake::start(move |_| Answer(400, body.to_owned())).await;
        let error = fake.api(clock()).service(&id("orders")).await.unwrap_err();
        let code = Some("time_outside_window".to_owned());
        assert_eq!(
            error,
            ClientError::Refused { status: 400, code, message: "outside".to_owned() }
        );
    }

    #[tokio::test]
    async fn equal_reads_with_secrets_are_one_request_until_something_is_written() {
        let fake = failing(&[]).await;
        let clock = clock();
        let api = fake.api(clock.clone());
        let id = id("orders");
        let (one, two) = tokio::join!(api.service_with_secrets(&id), api.service_with_secrets(&id));
        assert_eq!((one.unwrap(), fake.count("GET")), (two.unwrap(), 1));
        clock.advance(std::time::Duration::from_millis(1));
        api.update(&id, &Default::default()).await.unwrap();
        api.service_with_secrets(&id).await.unwrap();
        assert_eq!(fake.count("GET"), 2);
        let asked = fake.asked.lock().unwrap();
        assert!(asked[0].path.ends_with("?include_secrets=true"), "{}", asked[0].path);
    }

    #[tokio::test]
    async fn an_api_that_is_away_is_named_and_only_the_first_caller_waits() {
        let clock = clock();
        let policy = RetryPolicy::default();
        let endpoint = endpoint("http://127.0.0.1:1");
        let api = Api::new(&endpoint, policy, clock.clone()).unwrap();
        let error = api.service(&id("orders")).await.unwrap_err();
        let text = error.explain();
        assert!(text.starts_with("cannot reach http://127.0.0.1:1: "), "{text}");
        assert!(text.contains("btar serve") && text.contains("api_url"), "{text}");
        let waited = clock.slept();
        assert!(!waited.is_zero());
        assert!(api.service(&id("others")).await.is_err());
        assert_eq!(clock.slept(), waited);
    }

    #[tokio::test]
    async fn many_services_of_a_project_are_read_as_one_list() {
        let fake = Fake::start(|asked| match asked.path.strip_prefix("/v1/project/demo/service") {
            Some("") => {
                let one = |n: usize| {
                    let reply: serde_json::Value =
                        serde_json::from_str(&service(&format!("s{n}"))).unwrap();
                    reply["service"].clone()
                };
                let services: Vec<_> = (0..50).map(one).collect();
                Answer(200, serde_json::json!({ "services": services }).to_string())
            }
            Some(name) => Answer(200, service(&name[1..])),
            None => Answer(404, String::new()),
        })
        .await;
        let clock = clock();
        let api = fake.api(clock.clone());
        for n in 0..50 {
            let name = format!("s{n}");
            assert_eq!(api.service(&id(&name)).await.unwrap().service_name, name);
        }
        assert_eq!(fake.count("GET"), 9);
        // What was written since is read anew, by itself.
        clock.advance(std::time::Duration::from_millis(1));
        api.update(&id("s40"), &Default::default()).await.unwrap();
        api.service(&id("s40")).await.unwrap();
        api.service(&id("s41")).await.unwrap();
        assert_eq!(fake.count("GET"), 10);
    }
}
