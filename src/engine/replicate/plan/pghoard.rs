//! The plan of a site of PGHoard: each base backup is published by its index object, which comes when
//! everything that it needs is there.

use crate::{
    engine::{
        catalog::{build::is_complete, observe::Look},
        replicate::plan::{CopyPlan, Proof, Stage, Step, absent, segments, step},
    },
    layout::{
        backup::{ListedBackup, Needs},
        pghoard::keys::{self, CopyStage, LOG},
    },
};
use std::collections::BTreeSet;

/// Plans the next pass.
pub(super) fn plan(source: &Look, target: &Look, damaged: &BTreeSet<String>) -> CopyPlan {
    let mut plan = CopyPlan { problems: source.problems.clone(), ..CopyPlan::default() };
    if source.repository.extent().0 == 0 {
        let what = "the primary region holds no objects of PGHoard for this service";
        plan.problems.insert(0, what.to_owned());
        return plan;
    }
    let (mut histories, mut data, mut indexes) = (Vec::new(), Vec::new(), Vec::new());
    for (key, found) in source.repository.others() {
        let there = target.repository.get(key);
        let differs = there.is_some_and(|there| there.size_bytes != found.size_bytes);
        let replaces = differs || damaged.contains(key);
        let copy = || match replaces {
            true => Some(step(key, found, Proof::Declared, there.is_some())),
            false => absent(target, key, found, Proof::Declared),
        };
        match keys::role(key).stage() {
            Some(CopyStage::History) => histories.extend(copy()),
            Some(CopyStage::Data) => data.extend(copy()),
            Some(CopyStage::Index) => indexes.extend(copy()),
            // Segments that are part of the log are no such objects; the others are none yet.
            Some(CopyStage::Segments) | None => {}
        }
    }
    let indexes = ready(indexes, source, target, &mut plan.problems);
    plan.log = vec![
        Stage { name: "timeline histories", steps: histories },
        Stage { name: "log", steps: segments(source, target, damaged) },
    ];
    plan.data =
        vec![Stage { name: "files", steps: data }, Stage { name: "indexes", steps: indexes }];
    plan
}

/// The indexes of base backups of which the target has all the rest.
fn ready(
    indexes: Vec<Step>,
    source: &Look,
    target: &Look,
    problems: &mut Vec<String>,
) -> Vec<Step> {
    let is_ready = |step: &Step| {
        let keys::Role::Index { backup: label } = keys::role(step.key()) else { return false };
        // PGHoard may have expired it since, or its metadata are not there yet.
        let Some(backup) = source.backup(&label) else { return false };
        match source.needs.get(&label) {
            Some(Ok(needs)) => has_all(target, backup, needs),
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

/// Whether the target has what a backup needs, and the log between its start and its end.
fn has_all(target: &Look, backup: &ListedBackup, needs: &Needs) -> bool {
    let Some(log) = target.repository.archives.get(LOG) else { return false };
    is_complete(&target.repository, needs)
        && log.contains(&backup.archive_start)
        && log.contains(&backup.archive_stop)
}
