//! When a copy was last in step with the primary, and its lag over time.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId},
    engine::state::{State, StateError},
};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{OptionalExtension, params};

/// Measurements older than this are dropped.
const KEPT_DAYS: i64 = 366;

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

    /// Keeps a measurement: the lag at `now`, and whether nothing was missing.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn measure(
        &self,
        id: &ServiceId,
        region: &CloudName,
        now: DateTime<Utc>,
        lag_seconds: u64,
    ) -> Result<(), StateError> {
        let fault = |source| StateError::Database { doing: "keeping a measurement", source };
        let (project, name) = (id.project.as_str(), id.service.as_str());
        let connection = self.connection();
        if lag_seconds == 0 {
            let sql = "INSERT OR REPLACE INTO in_step VALUES (?1, ?2, ?3, ?4)";
            let values = params![project, name, region.as_str(), now.timestamp_micros()];
            connection.prepare_cached(sql).and_then(|mut s| s.execute(values)).map_err(fault)?;
        }
        let minute = now.timestamp().div_euclid(60);
        // The largest of a minute is kept: a report must not hide a peak.
        let sql = "INSERT INTO lag VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET seconds = max(seconds, excluded.seconds)";
        let seconds = i64::try_from(lag_seconds).unwrap_or(i64::MAX);
        let values = params![project, name, region.as_str(), minute, seconds];
        connection.prepare_cached(sql).and_then(|mut s| s.execute(values)).map_err(fault)?;
        let sql =
            "DELETE FROM lag WHERE project = ?1 AND name = ?2 AND region = ?3 AND minute < ?4";
        let values = params![project, name, region.as_str(), minute - KEPT_DAYS * 24 * 60];
        connection.prepare_cached(sql).and_then(|mut s| s.execute(values)).map_err(fault)?;
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
        since: DateTime<Utc>,
        step: TimeDelta,
    ) -> Result<Vec<(DateTime<Utc>, u64)>, StateError> {
        let fault = |source| StateError::Database { doing: "reading measurements", source };
        let sql = "SELECT minute / ?5, max(seconds) FROM lag
                   WHERE project = ?1 AND name = ?2 AND region = ?3 AND minute >= ?4
                   GROUP BY 1 ORDER BY 1";
        let minutes = step.num_minutes().max(1);
        let (project, name) = (id.project.as_str(), id.service.as_str());
        let from = since.timestamp().div_euclid(60);
        let connection = self.connection();
        let mut statement = connection.prepare_cached(sql).map_err(fault)?;
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
        state.measure(&id, &region, at, 0).unwrap();
        state.measure(&id, &region, at + TimeDelta::seconds(1), 9).unwrap();
        state.measure(&id, &region, at + TimeDelta::seconds(2), 3).unwrap();
        assert_eq!(state.in_step_at(&id, &region).unwrap(), Some(at));
        let step = TimeDelta::minutes(1);
        let found = state.lag_since(&id, &region, at - TimeDelta::hours(1), step).unwrap();
        assert_eq!(found, [(at, 9)]);
    }
}
