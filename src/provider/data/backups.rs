//! The data source `aiven_service_backups`: the base backups of a service, and which are copied where.

use crate::{
    api::backups::{Backup, BackupCopy},
    provider::{data::validate_service, names, report, session::Session, start, value::Tf},
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tf_provider::{DataSource, Diagnostics, schema::Schema};

/// The data source's type name.
pub const TYPE: &str = "aiven_service_backups";

const ANY: &str = "any";
const PRIMARY: &str = "primary";
const SECONDARY: &str = "secondary";

/// The base backups of a service, oldest first, and which of them have a copy in a secondary region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupsModel {
    /// Project of the service.
    #[schemars(extend("x-tf" = "required"))]
    pub project: Tf<String>,
    /// Name of the service.
    #[schemars(extend("x-tf" = "required"))]
    pub service_name: Tf<String>,
    /// Which backups to list: `any`, `primary` for those that the primary region holds, or
    /// `secondary` for those with a copy in a secondary region.
    #[schemars(extend("x-tf" = "optional", "default" = "any"))]
    pub location: Tf<String>,
    /// The backups. A backup with copies in several regions has a row for each.
    #[schemars(extend("x-tf" = "computed"))]
    pub backups: Tf<Vec<BackupRow>>,
}

/// A base backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupRow {
    /// Name.
    #[schemars(extend("x-tf" = "computed"))]
    pub name: Tf<String>,
    /// When it was made, RFC 3339.
    #[schemars(extend("x-tf" = "computed"))]
    pub time: Tf<String>,
    /// Size of the data, in bytes.
    #[schemars(extend("x-tf" = "computed"))]
    pub data_size_bytes: Tf<u64>,
    /// Whether it needs an earlier backup.
    #[schemars(extend("x-tf" = "computed"))]
    pub incremental: Tf<bool>,
    /// Cloud that holds the primary copy; null where the API does not tell.
    #[schemars(extend("x-tf" = "computed"))]
    pub location: Tf<String>,
    /// Whether a secondary region holds a complete copy.
    #[schemars(extend("x-tf" = "computed"))]
    pub replicated: Tf<bool>,
    /// Cloud of the secondary copy; null without one.
    #[schemars(extend("x-tf" = "computed"))]
    pub secondary_region: Tf<String>,
    /// Whether copying to that region is paused.
    #[schemars(extend("x-tf" = "computed"))]
    pub paused: Tf<bool>,
    /// Why it is paused.
    #[schemars(extend("x-tf" = "computed"))]
    pub pause_reason: Tf<String>,
}

/// The data source.
#[derive(Debug)]
pub struct Backups(pub Arc<Session>);

#[async_trait]
impl DataSource for Backups {
    type State<'a> = BackupsModel;
    type ProviderMetaState<'a> = ();

    fn schema(&self, diags: &mut Diagnostics) -> Option<Schema> {
        start::read_schema_of::<BackupsModel>(diags)
    }

    async fn validate<'a>(&self, diags: &mut Diagnostics, config: BackupsModel) -> Option<()> {
        validate_service(diags, &config.project, &config.service_name);
        names::validate_word(diags, "location", &config.location, &[ANY, PRIMARY, SECONDARY]);
        Some(())
    }

    async fn read<'a>(
        &self,
        diags: &mut Diagnostics,
        config: BackupsModel,
        _meta: (),
    ) -> Option<BackupsModel> {
        let connection = self.0.connected(diags)?;
        let id = names::service_id(&config.project, &config.service_name)?;
        let list = connection.api.backups(&id).await;
        let list = list.map_err(|e| report::service_unread(diags, "service_name", &id, &e)).ok()?;
        let location = config.location.or(ANY.to_owned());
        let rows = rows(&list.backups, location.text().unwrap_or(ANY));
        Some(BackupsModel { location, backups: Tf::Known(rows), ..config })
    }
}

/// The rows, oldest first.
fn rows(backups: &[Backup], location: &str) -> Vec<BackupRow> {
    let mut backups: Vec<&Backup> = backups.iter().collect();
    // RFC 3339 in UTC sorts as text.
    backups.sort_by(|left, right| left.backup_time.cmp(&right.backup_time));
    let rows = backups.into_iter().flat_map(|backup| {
        let copies = backup.additional_regions.iter().map(Some);
        let copies: Vec<_> =
            if backup.additional_regions.is_empty() { vec![None] } else { copies.collect() };
        copies.into_iter().map(|copy| row(backup, copy)).collect::<Vec<_>>()
    });
    rows.filter(|row| match location {
        PRIMARY => !row.location.is_null(),
        SECONDARY => row.replicated == Tf::Known(true),
        _ => true,
    })
    .collect()
}

fn row(backup: &Backup, copy: Option<&BackupCopy>) -> BackupRow {
    BackupRow {
        name: backup.backup_name.as_str().into(),
        time: backup.backup_time.as_str().into(),
        data_size_bytes: Tf::Known(backup.data_size),
        incremental: Tf::Known(backup.incremental.unwrap_or(false)),
        location: backup.storage_location.clone().into(),
        replicated: Tf::Known(copy.is_some_and(|copy| copy.restorable.unwrap_or(true))),
        secondary_region: copy.map(|copy| copy.cloud.clone()).into(),
        paused: Tf::Known(copy.is_some_and(|copy| copy.paused == Some(true))),
        pause_reason: copy.and_then(|copy| copy.pause_reason.clone()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(location: &str) -> Vec<String> {
        let copy = |cloud: &str, restorable| BackupCopy {
            cloud: cloud.to_owned(),
            restorable,
            ..BackupCopy::default()
        };
        let backup = |name: &str, at: &str, regions: Vec<BackupCopy>| Backup {
            backup_name: name.to_owned(),
            backup_time: at.to_owned(),
            storage_location: (name != "old").then(|| "aws-eu-west-1".to_owned()),
            additional_regions: regions,
            ..Backup::default()
        };
        let backups = [
            backup("new", "2026-11-23T09:00:00Z", vec![copy("a", Some(false))]),
            backup("mid", "2026-11-23T08:00:00Z", vec![copy("a", None), copy("b", Some(true))]),
            backup("old", "2026-11-23T07:00:00Z", vec![copy("a", None)]),
            backup("bare", "2026-11-23T06:00:00Z", vec![]),
        ];
        let name = |row: BackupRow| {
            let region = row.secondary_region.text().unwrap_or("-").to_owned();
            format!("{} {region}", row.name.text().unwrap())
        };
        rows(&backups, location).into_iter().map(name).collect()
    }

    #[test]
    fn rows_are_chosen_by_where_the_backups_are() {
        assert_eq!(names("any"), ["bare -", "old a", "mid a", "mid b", "new a"]);
        assert_eq!(names("primary"), ["bare -", "mid a", "mid b", "new a"]);
        assert_eq!(names("secondary"), ["old a", "mid a", "mid b"]);
    }
}
