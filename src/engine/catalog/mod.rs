//! What a store holds of one service: its backups, which of them are restorable, and when to.
//!
//! 1. `observe` has `files` read the small files and `listing` list what can have changed; `merge` (pure)
//!    puts it into the `repository`, which holds segments in the blocks of an `archive`.
//! 2. `runs` (pure) follows each backup's log by the names of its segments to the first gap.
//! 3. `index` reads the segments of those runs that it has not read before, and proves them; what it
//!    has `learned` lies parallel to the archive's blocks.
//! 4. `build` (pure) says what is complete and what can be restored; `recover` works out one recovery.
//!
//! Binary logs of MySQL and MariaDB are few and large: `binlogs` does for them what 2 to 4 do for segments.

pub mod repository;

pub mod archive;
pub mod binlogs;
pub mod blocks;
pub mod hash;
pub mod merge;
pub mod segment;

pub mod build;
pub mod files;
pub mod index;
pub mod learned;
pub mod listing;
pub mod observe;
pub mod reading;
pub mod recover;
pub mod runs;

#[cfg(test)]
pub(crate) mod paged;
#[cfg(test)]
pub(crate) mod samples;

use crate::domain::{
    binlog::Flavour,
    window::{RestoreRange, RestoreWindow},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One service's backups in one store, computed from the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCatalog {
    /// The base backups that the tool's own catalogue lists, oldest first.
    pub backups: Vec<CatalogBackup>,
    /// Whose server it is of, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavour: Option<Flavour>,
    /// What can be restored.
    pub window: RestoreWindow,
    /// Where the gapless log of the newest restorable backup ends.
    pub frontier: Option<Frontier>,
    /// What keeps backups from being restorable or the log from reaching further, for people.
    pub problems: Vec<String>,
    /// Objects of this service.
    pub object_count: u64,
    /// Their size, in bytes.
    pub stored_bytes: u64,
}

/// A base backup as the objects show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogBackup {
    /// The tool's name of it.
    pub name: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended, rounded up to what the tool records.
    pub finished_at: DateTime<Utc>,
    /// Size of the restored data, in bytes.
    pub size_bytes: u64,
    /// Size of its own objects, in bytes.
    pub stored_bytes: u64,
    /// Segments of the gapless log behind it.
    pub log_segments: u64,
    /// Size of their objects, in bytes.
    pub log_bytes: u64,
    /// Whether it needs an earlier backup.
    pub incremental: bool,
    /// Why it is not complete: missing or wrong objects, the first few.
    pub missing: Vec<String>,
    /// What it and its log can restore; `None` when it is not restorable.
    pub range: Option<RestoreRange>,
}

/// The end of a gapless log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier {
    /// Behind the last complete record or transaction, in the database's own terms.
    pub position: String,
    /// Name of the last segment or binary log.
    pub segment: String,
    /// Time of the last commit or abort before it, if there is one after the base backup.
    pub last_commit_at: Option<DateTime<Utc>>,
    /// When the last segment's object was written, by the store's clock.
    pub stored_at: DateTime<Utc>,
}
