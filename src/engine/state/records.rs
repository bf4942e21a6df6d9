//! What was written into the copies: size, checksum and tag of every object, as a cache of the
//! manifests that lie in the copies themselves.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId},
    engine::state::{State, StateError},
};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Tables that an older engine does not know and does not mind.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS copy (
        number INTEGER PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL,
        region TEXT NOT NULL, prefix TEXT NOT NULL, recalled INTEGER NOT NULL DEFAULT 0,
        UNIQUE (project, name, region, prefix)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS record (
        copy INTEGER NOT NULL, part TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL,
        crc64 INTEGER NOT NULL, etag TEXT, source_version TEXT, written_us INTEGER NOT NULL,
        PRIMARY KEY (copy, part, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS record_part (
        copy INTEGER NOT NULL, part TEXT NOT NULL, sequence INTEGER NOT NULL,
        changes INTEGER NOT NULL, written INTEGER NOT NULL, since_us INTEGER NOT NULL,
        PRIMARY KEY (copy, part)
    ) STRICT, WITHOUT ROWID;
";

/// A copy in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyNumber(pub(super) i64);

/// What is known of one object of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The manifest that it belongs to.
    pub part: String,
    /// Key below the repository's prefix.
    pub key: String,
    /// Size, in bytes.
    pub size_bytes: u64,
    /// CRC-64/NVME of the contents.
    pub crc64: u64,
    /// Its tag in the copy's store, where that has any.
    pub etag: Option<String>,
    /// The version of the object that it was copied from, where that is known.
    pub source_version: Option<String>,
    /// When its contents were proven while they were written or recorded.
    pub written_at: DateTime<Utc>,
}

/// A manifest that says less than the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StalePart {
    /// Its name.
    pub part: String,
    /// The sequence number of the last one that was written.
    pub sequence: u64,
    /// Counts changes of its records.
    pub changes: u64,
    /// Since when it is behind.
    pub since: DateTime<Utc>,
    /// Records that belong to it.
    pub entries: u64,
}

impl State {
    /// The copy below `prefix` in the region's store.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn copy(
        &self,
        id: &ServiceId,
        region: &CloudName,
        prefix: &str,
    ) -> Result<CopyNumber, StateError> {
        let values = params![id.project.as_str(), id.service.as_str(), region.as_str(), prefix];
        let connection = self.connection();
        let sql = "INSERT OR IGNORE INTO copy (project, name, region, prefix)
                   VALUES (?1, ?2, ?3, ?4)";
        connection.execute(sql, values).map_err(fault("noting a copy"))?;
        let sql = "SELECT number FROM copy
                   WHERE project = ?1 AND name = ?2 AND region = ?3 AND prefix = ?4";
        let number = connection.query_row(sql, values, |row| row.get(0));
        number.map(CopyNumber).map_err(fault("noting a copy"))
    }

    /// Whether the manifests of a copy have been read into this state.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn is_recalled(&self, copy: CopyNumber) -> Result<bool, StateError> {
        let sql = "SELECT recalled FROM copy WHERE number = ?1";
        let found = self.connection().query_row(sql, [copy.0], |row| row.get::<_, i64>(0));
        found.map(|recalled| recalled != 0).map_err(fault("reading a copy"))
    }

    /// The manifests of a copy have been read.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_recalled(&self, copy: CopyNumber) -> Result<(), StateError> {
        let sql = "UPDATE copy SET recalled = 1 WHERE number = ?1";
        self.connection().execute(sql, [copy.0]).map(drop).map_err(fault("noting a copy"))
    }

    /// Takes over a manifest that an earlier engine wrote. What is recorded already stays.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn recall_part(
        &self,
        copy: CopyNumber,
        part: &str,
        sequence: u64,
        records: &[Record],
    ) -> Result<(), StateError> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(fault(RECORDING))?;
        for record in records {
            insert(&transaction, "INSERT OR IGNORE", copy, record).map_err(fault(RECORDING))?;
        }
        let sql = "INSERT INTO record_part VALUES (?1, ?2, ?3, 0, 0, 0)
                   ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)";
        let values = params![copy.0, part, sequence.cast_signed()];
        transaction.execute(sql, values).map_err(fault(RECORDING))?;
        transaction.commit().map_err(fault(RECORDING))
    }

    /// Records objects whose contents are proven. What was known to be damaged under these keys is
    /// not any more.
    ///
    /// # Errors
    /// [`StateError`]; nothing was recorded then.
    pub fn record(
        &self,
        copy: CopyNumber,
        records: &[Record],
        now: DateTime<Utc>,
    ) -> Result<(), StateError> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(fault(RECORDING))?;
        for record in records {
            insert(&transaction, "INSERT OR REPLACE", copy, record).map_err(fault(RECORDING))?;
            touch(&transaction, copy, &record.part, now).map_err(fault(RECORDING))?;
            let sql = "DELETE FROM damaged WHERE copy = ?1 AND key = ?2";
            let mut delete = transaction.prepare_cached(sql).map_err(fault(RECORDING))?;
            delete.execute(params![copy.0, record.key]).map_err(fault(RECORDING))?;
        }
        transaction.commit().map_err(fault(RECORDING))
    }

    /// Forgets objects that are being removed, given as part and key.
    ///
    /// # Errors
    /// [`StateError`]; nothing was forgotten then.
    pub fn forget(
        &self,
        copy: CopyNumber,
        keys: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<(), StateError> {
        let doing = "forgetting what was written";
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(fault(doing))?;
        for (part, key) in keys {
            let sql = "DELETE FROM record WHERE copy = ?1 AND part = ?2 AND key = ?3";
            let mut delete = transaction.prepare_cached(sql).map_err(fault(doing))?;
            if delete.execute(params![copy.0, part, key]).map_err(fault(doing))? > 0 {
                touch(&transaction, copy, part, now).map_err(fault(doing))?;
            }
            let sql = "DELETE FROM damaged WHERE copy = ?1 AND key = ?2";
            transaction.execute(sql, params![copy.0, key]).map_err(fault(doing))?;
        }
        transaction.commit().map_err(fault(doing))
    }

    /// What is recorded of one object.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn recorded(
        &self,
        copy: CopyNumber,
        part: &str,
        key: &str,
    ) -> Result<Option<Record>, StateError> {
        let connection = self.connection();
        let sql = format!("{SELECT} WHERE copy = ?1 AND part = ?2 AND key = ?3");
        let mut statement = connection.prepare_cached(&sql).map_err(fault(READING))?;
        statement.query_row(params![copy.0, part, key], read).optional().map_err(fault(READING))
    }

    /// The records of one manifest, by key.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn records_of(&self, copy: CopyNumber, part: &str) -> Result<Vec<Record>, StateError> {
        let connection = self.connection();
        let sql = format!("{SELECT} WHERE copy = ?1 AND part = ?2 ORDER BY key");
        let mut statement = connection.prepare_cached(&sql).map_err(fault(READING))?;
        let rows = statement.query_map(params![copy.0, part], read).map_err(fault(READING))?;
        rows.collect::<rusqlite::Result<_>>().map_err(fault(READING))
    }

    /// Up to `limit` records behind one, given as part and key.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn records_after(
        &self,
        copy: CopyNumber,
        after: (&str, &str),
        limit: u32,
    ) -> Result<Vec<Record>, StateError> {
        let connection = self.connection();
        let sql = format!(
            "{SELECT} WHERE copy = ?1 AND (part, key) > (?2, ?3) ORDER BY part, key LIMIT ?4"
        );
        let mut statement = connection.prepare_cached(&sql).map_err(fault(READING))?;
        let values = params![copy.0, after.0, after.1, limit];
        let rows = statement.query_map(values, read).map_err(fault(READING))?;
        rows.collect::<rusqlite::Result<_>>().map_err(fault(READING))
    }

    /// The manifests that are behind their records.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn stale_parts(&self, copy: CopyNumber) -> Result<Vec<StalePart>, StateError> {
        let connection = self.connection();
        let sql = "SELECT part, sequence, changes, since_us,
                          (SELECT count(*) FROM record r WHERE r.copy = p.copy AND r.part = p.part)
                   FROM record_part p WHERE copy = ?1 AND changes > written ORDER BY part";
        let mut statement = connection.prepare_cached(sql).map_err(fault(READING))?;
        let rows = statement.query_map([copy.0], |row| {
            Ok(StalePart {
                part: row.get(0)?,
                sequence: row.get::<_, i64>(1)?.cast_unsigned(),
                changes: row.get::<_, i64>(2)?.cast_unsigned(),
                since: DateTime::from_timestamp_micros(row.get(3)?).unwrap_or_default(),
                entries: row.get::<_, i64>(4)?.cast_unsigned(),
            })
        });
        let rows = rows.map_err(fault(READING))?;
        rows.collect::<rusqlite::Result<_>>().map_err(fault(READING))
    }

    /// A manifest was written with what `part` said, and has this sequence number now.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn part_written(
        &self,
        copy: CopyNumber,
        part: &StalePart,
        sequence: u64,
    ) -> Result<(), StateError> {
        let sql = "UPDATE record_part SET written = ?3, sequence = ?4
                   WHERE copy = ?1 AND part = ?2";
        let (changes, sequence) = (part.changes.cast_signed(), sequence.cast_signed());
        let values = params![copy.0, part.part, changes, sequence];
        self.connection().execute(sql, values).map(drop).map_err(fault(RECORDING))
    }
}

const RECORDING: &str = "recording what was written";
const READING: &str = "reading what was written";
const SELECT: &str = "SELECT part, key, size, crc64, etag, source_version, written_us FROM record";

pub(super) fn fault(doing: &'static str) -> impl Fn(rusqlite::Error) -> StateError {
    move |source| StateError::Database { doing, source }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        part: row.get(0)?,
        key: row.get(1)?,
        size_bytes: row.get::<_, i64>(2)?.cast_unsigned(),
        crc64: row.get::<_, i64>(3)?.cast_unsigned(),
        etag: row.get(4)?,
        source_version: row.get(5)?,
        written_at: DateTime::from_timestamp_micros(row.get(6)?).unwrap_or_default(),
    })
}

fn insert(
    connection: &Connection,
    how: &str,
    copy: CopyNumber,
    record: &Record,
) -> rusqlite::Result<()> {
    let sql = format!("{how} INTO record VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    let values = params![
        copy.0,
        record.part,
        record.key,
        record.size_bytes.cast_signed(),
        record.crc64.cast_signed(),
        record.etag,
        record.source_version,
        record.written_at.timestamp_micros()
    ];
    connection.prepare_cached(&sql)?.execute(values).map(drop)
}

/// Counts a change of a part; the first since it was written says since when it is behind.
fn touch(
    connection: &Connection,
    copy: CopyNumber,
    part: &str,
    now: DateTime<Utc>,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO record_part VALUES (?1, ?2, 0, 1, 0, ?3)
               ON CONFLICT DO UPDATE SET
                   since_us = CASE WHEN changes > written THEN since_us ELSE excluded.since_us END,
                   changes = changes + 1";
    let values = params![copy.0, part, now.timestamp_micros()];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::ids::{ProjectName, ServiceName};
    use chrono::TimeDelta;

    pub(crate) fn copy_in(state: &State) -> CopyNumber {
        let id = ServiceId {
            project: ProjectName::parse("p").unwrap(),
            service: ServiceName::parse("s").unwrap(),
        };
        state.copy(&id, &CloudName::parse("aws-x").unwrap(), "p/s").unwrap()
    }

    pub(crate) fn record(part: &str, key: &str, crc64: u64) -> Record {
        Record {
            part: part.to_owned(),
            key: key.to_owned(),
            size_bytes: 7,
            crc64,
            etag: Some("e".to_owned()),
            source_version: None,
            written_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_part_is_stale_from_its_first_change_until_just_that_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let copy = copy_in(&state);
        assert_eq!(copy, copy_in(&state), "one number for one copy");
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let (one, two) = (record("a", "a/1", u64::MAX), record("a", "a/2", 3));
        state.record(copy, std::slice::from_ref(&one), at(5)).unwrap();
        state.record(copy, &[two.clone(), record("b", "b", 4)], at(6)).unwrap();
        let stale = state.stale_parts(copy).unwrap();
        let seen: Vec<_> = stale.iter().map(|p| (p.part.as_str(), p.since, p.entries)).collect();
        assert_eq!(seen, [("a", at(5), 2), ("b", at(6), 1)]);
        assert_eq!(state.records_of(copy, "a").unwrap(), [one.clone(), two]);
        // Something is recorded between reading the records and noting that they were written.
        state.record(copy, std::slice::from_ref(&one), at(8)).unwrap();
        state.part_written(copy, &stale[0], 1).unwrap();
        let still = state.stale_parts(copy).unwrap();
        assert_eq!((still[0].part.as_str(), still[0].sequence), ("a", 1));
        state.part_written(copy, &still[0], 2).unwrap();
        assert_eq!(state.stale_parts(copy).unwrap().len(), 1);
        let gone = [("a".to_owned(), "a/1".to_owned()), ("x".to_owned(), "x".to_owned())];
        state.forget(copy, &gone, at(9)).unwrap();
        let stale = state.stale_parts(copy).unwrap();
        assert_eq!((stale[0].part.as_str(), stale[0].since, stale[0].entries), ("a", at(9), 1));
        assert_eq!(stale.len(), 2, "nothing was known of x");
        let after = state.records_after(copy, ("a", "a/2"), 10).unwrap();
        assert_eq!(after.iter().map(|r| r.key.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_is_recalled_does_not_replace_what_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let copy = copy_in(&state);
        assert!(!state.is_recalled(copy).unwrap());
        state.record(copy, &[record("a", "a/1", 1)], DateTime::UNIX_EPOCH).unwrap();
        let old = [record("a", "a/1", 9), record("a", "a/2", 2)];
        state.recall_part(copy, "a", 41, &old).unwrap();
        state.set_recalled(copy).unwrap();
        assert!(state.is_recalled(copy).unwrap());
        assert_eq!(state.recorded(copy, "a", "a/1").unwrap().unwrap().crc64, 1);
        assert_eq!(state.recorded(copy, "a", "a/2").unwrap().unwrap().crc64, 2);
        assert_eq!(state.stale_parts(copy).unwrap()[0].sequence, 41);
    }
}
