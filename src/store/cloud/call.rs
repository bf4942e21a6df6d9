//! What a call adds to its HTTP requests, and what it learns from the answers.
//!
//! `object_store` has no way to send a condition with the end of a multipart upload, to ask S3 for
//! the checksum of an object, or to tell the status of an answer that it did not expect. So each of
//! our calls runs with a [`Call`] as its task-local value, and a layer around the HTTP client
//! 1. adds the call's headers to requests that go to the store (and to nobody else, such as the
//!    server that gives credentials), signing anew where the signature covers them,
//! 2. waits for the store's gate, and tells it how the store has answered,
//! 3. notes the headers of the answer, or what an error answer says.

use crate::store::cloud::gate::Gate;
use async_trait::async_trait;
use http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH},
};
use object_store::{
    ClientOptions,
    aws::{AwsAuthorizer, AwsCredentialProvider},
    azure::AzureAuthorizer,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpService, ReqwestConnector,
    },
};
use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// Largest error answer that is read, in bytes.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Longest message of a store that is passed on, in characters.
const MESSAGE_LENGTH_MAX: usize = 200;

/// One call of ours.
#[derive(Debug, Default)]
pub(super) struct Call {
    add: HeaderMap,
    notes: Mutex<Notes>,
}

/// What was learned.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// Requests that went to the store. More than one: an earlier one failed.
    pub(super) requests: u32,
    /// Headers of the last answer that was no error.
    pub(super) headers: HeaderMap,
    /// What the last answer said, when it was an error.
    pub(super) refusal: Option<Refusal>,
}

/// An error that a store answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The store's own word for it, such as `NoSuchBucket`.
    pub(super) code: String,
    pub(super) message: String,
}

impl Call {
    /// A call whose requests get these headers.
    pub(super) fn new(add: HeaderMap) -> Arc<Self> {
        Arc::new(Self { add, notes: Mutex::default() })
    }

    /// Runs something as this call.
    pub(super) async fn run<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        CALL.scope(self.clone(), work).await
    }

    pub(super) fn notes(&self) -> Notes {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signs requests anew whose headers have changed.
pub(super) enum Signer {
    /// Nothing is signed but the bearer's token.
    Bearer,
    /// All `x-amz-` headers are signed, and the contents where `sign_payload` says so. Some requests come
    /// without any signature, since they get such a header anyway.
    Aws { credentials: AwsCredentialProvider, region: String, sign_payload: bool },
    /// With a shared key, the headers are signed.
    Azure { credentials: object_store::azure::AzureCredentialProvider, account: String },
}

impl fmt::Debug for Signer {
    /// Credentials show what they hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    async fn sign(&self, request: &mut HttpRequest, added: &HeaderMap) -> object_store::Result<()> {
        let signed_with = |scheme: &str| {
            let value = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            value.is_some_and(|value| value.starts_with(scheme))
        };
        match self {
            Self::Aws { credentials, region, sign_payload } => {
                let covered = added.keys().any(|name| name.as_str().starts_with("x-amz-"));
                // Where contents are signed only requests without a body get such headers, so there is
                // nothing to digest.
                if covered {
                    let credential = credentials.get_credential().await?;
                    AwsAuthorizer::new(&credential, "s3", region)
                        .with_sign_payload(*sign_payload)
                        .try_authorize(request, None)?;
                }
                Ok(())
            }
            Self::Azure { credentials, account } if signed_with("SharedKey ") => {
                let credential = credentials.get_credential().await?;
                request.headers_mut().remove(AUTHORIZATION);
                AzureAuthorizer::new(&credential, account).try_authorize(request)
            }
            Self::Bearer | Self::Azure { .. } => Ok(()),
        }
    }
}

/// Makes HTTP clients with the layer around them. Clones share the connections, and the signer, which
/// is known only after the store has been built.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    /// Host and port of the store.
    pub(super) authority: String,
    pub(super) signer: Arc<OnceLock<Signer>>,
    /// How many requests the store gets at the same time.
    pub(super) gate: Arc<Gate>,
    /// Made once: the options of one store are the same every time.
    pub(super) client: Arc<OnceLock<HttpClient>>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = ReqwestConnector::default().connect(options)?;
        // Not kept in what it holds itself: the two would hold each other for ever.
        let connector = Self { client: Arc::default(), ..self.clone() };
        let client = HttpClient::new(Layer { client, connector });
        Ok(self.client.get_or_init(|| client).clone())
    }
}

#[derive(Debug)]
struct Layer {
    client: HttpClient,
    connector: Connector,
}

#[async_trait]
impl HttpService for Layer {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let to_store = request.uri().authority().is_some_and(|authority| {
            authority.as_str().eq_ignore_ascii_case(&self.connector.authority)
        });
        if !to_store {
            return self.client.execute(request).await;
        }
        let _turn = self.connector.gate.enter().await;
        let Ok(call) = CALL.try_with(Arc::clone) else {
            let response = self.client.execute(request).await?;
            self.connector.gate.answered(response.status());
            return Ok(response);
        };
        if !call.add.is_empty() {
            request.headers_mut().extend(call.add.clone());
            if let Some(signer) = self.connector.signer.get() {
                let signed = signer.sign(&mut request, &call.add).await;
                signed.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            }
        }
        call.lock().requests += 1;
        let response = self.client.execute(request).await?;
        self.connector.gate.answered(response.status());
        if !response.status().is_client_error() && !response.status().is_server_error() {
            let mut notes = call.lock();
            (notes.headers, notes.refusal) = (response.headers().clone(), None);
            return Ok(response);
        }
        let (response, refusal) = read_refusal(response).await?;
        call.lock().refusal = Some(refusal);
        Ok(response)
    }
}

/// Reads an error answer, and puts it together again for whoever asked.
async fn read_refusal(response: HttpResponse) -> Result<(HttpResponse, Refusal), HttpError> {
    let (parts, body) = response.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let length = header(CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > ERROR_BYTES_MAX) {
        let (code, message) = (String::new(), String::new());
        let refusal = Refusal { status: parts.status, code, message };
        return Ok((HttpResponse::from_parts(parts, body), refusal));
    }
    let bytes = body.bytes().await?;
    let text = String::from_utf8_lossy(&bytes);
    let code = header("x-ms-error-code").map(str::to_owned).or_else(|| element(&text, "Code"));
    let message = element(&text, "Message").unwrap_or_default();
    let refusal = Refusal { status: parts.status, code: code.unwrap_or_default(), message };
    Ok((HttpResponse::from_parts(parts, bytes.into()), refusal))
}

/// The text of an XML element: its first line, no longer than what people read.
pub(super) fn element(text: &str, name: &str) -> Option<String> {
    let begin = text.find(&format!("<{name}>"))? + name.len() + 2;
    let end = text[begin..].find(&format!("</{name}>"))? + begin;
    let line = text[begin..end].lines().next().unwrap_or_default();
    Some(line.chars().take(MESSAGE_LENGTH_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_the_code_and_one_line_are_kept() {
        let text = "<Error><Code>NoSuchBucket</Code><Message>It is gone.\nRequestId:1</Message>\
                    <StringToSign>AWS4</StringToSign></Error>";
        assert_eq!(element(text, "Code").as_deref(), Some("NoSuchBucket"));
        assert_eq!(element(text, "Message").as_deref(), Some("It is gone."));
        assert_eq!(element("<Code>", "Code"), None);
    }
}
