//! Backups, restore windows and the lag report.

use crate::{
    api::backups::{BackupList, Pitr, PrimaryRange, Range, RegionBackup, RegionRange},
    domain::{cloud::CloudName, target_time},
    engine::{
        app::{App, describe},
        catalog::CatalogBackup,
        error::AppError,
        state::measurements::LagKind,
        views::{RegionView, ServiceView},
    },
};
use chrono::TimeDelta;
use serde_json::{Value, json};

impl App {
    /// The backups of a service, with what can be restored where.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn backups(&self, project: &str, service: &str) -> Result<BackupList, AppError> {
        let id = self.id(project, service)?;
        let Some(configured) = self.configured(&id) else {
            self.get_service(project, service)?;
            return Ok(BackupList::default());
        };
        if configured.backup.is_none() {
            return Ok(BackupList::default());
        }
        let view = self.views.service(&id);
        let backups = describe::backups(&configured.cloud, &view);
        let primary_region =
            PrimaryRange { pitr_range_start: earliest_in_primary(&view), pitr_range_end: None };
        let ranges = view.regions.iter().filter_map(|(cloud, region)| region_range(cloud, region));
        let pitr = Pitr { primary_region, additional_regions: ranges.collect() };
        Ok(BackupList { backups, pitr: Some(pitr) })
    }

    /// The replication lag of a service over a period: `hour`, `day`, `week`, `month` or `year`.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn lag_report(
        &self,
        project: &str,
        service: &str,
        period: &str,
    ) -> Result<Value, AppError> {
        let id = self.id(project, service)?;
        self.get_service(project, service)?;
        let (length, step) = match period {
            "hour" => (TimeDelta::hours(1), TimeDelta::minutes(1)),
            "day" => (TimeDelta::days(1), TimeDelta::minutes(5)),
            "week" => (TimeDelta::weeks(1), TimeDelta::minutes(30)),
            "month" => (TimeDelta::days(31), TimeDelta::hours(2)),
            "year" => (TimeDelta::days(365), TimeDelta::days(1)),
            _ => {
                let text = "Invalid input: `period` must be hour, day, week, month or year";
                return Err(AppError::refused("bad_request", text));
            }
        };
        let since = self.clock.now() - length;
        let mut metrics = serde_json::Map::new();
        for region in self.enabled_regions(&id)? {
            for (name, kind, title) in [
                ("replication_lag", LagKind::Log, "Replication lag"),
                ("base_backup_lag", LagKind::BaseBackups, "Lag of base backups"),
            ] {
                let series = self.state.lag_since(&id, &region, kind, since, step)?;
                metrics.insert(format!("{name}_{region}"), chart(&region, title, &series));
            }
        }
        Ok(json!({ "metrics": metrics }))
    }
}

/// A series as Aiven's metrics have it: the first row repeats the columns.
fn chart(
    region: &CloudName,
    title: &str,
    series: &[(chrono::DateTime<chrono::Utc>, u64)],
) -> Value {
    let columns = json!([
        {"label": "time", "type": "date"},
        {"label": format!("lag in seconds, {region}"), "type": "number"},
    ]);
    let mut rows = vec![columns.clone()];
    rows.extend(series.iter().map(|(at, lag)| json!([target_time::format(*at), lag])));
    json!({"data": {"cols": columns, "rows": rows}, "hints": {"title": title}})
}

/// The end of the oldest backup whose objects are all there.
fn earliest_in_primary(view: &ServiceView) -> Option<String> {
    let complete = view.primary.backups.iter().filter(|backup| backup.missing.is_empty());
    complete.map(|backup| backup.finished_at).min().map(target_time::format_micros)
}

fn region_range(cloud: &CloudName, region: &RegionView) -> Option<RegionRange> {
    let window = &region.catalog.window;
    let last = window.ranges().last()?;
    let ranges = window.ranges().iter().map(|range| Range {
        start: target_time::format_micros(range.earliest),
        end: target_time::format_micros(range.latest),
        exact: range.exact,
    });
    Some(RegionRange {
        cloud: cloud.to_string(),
        region: cloud.region().to_owned(),
        pitr_range_start: target_time::format_micros(window.earliest()?),
        pitr_range_end: target_time::format_micros(last.latest),
        ranges: ranges.collect(),
        exact: Some(last.exact),
        latest_lsn: region.catalog.frontier.as_ref().map(|frontier| frontier.position.clone()),
        lag_seconds: region.lag.log_seconds,
        base_backups: region.catalog.backups.iter().filter_map(region_backup).collect(),
    })
}

/// A base backup that can be restored, with the log behind it.
fn region_backup(backup: &CatalogBackup) -> Option<RegionBackup> {
    let range = backup.range.as_ref()?;
    Some(RegionBackup {
        backup_name: backup.name.clone(),
        pitr_range_start: target_time::format_micros(range.earliest),
        pitr_range_end: target_time::format_micros(range.latest),
        log_segments: backup.log_segments,
        log_bytes: backup.log_bytes,
    })
}
