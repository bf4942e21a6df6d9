//! What to copy next, and in which order.

use crate::{
    domain::recovery::Codec,
    engine::catalog::{build::is_complete, observe::Look, repository::Found},
    engine::replicate::needed_log::NeededLog,
    layout::{
        backup::{ListedBackup, Needs, PartSum},
        pgbackrest::{
            backup_info,
            keys::{self, Role},
        },
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What a pass does, in two lanes that do not wait for each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyPlan {
    /// History files, then segments.
    pub log: Vec<Stage>,
    /// Files of base backups, or manifests, or the catalogue.
    pub data: Vec<Stage>,
    /// What keeps something from being copied, for people.
    pub problems: Vec<String>,
}

/// Steps that may be taken at the same time. The next stage begins when all have succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// For people.
    pub name: &'static str,
    /// The steps, the most urgent first.
    pub steps: Vec<Step>,
}

/// One object. Keys are below the repository's prefix and the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copies an object.
    Copy {
        /// Key.
        key: String,
        /// Size of the source's object, in bytes.
        size_bytes: u64,
        /// What its contents are checked against, besides the size.
        proof: Proof,
        /// Whether an object is in the way that is known to be wrong.
        replace: bool,
    },
    /// Writes a snapshot of a mutable object over the one that is there.
    Write {
        /// Key.
        key: String,
        /// Contents.
        bytes: Bytes,
    },
}

/// What the contents of a copied object are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing but the size.
    Size,
    /// The checksums that the backup tool keeps of stretches of it.
    Parts(Arc<[PartSum]>),
    /// The checksum inside of it, as pgBackRest's info files and manifests have.
    InfoFile,
    /// The SHA-1 of the uncompressed contents.
    Sha1 {
        /// In lower-case hexadecimal digits.
        sha1: String,
        /// Compression of the object.
        codec: Codec,
    },
}

impl Step {
    /// Key of the object.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Copy { key, .. } | Self::Write { key, .. } => key,
        }
    }

    /// Size of the object, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Copy { size_bytes, .. } => *size_bytes,
            Self::Write { bytes, .. } => bytes.len() as u64,
        }
    }
}

/// Plans the next pass. `damaged` are keys in the target whose contents are known to be wrong.
#[must_use]
pub fn plan(stanza: &str, source: &Look, target: &Look, damaged: &BTreeSet<String>) -> CopyPlan {
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
    planner.plan.log.retain(|stage| !stage.steps.is_empty());
    planner.plan.data.retain(|stage| !stage.steps.is_empty());
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
        let mut segments: Vec<((String, String), Step)> = Vec::new();
        let mut labels = Vec::new();
        let needed = NeededLog::of(self.source, self.target);
        for (key, found) in &self.source.repository.objects {
            match keys::role(self.stanza, key) {
                Role::History { .. } => first.extend(self.copy(key, found)),
                Role::BackupLabel => labels.extend(self.copy(key, found)),
                Role::Segment { archive, name, sha1, codec } if needed.has(&archive, &name) => {
                    if let Some(step) = self.segment(key, found, Proof::Sha1 { sha1, codec }) {
                        segments.push(((archive, name), step));
                    }
                }
                Role::Segment { .. }
                | Role::ArchiveInfo
                | Role::Data { .. }
                | Role::Manifest { .. }
                | Role::BackupHistory
                | Role::BackupInfo { .. }
                | Role::Other => {}
            }
        }
        segments.sort_by(|a, b| a.0.cmp(&b.0));
        let segments = segments.into_iter().map(|(_, step)| step).chain(labels).collect();
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
            self.files(backup, &expected, &mut files);
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
        start <= stop
            && target.segments.contains_key(start)
            && target.segments.contains_key(stop)
            && source
                .segments
                .range(start.clone()..=stop.clone())
                .all(|(name, _)| target.segments.contains_key(name))
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
            let found = self.source.repository.objects.get(key)?;
            let there = self.target.repository.objects.contains_key(key);
            (unreadable || !there).then(|| step(key, found, Proof::InfoFile, there))
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
        let below = self.source.repository.objects.range(from.clone()..);
        for (key, found) in below.take_while(|(key, _)| key.starts_with(&from)) {
            if !matches!(keys::role(self.stanza, key), Role::Data { .. }) {
                continue;
            }
            let there = self.target.repository.objects.get(key);
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
        for (key, found) in &self.source.repository.objects {
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
        let absent = !self.target.repository.objects.contains_key(key);
        absent.then(|| step(key, found, Proof::Size, false))
    }

    /// A copy of a segment that the target lacks or has with wrong contents. The source's contents
    /// are proven before anything is replaced.
    fn segment(&self, key: &str, found: &Found, proof: Proof) -> Option<Step> {
        let there = self.target.repository.objects.get(key);
        let wrong = there.is_some_and(|there| there.size_bytes != found.size_bytes)
            || self.damaged.contains(key);
        (there.is_none() || wrong).then(|| step(key, found, proof, wrong && there.is_some()))
    }
}

fn step(key: &str, found: &Found, proof: Proof, replace: bool) -> Step {
    Step::Copy { key: key.to_owned(), size_bytes: found.size_bytes, proof, replace }
}
