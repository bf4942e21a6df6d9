//! Since when backups in a copy are not listed any more.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId},
    engine::state::{State, StateError},
};
use chrono::{DateTime, Utc};
use rusqlite::params;
use std::collections::{BTreeMap, BTreeSet};

impl State {
    /// Takes note of the backups that are not listed now, and says since when each is not. One that is
    /// listed again begins anew when it disappears the next time.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn note_expired(
        &self,
        id: &ServiceId,
        region: &CloudName,
        labels: &BTreeSet<String>,
        now: DateTime<Utc>,
    ) -> Result<BTreeMap<String, DateTime<Utc>>, StateError> {
        let fault = |source| StateError::Database { doing: "noting expired backups", source };
        let (project, name, region) = (id.project.as_str(), id.service.as_str(), region.as_str());
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(fault)?;
        let mut known = BTreeMap::new();
        {
            let sql = "SELECT label, since_us FROM expired
                       WHERE project = ?1 AND name = ?2 AND region = ?3";
            let mut statement = transaction.prepare_cached(sql).map_err(fault)?;
            let rows = statement
                .query_map(params![project, name, region], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                })
                .map_err(fault)?;
            for row in rows {
                let (label, since) = row.map_err(fault)?;
                known.insert(label, DateTime::from_timestamp_micros(since).unwrap_or(now));
            }
        }
        let gone: Vec<String> = known.keys().filter(|l| !labels.contains(*l)).cloned().collect();
        for label in gone {
            let sql = "DELETE FROM expired
                       WHERE project = ?1 AND name = ?2 AND region = ?3 AND label = ?4";
            transaction.execute(sql, params![project, name, region, label]).map_err(fault)?;
            known.remove(&label);
        }
        for label in labels {
            // A clock that was set back must not make the grace time longer than it is.
            let since = known.entry(label.clone()).or_insert(now);
            *since = (*since).min(now);
            let sql = "INSERT OR REPLACE INTO expired VALUES (?1, ?2, ?3, ?4, ?5)";
            let values = params![project, name, region, label, since.timestamp_micros()];
            transaction.execute(sql, values).map_err(fault)?;
        }
        transaction.commit().map_err(fault)?;
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ProjectName, ServiceName};
    use chrono::TimeDelta;

    #[test]
    fn the_first_time_counts_until_it_is_listed_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let id = ServiceId {
            project: ProjectName::parse("p").unwrap(),
            service: ServiceName::parse("s").unwrap(),
        };
        let region = CloudName::parse("aws-x").unwrap();
        let at = |hours| DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
        let note = |labels: &[&str], hours| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            state.note_expired(&id, &region, &labels, at(hours)).unwrap()
        };
        assert_eq!(note(&["a"], 5)["a"], at(5));
        let both = note(&["a", "b"], 7);
        assert_eq!((both["a"], both["b"]), (at(5), at(7)));
        assert_eq!(note(&["b"], 8).len(), 1);
        assert_eq!(note(&["a", "b"], 9)["a"], at(9), "it was listed in between");
    }
}
