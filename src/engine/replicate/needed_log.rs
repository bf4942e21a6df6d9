//! Which part of a log is copied, and how far the copy is behind in it.

use crate::{engine::catalog::observe::Look, layout::pgbackrest::keys::position};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// The part of each log that a listed backup needs. What lies before it is not copied: retention has
/// removed it, or nothing has ever needed it.
pub(super) struct NeededLog {
    /// Place of the first needed segment, by archive.
    from: BTreeMap<String, String>,
}

impl NeededLog {
    pub(super) fn of(source: &Look, target: &Look) -> Self {
        let mut from: BTreeMap<String, String> = BTreeMap::new();
        for look in [source, target] {
            for backup in &look.backups {
                let Some(archive) = backup.archive.clone() else { continue };
                let start = position(&backup.archive_start);
                let known = from.entry(archive).or_insert_with(|| start.to_owned());
                if start < known.as_str() {
                    start.clone_into(known);
                }
            }
        }
        Self { from }
    }

    /// Without a listed backup all of a log is needed: the first one is still being made.
    pub(super) fn has(&self, archive: &str, name: &str) -> bool {
        self.from.get(archive).is_none_or(|from| position(name) >= from.as_str())
    }
}

/// When the oldest needed segment was stored in the source that the target lacks: the copy's log is
/// behind since then. `None` when nothing is missing.
#[must_use]
pub(super) fn behind_since(source: &Look, target: &Look) -> Option<DateTime<Utc>> {
    let needed = NeededLog::of(source, target);
    let missing = source.repository.archives.iter().flat_map(|(archive, log)| {
        let there = target.repository.archives.get(archive);
        let needed = &needed;
        log.segments
            .iter()
            .filter(move |(name, _)| needed.has(archive, name))
            .filter(move |(name, _)| there.is_none_or(|log| !log.segments.contains_key(*name)))
            .map(|(_, stored)| stored.found.modified_at)
    });
    missing.min()
}
