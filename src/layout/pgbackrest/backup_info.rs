//! `backup.info` and `archive.info`: which backups and which clusters a repository knows.

use crate::{
    domain::lsn::Lsn,
    layout::{
        backup::ListedBackup,
        pgbackrest::info_file::{self, Entry, InfoFileError},
    },
};
use chrono::{DateTime, TimeDelta};
use serde_json::Value;
use std::collections::BTreeMap;

/// A cluster that a repository knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// PostgreSQL's system identifier.
    pub system_id: u64,
    /// Version as pgBackRest writes it: `15`, `9.6`.
    pub version: String,
}

impl Cluster {
    /// Major version, where it is a plain number.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        self.version.parse().ok()
    }
}

/// The catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupInfo {
    /// Backups, oldest first.
    pub backups: Vec<ListedBackup>,
    /// Clusters by number.
    pub clusters: BTreeMap<u32, Cluster>,
}

impl BackupInfo {
    /// Reads `backup.info`.
    ///
    /// # Errors
    /// [`InfoFileError`].
    pub fn read(bytes: &[u8]) -> Result<Self, InfoFileError> {
        let mut info = Self::default();
        let mut clusters_of = Vec::new();
        info_file::read("backup.info", bytes, |entry| {
            match entry.section {
                "backup:current" => {
                    let (db_id, backup) = listed(&entry)?;
                    clusters_of.push(db_id);
                    info.backups.push(backup);
                }
                "db:history" => {
                    let (id, cluster) = cluster("backup.info", &entry, "db-system-id")?;
                    info.clusters.insert(id, cluster);
                }
                _ => {}
            }
            Ok(())
        })?;
        // The clusters stand behind the backups in the file.
        for (db_id, backup) in clusters_of.iter().zip(&mut info.backups) {
            let cluster = info.clusters.get(db_id);
            backup.archive = cluster.map(|cluster| format!("{}-{db_id}", cluster.version));
        }
        info.backups.sort_by(|a, b| (a.started_at, &a.label).cmp(&(b.started_at, &b.label)));
        Ok(info)
    }
}

/// Reads the clusters of `archive.info`.
///
/// # Errors
/// [`InfoFileError`].
pub fn read_archive_info(bytes: &[u8]) -> Result<BTreeMap<u32, Cluster>, InfoFileError> {
    let mut clusters = BTreeMap::new();
    info_file::read("archive.info", bytes, |entry| {
        if entry.section == "db:history" {
            // Here `db-id` is the system identifier.
            let (id, cluster) = cluster("archive.info", &entry, "db-id")?;
            clusters.insert(id, cluster);
        }
        Ok(())
    })?;
    Ok(clusters)
}

/// Whether `newer` still knows every cluster of `older`. It does not when a repository was made
/// anew: its objects would get the same names as those of another database.
#[must_use]
pub fn continues(older: &BTreeMap<u32, Cluster>, newer: &BTreeMap<u32, Cluster>) -> bool {
    older.iter().all(|(id, cluster)| newer.get(id) == Some(cluster))
}

/// A backup, and the number of its cluster in `[db:history]`.
fn listed(entry: &Entry<'_>) -> Result<(u32, ListedBackup), InfoFileError> {
    let value = &entry.value;
    let missing = |key: &str| InfoFileError::Missing {
        file: "backup.info".to_owned(),
        key: format!("{}: {key}", entry.key),
    };
    let text = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(|| missing(key));
    let number = |key: &str| value[key].as_u64().ok_or_else(|| missing(key));
    let lsn = |key: &str| text(key)?.parse::<Lsn>().map_err(|_| missing(key));
    let time = |key: &str| {
        value[key].as_i64().and_then(|t| DateTime::from_timestamp(t, 0)).ok_or_else(|| missing(key))
    };
    let references = value["backup-reference"].as_array().map_or(Vec::new(), |labels| {
        labels.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    });
    let db_id = u32::try_from(number("db-id")?).map_err(|_| missing("db-id"))?;
    let backup = ListedBackup {
        label: entry.key.to_owned(),
        archive: None,
        // Backups taken offline or without an archive check have none: they need no log of
        // their own, and cannot be rolled forward by us.
        archive_start: text("backup-archive-start")?,
        archive_stop: text("backup-archive-stop")?,
        lsn_stop: lsn("backup-lsn-stop")?,
        ends_in_log: false,
        started_at: time("backup-timestamp-start")?,
        // What ended is listed in whole seconds.
        finished_at: time("backup-timestamp-stop")? + TimeDelta::seconds(1),
        size_bytes: number("backup-info-size")?,
        stored_bytes: value["backup-info-repo-size-delta"].as_u64().unwrap_or(0),
        references,
        lacks_key: None,
    };
    Ok((db_id, backup))
}

fn cluster(
    file: &str,
    entry: &Entry<'_>,
    system_id: &str,
) -> Result<(u32, Cluster), InfoFileError> {
    let missing = || InfoFileError::Missing {
        file: file.to_owned(),
        key: format!("db:history {}", entry.key),
    };
    let id = entry.key.parse().map_err(|_| missing())?;
    let cluster = Cluster {
        system_id: entry.value[system_id].as_u64().ok_or_else(missing)?,
        version: entry.value["db-version"].as_str().ok_or_else(missing)?.to_owned(),
    };
    Ok((id, cluster))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::pgbackrest::info_file::tests::{ARCHIVE_INFO, sealed};

    #[test]
    fn a_catalogue_is_read() {
        let text = sealed(
            "[backrest]\nbackrest-format=5\n\n[backup:current]\n\
             20261123-075157F={\"backup-archive-start\":\"000000010000000000000006\",\
             \"backup-archive-stop\":\"000000010000000000000006\",\"backup-error\":false,\
             \"backup-info-repo-size-delta\":6393237,\"backup-info-size\":101643994,\
             \"backup-lsn-start\":\"0/6000028\",\"backup-lsn-stop\":\"0/6000100\",\
             \"backup-timestamp-start\":1795420317,\"backup-timestamp-stop\":1795420323,\
             \"backup-type\":\"full\",\"db-id\":1}\n\n[db:history]\n\
             1={\"db-system-id\":7711271521840637771,\"db-version\":\"15\"}\n",
        );
        let info = BackupInfo::read(text.as_bytes()).unwrap();
        let [backup] = &info.backups[..] else { panic!("{info:?}") };
        assert_eq!(backup.label, "20261123-075157F");
        assert_eq!(backup.archive.as_deref(), Some("15-1"));
        assert_eq!(backup.lsn_stop, Lsn(0x0600_0100));
        assert_eq!(backup.finished_at.timestamp(), 1_795_420_324, "rounded up");
    }

    #[test]
    fn a_repository_made_anew_does_not_continue_the_old_one() {
        let old = read_archive_info(ARCHIVE_INFO.as_bytes()).unwrap();
        let mut new = old.clone();
        assert!(continues(&old, &new));
        new.insert(2, Cluster { system_id: 9, version: "16".into() });
        assert!(continues(&old, &new), "an upgrade continues");
        new.insert(1, Cluster { system_id: 9, version: "15".into() });
        assert!(!continues(&old, &new));
    }
}
