//! What every layout says about the log of a MySQL or MariaDB backup, whichever tool made it.

use crate::{
    domain::{
        binlog::{Flavour, GtidSet},
        recovery::{BaseImage, Codec},
    },
    layout::backup::{ListedBackup, Needs},
};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// A binary log as names and notes tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBinlog {
    /// Key below the place's prefix.
    pub key: String,
    /// The server's name of the file, such as `bin.000003`.
    pub name: String,
    /// Size of the object, in bytes.
    pub size_bytes: u64,
    /// Size of the file, in bytes, where that is noted.
    pub file_bytes: Option<u64>,
    /// Compression of the object.
    pub codec: Codec,
    /// Name of the key pair that it may be encrypted for.
    pub key_id: Option<String>,
    /// SHA-1 of the object, where that is noted.
    pub sha1: Option<[u8; 20]>,
    /// Whether it begins the log of another server, or one that was begun anew: then it may repeat some
    /// of the transactions before it.
    pub joins: bool,
    /// What is noted of its times, for those who cannot read it.
    pub said: Said,
}

/// Times that somebody noted beside a binary log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Of its last transaction, rounded down to the second.
    pub last_commit: Option<DateTime<Utc>>,
    /// When it was closed or a little later.
    pub closed_at: Option<DateTime<Utc>>,
}

/// The log behind a base backup, as far as names go without a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinlogChain {
    /// Whose server it was.
    pub flavour: Flavour,
    /// Its version, where that is noted.
    pub server_version: Option<String>,
    /// The base backup; keys below the place's prefix.
    pub base: BaseImage,
    /// What the base backup has executed, where that is noted.
    pub executed: Option<GtidSet>,
    /// Why nothing can be restored from it although it may be complete, for people.
    pub unusable: Option<String>,
    /// Where in the first file the base backup ends; `None` when only the restored server can tell.
    pub start_offset: Option<u64>,
    /// The file, by its place in `objects`, and the offset that the log must reach for the base backup
    /// to be consistent.
    pub consistent_at: (usize, u64),
    /// The files in order.
    pub objects: Vec<ListedBinlog>,
    /// What is missing behind the last of them while later ones are there, for people.
    pub gap: Option<String>,
    /// How many are behind the gap.
    pub behind_gap: u64,
}

/// A base backup with all that its notes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedBackup {
    /// The backup.
    pub listed: ListedBackup,
    /// What it needs, or why that is not known or cannot be had.
    pub needs: Result<Arc<Needs>, String>,
    /// The log behind it.
    pub chain: BinlogChain,
}
