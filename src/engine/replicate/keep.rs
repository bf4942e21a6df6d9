//! Keeps the manifests in a copy's store in step with what is recorded, and compares listings with them.
//!
//! 1. An engine whose state knows nothing of the copy reads the manifests; before that it writes none.
//! 2. What was written goes from the buffer to the state in every pass, and to the manifests a while
//!    later: losing either costs reading those objects again.
//! 3. When objects are removed, they leave their manifests first: a manifest never names what is gone.

use crate::{
    domain::cloud::CloudName,
    engine::{
        catalog::{observe::Look, repository::Repository, segment::Found},
        error::chain,
        manifest::{self, Manifest},
        replicate::{
            pass::{Replicator, Target},
            record::{Ledger, lock},
        },
        state::{
            StateError,
            records::{Record, StalePart},
        },
    },
    store::StoreError,
};
use chrono::TimeDelta;
use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};
use tracing::{info, warn};

/// A manifest is written so long after its first change, unless the engine stops before.
const WRITE_AFTER: TimeDelta = TimeDelta::seconds(60);
/// A manifest with many entries waits a second longer for so many of them.
const ENTRIES_PER_SECOND: u64 = 200;
/// After a failure nothing is written for so long.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Records that are compared at a time.
const PAGE: u32 = 2048;
/// Objects that are read again at once at most; the next comparison finds the others.
const SUSPECTS_MAX: usize = 10_000;

/// Keeping manifests failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    /// The copy's store failed.
    #[error("the manifests of a copy cannot be read or written")]
    Store(#[from] StoreError),
    /// The state failed.
    #[error("the records of a copy cannot be read or written")]
    State(#[from] StateError),
}

/// Which manifests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that have been behind for a while.
    Due,
    /// All that are behind.
    Behind,
}

impl Replicator {
    /// Brings what was learned of the copies to where the next engine finds it.
    pub async fn close(&self, enabled: &[CloudName]) {
        for (_, ledger) in self.ledgers.0.iter().filter(|(cloud, _)| enabled.contains(cloud)) {
            ledger.close().await;
        }
    }

    /// Has the copy judged by what is known to be damaged now. What was repaired lies anywhere in the
    /// log, so everything is listed the next time.
    pub(super) async fn heed(&self, target: &Target, source: Option<&Look>) {
        target.ledger.flush_or_warn(source.map(|source| &*source.repository));
        let damaged = target.ledger.damaged().into_keys().collect();
        if target.reader.lock().await.heed(damaged) {
            *self.last_full_scan.lock().await = None;
        }
    }
}

impl Ledger {
    /// After a pass has looked at the copy: records, compares when everything was listed, and writes
    /// the manifests that are due.
    pub(super) async fn settle(&self, full: Option<&Repository>) {
        let warned = |error: KeepError| {
            warn!(service = %self.id, region = %self.region, error = %chain(&error),
                "the manifests of a copy are not kept for now");
        };
        if let Err(error) = self.recall().await {
            warned(error);
        }
        if let Some(listed) = full {
            self.compare(listed).await;
        }
        if let Err(error) = self.write_manifests(Which::Due).await {
            warned(error);
        }
    }

    /// Before the engine ends.
    pub(super) async fn close(&self) {
        self.flush_or_warn(None);
        if let Err(error) = self.write_manifests(Which::Behind).await {
            warn!(service = %self.id, region = %self.region, error = %chain(&error),
                "the last manifests of a copy are not written; the next engine writes them");
        }
    }

    /// Takes over the manifests of an earlier engine, once.
    async fn recall(&self) -> Result<(), KeepError> {
        let copy = self.number()?;
        if self.is_recalled() || self.clock.monotonic() < lock(&self.waits).manifests {
            return Ok(());
        }
        if !self.state.is_recalled(copy)? {
            let (store, prefix) = (&*self.store, &self.place.prefix);
            let keys = manifest::keys(store, prefix).await.inspect_err(|_| self.wait())?;
            let mut count = 0;
            // One after the other: together they may be larger than the memory.
            for key in keys {
                let loaded = manifest::load(store, prefix, &key).await;
                match loaded.inspect_err(|_| self.wait())? {
                    None => {}
                    Some(Ok(manifest)) => {
                        let (part, records) = (&manifest.part, manifest.records());
                        self.state.recall_part(copy, part, manifest.sequence, &records)?;
                        count += 1;
                    }
                    Some(Err(fault)) => {
                        warn!(service = %self.id, region = %self.region, fault,
                            "a manifest is of no use; its objects are read again");
                    }
                }
            }
            self.state.set_recalled(copy)?;
            if count > 0 {
                info!(service = %self.id, region = %self.region, manifests = count,
                    "what an earlier engine recorded was read back");
            }
        }
        self.recalled.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn wait(&self) {
        lock(&self.waits).manifests = self.clock.monotonic() + RETRY_AFTER;
    }

    /// Writes manifests that are behind, and removes those of which nothing is left.
    pub(super) async fn write_manifests(&self, which: Which) -> Result<(), KeepError> {
        let waits = which == Which::Due && self.clock.monotonic() < lock(&self.waits).manifests;
        if !self.is_recalled() || waits {
            return Ok(());
        }
        let (copy, now) = (self.number()?, self.clock.now());
        for stale in self.state.stale_parts(copy)? {
            // A clock that was set back does not make it wait longer.
            let waited = (now - stale.since).abs();
            if which == Which::Due && waited < patience(&stale) {
                continue;
            }
            let records = self.state.records_of(copy, &stale.part)?;
            let prefix = &self.place.prefix;
            let sequence = stale.sequence + 1;
            let written = if records.is_empty() {
                manifest::remove(&*self.store, prefix, &stale.part).await
            } else {
                let manifest = Manifest::of(prefix, &stale.part, sequence, &records, now);
                manifest.write(&*self.store).await
            };
            written.inspect_err(|_| self.wait())?;
            self.state.part_written(copy, &stale, sequence)?;
        }
        Ok(())
    }

    /// Has the objects read again that look different from their records in a listing of everything.
    pub(super) async fn compare(&self, listed: &Repository) {
        match self.suspects(listed).await {
            Ok(suspects) => self.suspect(suspects),
            Err(error) => {
                warn!(service = %self.id, region = %self.region, error = %chain(&error),
                    "a listing of a copy is not compared with what is recorded");
            }
        }
    }

    /// The recorded objects that look different in a listing of everything.
    async fn suspects(&self, listed: &Repository) -> Result<BTreeSet<String>, StateError> {
        let copy = self.number()?;
        let (mut suspects, mut after) = (BTreeSet::new(), (String::new(), String::new()));
        loop {
            let page = self.state.records_after(copy, (&after.0, &after.1), PAGE)?;
            let Some(last) = page.last() else { break };
            after = (last.part.clone(), last.key.clone());
            // A large copy has many pages, and others want to go on.
            tokio::task::yield_now().await;
            for record in &page {
                // What is missing is copied again by the pass.
                let Some(found) = listed.get(&record.key) else { continue };
                let same = found.size_bytes == record.size_bytes && has_tag(&found, record);
                if !same && suspects.len() < SUSPECTS_MAX {
                    suspects.insert(record.key.clone());
                }
            }
        }
        for key in self.state.damaged(copy)?.keys().filter(|key| !listed.contains(key)) {
            // It may have been written since the listing passed by it.
            let Ok(full) = self.place.prefix.join(key) else { continue };
            if let Err(StoreError::NotFound(_)) = self.store.head(&full).await {
                self.state.forget_damage(copy, key)?;
            }
        }
        Ok(suspects)
    }

    /// Objects are about to be removed: they leave their manifests.
    pub(super) async fn forget<'a>(
        &self,
        keys: impl Iterator<Item = &'a String>,
    ) -> Result<(), KeepError> {
        self.flush(None)?;
        let part = |key: &String| (manifest::part_of(&self.place.format, key), key.clone());
        let keys: Vec<(String, String)> = keys.map(part).collect();
        self.state.forget(self.number()?, &keys, self.clock.now())?;
        self.write_manifests(Which::Behind).await
    }
}

/// Whether an object of a listing has the tag that was recorded, where one was.
pub(crate) fn has_tag(found: &Found, record: &Record) -> bool {
    let etag = record.etag.as_deref();
    etag.is_none_or(|_| {
        Found::new(found.size_bytes, found.modified_at, etag).version == found.version
    })
}

/// How long a manifest may be behind. The small one of what changes all the time waits for nothing.
fn patience(stale: &StalePart) -> TimeDelta {
    if stale.part == "rest" {
        return TimeDelta::zero();
    }
    let longer = i64::try_from(stale.entries / ENTRIES_PER_SECOND).unwrap_or(0);
    WRITE_AFTER + TimeDelta::seconds(longer)
}
