//! When a copy was last in step with the primary, and its lag over time.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId},
    engine::state::{State, StateError},
};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{OptionalExtension, params};

/// Measurements older than this are dropped.
const KEPT_DAYS: i64 = 366;

/// What is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagKind {
    /// The log.
    Log,
    /// Base backups.
    BaseBackups,
}

impl LagKind {
    fn table(self) -> &'static str {
        match self {
            Self::Log => "lag",
            Self::BaseBackups => "base_backup_lag",
        }
    }
}

/// A table that was added later.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS base_backup_lag (
        project TEXT NOT NULL, name TEXT NOT NULL, region TEXT NOT NULL,
        minute INTEGER NOT NULL, seconds INTEGER NOT NULL,
        PRIMARY KEY (project, name, region, minute)
    ) STRICT;
";

impl State {
    /// When the copy in `region` last had everything of the primary's log.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn in_step_at(
        &self,
        id: &ServiceId,
        region: &CloudName,
    ) -> Result<Option<DateTime<Utc>>, StateError> {
        let fault = |source| StateError::Database { doing: "reading a measurement", source };
        let sql = "SELECT at_us FROM in_step WHERE project = ?1 AND name = ?2 AND region = ?3";
        let values = params![id.project.as_str(), id.service.as_str(), region.as_str()];
        let found: Option<i64> =
            self.connection().query_row(sql, values, |row| row.get(0)).optional().map_err(fault)?;
        Ok(found.and_then(DateTime::from_timestamp_micros))
    }

    /// Keeps a measurement: the lag at `now`, and of the log whether nothing was missing.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn measure(
        &self,
        id: &ServiceId,
        region: &CloudName,
        kind: LagKind,
        now: DateTime<Utc>,
        lag_seconds: u64,
    ) -> Result<(), StateError> {
        let fault = |source| StateError::Database { doing: "keeping a measurement", source };
        let (project, name) = (id.project.as_str(), id.service.as_str());
        let connection = self.connection();
        if lag_seconds == 0 && kind == LagKind::Log {
            let sql = "INSERT OR REPLACE INTO in_step VALUES (?1, ?2, ?3, ?4)";
            let values = params![project, name, region.as_str(), now.timestamp_micros()];
            connection.prepare_cached(sql).and_then(|mut s| s.execute(values)).map_err(fault)?;
        }
        let minute = now.timestamp().div_euclid(60);
        // The largest of a minute is kept: a report must not hide a peak.
        let table = kind.table();
        let sql = format!(
            "INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET seconds = max(seconds, excluded.seconds)"
        );
        let seconds = i64::try_from(lag_seconds).unwrap_or(i64::MAX);
        let values = params![project, name, region.as_str(), minute, seconds];
        connection.prepare_cached(&sql).and_then(|mut s| s.execute(values)).map_err(fault)?;
        let sql = format!(
            "DELETE FROM {table} WHERE project = ?1 AND name = ?2 AND region = ?3 AND minute < ?4"
        );
        let values = params![project, name, region.as_str(), minute - KEPT_DAYS * 24 * 60];
        connection.prepare_cached(&sql).and_then(|mut s| s.execute(values)).map_err(fault)?;
        Ok(())
    }

    /// The lag of a copy since `since`, as the largest of every `step`, oldest first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn lag_since(
        &self,
        id: &ServiceId,
        region: &CloudName,
        kind: LagKind,
        since: DateTime<Utc>,
        step: TimeDelta,
    ) -> Result<Vec<(DateTime<Utc>, u64)>, StateError> {
        let fault = |source| StateError::Database { doing: "reading measurements", source };
        let sql = format!(
            "SELECT minute / ?5, max(seconds) FROM {}
             WHERE project = ?1 AND name = ?2 AND region = ?3 AND minute >= ?4
             GROUP BY 1 ORDER BY 1",
            kind.table()
        );
        let minutes = step.num_minutes().max(1);
        let (project, name) = (id.project.as_str(), id.service.as_str());
        let from = since.timestamp().div_euclid(60);
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&sql).map_err(fault)?;
        let rows = statement
            .query_map(params![project, name, region.as_str(), from, minutes], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })
            .map_err(fault)?;
        let mut found = Vec::new();
        for row in rows {
            let (bucket, seconds) = row.map_err(fault)?;
            if let Some(at) = DateTime::from_timestamp(bucket * minutes * 60, 0) {
                found.push((at, u64::try_from(seconds).unwrap_or(0)));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ProjectName, ServiceName};

    #[test]
    fn a_peak_within_a_minute_is_not_hidden_and_in_step_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let id = ServiceId {
            project: ProjectName::parse("p").unwrap(),
            service: ServiceName::parse("s").unwrap(),
        };
        let region = CloudName::parse("aws-eu-central-1").unwrap();
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let log = LagKind::Log;
        state.measure(&id, &region, log, at, 0).unwrap();
        state.measure(&id, &region, log, at + TimeDelta::seconds(1), 9).unwrap();
        state.measure(&id, &region, log, at + TimeDelta::seconds(2), 3).unwrap();
        let later = at + TimeDelta::seconds(4);
        state.measure(&id, &region, LagKind::BaseBackups, later, 70).unwrap();
        assert_eq!(state.in_step_at(&id, &region).unwrap(), Some(at));
        let step = TimeDelta::minutes(1);
        let since = at - TimeDelta::hours(1);
        assert_eq!(state.lag_since(&id, &region, log, since, step).unwrap(), [(at, 9)]);
        let kind = LagKind::BaseBackups;
        assert_eq!(state.lag_since(&id, &region, kind, since, step).unwrap(), [(at, 70)]);
    }
}
