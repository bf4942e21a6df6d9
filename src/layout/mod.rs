//! One file per backup tool: what a key is, in which order it is copied, what a backup needs.

use crate::{
    domain::{lsn::Timeline, recovery::Codec},
    store::key::Key,
};
use serde::{Deserialize, Serialize};

pub mod backup;
pub mod pgbackrest;
pub mod pghoard;

/// Where in a store the backups of one service lie, and whose layout they have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlace {
    /// The tool that made them.
    pub format: BackupFormat,
    /// The prefix below which the tool's own keys begin.
    pub prefix: Key,
}

/// A backup tool and what its layout needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum BackupFormat {
    /// A pgBackRest repository (format 5).
    PgBackRest {
        /// The stanza of the service.
        stanza: String,
    },
}

/// What an object is for, by its key below the repository's prefix, whichever tool wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A timeline history file.
    History {
        /// The log that it belongs to, such as `15-1`.
        archive: String,
        /// The timeline whose origin it tells.
        timeline: Timeline,
    },
    /// A WAL segment.
    Segment {
        /// The log that it belongs to, such as `15-1`.
        archive: String,
        /// PostgreSQL's name of it.
        name: String,
        /// SHA-1 of the uncompressed contents.
        sha1: String,
        /// Compression.
        codec: Codec,
    },
    /// What makes people and tools take a backup for one: without it, it is none.
    Marker {
        /// The backup.
        label: String,
    },
    /// An object that belongs to one backup. Later ones may refer to it.
    Data {
        /// The backup.
        label: String,
    },
    /// Anything else: catalogues, notes, objects of somebody else.
    Other,
}

impl BackupFormat {
    /// Key below which the log `archive`, such as `15-1`, is kept.
    #[must_use]
    pub fn archive_directory(&self, archive: &str) -> String {
        match self {
            Self::PgBackRest { stanza } => pgbackrest::keys::archive_directory(stanza, archive),
        }
    }

    /// What the object with this key is for.
    #[must_use]
    pub fn role(&self, key: &str) -> Role {
        match self {
            Self::PgBackRest { stanza } => pgbackrest::keys::role(stanza, key).into(),
        }
    }
}
