//! Carries out the retention of a copy: notes what has expired, and removes what is over its time.

use crate::{
    domain::cloud::CloudName,
    engine::{
        catalog::observe::{Look, Observed},
        config::RetentionSettings,
        error::chain,
        replicate::{
            guard::{Facts, Guard, Listed},
            pass::{Replicator, Target},
            prune::{self, Expired, PrunePlan, Retention},
            record::Ledger,
        },
        state::{StateError, damage::PrimarySeen},
    },
    layout::{BackupFormat, Role},
    store::{BlobStore, key::Key},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;
use tracing::{info, warn};

impl Replicator {
    /// Removes what is over its time from one copy. Everything was listed not long ago.
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
        let retention = retention(settings, now);
        let (look, catalog) = (&observed.look, &observed.catalog);
        let plan = match &format {
            BackupFormat::PgHoard => {
                prune::pghoard::plan(source, look, catalog, &expired, &retention, now)
            }
            BackupFormat::MyHoard { .. } | BackupFormat::Stream => {
                prune::mysql::plan(&format, [source, look], catalog, &expired, &retention, now)
            }
            BackupFormat::PgBackRest { .. } => {
                prune::plan(&format, look, catalog, &expired, &retention, now)
            }
        };
        let (store, prefix) = (reader.store().clone(), reader.place().prefix.clone());
        drop(reader);
        let facts = facts(&target.ledger, source, observed, (&plan, &expired), now);
        let why = match facts.map(|facts| self.held_back(&target.ledger, settings, &plan, &facts)) {
            Ok(Ok(why)) => why,
            Ok(Err(error)) | Err(error) => {
                warn!(service = %self.service.id, error = %chain(&error), "nothing is removed");
                return;
            }
        };
        target.ledger.hold_back(why.clone());
        if let Some(why) = &why {
            warn!(service = %self.service.id, region = %cloud, why, "expired backups are kept");
        }
        if plan.is_empty() || why.is_some() {
            return;
        }
        // The manifests first: they never name what is gone.
        if let Err(error) = target.ledger.forget(plan.keys()).await {
            warn!(service = %self.service.id, error = %chain(&error), "nothing is removed");
            return;
        }
        let removed = self.remove(cloud, &*store, &prefix, &plan).await;
        target.data.lock().await.relist = true;
        self.scan_anew(target).await;
        info!(service = %self.service.id, region = %cloud, removed,
            "objects of expired backups were removed from the copy");
    }

    /// Removes what a plan says, and gives how many objects that were.
    async fn remove(
        &self,
        cloud: &CloudName,
        store: &dyn BlobStore,
        prefix: &Key,
        plan: &PrunePlan,
    ) -> u64 {
        let mut removed = 0_u64;
        // In this order: a crash in between leaves files that nobody takes for a backup.
        for key in plan.keys() {
            // One that was planned just now may need any of them.
            if (self.shared.is_forking)(&self.service.id, cloud) {
                break;
            }
            let Ok(full) = prefix.join(key) else { continue };
            if let Err(error) = store.delete(&full).await {
                warn!(service = %self.service.id, region = %cloud, error = %chain(&error),
                    "an expired object cannot be removed; the next pass tries again");
                break;
            }
            removed += 1;
        }
        removed
    }

    /// Why a plan is not carried out now, for people. Remembers since when, and what the primary
    /// listed while nothing spoke against it.
    fn held_back(
        &self,
        ledger: &Ledger,
        settings: &RetentionSettings,
        plan: &PrunePlan,
        facts: &Facts,
    ) -> Result<Option<String>, StateError> {
        let (copy, state, now) = (ledger.number()?, &self.shared.state, facts.now);
        let percent_max = settings.remove_percent_max;
        let guard =
            if plan.is_empty() { Guard::of_listing(facts) } else { Guard::of(facts, percent_max) };
        if let Some(guard) = guard {
            if plan.is_empty() {
                // Nothing is to be held back yet; but what was trusted stays what it was.
                return Ok(plan.held.clone());
            }
            let since = state.note_held_back(copy, Some(guard.name()), now)?;
            let patience = TimeDelta::from_std(settings.confirm_after).unwrap_or(TimeDelta::MAX);
            let until = since.checked_add_signed(patience).unwrap_or(DateTime::<Utc>::MAX_UTC);
            if now < until {
                return Ok(Some(guard.explain(facts, percent_max, until)));
            }
        } else if plan.held.is_none() {
            state.note_held_back(copy, None, now)?;
        }
        if let Some(Listed { backups, newest }) = facts.listed {
            state.keep_primary_seen(copy, PrimarySeen { backups, newest })?;
        }
        Ok(plan.held.clone())
    }
}

fn facts(
    ledger: &Ledger,
    source: &Look,
    observed: &Observed,
    (plan, expired): (&PrunePlan, &[Expired]),
    now: DateTime<Utc>,
) -> Result<Facts, StateError> {
    let repository = &observed.look.repository;
    let size = |key: &String| repository.get(key).map_or(0, |found| found.size_bytes);
    let restorable = observed.catalog.backups.iter().filter(|backup| backup.range.is_some());
    let restorable = restorable.map(|backup| backup.name.as_str());
    // Those of PGHoard are both until they are removed, and its shared files are no backups.
    let gone = expired.iter().map(|gone| gone.label.as_str()).filter(|label| !label.contains('/'));
    let backups: BTreeSet<&str> = restorable.chain(gone).collect();
    let format = &ledger.place.format;
    let removed: BTreeSet<String> = plan
        .markers
        .iter()
        .chain(&plan.files)
        .filter_map(|key| match format.role(key) {
            Role::Marker { label } | Role::Data { label } => Some(label),
            Role::History { .. }
            | Role::Segment { .. }
            | Role::NamedSegment { .. }
            | Role::Binlog { .. }
            | Role::Shared
            | Role::Other => None,
        })
        .collect();
    let newest = source.backups.iter().map(|backup| backup.finished_at).max();
    let before = ledger.state.primary_seen(ledger.number()?)?;
    Ok(Facts {
        removed_backups: removed.len(),
        backups: backups.len(),
        removed_bytes: plan.keys().map(size).sum(),
        bytes: repository.extent().1,
        listed: newest.map(|newest| Listed { backups: source.backups.len(), newest }),
        before: before.map(|PrimarySeen { backups, newest }| Listed { backups, newest }),
        now,
    })
}

fn retention(settings: &RetentionSettings, now: DateTime<Utc>) -> Retention {
    let held = settings.hold.iter().filter(|hold| hold.until.is_none_or(|until| now < until));
    Retention {
        keep_expired_for: TimeDelta::from_std(settings.keep_expired_for).unwrap_or(TimeDelta::MAX),
        keep_restorable: settings.keep_restorable,
        held: held.map(|hold| hold.label.clone()).collect(),
    }
}
