//! What was read of binary logs, so that a restart reads none again.

use crate::engine::{
    catalog::binlogs::{BinlogMemory, FileRead},
    state::{State, to_json},
};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeSet;
use tracing::warn;

/// The table. One row for each file; a summary has about a kilobyte.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS binlog (
        scope TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (scope, key)
    ) STRICT;
";

impl State {
    /// A cache that fails is one that holds nothing.
    fn told<T>(what: &str, result: rusqlite::Result<T>) -> Option<T> {
        result
            .map_err(|error| warn!(%error, "what was learned of binary logs cannot be {what}"))
            .ok()
    }
}

impl BinlogMemory for State {
    fn recall(&self, scope: &str, key: &str, version: u64) -> Option<FileRead> {
        let sql = "SELECT document FROM binlog WHERE scope = ?1 AND key = ?2 AND version = ?3";
        let connection = self.connection();
        let read = connection.prepare_cached(sql).and_then(|mut statement| {
            let values = params![scope, key, version.cast_signed()];
            statement.query_row(values, |row| row.get::<_, String>(0)).optional()
        });
        // A document of another version is a file that is read anew.
        serde_json::from_str(&Self::told("read", read)??).ok()
    }

    fn keep(&self, scope: &str, key: &str, version: u64, read: &FileRead) {
        let sql = "INSERT OR REPLACE INTO binlog VALUES (?1, ?2, ?3, ?4)";
        let values = params![scope, key, version.cast_signed(), to_json(read)];
        let kept = self.connection().execute(sql, values);
        Self::told("kept", kept);
    }

    fn forget(&self, scope: &str, key: &str) {
        let sql = "DELETE FROM binlog WHERE scope = ?1 AND key = ?2";
        let gone = self.connection().execute(sql, params![scope, key]);
        Self::told("forgotten", gone);
    }

    fn retain(&self, scope: &str, keys: &BTreeSet<&str>) {
        let listed = {
            let connection = self.connection();
            let known = connection.prepare_cached("SELECT key FROM binlog WHERE scope = ?1");
            known.and_then(|mut statement| {
                let rows = statement.query_map([scope], |row| row.get::<_, String>(0))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
        };
        let known = Self::told("read", listed).unwrap_or_default();
        let gone = known.iter().filter(|key| !keys.contains(key.as_str()));
        gone.for_each(|key| BinlogMemory::forget(self, scope, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_in_the_version_that_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let read = |what: &str| FileRead::Damaged { what: what.to_owned() };
        state.keep("s", "a", u64::MAX, &read("one"));
        state.keep("s", "b", 7, &read("two"));
        state.keep("t", "a", 7, &read("three"));
        assert_eq!(state.recall("s", "a", u64::MAX), Some(read("one")));
        assert_eq!(state.recall("s", "a", 1), None);
        state.keep("s", "a", 8, &read("four"));
        assert_eq!(state.recall("s", "a", 8), Some(read("four")));
        state.retain("s", &["b"].into());
        assert_eq!(state.recall("s", "a", 8), None);
        assert_eq!(state.recall("s", "b", 7), Some(read("two")));
        assert_eq!(state.recall("t", "a", 7), Some(read("three")));
    }
}
