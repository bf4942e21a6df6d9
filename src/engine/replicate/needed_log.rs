//! Which part of a log is copied, and how far the copy is behind in it.

use crate::engine::catalog::{observe::Look, segment::Place};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// The part of each log that a listed backup needs. What lies before it is not copied: retention has
/// removed it, or nothing has ever needed it.
pub(super) struct NeededLog {
    /// Position of the first needed segment, whatever its timeline, by archive.
    from: BTreeMap<String, u64>,
}

impl NeededLog {
    pub(super) fn of(source: &Look, target: &Look) -> Self {
        let mut from: BTreeMap<String, u64> = BTreeMap::new();
        for look in [source, target] {
            for backup in look.all_backups() {
                let Some(archive) = backup.archive.clone() else { continue };
                // A start that is no name needs everything.
                let start = Place::parse(&backup.archive_start).map_or(0, |start| start.position);
                let known = from.entry(archive).or_insert(start);
                *known = start.min(*known);
            }
        }
        Self { from }
    }

    /// Without a listed backup all of a log is needed: the first one is still being made.
    pub(super) fn has(&self, archive: &str, place: Place) -> bool {
        self.from.get(archive).is_none_or(|from| place.position >= *from)
    }
}

/// When the oldest needed segment was stored in the source that the target lacks: the copy's log is
/// behind since then. `None` when nothing is missing.
#[must_use]
pub(super) fn behind_since(source: &Look, target: &Look) -> Option<DateTime<Utc>> {
    let needed = NeededLog::of(source, target);
    let missing = source.repository.archives.iter().flat_map(|(archive, log)| {
        let there = target.repository.archives.get(archive).map(|there| &**there);
        let needed = &needed;
        log.differing(there, Place::FIRST, Place::LAST)
            .filter(move |(place, _, there)| there.is_none() && needed.has(archive, *place))
            .map(|(_, segment, _)| segment.modified_at())
    });
    let binlogs = source.chains.values().flat_map(|chain| &chain.objects).filter_map(|object| {
        let found = source.repository.get(&object.key)?;
        (!target.repository.contains(&object.key)).then_some(found.modified_at)
    });
    missing.chain(binlogs).min()
}
