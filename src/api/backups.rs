//! Backups and the moments that can be restored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer of `GET …/backups`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupList {
    /// Base backups, oldest first.
    pub backups: Vec<Backup>,
    /// Restore windows; absent for types without point-in-time recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pitr: Option<Pitr>,
}

/// A base backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backup {
    /// Name.
    pub backup_name: String,
    /// RFC 3339.
    pub backup_time: String,
    /// Size of the data, in bytes.
    pub data_size: u64,
    /// Cloud that holds the primary copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_location: Option<String>,
    /// Whether it needs an earlier backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental: Option<bool>,
    /// Secondary copies.
    #[serde(default)]
    pub additional_regions: Vec<BackupCopy>,
}

/// A copy of a backup in a secondary region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupCopy {
    /// Cloud that holds the copy.
    pub cloud: String,
    /// The provider's own name of the region.
    pub region: String,
    /// Whether copying is paused.
    #[serde(default)]
    pub paused: Option<bool>,
    /// Why it is paused.
    #[serde(default)]
    pub pause_reason: Option<String>,
    /// Our addition: complete, with the log that makes it consistent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorable: Option<bool>,
}

/// What can be restored where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pitr {
    /// The primary region.
    pub primary_region: PrimaryRange,
    /// The secondary regions.
    #[serde(default)]
    pub additional_regions: Vec<RegionRange>,
}

/// Restore window of the primary region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrimaryRange {
    /// RFC 3339; null when nothing can be restored yet.
    pub pitr_range_start: Option<String>,
    /// RFC 3339; null means now.
    pub pitr_range_end: Option<String>,
}

/// Restore window of a secondary region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionRange {
    /// Cloud.
    pub cloud: String,
    /// The provider's own name of the region.
    pub region: String,
    /// First restorable moment, RFC 3339.
    pub pitr_range_start: String,
    /// Last restorable moment, RFC 3339.
    pub pitr_range_end: String,
    /// Our addition: the disjoint ranges, where there may be gaps between start and end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    /// Our addition: whether the end was read from the log and not estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
    /// Our addition: where the gapless log ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_lsn: Option<String>,
    /// Our addition: how far the copy is behind the primary's objects, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// Our addition: the restorable base backups here, with the log that follows each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_backups: Vec<RegionBackup>,
}

/// Our addition: a restorable base backup in a region, and the gapless log after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionBackup {
    /// Name.
    pub backup_name: String,
    /// First moment that can be restored from it, RFC 3339.
    pub pitr_range_start: String,
    /// Last moment that can be restored from it, RFC 3339.
    pub pitr_range_end: String,
    /// Files of the log (WAL segments) from its start to that last moment.
    pub log_segments: u64,
    /// Size of those files in the store, in bytes.
    pub log_bytes: u64,
}

/// One gapless stretch of restorable moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// First restorable moment, RFC 3339.
    pub start: String,
    /// Last restorable moment, RFC 3339.
    pub end: String,
    /// Whether the end was read from the log.
    pub exact: bool,
}
