//! The plan of what `btar push` writes: a base backup becomes one by its manifest, which comes when
//! everything is there that makes it consistent.

use crate::{
    engine::{
        catalog::{build::is_complete, observe::Look, segment::Found},
        replicate::plan::{CopyPlan, Proof, Stage, Step, absent, gaps, step},
    },
    layout::{
        backup::PartSum,
        stream::{
            keys::{Role, role},
            noted::sha1_of,
        },
    },
};
use std::collections::BTreeSet;

/// Plans the next pass.
pub(super) fn plan(source: &Look, target: &Look, damaged: &BTreeSet<String>) -> CopyPlan {
    let mut plan = CopyPlan { problems: source.problems.clone(), ..CopyPlan::default() };
    if source.repository.extent().0 == 0 {
        let what = "the primary region holds nothing that `btar push` has written for this service";
        plan.problems.insert(0, what.to_owned());
        return plan;
    }
    let (mut series, mut binlogs, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
    for (key, found) in source.repository.others() {
        match role(key) {
            Role::Series { .. } => series.extend(copy(target, damaged, key, found, Proof::Size)),
            Role::Binlog(_) => {
                let sum = sha1_of(key).map(|sha1| whole(found, sha1));
                let proof = sum.map_or(Proof::Size, |sum| Proof::Parts([sum].into()));
                binlogs.extend(copy(target, damaged, key, found, proof));
            }
            Role::Manifest { label } if is_ready(source, target, &label) => {
                manifests.extend(copy(target, damaged, key, found, Proof::Size));
            }
            Role::Manifest { .. } | Role::Part { .. } | Role::Other => {}
        }
    }
    plan.log = vec![
        Stage { name: "series", steps: series },
        Stage { name: "binary logs", steps: binlogs },
    ];
    plan.data = vec![
        Stage { name: "base backups", steps: parts(source, target, damaged) },
        Stage { name: "manifests", steps: manifests },
    ];
    plan.problems.extend(gaps(source));
    for backup in source.backups.iter().filter(|backup| !is_whole(source, &backup.label)) {
        let label = &backup.label;
        plan.problems.push(format!("backup {label} is not complete in the primary region"));
    }
    plan
}

/// The parts of listed base backups. What belongs to none may be on its way, or was left behind.
fn parts(source: &Look, target: &Look, damaged: &BTreeSet<String>) -> Vec<Step> {
    let needs = source.backups.iter().filter_map(|b| source.needs.get(&b.label)?.as_ref().ok());
    let mut steps = Vec::new();
    for needs in needs {
        for (key, size) in &needs.objects {
            let Some(found) = source.repository.get(key) else { continue };
            let sums = needs.sums.get(key).cloned();
            let proof = sums.map_or(Proof::Size, Proof::Parts);
            if size.fits(found.size_bytes) {
                steps.extend(copy(target, damaged, key, &found, proof));
            }
        }
    }
    steps
}

fn whole(found: &Found, sha1: [u8; 20]) -> PartSum {
    PartSum { offset: 0, size_bytes: found.size_bytes, sha1 }
}

/// A copy of what the target lacks, has with a wrong size, or has damaged. Where the source's contents
/// are proven on the way, a wrong one is replaced; where not, only what is known to be wrong.
fn copy(
    target: &Look,
    damaged: &BTreeSet<String>,
    key: &str,
    found: &Found,
    proof: Proof,
) -> Option<Step> {
    let Some(there) = target.repository.get(key) else { return absent(target, key, found, proof) };
    let differs = there.size_bytes != found.size_bytes && proof != Proof::Size;
    (differs || damaged.contains(key)).then(|| step(key, found, proof, true))
}

fn is_whole(look: &Look, label: &str) -> bool {
    look.needs
        .get(label)
        .is_some_and(|needs| needs.as_ref().is_ok_and(|needs| is_complete(&look.repository, needs)))
}

/// Whether the copy has the base backup and the binary logs that make it consistent.
fn is_ready(source: &Look, target: &Look, label: &str) -> bool {
    let Some(Ok(needs)) = source.needs.get(label) else { return false };
    let Some(chain) = source.chains.get(label) else { return false };
    let needed = chain.objects.get(..=chain.consistent_at.0);
    is_complete(&target.repository, needs)
        && needed.is_some_and(|needed| {
            needed.iter().all(|binlog| target.repository.contains(&binlog.key))
        })
}
