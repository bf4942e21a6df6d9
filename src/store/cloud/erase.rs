//! Deletes one blob of Azure with one request.
//!
//! The client has only batches of deletions, which need more rights than the deletion of a blob.

use http::{Method, Request};
use object_store::{
    azure::{AzureAuthorizer, AzureCredentialProvider},
    client::{HttpClient, HttpError, HttpErrorKind, HttpRequestBody},
    path::Path,
};
use url::Url;

/// Deletes blobs of one container.
pub(super) struct Eraser {
    pub(super) client: HttpClient,
    /// `https://account.blob.core.windows.net/container`.
    pub(super) container: Url,
    pub(super) account: String,
    /// `None` when requests are not signed.
    pub(super) credentials: Option<AzureCredentialProvider>,
}

impl Eraser {
    /// Asks for the deletion. What the store answers is in the notes of the call that this runs as.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), HttpError> {
        let invalid = |error: http::Error| HttpError::new(HttpErrorKind::Unknown, error);
        let mut url = self.container.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.parts());
        }
        let request = Request::builder().method(Method::DELETE).uri(url.as_str());
        let mut request =
            request.header("content-length", 0).body(HttpRequestBody::empty()).map_err(invalid)?;
        if let Some(credentials) = &self.credentials {
            let failed = |error| HttpError::new(HttpErrorKind::Unknown, error);
            let credential = credentials.get_credential().await.map_err(failed)?;
            let authorizer = AzureAuthorizer::new(&credential, &self.account);
            authorizer.try_authorize(&mut request).map_err(failed)?;
        }
        let response = self.client.execute(request).await?;
        // An answer that is an error is in the notes already; it must be read for the connection.
        response.into_body().bytes().await.map(drop)
    }
}
