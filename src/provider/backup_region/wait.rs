//! Waits until a base backup can be restored in the region.

use crate::{
    api::backups::BackupList,
    client::error::ClientError,
    domain::{cloud::CloudName, ids::ServiceId},
    provider::session::{Connection, Pace, Pause, Session},
};
use std::time::Duration;

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// A base backup can be restored.
    Ready,
    /// Terraform wants to stop.
    Stopped,
    /// The time is over.
    Overdue,
    /// Waiting makes no sense any more.
    Failed(ClientError),
}

/// Waits until `region` holds a restorable copy, at most for `limit`.
pub(super) async fn first_backup(
    session: &Session,
    connection: &Connection,
    id: &ServiceId,
    region: &CloudName,
    limit: Duration,
) -> Wait {
    let started = session.clock.monotonic();
    let mut pace = Pace::new();
    loop {
        match connection.api.backups_now(id).await {
            Ok(list) if is_ready(&list, region) => return Wait::Ready,
            Ok(_) => tracing::info!(service = %id, %region, "waiting for the first backup"),
            Err(
                error @ (ClientError::NotFound { .. }
                | ClientError::Unauthorized { .. }
                | ClientError::Forbidden { .. }),
            ) => return Wait::Failed(error),
            // An outage may pass before the time is over.
            Err(error) => tracing::warn!(service = %id, %error, "waiting for the first backup"),
        }
        let pause = pace.step();
        if session.clock.monotonic().saturating_sub(started) + pause > limit {
            return Wait::Overdue;
        }
        if session.pause(pause).await == Pause::Stopped {
            return Wait::Stopped;
        }
    }
}

/// Whether a base backup can be restored in the region: it has a restore window, or, where the API
/// gives no windows, a backup has a copy there.
fn is_ready(list: &BackupList, region: &CloudName) -> bool {
    let windows = list.pitr.iter().flat_map(|pitr| &pitr.additional_regions);
    let copies = list.backups.iter().flat_map(|backup| &backup.additional_regions);
    windows.into_iter().any(|window| window.cloud == region.as_str())
        || copies
            .into_iter()
            .any(|copy| copy.cloud == region.as_str() && copy.restorable.unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: serde_json::Value, expect: bool) {
        let list: BackupList = serde_json::from_value(list).unwrap();
        assert_eq!(is_ready(&list, &CloudName::parse("aws-eu-central-1").unwrap()), expect);
    }

    #[test]
    fn a_window_or_a_copy_makes_the_region_ready() {
        let backup = |copy: serde_json::Value| {
            serde_json::json!({"backups": [{"backup_name": "b", "data_size": 1,
                "backup_time": "2026-11-23T07:00:00Z", "additional_regions": [copy]}]})
        };
        check(serde_json::json!({"backups": []}), false);
        check(backup(serde_json::json!({"cloud": "aws-eu-central-1", "region": "r"})), true);
        check(backup(serde_json::json!({"cloud": "aws-eu-west-2", "region": "r"})), false);
        let unfinished =
            serde_json::json!({"cloud": "aws-eu-central-1", "region": "r", "restorable": false});
        check(backup(unfinished), false);
        let window = |cloud: &str| {
            serde_json::json!({"backups": [], "pitr": {
                "primary_region": {"pitr_range_start": null, "pitr_range_end": null},
                "additional_regions": [{"cloud": cloud, "region": "r",
                    "pitr_range_start": "2026-11-23T07:00:00Z",
                    "pitr_range_end": "2026-11-23T08:00:00Z"}]}})
        };
        check(window("aws-eu-central-1"), true);
        check(window("aws-eu-west-2"), false);
    }
}
