//! Objects of copies that are known to be damaged, how far each copy has been read again, and what
//! retention has been holding back.

use crate::engine::state::{
    State, StateError,
    records::{CopyNumber, fault},
};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeMap;

/// Tables that an older engine does not know and does not mind.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS damaged (
        copy INTEGER NOT NULL, key TEXT NOT NULL, what TEXT NOT NULL, unrepaired TEXT,
        since_us INTEGER NOT NULL,
        PRIMARY KEY (copy, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS scrub (
        copy INTEGER PRIMARY KEY, cursor TEXT, started_us INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS held_back (
        copy INTEGER PRIMARY KEY, why TEXT NOT NULL, since_us INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS primary_seen (
        copy INTEGER PRIMARY KEY, backups INTEGER NOT NULL, newest_us INTEGER NOT NULL
    ) STRICT;
";

/// What is wrong with an object of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong, for people.
    pub what: String,
    /// Why it could not be repaired, when that was tried.
    pub unrepaired: Option<String>,
}

/// How far the reading of a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubPlace {
    /// The last key that was read; `None` when everything was.
    pub cursor: Option<String>,
    /// When this reading began.
    pub started_at: DateTime<Utc>,
}

/// What the primary's catalogue listed when it was last trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimarySeen {
    /// Number of backups.
    pub backups: usize,
    /// When the newest of them ended.
    pub newest: DateTime<Utc>,
}

const DAMAGE: &str = "noting a damaged object";
const SCRUB: &str = "noting how far a copy was read";
const HELD: &str = "noting what is held back";

impl State {
    /// The damaged objects of a copy by key below the repository's prefix.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn damaged(&self, copy: CopyNumber) -> Result<BTreeMap<String, Damage>, StateError> {
        let connection = self.connection();
        let sql = "SELECT key, what, unrepaired FROM damaged WHERE copy = ?1";
        let mut statement = connection.prepare_cached(sql).map_err(fault(DAMAGE))?;
        let rows = statement.query_map([copy.0], |row| {
            Ok((row.get(0)?, Damage { what: row.get(1)?, unrepaired: row.get(2)? }))
        });
        rows.map_err(fault(DAMAGE))?.collect::<rusqlite::Result<_>>().map_err(fault(DAMAGE))
    }

    /// Notes that an object is damaged, or what came of trying to repair it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn note_damage(
        &self,
        copy: CopyNumber,
        key: &str,
        damage: &Damage,
        now: DateTime<Utc>,
    ) -> Result<(), StateError> {
        let sql = "INSERT INTO damaged VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET
                       what = excluded.what, unrepaired = excluded.unrepaired";
        let values = params![copy.0, key, damage.what, damage.unrepaired, now.timestamp_micros()];
        self.connection().execute(sql, values).map(drop).map_err(fault(DAMAGE))
    }

    /// An object is not damaged any more, or not there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn forget_damage(&self, copy: CopyNumber, key: &str) -> Result<(), StateError> {
        let sql = "DELETE FROM damaged WHERE copy = ?1 AND key = ?2";
        self.connection().execute(sql, params![copy.0, key]).map(drop).map_err(fault(DAMAGE))
    }

    /// How far a copy has been read again; `None` before the first time.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn scrub_place(&self, copy: CopyNumber) -> Result<Option<ScrubPlace>, StateError> {
        let sql = "SELECT cursor, started_us FROM scrub WHERE copy = ?1";
        let found = self.connection().query_row(sql, [copy.0], |row| {
            let started_at = DateTime::from_timestamp_micros(row.get(1)?).unwrap_or_default();
            Ok(ScrubPlace { cursor: row.get(0)?, started_at })
        });
        found.optional().map_err(fault(SCRUB))
    }

    /// Keeps how far a copy has been read again.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep_scrub_place(&self, copy: CopyNumber, at: &ScrubPlace) -> Result<(), StateError> {
        let sql = "INSERT OR REPLACE INTO scrub VALUES (?1, ?2, ?3)";
        let values = params![copy.0, at.cursor, at.started_at.timestamp_micros()];
        self.connection().execute(sql, values).map(drop).map_err(fault(SCRUB))
    }

    /// Notes that removing is held back for the reason `why`, and says since when it has been for
    /// just that; `None` ends it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn note_held_back(
        &self,
        copy: CopyNumber,
        why: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, StateError> {
        let connection = self.connection();
        let Some(why) = why else {
            let sql = "DELETE FROM held_back WHERE copy = ?1";
            return connection.execute(sql, [copy.0]).map(|_| now).map_err(fault(HELD));
        };
        let sql = "SELECT since_us FROM held_back WHERE copy = ?1 AND why = ?2";
        let known: Option<i64> = connection
            .query_row(sql, params![copy.0, why], |row| row.get(0))
            .optional()
            .map_err(fault(HELD))?;
        let since = known.and_then(DateTime::from_timestamp_micros).unwrap_or(now).min(now);
        let sql = "INSERT OR REPLACE INTO held_back VALUES (?1, ?2, ?3)";
        let values = params![copy.0, why, since.timestamp_micros()];
        connection.execute(sql, values).map(|_| since).map_err(fault(HELD))
    }

    /// What the primary's catalogue listed when it was last trusted.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn primary_seen(&self, copy: CopyNumber) -> Result<Option<PrimarySeen>, StateError> {
        let sql = "SELECT backups, newest_us FROM primary_seen WHERE copy = ?1";
        let found = self.connection().query_row(sql, [copy.0], |row| {
            let newest = DateTime::from_timestamp_micros(row.get(1)?).unwrap_or_default();
            Ok(PrimarySeen { backups: row.get::<_, u32>(0)? as usize, newest })
        });
        found.optional().map_err(fault(HELD))
    }

    /// Keeps what the primary's catalogue lists now.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep_primary_seen(&self, copy: CopyNumber, seen: PrimarySeen) -> Result<(), StateError> {
        let sql = "INSERT OR REPLACE INTO primary_seen VALUES (?1, ?2, ?3)";
        let backups = u32::try_from(seen.backups).unwrap_or(u32::MAX);
        let values = params![copy.0, backups, seen.newest.timestamp_micros()];
        self.connection().execute(sql, values).map(drop).map_err(fault(HELD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::records::tests::{copy_in, record};
    use chrono::TimeDelta;

    #[test]
    fn damage_and_cursor_outlive_the_process_and_a_record_ends_damage() {
        let dir = tempfile::tempdir().unwrap();
        let at = |hours| DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
        let place = ScrubPlace { cursor: Some("k".to_owned()), started_at: at(1) };
        {
            let state = State::open(dir.path()).unwrap();
            let copy = copy_in(&state);
            assert_eq!(state.scrub_place(copy).unwrap(), None);
            state.keep_scrub_place(copy, &place).unwrap();
            let damage = Damage { what: "w".to_owned(), unrepaired: None };
            state.note_damage(copy, "a", &damage, at(1)).unwrap();
            let damage = Damage { unrepaired: Some("u".to_owned()), ..damage };
            state.note_damage(copy, "a", &damage, at(2)).unwrap();
            state.note_damage(copy, "b", &damage, at(2)).unwrap();
        }
        let state = State::open(dir.path()).unwrap();
        let copy = copy_in(&state);
        assert_eq!(state.scrub_place(copy).unwrap(), Some(place));
        let damaged = state.damaged(copy).unwrap();
        assert_eq!(damaged["a"].unrepaired.as_deref(), Some("u"));
        state.record(copy, &[record("p", "a", 1)], at(3)).unwrap();
        assert_eq!(state.damaged(copy).unwrap().into_keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_time_of_holding_back_begins_anew_for_another_reason() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let copy = copy_in(&state);
        let at = |hours| DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
        let note = |why, hours| state.note_held_back(copy, why, at(hours)).unwrap();
        assert_eq!([note(Some("a"), 1), note(Some("a"), 3)], [at(1), at(1)]);
        assert_eq!([note(Some("b"), 4), note(Some("a"), 5)], [at(4), at(5)]);
        note(None, 6);
        assert_eq!(note(Some("a"), 7), at(7));
    }
}
