//! The plan of a site of MyHoard: a stream becomes a backup by `completed.json`, which comes when the
//! base backup is there and the first binary log, without which MyHoard's own mark says too much.

use crate::{
    engine::{
        catalog::{build::is_complete, observe::Look, segment::Found},
        replicate::plan::{CopyPlan, Proof, Stage, Step, absent, gaps, step},
    },
    layout::myhoard::keys::{Role, in_stream, role},
};
use std::collections::{BTreeMap, BTreeSet};

/// Plans the next pass.
pub(super) fn plan(source: &Look, target: &Look, damaged: &BTreeSet<String>) -> CopyPlan {
    let mut plan = CopyPlan { problems: source.problems.clone(), ..CopyPlan::default() };
    if source.repository.extent().0 == 0 {
        let what = "the primary region holds no objects of MyHoard for this service";
        plan.problems.insert(0, what.to_owned());
        return plan;
    }
    let (mut marks, mut files, mut completed, mut closed) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut binlogs: BTreeMap<(String, u32, u32), Step> = BTreeMap::new();
    for (key, found) in source.repository.others() {
        match role(key) {
            Role::Broken { .. } => marks.extend(noted(source, target, key, found)),
            Role::Part { .. } => files.extend(copy(target, damaged, key, found)),
            Role::Base { .. } | Role::Preserved { .. } | Role::Promotion { .. } => {
                files.extend(noted(source, target, key, found));
            }
            Role::Binlog { stream, index, server_id } => {
                if let Some(step) = copy(target, damaged, key, found) {
                    binlogs.insert((stream, index, server_id), step);
                }
            }
            Role::Completed { stream } if is_ready(source, target, &stream) => {
                completed.extend(noted(source, target, key, found));
            }
            Role::Closed { stream } if has_all_binlogs(source, target, &stream) => {
                closed.extend(noted(source, target, key, found));
            }
            Role::Completed { .. } | Role::Closed { .. } | Role::Other => {}
        }
    }
    plan.problems.extend(incomplete(source));
    plan.problems.extend(gaps(source));
    plan.withdrawn = withdrawn(source, target);
    plan.log = vec![
        Stage { name: "marks of broken streams", steps: marks },
        Stage { name: "binary logs", steps: binlogs.into_values().collect() },
        Stage { name: "marks of closed streams", steps: closed },
    ];
    plan.data = vec![
        Stage { name: "files", steps: files },
        Stage { name: "marks of completed streams", steps: completed },
    ];
    plan
}

/// A copy of what never changes. What is there stays unless it is known to be wrong.
fn copy(target: &Look, damaged: &BTreeSet<String>, key: &str, found: &Found) -> Option<Step> {
    match damaged.contains(key) {
        true => Some(step(key, found, Proof::Declared, target.repository.contains(key))),
        false => absent(target, key, found, Proof::Declared),
    }
}

/// A copy of a note that the target lacks or that says something else there.
fn noted(source: &Look, target: &Look, key: &str, found: &Found) -> Option<Step> {
    if !target.repository.contains(key) {
        return absent(target, key, found, Proof::Declared);
    }
    let text = source.notes.get(key).filter(|text| !text.is_empty())?;
    (target.notes.get(key) != Some(text)).then(|| step(key, found, Proof::Declared, true))
}

/// Whether the copy has what a stream needs to be a backup, but for the mark itself.
fn is_ready(source: &Look, target: &Look, stream: &str) -> bool {
    let Some(backup) = source.backup(stream) else { return false };
    let Some(Ok(needs)) = source.needs.get(stream) else { return false };
    let mark = in_stream(stream, "completed.json");
    let is_there = |(key, size): (&String, &crate::layout::backup::ExpectedSize)| {
        *key == mark || target.repository.get(key).is_some_and(|found| size.fits(found.size_bytes))
    };
    let first = source.chains.get(stream).and_then(|chain| chain.objects.first());
    // What was there in the listing before may have been removed meanwhile.
    is_complete(&source.repository, needs)
        && needs.objects.iter().all(is_there)
        && first.is_some_and(|first| target.repository.contains(&first.key))
        && backup.references.iter().all(|earlier| target.backup(earlier).is_some())
}

fn has_all_binlogs(source: &Look, target: &Look, stream: &str) -> bool {
    let below = in_stream(stream, "binlogs/");
    let mut all = source.repository.others_below(&below);
    all.all(|(key, _)| target.repository.contains(key))
}

/// Marks of broken streams that MyHoard has taken back: the stream itself is still there.
fn withdrawn(source: &Look, target: &Look) -> Vec<String> {
    let marks = target.repository.others().filter_map(|(key, _)| {
        let Role::Broken { stream } = role(key) else { return None };
        Some((key.clone(), stream))
    });
    let is_withdrawn = |(key, stream): &(String, String)| {
        !source.repository.contains(key)
            && source.repository.contains(&in_stream(stream, "completed.json"))
            && source.repository.contains(&in_stream(stream, "basebackup.json"))
    };
    marks.filter(is_withdrawn).map(|(key, _)| key).collect()
}

fn incomplete(source: &Look) -> Vec<String> {
    let faulty = source.backups.iter().filter_map(|backup| {
        let label = &backup.label;
        match source.needs.get(label) {
            Some(Ok(needs)) if is_complete(&source.repository, needs) => None,
            Some(Err(what)) => Some(format!("backup {label} in the primary region: {what}")),
            Some(Ok(_)) | None => {
                Some(format!("backup {label} is not complete in the primary region"))
            }
        }
    });
    faulty.collect()
}
