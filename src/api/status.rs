//! Our addition: what the engine does and what each copy can restore, in one answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Path of the status.
pub const PATH: &str = "/v1/btar/status";

/// Answer of `GET /v1/btar/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the engine.
    pub engine_version: String,
    /// RFC 3339.
    pub now: String,
    /// A row for each service and enabled region.
    pub copies: Vec<CopyStatus>,
    /// All forks.
    pub forks: Vec<ForkStatus>,
}

/// The copy of a service in a region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CopyStatus {
    /// Project.
    pub project: String,
    /// Service.
    pub service: String,
    /// Cloud of the primary backups.
    pub primary_region: String,
    /// Why the primary's store cannot be read.
    #[serde(default)]
    pub primary_error: Option<String>,
    /// Cloud of the copy; none when no region is enabled.
    #[serde(default)]
    pub region: Option<String>,
    /// Whose server it is, where the type of the service does not say so: `MySQL` or `MariaDB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavour: Option<String>,
    /// Why the copy's store cannot be read.
    #[serde(default)]
    pub error: Option<String>,
    /// Restorable base backups in the copy.
    pub restorable_backups: u64,
    /// Base backups that the copy's catalogue lists.
    pub backups: u64,
    /// Moments that can be restored, RFC 3339.
    pub ranges: Vec<crate::api::backups::Range>,
    /// How far the log is behind the primary's, in seconds.
    #[serde(default)]
    pub lag_seconds: Option<u64>,
    /// How far the base backups are behind the primary's, in seconds.
    #[serde(default)]
    pub base_backup_lag_seconds: Option<u64>,
    /// Size of the copy, in bytes.
    pub stored_bytes: u64,
    /// Objects of the copy.
    pub objects: u64,
    /// Bytes of base backups that are still to be copied.
    pub pending_bytes: u64,
    /// When the copy was looked at, RFC 3339.
    #[serde(default)]
    pub seen_at: Option<String>,
    /// What keeps the copy from being complete.
    pub problems: Vec<String>,
}

/// A fork.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForkStatus {
    /// Project.
    pub project: String,
    /// Service.
    pub service: String,
    /// `project/service` that it comes from.
    pub source: String,
    /// Cloud.
    pub region: String,
    /// Phase.
    pub phase: String,
    /// The moment whose contents it has, RFC 3339.
    pub recovered_to: String,
    /// `host:port`.
    pub address: String,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}
