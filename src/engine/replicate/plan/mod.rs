//! What to copy next, and in which order.

mod myhoard;
mod pgbackrest;
mod pghoard;
mod stream;

use crate::{
    domain::recovery::Codec,
    engine::{
        catalog::{
            archive::Archive,
            observe::Look,
            repository::Repository,
            segment::{Found, Packed, Place},
        },
        replicate::needed_log::NeededLog,
    },
    layout::{BackupFormat, Naming, backup::PartSum},
};
use bytes::Bytes;
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
    /// Marks in the copy that the backup tool itself has taken back in the primary: they are removed.
    pub withdrawn: Vec<String>,
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
    /// What its own user metadata say of it, as those of PGHoard's objects do.
    Declared,
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
pub fn plan(
    format: &BackupFormat,
    source: &Look,
    target: &Look,
    damaged: &BTreeSet<String>,
) -> CopyPlan {
    let mut plan = match format {
        BackupFormat::PgBackRest { stanza } => pgbackrest::plan(stanza, source, target, damaged),
        BackupFormat::PgHoard => pghoard::plan(source, target, damaged),
        BackupFormat::MyHoard { .. } => myhoard::plan(source, target, damaged),
        BackupFormat::Stream => stream::plan(source, target, damaged),
    };
    plan.log.retain(|stage| !stage.steps.is_empty());
    plan.data.retain(|stage| !stage.steps.is_empty());
    plan
}

/// What is missing of the binary logs in the primary itself, for people.
fn gaps(source: &Look) -> impl Iterator<Item = String> {
    let gaps = source.chains.iter().filter_map(|(label, chain)| Some((label, chain.gap.as_ref()?)));
    gaps.map(|(label, gap)| format!("in the primary region, behind backup {label}: {gap}"))
}

/// Segments that the target lacks or has with wrong contents, in log order.
fn segments(source: &Look, target: &Look, damaged: &BTreeSet<String>) -> Vec<Step> {
    let needed = NeededLog::of(source, target);
    let mut steps = BTreeMap::new();
    for (name, log) in &source.repository.archives {
        let there = target.repository.archives.get(name).map(|there| &**there);
        let mut add = |place: Place, segment: &Packed| {
            if !needed.has(name, place) {
                return;
            }
            let step = match log.naming() {
                Naming::WithSha1 => segment_step(log, there, place, segment, damaged),
                Naming::Plain => {
                    plain_segment_step(log, &target.repository, there, (place, segment), damaged)
                }
            };
            if let Some((key, step)) = step {
                steps.insert((name, place, key), step);
            }
        };
        let differing = log.differing(there, Place::FIRST, Place::LAST);
        differing.for_each(|(place, segment, _)| add(place, segment));
        log.doubles().for_each(|(place, segment)| add(place, segment));
        // Damage shows in no listing.
        let damaged = damaged.iter().filter_map(|key| log.by_key(key));
        damaged.for_each(|(place, segment)| add(place, segment));
    }
    steps.into_values().collect()
}

/// A copy of a segment that the target lacks or has with wrong contents. The source's contents
/// are proven before anything is replaced.
fn segment_step(
    log: &Archive,
    there: Option<&Archive>,
    place: Place,
    segment: &Packed,
    damaged: &BTreeSet<String>,
) -> Option<(String, Step)> {
    let there = there.and_then(|there| there.named_like(place, segment));
    let differs = there.is_none_or(|there| there.size_bytes() != segment.size_bytes());
    if !differs && damaged.is_empty() {
        return None;
    }
    let key = log.key(place, segment);
    if !differs && !damaged.contains(&key) {
        return None;
    }
    let proof = Proof::Sha1 { sha1: segment.sha1(), codec: segment.codec() };
    let step = step(&key, &segment.found(), proof, there.is_some());
    Some((key, step))
}

/// The same where names do not tell contents. A segment that is there stays unless it is known to be
/// wrong: the same one may have been uploaded again with other bytes, and which of two different ones
/// is the right one is not ours to say.
fn plain_segment_step(
    log: &Archive,
    target: &Repository,
    there: Option<&Archive>,
    (place, segment): (Place, &Packed),
    damaged: &BTreeSet<String>,
) -> Option<(String, Step)> {
    let is_there = there.is_some_and(|there| there.at(place).is_some());
    if is_there && damaged.is_empty() {
        return None;
    }
    let key = log.key(place, segment);
    if is_there && !damaged.contains(&key) {
        return None;
    }
    // An object without the metadata that make it a segment is in the way.
    let replaces = is_there || target.contains(&key);
    let step = step(&key, &segment.found(), Proof::Declared, replaces);
    Some((key, step))
}

/// A copy of what the target lacks. Nothing is replaced.
fn absent(target: &Look, key: &str, found: &Found, proof: Proof) -> Option<Step> {
    let absent = !target.repository.contains(key);
    absent.then(|| step(key, found, proof, false))
}

fn step(key: &str, found: &Found, proof: Proof, replace: bool) -> Step {
    Step::Copy { key: key.to_owned(), size_bytes: found.size_bytes, proof, replace }
}
