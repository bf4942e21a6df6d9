//! Where stores are reached.

use crate::store::config::{Addressing, SettingsError, StoreOptions};
use url::Url;

/// The provider of buckets that are not reached by an endpoint of their own.
pub(super) const AWS: &str = "aws";

/// Where a bucket of S3 is reached.
pub(super) struct Place {
    /// What all buckets of one provider have in common.
    pub(super) service: String,
    /// Without the bucket's path.
    pub(super) host: String,
    /// Whether the bucket is in the host's name, and not in the path.
    pub(super) virtual_host: bool,
    /// With it: keys follow.
    pub(super) bucket_url: String,
}

impl Place {
    pub(super) fn of(
        bucket: &str,
        region: &str,
        options: &StoreOptions,
    ) -> Result<Self, SettingsError> {
        let endpoint = endpoint(options)?;
        let virtual_host = match options.addressing {
            Addressing::Path => false,
            Addressing::VirtualHost => true,
            // No certificate is for a bucket's name with dots.
            Addressing::Auto => endpoint.is_none() && !bucket.contains('.'),
        };
        let host = match (&endpoint, virtual_host) {
            (None, true) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
            (None, false) => format!("https://s3.{region}.amazonaws.com"),
            (Some(url), false) => url.as_str().trim_end_matches('/').to_owned(),
            (Some(url), true) => format!("{}://{bucket}.{}", url.scheme(), url.authority()),
        };
        let service = endpoint.as_ref().map_or(AWS, Url::as_str).to_owned();
        let bucket_url = if virtual_host { host.clone() } else { format!("{host}/{bucket}") };
        Ok(Self { service, host, virtual_host, bucket_url })
    }
}

/// The endpoint that the settings name.
///
/// # Errors
/// [`SettingsError`] with the remedy.
pub(super) fn endpoint(options: &StoreOptions) -> Result<Option<Url>, SettingsError> {
    let Some(written) = &options.endpoint else { return Ok(None) };
    let wrong = |what: &str| Err(SettingsError::new("endpoint", what));
    let Ok(url) = Url::parse(written) else {
        return wrong("the endpoint is not a URL; write https://host:port");
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return wrong("an endpoint holds no user, password or query; write https://host:port");
    }
    match url.scheme() {
        "https" => Ok(Some(url)),
        "http" if options.allow_http => Ok(Some(url)),
        "http" => wrong(
            "the endpoint is plain http, which everybody on the way can read; use https, or set \
             allow_http = true",
        ),
        _ => wrong("the endpoint is neither http nor https; write https://host:port"),
    }
}
