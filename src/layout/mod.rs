//! One file per backup tool: what a key is, in which order it is copied, what a backup needs.

use crate::{
    domain::{lsn::Timeline, recovery::Codec},
    store::key::Key,
};
use serde::{Deserialize, Serialize};

pub mod backup;
pub mod binlogs;
pub mod myhoard;
pub mod pgbackrest;
pub mod pghoard;
pub mod stream;

/// Where in a store the backups of one service lie, and whose layout they have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlace {
    /// The tool that made them.
    pub format: BackupFormat,
    /// The prefix below which the tool's own keys begin.
    pub prefix: Key,
}

impl BackupPlace {
    /// The prefix of a part that is listed; the empty part is all of the place.
    #[must_use]
    pub fn part(&self, part: &str) -> Option<Key> {
        match part {
            "" => Some(self.prefix.clone()),
            part => self.prefix.join(part).ok(),
        }
    }
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
    /// The objects of a site of PGHoard 2, whose prefix is that of the place.
    PgHoard,
    /// The objects of a site of MyHoard 1, whose prefix is that of the place.
    MyHoard {
        /// Name of the private key of the site, where there is one to decrypt with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
    },
    /// What `btar push` writes of MySQL and MariaDB below the prefix of the place.
    Stream,
}

/// The parts of a place that are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The log: its new objects are behind the old ones. None where all is listed each time.
    pub log: Option<String>,
    /// Parts with few objects that tell what is new, listed each time.
    pub small: Vec<String>,
    /// The files of base backups.
    pub backups: Vec<String>,
}

impl Parts {
    /// All of them, in the order of their keys.
    #[must_use]
    pub fn in_order(self) -> Vec<String> {
        let log = self.log.into_iter().collect();
        let mut all = [log, self.small, self.backups].concat();
        all.sort_by(|a, b| format!("{a}/").cmp(&format!("{b}/")));
        all
    }
}

/// How the key of a segment follows from what is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// A directory of 16 digits, the name, the SHA-1 of the contents and the compression.
    #[default]
    WithSha1,
    /// The name alone.
    Plain,
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
    /// A WAL segment whose user metadata tell what is in it.
    NamedSegment {
        /// The log that it belongs to.
        archive: String,
        /// PostgreSQL's name of it.
        name: String,
    },
    /// A binary log.
    Binlog {
        /// The unbroken numbering that it belongs to.
        series: String,
        /// Its place there, counted from 1.
        sequence: u64,
        /// The server's name of the file.
        name: String,
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
    /// An object that any number of backups refer to.
    Shared,
    /// Anything else: catalogues, notes, objects of somebody else.
    Other,
}

impl BackupFormat {
    /// Whether it holds backups of MySQL or MariaDB.
    #[must_use]
    pub fn is_mysql(&self) -> bool {
        match self {
            Self::PgBackRest { .. } | Self::PgHoard => false,
            Self::MyHoard { .. } | Self::Stream => true,
        }
    }

    /// Key below which the log `archive`, such as `15-1`, is kept.
    #[must_use]
    pub fn archive_directory(&self, archive: &str) -> String {
        match self {
            Self::PgBackRest { stanza } => pgbackrest::keys::archive_directory(stanza, archive),
            Self::PgHoard | Self::MyHoard { .. } | Self::Stream => archive.to_owned(),
        }
    }

    /// How the keys of segments are made.
    #[must_use]
    pub fn naming(&self) -> Naming {
        match self {
            Self::PgBackRest { .. } => Naming::WithSha1,
            // The latter two have no segments.
            Self::PgHoard | Self::MyHoard { .. } | Self::Stream => Naming::Plain,
        }
    }

    /// The parts of a place that are listed.
    #[must_use]
    pub fn parts(&self) -> Parts {
        match self {
            Self::PgBackRest { stanza } => Parts {
                log: Some(format!("archive/{stanza}")),
                small: Vec::new(),
                backups: vec![format!("backup/{stanza}")],
            },
            Self::PgHoard => Parts {
                log: Some(pghoard::keys::LOG.to_owned()),
                small: vec!["timeline".to_owned(), "basebackup".to_owned()],
                backups: ["basebackup_chunk", "basebackup_delta", "basebackup_delta_chunk"]
                    .map(str::to_owned)
                    .to_vec(),
            },
            // Streams are few, and so are their objects: thousands.
            Self::MyHoard { .. } => {
                Parts { log: None, small: vec![String::new()], backups: Vec::new() }
            }
            Self::Stream => Parts {
                log: None,
                small: [stream::keys::BACKUPS, stream::keys::BINLOGS].map(str::to_owned).to_vec(),
                backups: Vec::new(),
            },
        }
    }

    /// Whether the object with this key is nothing without its user metadata.
    #[must_use]
    pub fn needs_user_metadata(&self, key: &str) -> bool {
        match self {
            Self::PgBackRest { .. } | Self::Stream => false,
            Self::PgHoard => pghoard::keys::role(key).stage().is_some(),
            Self::MyHoard { .. } => matches!(self.role(key), Role::Binlog { .. }),
        }
    }

    /// What the object with this key is for.
    #[must_use]
    pub fn role(&self, key: &str) -> Role {
        match self {
            Self::PgBackRest { stanza } => pgbackrest::keys::role(stanza, key).into(),
            Self::PgHoard => pghoard::keys::role(key).into(),
            Self::MyHoard { .. } => myhoard::keys::role(key).into(),
            Self::Stream => stream::keys::role(key).into(),
        }
    }
}
