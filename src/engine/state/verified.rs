//! Which objects a verification that was interrupted has proven.

use crate::engine::state::{
    State, StateError,
    records::{CopyNumber, fault},
};
use rusqlite::{OptionalExtension, params};

/// A table that an older engine does not know and does not mind.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS verified (
        copy INTEGER NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL,
        PRIMARY KEY (copy, key)
    ) STRICT, WITHOUT ROWID;
";

const NOTING: &str = "noting what was verified";

impl State {
    /// Notes objects, by key and version, that were proven.
    ///
    /// # Errors
    /// [`StateError`]; none was noted then.
    pub fn note_verified(
        &self,
        copy: CopyNumber,
        proven: &[(String, String)],
    ) -> Result<(), StateError> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(fault(NOTING))?;
        for (key, version) in proven {
            let sql = "INSERT OR REPLACE INTO verified VALUES (?1, ?2, ?3)";
            let mut insert = transaction.prepare_cached(sql).map_err(fault(NOTING))?;
            insert.execute(params![copy.0, key, version]).map_err(fault(NOTING))?;
        }
        transaction.commit().map_err(fault(NOTING))
    }

    /// Whether this version of an object was proven.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn is_verified(
        &self,
        copy: CopyNumber,
        key: &str,
        version: &str,
    ) -> Result<bool, StateError> {
        let connection = self.connection();
        let sql = "SELECT 1 FROM verified WHERE copy = ?1 AND key = ?2 AND version = ?3";
        let mut statement = connection.prepare_cached(sql).map_err(fault(NOTING))?;
        let found = statement.query_row(params![copy.0, key, version], |_| Ok(())).optional();
        found.map(|found| found.is_some()).map_err(fault(NOTING))
    }
}
