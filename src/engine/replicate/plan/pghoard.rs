//! The plan of a site of PGHoard: each base backup is published by its index object, which comes when
//! everything that it needs is there.

use crate::{
    engine::{
        catalog::{build::is_complete, observe::Look, segment::Place},
        replicate::{
            needed_log::NeededLog,
            plan::{CopyPlan, Proof, Stage, Step, absent, segments, step},
        },
    },
    layout::{
        backup::{ExpectedSize, ListedBackup, Needs},
        pghoard::keys::{self, CopyStage, LOG, Role},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Segments with other contents than the primary's that are named.
const CONFLICTS_NAMED_MAX: usize = 5;

/// Plans the next pass.
pub(super) fn plan(source: &Look, target: &Look, damaged: &BTreeSet<String>) -> CopyPlan {
    let mut plan = CopyPlan { problems: source.problems.clone(), ..CopyPlan::default() };
    if source.repository.extent().0 == 0 {
        let what = "the primary region holds no objects of PGHoard for this service";
        plan.problems.insert(0, what.to_owned());
        return plan;
    }
    let proven = proven_sizes(source);
    let (mut histories, mut data, mut indexes) = (Vec::new(), Vec::new(), Vec::new());
    for (key, found) in source.repository.others() {
        let role = keys::role(key);
        let there = target.repository.get(key);
        let differs = there.is_some_and(|there| there.size_bytes != found.size_bytes);
        // What differs only in size is not the worse one for that: the primary's may be truncated.
        let is_better = match &role {
            Role::Index { backup } => target.backup(backup).is_none(),
            Role::Chunk { .. }
            | Role::DeltaChunk { .. }
            | Role::DeltaFile { .. }
            | Role::Segment { .. }
            | Role::History { .. }
            | Role::PreservationRequest
            | Role::Other => proven.get(key.as_str()) == Some(&found.size_bytes),
        };
        let copy = || match damaged.contains(key) || (differs && is_better) {
            true => Some(step(key, found, Proof::Declared, there.is_some())),
            false => absent(target, key, found, Proof::Declared),
        };
        match role.stage() {
            Some(CopyStage::History) => histories.extend(copy()),
            Some(CopyStage::Data) => data.extend(copy()),
            // A base backup in one file needs nothing besides.
            Some(CopyStage::Index) if keys::is_whole_backup(key) => data.extend(copy()),
            Some(CopyStage::Index) => indexes.extend(copy()),
            // Segments that are part of the log are no such objects; the others are none yet.
            Some(CopyStage::Segments) | None => {}
        }
    }
    let indexes = ready(indexes, source, target, &mut plan.problems);
    plan.problems.extend(conflicts(source, target));
    plan.log = vec![
        Stage { name: "timeline histories", steps: histories },
        Stage { name: "log", steps: segments(source, target, damaged) },
    ];
    plan.data =
        vec![Stage { name: "files", steps: data }, Stage { name: "indexes", steps: indexes }];
    plan
}

/// Sizes of objects that indexes name. Without the key of an index nothing but the listing itself
/// tells a size, which proves nothing.
fn proven_sizes(source: &Look) -> BTreeMap<&str, u64> {
    let read = source.backups.iter().filter(|backup| backup.lacks_key.is_none());
    let needs = read.filter_map(|backup| source.needs.get(&backup.label)?.as_ref().ok());
    let objects = needs.flat_map(|needs| &needs.objects);
    let exact = objects.filter_map(|(key, size)| match size {
        ExpectedSize::Exactly(size) => Some((key.as_str(), *size)),
        ExpectedSize::AtLeast(_) => None,
    });
    exact.collect()
}

/// Segments that both regions have with different contents.
fn conflicts(source: &Look, target: &Look) -> Vec<String> {
    let (Some(log), Some(there)) =
        (source.repository.archives.get(LOG), target.repository.archives.get(LOG))
    else {
        return Vec::new();
    };
    let differing = log.differing(Some(there), Place::FIRST, Place::LAST);
    let others = differing
        .filter(|(_, segment, there)| there.is_some_and(|there| !there.has_contents_of(segment)));
    let text = |(place, _, _): (Place, _, _)| {
        format!(
            "WAL segment {} has other contents in the primary region than in the copy, where it \
             stays; if the primary's is the right one, remove the copy's",
            place.name()
        )
    };
    others.map(text).take(CONFLICTS_NAMED_MAX).collect()
}

/// The indexes of base backups of which the target has all the rest.
fn ready(
    indexes: Vec<Step>,
    source: &Look,
    target: &Look,
    problems: &mut Vec<String>,
) -> Vec<Step> {
    let is_ready = |step: &Step| {
        let Role::Index { backup: label } = keys::role(step.key()) else { return false };
        // PGHoard may have expired it since, or its metadata are not there yet.
        let Some(backup) = source.backup(&label) else { return false };
        match source.needs.get(&label) {
            Some(Ok(needs)) => has_all(source, target, backup, needs),
            Some(Err(_)) | None => false,
        }
    };
    for backup in &source.backups {
        let complete = match source.needs.get(&backup.label) {
            Some(Ok(needs)) => is_complete(&source.repository, needs),
            Some(Err(_)) | None => false,
        };
        if !complete {
            let label = &backup.label;
            problems.push(format!("backup {label} is not complete in the primary region"));
        }
    }
    indexes.into_iter().filter(is_ready).collect()
}

/// Whether the target has what a backup needs, and the log from its start to its end.
fn has_all(source: &Look, target: &Look, backup: &ListedBackup, needs: &Needs) -> bool {
    let archives = (source.repository.archives.get(LOG), target.repository.archives.get(LOG));
    let (Some(log), Some(there)) = archives else { return false };
    let ends = (Place::parse(&backup.archive_start), Place::parse(&backup.archive_stop));
    let (Some(first), Some(last)) = ends else { return false };
    let needed = NeededLog::of(source, target);
    let mut between =
        log.differing(Some(there), first, last).filter(|(place, _, _)| needed.has(LOG, *place));
    is_complete(&target.repository, needs)
        && there.contains(&backup.archive_start)
        && there.contains(&backup.archive_stop)
        && between.all(|(_, _, there)| there.is_some())
}
