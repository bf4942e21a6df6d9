//! What the engine must not forget: intentions, forks, measurements, and what was learned of logs.
//!
//! One SQLite file under the data directory. Calls take well under a millisecond and are made
//! straight from async code. Documents are JSON with a version inside; tables only hold what is
//! searched for. What stores hold is kept as a cache and never as truth.

mod binlogs;
pub mod damage;
pub mod expired;
pub mod forks;
pub mod logs;
pub mod measurements;
pub mod records;
pub mod services;
pub mod verified;

use rusqlite::Connection;
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Version of the tables, in SQLite's `user_version`.
const SCHEMA_VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE service (
        project TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (project, name)
    ) STRICT;
    CREATE TABLE fork (
        project TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (project, name)
    ) STRICT;
    CREATE TABLE in_step (
        project TEXT NOT NULL, name TEXT NOT NULL, region TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        PRIMARY KEY (project, name, region)
    ) STRICT;
    CREATE TABLE lag (
        project TEXT NOT NULL, name TEXT NOT NULL, region TEXT NOT NULL,
        minute INTEGER NOT NULL, seconds INTEGER NOT NULL,
        PRIMARY KEY (project, name, region, minute)
    ) STRICT;
    CREATE TABLE expired (
        project TEXT NOT NULL, name TEXT NOT NULL, region TEXT NOT NULL, label TEXT NOT NULL,
        since_us INTEGER NOT NULL,
        PRIMARY KEY (project, name, region, label)
    ) STRICT;
";

/// Makes version 2 of version 1: what was learned of logs has another form, and is learned anew.
const FROM_VERSION_1: &str = "DROP TABLE log_segment;";

/// The state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another engine works with the same data directory.
    #[error(
        "another engine is using the data directory {0}; stop it, or give this one a `data_dir` of its own"
    )]
    InUse(PathBuf),
    /// The directory or the lock file cannot be used.
    #[error("using the data directory {dir} failed")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file was written by a newer engine.
    #[error(
        "the state {file} has version {found}; this engine knows versions up to {SCHEMA_VERSION}"
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i64,
    },
    /// SQLite failed.
    #[error("{doing} failed")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A document is not what it should be.
    #[error("a document of the state cannot be read: {what}")]
    Document {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The engine's state. Only one process at a time has it.
#[derive(Debug)]
pub struct State {
    connection: Mutex<Connection>,
    /// Held as long as this process lives.
    _lock: fs::File,
}

impl State {
    /// Opens the state below `dir`, making both where they are missing.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::InUse`] when another process has it.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let directory = |source| StateError::Directory { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(directory)?;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(dir.join("engine.lock")).map_err(directory)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::InUse(dir.to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(directory(source)),
        }
        let file = dir.join("state.sqlite");
        // Made by hand first: it holds the passwords of forks, so nobody else may read it.
        options.open(&file).map_err(directory)?;
        let doing = "opening the state";
        let connection =
            Connection::open(&file).map_err(|source| StateError::Database { doing, source })?;
        prepare(&connection, &file)?;
        Ok(Self { connection: Mutex::new(connection), _lock: lock })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(connection: &Connection, file: &Path) -> Result<(), StateError> {
    let fault = |source| StateError::Database { doing: "preparing the state", source };
    connection.pragma_update(None, "journal_mode", "WAL").map_err(fault)?;
    // A fork that was answered for is there after a power failure.
    connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fault)?;
    let tables = match version {
        0 => Some(format!("{SCHEMA} {}", logs::SCHEMA)),
        1 => Some(format!("{FROM_VERSION_1} {}", logs::SCHEMA)),
        SCHEMA_VERSION => None,
        found => return Err(StateError::Newer { file: file.to_owned(), found }),
    };
    if let Some(tables) = tables {
        let all = format!("BEGIN; {tables} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
        connection.execute_batch(&all).map_err(fault)?;
    }
    // Tables that were added later hold caches and notes: an older engine may ignore them.
    connection.execute_batch(measurements::SCHEMA).map_err(fault)?;
    connection.execute_batch(records::SCHEMA).map_err(fault)?;
    connection.execute_batch(verified::SCHEMA).map_err(fault)?;
    connection.execute_batch(damage::SCHEMA).map_err(fault)?;
    connection.execute_batch(binlogs::SCHEMA).map_err(fault)
}

fn to_json<T: serde::Serialize>(document: &T) -> String {
    serde_json::to_string(document).expect("documents of the state have string keys only")
}

fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, StateError> {
    serde_json::from_str(text)
        .map_err(|source| StateError::Document { what: what.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_engine_is_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path()).unwrap();
        let second = State::open(dir.path()).unwrap_err();
        assert!(matches!(second, StateError::InUse(_)), "{second}");
        drop(first);
        State::open(dir.path()).unwrap();
    }

    #[test]
    fn an_older_state_keeps_all_but_what_was_learned_of_logs() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(dir.path()).unwrap());
        let file = dir.path().join("state.sqlite");
        let connection = Connection::open(&file).unwrap();
        let back = "DROP TABLE log_carry; DROP TABLE log_segment; DROP TABLE log;
            CREATE TABLE log_segment (scope TEXT NOT NULL, key TEXT NOT NULL) STRICT;
            INSERT INTO log_segment VALUES ('s', 'k');
            INSERT INTO service VALUES ('p', 's', '{}');
            PRAGMA user_version = 1;";
        connection.execute_batch(back).unwrap();
        drop(connection);
        for _ in 0..2 {
            let state = State::open(dir.path()).unwrap();
            let count = |sql| state.connection().query_row(sql, [], |row| row.get::<_, i64>(0));
            assert_eq!(count("SELECT count(*) FROM service").unwrap(), 1);
            assert_eq!(count("SELECT count(*) FROM log_segment").unwrap(), 0);
            assert_eq!(count("PRAGMA user_version").unwrap(), SCHEMA_VERSION);
        }
    }

    #[test]
    fn a_newer_state_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(dir.path()).unwrap());
        let file = dir.path().join("state.sqlite");
        let connection = Connection::open(&file).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let error = State::open(dir.path()).unwrap_err();
        assert!(matches!(error, StateError::Newer { found: 99, .. }), "{error}");
    }
}
