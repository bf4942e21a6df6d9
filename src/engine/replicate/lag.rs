//! Measures how far a copy is behind, its log and its base backups, and warns.

use crate::{
    domain::cloud::CloudName,
    engine::{
        catalog::{build::is_complete, observe::Look},
        error::chain,
        replicate::{needed_log, pass::Replicator},
        state::measurements::LagKind,
    },
};
use chrono::{DateTime, Utc};
use tracing::warn;

/// How far a copy is behind, in seconds; `None` when that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Its log.
    pub log_seconds: Option<u64>,
    /// Its base backups.
    pub base_backups_seconds: Option<u64>,
}

impl Replicator {
    /// How far the copy is behind. Without the primary: its log, since it was last in step.
    pub(super) fn lag(&self, cloud: &CloudName, source: Option<&Look>, target: &Look) -> Lag {
        let now = self.shared.clock.now();
        let seconds = |since: Option<DateTime<Utc>>| {
            since.map_or(0, |since| (now - since).num_seconds().max(1).unsigned_abs())
        };
        let Some(source) = source else {
            return match self.shared.state.in_step_at(&self.service.id, cloud) {
                Ok(in_step) => {
                    let log_seconds = in_step.map(|since| seconds(Some(since)));
                    Lag { log_seconds, base_backups_seconds: None }
                }
                Err(error) => {
                    warn!(service = %self.service.id, error = %chain(&error), "a measurement is lost");
                    Lag::default()
                }
            };
        };
        let log = seconds(needed_log::behind_since(source, target));
        let base_backups = seconds(backups_behind_since(source, target));
        for (kind, lag) in [(LagKind::Log, log), (LagKind::BaseBackups, base_backups)] {
            let kept = self.shared.state.measure(&self.service.id, cloud, kind, now, lag);
            if let Err(error) = kept {
                warn!(service = %self.service.id, error = %chain(&error), "a measurement is lost");
            }
        }
        Lag { log_seconds: Some(log), base_backups_seconds: Some(base_backups) }
    }

    /// What is behind for longer than the settings allow, for people; logged when it begins.
    pub(super) fn late(&self, cloud: &CloudName, lag: Lag, before: Lag) -> Vec<String> {
        let limit = self.shared.lag_warning.as_secs();
        let kinds = [
            ("the log", lag.log_seconds, before.log_seconds),
            ("a base backup", lag.base_backups_seconds, before.base_backups_seconds),
        ];
        let mut late = Vec::new();
        for (what, now, before) in kinds {
            let Some(now) = now.filter(|now| *now > limit) else { continue };
            if before.is_none_or(|before| before <= limit) {
                warn!(service = %self.service.id, region = %cloud, behind_seconds = now,
                    "{what} of the primary region is not in the copy for longer than it may be");
            }
            late.push(format!(
                "{what} of the primary region has not been in the copy for {now} s (`lag_warning` is \
                 {limit} s)"
            ));
        }
        late
    }
}

/// When the oldest backup ended that the primary has whole and the copy does not. `None` when nothing
/// is missing.
pub(super) fn backups_behind_since(source: &Look, target: &Look) -> Option<DateTime<Utc>> {
    let whole = |look: &Look, label: &str| {
        let needs = look.needs.get(label).and_then(|needs| needs.as_ref().ok());
        look.backup(label).is_some()
            && needs.is_some_and(|needs| is_complete(&look.repository, needs))
    };
    let behind = source
        .backups
        .iter()
        .filter(|backup| whole(source, &backup.label) && !whole(target, &backup.label));
    behind.map(|backup| backup.finished_at).min()
}
