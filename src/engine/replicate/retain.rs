//! Carries out the retention of a copy: notes what has expired, and removes what is over its time.

use crate::{
    domain::cloud::CloudName,
    engine::{
        catalog::observe::{Look, Observed},
        config::RetentionSettings,
        error::chain,
        replicate::{
            pass::{Replicator, Target},
            prune::{self, Expired, PrunePlan, Retention},
        },
    },
};
use chrono::TimeDelta;
use tracing::{info, warn};

impl Replicator {
    /// Removes what is over its time from one copy. Everything was listed just now.
    pub(super) async fn prune(
        &self,
        cloud: &CloudName,
        target: &Target,
        source: &Look,
        observed: &Observed,
    ) {
        let Some(settings) = &self.service.copy_retention else { return };
        // Files on their way, and a fork that is being made, need the copy as it is.
        if target.is_copying().await || (self.shared.is_forking)(&self.service.id, cloud) {
            return;
        }
        let mut reader = target.reader.lock().await;
        let format = reader.place().format.clone();
        let labels = prune::unlisted(&format, source, &observed.look);
        let now = self.shared.clock.now();
        let since = match self.shared.state.note_expired(&self.service.id, cloud, &labels, now) {
            Ok(since) => since,
            Err(error) => {
                warn!(service = %self.service.id, error = %chain(&error), "nothing is removed");
                return;
            }
        };
        let mut expired = Vec::new();
        for (label, since) in since {
            let needs = match reader.needs(&observed.look.repository, &label).await {
                Ok(needs) => needs.and_then(Result::ok),
                Err(error) => {
                    warn!(service = %self.service.id, error = %chain(&error), "nothing is removed");
                    return;
                }
            };
            expired.push(Expired { label, since, needs });
        }
        let retention = retention(settings);
        let plan =
            prune::plan(&format, &observed.look, &observed.catalog, &expired, retention, now);
        if let Some(why) = &plan.held {
            warn!(service = %self.service.id, region = %cloud, why, "expired backups are kept");
        }
        if plan.is_empty() {
            return;
        }
        let (store, prefix) = (reader.store().clone(), reader.place().prefix.clone());
        drop(reader);
        let PrunePlan { markers, files, log, .. } = plan;
        let mut removed = 0_u64;
        // In this order: a crash in between leaves files that nobody takes for a backup.
        for key in markers.iter().chain(&files).chain(&log) {
            let Ok(full) = prefix.join(key) else { continue };
            if let Err(error) = store.delete(&full).await {
                warn!(service = %self.service.id, region = %cloud, error = %chain(&error),
                    "an expired object cannot be removed; the next pass tries again");
                break;
            }
            removed += 1;
        }
        target.data.lock().await.relist = true;
        info!(service = %self.service.id, region = %cloud, removed,
            "objects of expired backups were removed from the copy");
    }
}

fn retention(settings: &RetentionSettings) -> Retention {
    Retention {
        expired_after: TimeDelta::from_std(settings.expired_after).unwrap_or(TimeDelta::MAX),
        keep_restorable: settings.keep_restorable,
    }
}
