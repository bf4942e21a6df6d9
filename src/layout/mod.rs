//! One file per backup tool: what a key is, in which order it is copied, what a backup needs.

use crate::store::key::Key;
use serde::{Deserialize, Serialize};

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
