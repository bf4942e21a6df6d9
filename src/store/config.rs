//! The settings of a store, as data, and the environment that its credentials come from.

use serde::Deserialize;
use std::path::PathBuf;

/// What else must be known of a store than its address. Secrets are never written here, only the
/// names of the environment variables that hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreOptions {
    /// Where the store is reached, such as `https://minio.example.org:9000`, instead of its cloud.
    pub endpoint: Option<String>,
    /// The cloud's own name of the region, for S3.
    pub region: Option<String>,
    /// How S3 finds the bucket.
    pub addressing: Addressing,
    /// Allows plain `http`, which everybody on the way can read and change.
    pub allow_http: bool,
    /// Whether S3's signature leaves out the contents over plain `http`, too, as it does over `https`:
    /// that is faster, and for networks in which nobody changes what passes.
    pub unsigned_payload: bool,
    /// A file of PEM certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// No credentials at all.
    pub anonymous: bool,

    /// The section of `~/.aws/credentials` and `~/.aws/config` to take credentials from.
    pub profile: Option<String>,
    /// Variable with the access key of S3.
    pub access_key_id_env: Option<String>,
    /// Variable with the secret key of S3.
    pub secret_access_key_env: Option<String>,
    /// Variable with the session token of S3.
    pub session_token_env: Option<String>,

    /// File with the key of a Google service account.
    pub service_account_file: Option<PathBuf>,
    /// Variable with an access token, for Google and Azure.
    pub access_token_env: Option<String>,

    /// Azure's storage account.
    pub account: Option<String>,
    /// Variable with the account's key.
    pub account_key_env: Option<String>,
    /// Variable with a shared access signature.
    pub sas_env: Option<String>,
    /// Application of the client secret, or of the managed identity.
    pub client_id: Option<String>,
    /// Tenant of the client secret.
    pub tenant_id: Option<String>,
    /// Variable with the client secret.
    pub client_secret_env: Option<String>,

    /// How writes are proven.
    pub proof: ProofChoice,
    /// Whether the store honours conditions on writes. Some that are compatible with S3 ignore
    /// them: then it is only looked before each write.
    pub conditional_writes: ConditionalWrites,
    /// Whether the provider is asked to copy what has been read from another bucket of its own, instead
    /// of being sent the contents. For S3.
    pub server_side_copy: bool,
    /// Whether a directory keeps user metadata in `<key>.metadata`, as PGHoard and MyHoard do.
    pub sidecars: bool,

    /// Most requests at the same time.
    pub requests_max: Option<usize>,
    /// Most memory for what is being written, in MiB.
    pub upload_memory_mib: Option<u64>,
    /// Most bytes written and read in a second, in MiB.
    pub bandwidth_mib: Option<u64>,
}

/// How S3 finds the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// In the path when there is an `endpoint`, else in the host's name.
    #[default]
    Auto,
    /// `https://host/bucket/key`.
    Path,
    /// `https://bucket.host/key`.
    VirtualHost,
}

/// How writes are proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofChoice {
    /// By the store's checksum, and by reading back where it tells none.
    #[default]
    Auto,
    /// By reading back always.
    ReadBack,
    /// Not at all, where the store tells no checksum.
    StoreOnly,
}

/// Whether the store honours conditions on writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionalWrites {
    /// It does.
    #[default]
    Supported,
    /// It does not.
    Unsupported,
}

/// Gives variables of the environment by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of this process. Empty ones count as not set.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the seam: credentials come from here")]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Settings of a store that do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SettingsError {
    /// The setting, to find its line; `store` for the address itself.
    pub field: &'static str,
    /// What is wrong, and how to put it right.
    pub what: String,
}

impl SettingsError {
    /// A setting does not fit.
    pub fn new(field: &'static str, what: impl Into<String>) -> Self {
        Self { field, what: what.into() }
    }
}
