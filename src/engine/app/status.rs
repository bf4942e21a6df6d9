//! The status: every copy with its window, and every fork.

use crate::{
    api::{
        backups::Range,
        status::{CopyStatus, ForkStatus, Status},
    },
    domain::{cloud::CloudName, target_time},
    engine::{
        app::App,
        config::ServiceSettings,
        error::AppError,
        state::forks::StoredFork,
        views::{RegionView, ServiceView},
    },
};
use std::sync::atomic::Ordering;

impl App {
    /// Everything at a glance.
    ///
    /// # Errors
    /// [`AppError::State`].
    pub fn status(&self) -> Result<Status, AppError> {
        let mut copies = Vec::new();
        for service in self.settings.services.iter().filter(|s| s.backup.is_some()) {
            let view = self.views.service(&service.id);
            let enabled = self.enabled_regions(&service.id)?;
            for region in &enabled {
                copies.push(copy(service, &view, Some(region)));
            }
            if enabled.is_empty() {
                copies.push(copy(service, &view, None));
            }
        }
        Ok(Status {
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            now: target_time::format(self.clock.now()),
            copies,
            forks: self.forks.all().iter().map(|(f, _)| fork(f)).collect(),
        })
    }
}

fn copy(service: &ServiceSettings, view: &ServiceView, region: Option<&CloudName>) -> CopyStatus {
    let seen = region.and_then(|region| view.regions.get(region)).cloned();
    let seen: RegionView = seen.unwrap_or_default();
    let ranges = seen.catalog.window.ranges().iter().map(|range| Range {
        start: target_time::format(range.earliest),
        end: target_time::format(range.latest),
        exact: range.exact,
    });
    let backups = &seen.catalog.backups;
    let pending = seen.copying.as_ref().map_or(0, |progress| {
        let total = progress.total_bytes.load(Ordering::Relaxed);
        total.saturating_sub(progress.done_bytes.load(Ordering::Relaxed))
    });
    CopyStatus {
        project: service.id.project.to_string(),
        service: service.id.service.to_string(),
        primary_region: service.cloud.to_string(),
        primary_error: view.primary.error.clone(),
        region: region.map(ToString::to_string),
        flavour: seen.catalog.flavour.map(|flavour| flavour.product().to_owned()),
        error: seen.error.clone(),
        restorable_backups: backups.iter().filter(|backup| backup.range.is_some()).count() as u64,
        backups: backups.len() as u64,
        ranges: ranges.collect(),
        lag_seconds: seen.lag.log_seconds,
        base_backup_lag_seconds: seen.lag.base_backups_seconds,
        stored_bytes: seen.catalog.stored_bytes,
        objects: seen.catalog.object_count,
        pending_bytes: pending,
        seen_at: seen.seen_at.map(target_time::format),
        problems: seen.catalog.problems.iter().chain(&seen.problems).cloned().collect(),
    }
}

fn fork(fork: &StoredFork) -> ForkStatus {
    ForkStatus {
        project: fork.id.project.to_string(),
        service: fork.id.service.to_string(),
        source: fork.source.to_string(),
        region: fork.region.to_string(),
        phase: fork.phase.to_string(),
        recovered_to: target_time::format(fork.recovery.recovered_to()),
        address: format!("{}:{}", fork.host, fork.port),
        error: fork.error.clone(),
    }
}
