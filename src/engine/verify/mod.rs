//! Verifies a copy without an engine: by its listing, or by reading everything again.
//!
//! - *fast*: every object that the copy's backups need, and every one that its manifests record, is
//!   listed with the right size, and the log is gapless by its names. Reads the catalogue, the manifests
//!   and one segment.
//! - *deep*: besides, every recorded object is read and its checksum compared, every segment that a
//!   backup can need is followed record by record, and every stored file is compared with the SHA-1 that
//!   pgBackRest keeps of it. Each object is read once for all of that.
//!
//! Nothing is written into the copy. A running engine repairs what it finds missing or wrong by itself.

mod records;
mod tap;

pub mod report;
pub mod resume;

use crate::{
    domain::{cloud::CloudName, ids::ServiceId, window::RestoreWindow},
    engine::{
        catalog::{
            binlogs::ReaderMemory,
            build::{self, Evidence},
            files::read_small,
            index::IndexedRun,
            learned::NoMemory,
            listing::Extent,
            observe::{Look, Reader},
        },
        config::Settings,
        parts::PartHasher,
        stretches::difference,
        verify::{records::Recorded, resume::Resume, tap::Tap},
    },
    layout::{
        BackupFormat, BackupPlace,
        pgbackrest::{
            keys,
            manifest::{StoredFile, stored_files},
        },
    },
    sealed::keys::Keys,
    store::{
        BlobStore, StoreError,
        config::process_environment,
        key::Key,
        open::{OpenError, open},
    },
    sys::clock::Clock,
};
use futures_util::TryStreamExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How thoroughly to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// By the listing.
    Fast,
    /// By reading, with at most so many bytes a second when given.
    Deep {
        /// Bytes a second.
        rate_bytes: Option<u64>,
    },
}

/// What was found in one copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Base backups that the copy's catalogue lists.
    pub backups: usize,
    /// What can be restored; only a deep verification reads the times.
    pub window: Option<RestoreWindow>,
    /// Objects of the copy.
    pub objects: u64,
    /// Objects that the copy's manifests record.
    pub recorded: u64,
    /// Objects that no manifest records: a running engine will.
    pub unrecorded: u64,
    /// Bytes that were read and compared.
    pub proven_bytes: u64,
    /// Stored files without a checksum, whose size alone could be compared.
    pub without_sum: u64,
    /// What is wrong, for people. Empty when the copy is good.
    pub faults: Vec<String>,
    /// What is remarkable and not wrong, for people.
    pub notes: Vec<String>,
}

impl CopyReport {
    /// Whether something is wrong with an object.
    fn is_faulty(&self, key: &str) -> bool {
        self.faults.iter().any(|fault| fault.starts_with(key))
    }
}

/// A copy to verify.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The service.
    pub service: ServiceId,
    /// The region of the copy.
    pub region: CloudName,
    /// Its store.
    pub store: Arc<dyn BlobStore>,
    /// Where in it.
    pub place: BackupPlace,
    /// Private keys for what is encrypted: without them it is compared with what was recorded.
    pub keys: Arc<Keys>,
}

/// The copies that a configuration can have: each service in each region but its primary one.
///
/// # Errors
/// [`OpenError`].
pub fn copies(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Vec<Copy>, OpenError> {
    let mut copies = Vec::new();
    for region in &settings.regions {
        let (address, options) = (&region.store, &region.store_options);
        let store = open(address, options, clock.clone(), &process_environment)?;
        for service in settings.services.iter().filter(|s| s.cloud != region.cloud.name) {
            let Some(backup) = &service.backup else { continue };
            copies.push(Copy {
                service: service.id.clone(),
                region: region.cloud.name.clone(),
                store: store.clone(),
                place: backup.copy.clone(),
                keys: settings.keys.clone(),
            });
        }
    }
    Ok(copies)
}

/// Verifies a copy. A deep verification leaves out what `resume` knows to be proven.
///
/// # Errors
/// [`StoreError`] when the store cannot be read. Faults of the copy are in the report.
pub async fn verify(
    copy: &Copy,
    depth: Depth,
    resume: Option<&Resume>,
    clock: &Arc<dyn Clock>,
) -> Result<CopyReport, StoreError> {
    let place = copy.place.clone();
    let mut report = CopyReport::default();
    // The records before the listing: what is recorded was there by then.
    let recorded = Recorded::find(&*copy.store, &place, &mut report).await?;
    let look = match depth {
        Depth::Fast => {
            let store = copy.store.clone();
            let reader = Reader::new(store, place, String::new(), Arc::new(NoMemory));
            let mut reader = reader.with_keys(copy.keys.clone());
            let look = reader.look(Extent::Everything).await?;
            report.faults.extend(by_listing(&look));
            look
        }
        Depth::Deep { rate_bytes } => {
            let tap = Arc::new(Tap::new(copy.store.clone(), rate_bytes, clock.clone()));
            let look = deep(copy, tap, &recorded, resume, &mut report).await;
            if let Some(resume) = resume {
                resume.flush(copy);
            }
            look?
        }
    };
    recorded.compare(copy, &look.repository, &mut report).await?;
    report.backups = look.backups.len();
    report.objects = look.repository.extent().0;
    let lists = match copy.place.format {
        BackupFormat::PgBackRest { .. } => look.files.backup_info.is_some(),
        BackupFormat::PgHoard | BackupFormat::MyHoard { .. } | BackupFormat::Stream => {
            !look.backups.is_empty()
        }
    };
    if !lists && report.faults.is_empty() {
        report.faults.push("the copy lists no backup that can be read".to_owned());
    }
    Ok(report)
}

/// Reads everything once.
async fn deep(
    copy: &Copy,
    tap: Arc<Tap>,
    recorded: &Recorded,
    resume: Option<&Resume>,
    report: &mut CopyReport,
) -> Result<Look, StoreError> {
    let memory: Arc<dyn ReaderMemory> = match resume {
        Some(resume) => resume.memory(),
        // Nothing that an engine has learned counts here.
        None => Arc::new(NoMemory),
    };
    let scope = format!("{} {}", copy.region, copy.place.prefix);
    let reader = Reader::new(tap.clone(), copy.place.clone(), scope, memory);
    let mut reader = reader.with_keys(copy.keys.clone());
    let observed = reader.observe(Extent::Everything).await?;
    report.faults.extend(observed.catalog.problems.iter().cloned());
    report.window = Some(observed.catalog.window);
    let mut proven = proven_segments(&observed.runs);
    proven.extend(observed.chains.values().flat_map(|chain| chain.proven()));
    let look = &observed.look;
    let mut sums = Sums { copy, look, tap: &tap, recorded, resume, proven: &mut proven };
    sums.compare(report).await?;
    recorded.read(copy, &observed.look.repository, &tap, resume, &mut proven, report).await?;
    report.proven_bytes = proven.values().sum();
    Ok(observed.look)
}

/// What a listing alone tells.
fn by_listing(look: &Look) -> Vec<String> {
    let catalog = build::build(Evidence {
        repository: &look.repository,
        backups: &look.backups,
        needs: &look.needs,
        runs: &BTreeMap::new(),
        paths: &look.paths,
        chains: &BTreeMap::new(),
        damaged: &BTreeSet::new(),
        problems: look.problems.clone(),
    });
    let mut faults: Vec<String> = look.problems.clone();
    for backup in &catalog.backups {
        faults.extend(backup.missing.iter().map(|what| format!("backup {}: {what}", backup.name)));
    }
    for (label, chain) in &look.chains {
        if let Some(gap) = &chain.gap {
            faults.push(format!("backup {label}: {gap}"));
        }
    }
    for backup in look.backups.iter().filter(|backup| !look.chains.contains_key(&backup.label)) {
        let archive = look.archive_of(backup);
        for name in [&backup.archive_start, &backup.archive_stop] {
            if archive.is_none_or(|archive| !archive.contains(name)) {
                faults.push(format!("backup {}: WAL segment {name} is missing", backup.label));
            }
        }
    }
    faults.dedup();
    faults
}

/// The segments whose contents have the SHA-1 of their names, with their sizes.
fn proven_segments(runs: &BTreeMap<String, Arc<IndexedRun>>) -> BTreeMap<String, u64> {
    let proven = runs.values().flat_map(|run| {
        let archive = &run.run.archive;
        (0..run.len()).filter_map(move |at| {
            let (place, segment) = run.run.packed(at)?;
            Some((archive.key(place, segment), segment.size_bytes()))
        })
    });
    proven.collect()
}

/// Compares stored files with the checksums of the manifests.
struct Sums<'a> {
    copy: &'a Copy,
    look: &'a Look,
    tap: &'a Tap,
    recorded: &'a Recorded,
    resume: Option<&'a Resume>,
    proven: &'a mut BTreeMap<String, u64>,
}

impl Sums<'_> {
    async fn compare(&mut self, report: &mut CopyReport) -> Result<(), StoreError> {
        // Other tools keep no checksums of stretches.
        let BackupFormat::PgBackRest { stanza } = &self.copy.place.format else { return Ok(()) };
        let prefix = &self.copy.place.prefix;
        // Backups share files: each stretch of an object is read once.
        let mut seen: BTreeSet<(String, u64)> = BTreeSet::new();
        let mut by_object: BTreeMap<String, Vec<StoredFile>> = BTreeMap::new();
        for backup in &self.look.backups {
            let Ok(key) = prefix.join(&keys::manifest(stanza, &backup.label)) else { continue };
            let Some(bytes) = read_small(self.tap, &key).await? else { continue };
            let Ok(files) = stored_files(stanza, &backup.label, &bytes) else { continue };
            for file in files {
                if seen.insert((file.key.clone(), file.offset)) {
                    by_object.entry(file.key.clone()).or_default().push(file);
                }
            }
        }
        for (key, mut files) in by_object {
            files.sort_by_key(|file| file.offset);
            self.object(&key, &files, report).await?;
        }
        Ok(())
    }

    async fn object(
        &mut self,
        key: &str,
        files: &[StoredFile],
        report: &mut CopyReport,
    ) -> Result<(), StoreError> {
        report.without_sum += files.iter().filter(|file| file.sha1.is_none()).count() as u64;
        let stretches = files.iter().filter(|file| file.sha1.is_some()).map(|f| f.size_bytes).sum();
        let there = self.look.repository.get(key);
        if self.resume.is_some_and(|resume| resume.is_proven(self.copy, key, there)) {
            self.proven.insert(key.to_owned(), stretches);
            return Ok(());
        }
        let Ok(full): Result<Key, _> = self.copy.place.prefix.join(key) else { return Ok(()) };
        let mut body = match self.tap.get(&full).await {
            Ok(object) => object.body,
            // What is missing has been found by the listing.
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut hasher = PartHasher::new(files.iter().map(|file| (file.offset, file.size_bytes)));
        while let Some(piece) = body.try_next().await? {
            hasher.take(&piece);
        }
        let before = report.faults.len();
        for (file, sum) in files.iter().zip(hasher.finish()) {
            if let Some(what) = difference(file, sum.as_ref()) {
                report.faults.push(format!("{key} is damaged: {what}"));
            }
        }
        if report.faults.len() > before {
            return Ok(());
        }
        self.proven.insert(key.to_owned(), stretches);
        if let (Some(resume), Some(there)) = (self.resume, there)
            && self.recorded.allows(key, self.tap.sum(&full))
        {
            resume.note(self.copy, key, &there);
        }
        Ok(())
    }
}
