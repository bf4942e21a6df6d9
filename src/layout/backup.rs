//! What every layout says about a base backup, whichever tool made it.

use crate::domain::lsn::Lsn;
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, sync::Arc};

/// A base backup as the tool's own catalogue lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBackup {
    /// The tool's name of it.
    pub label: String,
    /// The log that belongs to it, such as `15-1`; `None` when the tool does not say.
    pub archive: Option<String>,
    /// First segment that makes it consistent.
    pub archive_start: String,
    /// Last segment that makes it consistent.
    pub archive_stop: String,
    /// Where it ended, or a position before that when only the log tells.
    pub lsn_stop: Lsn,
    /// Whether only the log tells where it ended: it has a record of that in one of the segments that
    /// make the backup consistent.
    pub ends_in_log: bool,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended, rounded up to what the tool records.
    pub finished_at: DateTime<Utc>,
    /// Size of the restored files, in bytes.
    pub size_bytes: u64,
    /// Size that it added to the repository, in bytes.
    pub stored_bytes: u64,
    /// Earlier backups that it needs.
    pub references: Vec<String>,
    /// Name of the key without which nobody knows all that it needs.
    pub lacks_key: Option<String>,
}

impl ListedBackup {
    /// A backup of a database without PostgreSQL's log, of which nothing but the name is known yet.
    #[must_use]
    pub fn without_wal(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            archive: None,
            archive_start: String::new(),
            archive_stop: String::new(),
            lsn_stop: Lsn(0),
            ends_in_log: false,
            started_at: DateTime::UNIX_EPOCH,
            finished_at: DateTime::UNIX_EPOCH,
            size_bytes: 0,
            stored_bytes: 0,
            references: Vec::new(),
            lacks_key: None,
        }
    }
}

/// The objects of a backup by their key below the repository's prefix, and how large each must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Key and what is known of its size.
    pub objects: BTreeMap<String, ExpectedSize>,
    /// What the tool has written down of the contents of those objects, by key.
    pub sums: BTreeMap<String, Arc<[PartSum]>>,
    /// The log that makes the backup consistent.
    pub log: Option<LogPlace>,
    /// Key of the object that said all this. It was read, which says nothing of it as it is now.
    pub said_by: Option<String>,
}

impl Needs {
    /// Takes in what another backup needs of the same repository.
    pub fn join(&mut self, other: &Self) {
        for (key, size) in &other.objects {
            let known = self.objects.entry(key.clone()).or_insert(*size);
            if let (ExpectedSize::AtLeast(known), ExpectedSize::AtLeast(size)) = (known, size) {
                *known = (*size).max(*known);
            }
        }
        for (key, sums) in &other.sums {
            let known = self.sums.entry(key.clone()).or_insert_with(|| sums.clone());
            // The backup that wrote a bundle knows all of it, later ones only what they need.
            if known.len() < sums.len() {
                known.clone_from(sums);
            }
        }
    }
}

/// Where the log of a backup begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The log, such as `15-1`.
    pub archive: String,
    /// Name of the first segment.
    pub start: String,
}

/// What is known about the size of an object that a backup needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedSize {
    /// Exactly so many bytes.
    Exactly(u64),
    /// At least so many bytes: a bundle of which this backup needs a part.
    AtLeast(u64),
}

impl ExpectedSize {
    /// Whether an object of `size_bytes` fits.
    #[must_use]
    pub fn fits(self, size_bytes: u64) -> bool {
        match self {
            Self::Exactly(size) => size_bytes == size,
            Self::AtLeast(size) => size_bytes >= size,
        }
    }
}

/// The checksum of a stretch of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSum {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub size_bytes: u64,
    /// SHA-1 of these bytes.
    pub sha1: [u8; 20],
}
