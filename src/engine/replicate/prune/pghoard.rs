//! What may be removed from the copy of a site of PGHoard, whose catalogue is its index objects: base
//! backups whose index the primary has removed, what only they refer to, and the log before all others.
//!
//! What the primary still has is never removed, since the next pass would copy it again. An index that
//! cannot be read may refer to any shared file and any part of the log, and keeps them all.

use crate::{
    engine::catalog::{RegionCatalog, observe::Look, segment::Place},
    engine::replicate::prune::{Expired, PrunePlan, Retention, too_few_stay},
    layout::pghoard::{
        keys::{self, LOG, Role},
        needs::Listing,
        removal::{self, KeptReferences, removal},
    },
};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// The objects of a site that have to do with base backups.
struct Site {
    /// Base backups with an index.
    indexes: BTreeSet<String>,
    /// Base backups with chunks.
    data: BTreeSet<String>,
    /// Digests of the shared files.
    shared: BTreeSet<String>,
}

impl Site {
    fn of(look: &Look) -> Self {
        let mut site =
            Self { indexes: BTreeSet::new(), data: BTreeSet::new(), shared: BTreeSet::new() };
        for (key, _) in look.repository.others() {
            match keys::role(key) {
                Role::Index { backup } => drop(site.indexes.insert(backup)),
                Role::Chunk { backup, .. } | Role::DeltaChunk { backup, .. } => {
                    site.data.insert(backup);
                }
                Role::DeltaFile { digest } => drop(site.shared.insert(digest)),
                Role::Segment { .. }
                | Role::History { .. }
                | Role::PreservationRequest
                | Role::Other => {}
            }
        }
        site
    }
}

/// What the primary does not have any more: names of base backups whose index is gone there, or of which
/// nothing is left but chunks here, and keys of shared files that no base backup on either side refers to.
#[must_use]
pub fn gone(source: &Look, target: &Look) -> BTreeSet<String> {
    let (there, here) = (Site::of(source), Site::of(target));
    // Chunks without an index are on their way as long as the primary has any of them.
    let left = here.data.difference(&there.data);
    let labels = here.indexes.iter().chain(left);
    let mut gone: BTreeSet<String> =
        labels.filter(|label| !there.indexes.contains(*label)).cloned().collect();
    if let KeptReferences::Known(kept) = references(&[source, target], &BTreeSet::new()) {
        let unused = here.shared.difference(&there.shared).filter(|digest| !kept.contains(*digest));
        gone.extend(unused.map(|digest| keys::delta_file(digest)));
    }
    gone
}

/// Plans what to remove. `expired` is everything of [`gone`].
#[must_use]
pub fn plan(
    source: &Look,
    target: &Look,
    catalog: &RegionCatalog,
    expired: &[Expired],
    retention: &Retention,
    now: DateTime<Utc>,
) -> PrunePlan {
    let over = expired.iter().filter(|gone| {
        now - gone.since >= retention.keep_expired_for && !retention.held.contains(&gone.label)
    });
    let mut over: BTreeSet<&str> = over.map(|gone| gone.label.as_str()).collect();
    let restorable = catalog.backups.iter().filter(|backup| backup.range.is_some());
    let restorable: Vec<&str> =
        restorable.map(|backup| backup.name.as_str()).filter(|name| !over.contains(name)).collect();
    if let Some(nothing) = too_few_stay(retention, restorable.len(), over.is_empty()) {
        return nothing;
    }
    // Names begin with the time. What is newer than all that can be restored is not given up.
    let newest = restorable.iter().max().copied().unwrap_or_default();
    over.retain(|label| target.backup(label).is_none() || *label < newest);
    let (there, here) = (Site::of(source), Site::of(target));
    let mut plan = removals(source, target, &here, &over);
    plan.log = unneeded_log(&[(source, &there), (target, &here)], target, &over);
    plan
}

/// Indexes, then what only these base backups have.
fn removals(source: &Look, target: &Look, here: &Site, over: &BTreeSet<&str>) -> PrunePlan {
    let kept = references(&[source, target], over);
    let listing: Listing = target
        .repository
        .others()
        // Otherwise the next pass would copy it again.
        .filter(|(key, _)| !source.repository.contains(key))
        .map(|(key, found)| (key.clone(), found.size_bytes))
        .collect();
    let (mut indexes, mut data, mut shared) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::<String>::new());
    for label in here.indexes.union(&here.data).filter(|label| over.contains(label.as_str())) {
        let own = digests(target, label);
        let gone = removal(label, &listing, own.as_ref(), &kept);
        indexes.extend(gone.index);
        data.extend(gone.data);
        shared.extend(gone.shared);
    }
    let unused = here.shared.iter().filter(|d| over.contains(keys::delta_file(d).as_str()));
    shared.extend(removal::shared_files(unused, &listing, &kept).0);
    PrunePlan {
        markers: indexes.into_iter().collect(),
        files: data.into_iter().chain(shared).collect(),
        ..PrunePlan::default()
    }
}

/// The shared files that the base backups of `looks` refer to, but for those that are over.
fn references(looks: &[&Look], over: &BTreeSet<&str>) -> KeptReferences {
    let mut known = BTreeSet::new();
    for look in looks {
        for label in Site::of(look).indexes.iter().filter(|label| !over.contains(label.as_str())) {
            let Some(own) = digests(look, label) else { return KeptReferences::Unknown };
            known.extend(own);
        }
    }
    KeptReferences::Known(known)
}

/// The shared files that a base backup refers to; `None` when its index has not been read.
fn digests(look: &Look, label: &str) -> Option<BTreeSet<String>> {
    let mut backups = look.all_backups();
    backups.find(|backup| backup.label == label && backup.lacks_key.is_none())?;
    let needs = look.needs.get(label)?.as_ref().ok()?;
    let digest = |key: &String| match keys::role(key) {
        Role::DeltaFile { digest } => Some(digest),
        Role::Index { .. }
        | Role::Chunk { .. }
        | Role::DeltaChunk { .. }
        | Role::Segment { .. }
        | Role::History { .. }
        | Role::PreservationRequest
        | Role::Other => None,
    };
    Some(needs.objects.keys().filter_map(digest).collect())
}

/// Segments before the start of every base backup that stays, on whichever timeline, the oldest first.
/// None where a start is not known.
fn unneeded_log(sides: &[(&Look, &Site)], target: &Look, over: &BTreeSet<&str>) -> Vec<String> {
    let mut first = None;
    for (look, site) in sides {
        for label in site.indexes.iter().filter(|label| !over.contains(label.as_str())) {
            let backup = look.all_backups().find(|backup| backup.label == *label);
            let start = backup.and_then(|backup| Place::parse(&backup.archive_start));
            let Some(start) = start else { return Vec::new() };
            first = Some(first.map_or(start.position, |first: u64| first.min(start.position)));
        }
    }
    let Some(first) = first else { return Vec::new() };
    let mut unneeded = BTreeSet::new();
    if let Some(log) = target.repository.archives.get(LOG) {
        let before = log.iter().filter(|(place, _)| place.position < first);
        unneeded.extend(
            before
                .map(|(place, segment)| (place.position, place.timeline, log.key(place, segment))),
        );
    }
    // A segment that was being removed when the engine died may have lost its metadata already.
    let below = format!("{LOG}/");
    for (key, _) in target.repository.others_below(&below) {
        let name = key.strip_prefix(&below).unwrap_or_default();
        if let Some(place) = Place::parse(name).filter(|place| place.position < first) {
            unneeded.insert((place.position, place.timeline, key.clone()));
        }
    }
    unneeded.into_iter().map(|(_, _, key)| key).collect()
}
