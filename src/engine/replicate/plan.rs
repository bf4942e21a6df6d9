//! What to copy next, and in which order.

use crate::{
    domain::recovery::Codec,
    engine::catalog::{
        archive::Archive,
        build::is_complete,
        observe::Look,
        segment::{Found, Packed, Place},
    },
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
        let segments = self.segments().into_iter().chain(labels).collect();
        self.plan.log = vec![
            Stage { name: "timeline histories", steps: first },
            Stage { name: "log", steps: segments },
        ];
    }

    /// Segments that the target lacks or has with wrong contents, in log order.
    fn segments(&self) -> Vec<Step> {
        let needed = NeededLog::of(self.source, self.target);
        let mut steps = BTreeMap::new();
        for (name, log) in &self.source.repository.archives {
            let there = self.target.repository.archives.get(name).map(|there| &**there);
            let mut add = |place: Place, segment: &Packed| {
                if needed.has(name, place)
                    && let Some((key, step)) = self.segment(log, there, place, segment)
                {
                    steps.insert((name, place, key), step);
                }
            };
            let differing = log.differing(there, Place::FIRST, Place::LAST);
            differing.for_each(|(place, segment, _)| add(place, segment));
            log.doubles().for_each(|(place, segment)| add(place, segment));
            // Damage shows in no listing.
            let damaged = self.damaged.iter().filter_map(|key| log.by_key(key));
            damaged.for_each(|(place, segment)| add(place, segment));
        }
        steps.into_values().collect()
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
        let absent = !self.target.repository.contains(key);
        absent.then(|| step(key, found, Proof::Size, false))
    }

    /// A copy of a segment that the target lacks or has with wrong contents. The source's contents
    /// are proven before anything is replaced.
    fn segment(
        &self,
        log: &Archive,
        there: Option<&Archive>,
        place: Place,
        segment: &Packed,
    ) -> Option<(String, Step)> {
        let there = there.and_then(|there| there.named_like(place, segment));
        let differs = there.is_none_or(|there| there.size_bytes() != segment.size_bytes());
        if !differs && self.damaged.is_empty() {
            return None;
        }
        let key = log.key(place, segment);
        if !differs && !self.damaged.contains(&key) {
            return None;
        }
        let proof = Proof::Sha1 { sha1: segment.sha1(), codec: segment.codec() };
        let step = step(&key, &segment.found(), proof, there.is_some());
        Some((key, step))
    }
}

fn step(key: &str, found: &Found, proof: Proof, replace: bool) -> Step {
    Step::Copy { key: key.to_owned(), size_bytes: found.size_bytes, proof, replace }
}
