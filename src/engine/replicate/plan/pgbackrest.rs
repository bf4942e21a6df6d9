//! The plan of a pgBackRest repository: its catalogue is a snapshot that comes last.

use crate::{
    engine::{
        catalog::{
            build::is_complete,
            observe::Look,
            segment::{Found, Place},
        },
        replicate::plan::{CopyPlan, Proof, Stage, Step, absent, segments, step},
    },
    layout::{
        backup::{ListedBackup, Needs},
        pgbackrest::{
            backup_info,
            keys::{self, Role},
        },
    },
};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Plans the next pass.
pub(super) fn plan(
    stanza: &str,
    source: &Look,
    target: &Look,
    damaged: &BTreeSet<String>,
) -> CopyPlan {
    if let Some(refusal) = made_anew(source, target) {
        return CopyPlan { problems: vec![refusal], ..CopyPlan::default() };
    }
    if source.files.backup_info.is_none() && source.files.archive_info.is_none() {
        let what = "the primary region holds no pgBackRest repository for this service";
        let mut problems = vec![what.to_owned()];
        problems.extend(source.problems.iter().cloned());
        return CopyPlan { problems, ..CopyPlan::default() };
    }
    let mut planner = Planner { stanza, source, target, damaged, plan: CopyPlan::default() };
    planner.plan.problems.extend(source.problems.iter().cloned());
    planner.log();
    planner.data();
    planner.plan
}

/// A primary whose repository was made anew holds other data under the same names.
fn made_anew(source: &Look, target: &Look) -> Option<String> {
    let (old, new) = (&target.files, &source.files);
    let by_archive = old
        .archive_clusters()
        .zip(new.archive_clusters())
        .is_some_and(|(old, new)| !backup_info::continues(&old, &new));
    let by_backup =
        new.backup_info.is_some() && !backup_info::continues(&old.clusters, &new.clusters);
    (by_archive || by_backup).then(|| {
        "the primary's repository belongs to another database cluster than the copy: it was made \
         anew. Nothing is copied, so that the copy stays as it is; to go on, give the service \
         another `copy_path` in the configuration"
            .to_owned()
    })
}

struct Planner<'a> {
    stanza: &'a str,
    source: &'a Look,
    target: &'a Look,
    damaged: &'a BTreeSet<String>,
    plan: CopyPlan,
}

impl Planner<'_> {
    /// History files before segments: without them a newer timeline is silently lost.
    fn log(&mut self) {
        let mut first = Vec::new();
        if let Some(bytes) = &self.source.files.archive_info
            && self.target.files.archive_info.as_ref() != Some(bytes)
        {
            let key = keys::archive_info(self.stanza);
            first.push(Step::Write { key: format!("{key}.copy"), bytes: bytes.clone() });
            first.push(Step::Write { key, bytes: bytes.clone() });
        }
        let mut labels = Vec::new();
        for (key, found) in self.source.repository.others() {
            match keys::role(self.stanza, key) {
                Role::History { .. } => first.extend(self.copy(key, found)),
                Role::BackupLabel => labels.extend(self.copy(key, found)),
                Role::Segment { .. }
                | Role::ArchiveInfo
                | Role::Data { .. }
                | Role::Manifest { .. }
                | Role::BackupHistory
                | Role::BackupInfo { .. }
                | Role::Other => {}
            }
        }
        let segments = segments(self.source, self.target, self.damaged);
        let segments = segments.into_iter().chain(labels).collect();
        self.plan.log = vec![
            Stage { name: "timeline histories", steps: first },
            Stage { name: "log", steps: segments },
        ];
    }

    fn data(&mut self) {
        let mut files: BTreeMap<String, Step> = BTreeMap::new();
        let (mut copies, mut manifests) = (Vec::new(), Vec::new());
        let (mut waiting, mut published, mut newest) = (false, true, None);
        let mut expected = Needs::default();
        for backup in &self.source.backups {
            let Some(needs) = self.needs(backup) else { continue };
            expected.join(&needs);
            if is_complete(&self.target.repository, &needs) && self.log_is_there(backup) {
                let ready = self.manifests(backup, &mut copies, &mut manifests);
                published &= ready;
                newest = newest.max(Some(backup.finished_at));
            } else if is_complete(&self.source.repository, &needs) {
                waiting = true;
            } else {
                let label = &backup.label;
                let what = format!("backup {label} is not complete in the primary region");
                self.plan.problems.push(what);
            }
        }
        for backup in &self.source.backups {
            // Without its manifest nothing proves what is read.
            if matches!(self.source.needs.get(&backup.label), Some(Ok(_))) {
                self.files(backup, &expected, &mut files);
            }
        }
        // Parents sort before the backups that refer to them: their label is the prefix.
        let files = Stage { name: "files", steps: files.into_values().collect() };
        if !files.steps.is_empty() {
            self.plan.data.push(files);
        }
        self.plan.data.push(Stage { name: "manifest copies", steps: copies });
        self.plan.data.push(Stage { name: "manifests", steps: manifests });
        if !waiting && published && self.plan.data.iter().all(|stage| stage.steps.is_empty()) {
            self.catalogue(newest);
        }
    }

    fn needs(&mut self, backup: &ListedBackup) -> Option<Arc<Needs>> {
        match self.source.needs.get(&backup.label) {
            Some(Ok(needs)) => Some(needs.clone()),
            Some(Err(problem)) => {
                self.plan.problems.push(format!("in the primary region, {problem}"));
                None
            }
            None => {
                let label = &backup.label;
                let what = format!("in the primary region, {label}/backup.manifest is missing");
                self.plan.problems.push(what);
                None
            }
        }
    }

    /// Whether the copy has every segment that the primary has between a backup's start and end.
    fn log_is_there(&self, backup: &ListedBackup) -> bool {
        let Some(name) = &backup.archive else { return false };
        let (start, stop) = (&backup.archive_start, &backup.archive_stop);
        let archives = [&self.source.repository, &self.target.repository]
            .map(|repository| repository.archives.get(name));
        let [Some(source), Some(target)] = archives else { return false };
        let (Some(first), Some(last)) = (Place::parse(start), Place::parse(stop)) else {
            return false;
        };
        first <= last
            && target.contains(start)
            && target.contains(stop)
            && source.differing(Some(target), first, last).all(|(_, _, there)| there.is_some())
    }

    /// The manifests of a backup whose objects are there; says whether nothing is left to do.
    fn manifests(
        &self,
        backup: &ListedBackup,
        copies: &mut Vec<Step>,
        manifests: &mut Vec<Step>,
    ) -> bool {
        let key = keys::manifest(self.stanza, &backup.label);
        let copy = format!("{key}.copy");
        let unreadable = matches!(self.target.needs.get(&backup.label), Some(Err(_)));
        let wanted = |key: &str| {
            let found = self.source.repository.get(key)?;
            let there = self.target.repository.contains(key);
            (unreadable || !there).then(|| step(key, &found, Proof::InfoFile, there))
        };
        copies.extend(wanted(&copy));
        let main = wanted(&key);
        let ready = main.is_none();
        manifests.extend(main);
        ready
    }

    /// The objects of a listed backup's directory. A file that fits the manifest is never replaced,
    /// and one that does not fit is never copied: the primary may be the damaged side.
    fn files(&self, backup: &ListedBackup, expected: &Needs, files: &mut BTreeMap<String, Step>) {
        let from = format!("backup/{}/{}/", self.stanza, backup.label);
        for (key, found) in self.source.repository.others_below(&from) {
            if !matches!(keys::role(self.stanza, key), Role::Data { .. }) {
                continue;
            }
            let there = self.target.repository.get(key);
            let step = match expected.objects.get(key) {
                Some(size) if !size.fits(found.size_bytes) => None,
                Some(size) => {
                    let wrong = there.is_some_and(|there| !size.fits(there.size_bytes));
                    let sums = expected.sums.get(key).cloned();
                    let proof = sums.map_or(Proof::Size, Proof::Parts);
                    (there.is_none() || wrong).then(|| step(key, found, proof, wrong))
                }
                None => self.copy(key, found),
            };
            files.extend(step.map(|step| (key.clone(), step)));
        }
    }

    /// The snapshot of `backup.info`, when it says nothing that the copy cannot keep.
    fn catalogue(&mut self, newest: Option<DateTime<Utc>>) {
        let mut history = Vec::new();
        for (key, found) in self.source.repository.others() {
            if keys::role(self.stanza, key) == Role::BackupHistory {
                history.extend(self.copy(key, found));
            }
        }
        self.plan.data.push(Stage { name: "backup history", steps: history });
        let Some(bytes) = &self.source.files.backup_info else { return };
        if self.target.files.backup_info.as_ref() == Some(bytes) || self.source.backups.is_empty() {
            return;
        }
        let latest = |look: &Look| look.backups.iter().map(|b| b.finished_at).max();
        // A catalogue whose newest backup cannot be restored is worse than the older one: whoever
        // uses it takes the newest first.
        if newest < latest(self.source) {
            let what = "the newest backup of the primary's catalogue is not complete; the copy \
                        keeps its catalogue until it is";
            self.plan.problems.push(what.to_owned());
            return;
        }
        if newest < latest(self.target) {
            let what = "the primary's catalogue lists no complete backup that is as new as the \
                        newest one in the copy; the copy keeps its catalogue";
            self.plan.problems.push(what.to_owned());
            return;
        }
        let key = keys::backup_info(self.stanza);
        let copy = Step::Write { key: format!("{key}.copy"), bytes: bytes.clone() };
        let main = Step::Write { key, bytes: bytes.clone() };
        self.plan.data.push(Stage { name: "catalogue copy", steps: vec![copy] });
        self.plan.data.push(Stage { name: "catalogue", steps: vec![main] });
    }

    /// A copy of what the target lacks. Nothing is replaced.
    fn copy(&self, key: &str, found: &Found) -> Option<Step> {
        absent(self.target, key, found, Proof::Size)
    }
}
