//! Forks and how far they are.

use crate::{
    domain::{cloud::CloudName, fork::ForkPhase, ids::ServiceId, recovery::Recovery},
    engine::state::{State, StateError, from_json, to_json},
    layout::BackupPlace,
};
use chrono::{DateTime, Utc};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::PathBuf};

/// A fork. Written before the request is answered, and at every phase.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredFork {
    /// Version of this document.
    pub version: u32,
    /// The fork's name.
    pub id: ServiceId,
    /// The service that it comes from.
    pub source: ServiceId,
    /// The secondary region that it was made from and runs in.
    pub region: CloudName,
    /// Plan.
    pub plan: String,
    /// `user_config` exactly as it was sent.
    pub user_config: Map<String, Value>,
    /// Whether deletion is refused.
    pub termination_protection: bool,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// How far it is.
    pub phase: ForkPhase,
    /// Deletion was asked for: nothing else happens to it any more.
    pub deleting: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// What it restores.
    pub recovery: Recovery,
    /// From where in the region's store.
    pub place: BackupPlace,
    /// Where it lives on this machine.
    pub dir: PathBuf,
    /// Directory of its private socket.
    pub socket_dir: PathBuf,
    /// Address of its public port.
    pub host: String,
    /// Its public port.
    pub port: u16,
    /// Password of the admin role.
    pub admin_password: String,
}

impl std::fmt::Debug for StoredFork {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredFork")
            .field("id", &self.id)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl State {
    /// All forks.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn forks(&self) -> Result<Vec<StoredFork>, StateError> {
        let fault = |source| StateError::Database { doing: "reading the forks", source };
        let connection = self.connection();
        let sql = "SELECT document FROM fork ORDER BY project, name";
        let mut statement = connection.prepare_cached(sql).map_err(fault)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(fault)?;
        rows.map(|row| from_json("fork", &row.map_err(fault)?)).collect()
    }

    /// Keeps a new fork.
    ///
    /// # Errors
    /// [`StateError`], also when the name is taken.
    pub fn add_fork(&self, fork: &StoredFork) -> Result<(), StateError> {
        let fault = |source| StateError::Database { doing: "keeping a fork", source };
        let id = &fork.id;
        let values = params![id.project.as_str(), id.service.as_str(), to_json(fork)];
        let sql = "INSERT INTO fork VALUES (?1, ?2, ?3)";
        self.connection().execute(sql, values).map(drop).map_err(fault)
    }

    /// Keeps a fork that has changed. One that was removed meanwhile stays removed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn put_fork(&self, fork: &StoredFork) -> Result<(), StateError> {
        let fault = |source| StateError::Database { doing: "keeping a fork", source };
        let id = &fork.id;
        let values = params![id.project.as_str(), id.service.as_str(), to_json(fork)];
        let sql = "UPDATE fork SET document = ?3 WHERE project = ?1 AND name = ?2";
        self.connection().execute(sql, values).map(drop).map_err(fault)
    }

    /// Forgets a fork.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn remove_fork(&self, id: &ServiceId) -> Result<(), StateError> {
        let fault = |source| StateError::Database { doing: "removing a fork", source };
        let sql = "DELETE FROM fork WHERE project = ?1 AND name = ?2";
        let values = params![id.project.as_str(), id.service.as_str()];
        self.connection().execute(sql, values).map(drop).map_err(fault)
    }
}
