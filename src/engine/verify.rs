//! Verifies a copy without an engine: by its listing, or by reading everything again.
//!
//! - *fast*: every object that the copy's backups need is listed with the right size, and the log is
//!   gapless by its names. Reads the catalogue, the manifests and one segment.
//! - *deep*: besides, every segment that a backup can need is read and its records are followed, and
//!   every stored file is compared with the checksum that pgBackRest keeps of it.
//!
//! Nothing is written. A running engine repairs what it finds missing or of a wrong size by itself.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId, window::RestoreWindow},
    engine::{
        catalog::{
            build::{self, Evidence},
            files::read_small,
            index::IndexedRun,
            learned::NoMemory,
            listing::Extent,
            observe::{Look, Reader},
            segment::Place,
        },
        config::Settings,
        error::chain,
        parts::PartHasher,
    },
    layout::{
        BackupFormat, BackupPlace,
        pgbackrest::{
            keys,
            manifest::{StoredFile, stored_files},
        },
    },
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
    fmt::Write as _,
    sync::Arc,
    time::Duration,
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
    /// Bytes that were read and compared.
    pub proven_bytes: u64,
    /// Stored files without a checksum, whose size alone could be compared.
    pub without_sum: u64,
    /// What is wrong, for people. Empty when the copy is good.
    pub faults: Vec<String>,
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
            });
        }
    }
    Ok(copies)
}

/// Verifies a copy.
///
/// # Errors
/// [`StoreError`] when the store cannot be read. Faults of the copy are in the report.
pub async fn verify(
    copy: &Copy,
    depth: Depth,
    clock: &dyn Clock,
) -> Result<CopyReport, StoreError> {
    let place = copy.place.clone();
    // Nothing that an engine has learned counts here.
    let mut reader = Reader::new(copy.store.clone(), place, String::new(), Arc::new(NoMemory));
    let mut report = CopyReport::default();
    let look = match depth {
        Depth::Fast => {
            let look = reader.look(Extent::Everything).await?;
            report.faults = by_listing(&look);
            look
        }
        Depth::Deep { rate_bytes } => {
            let observed = reader.observe(Extent::Everything).await?;
            report.faults.clone_from(&observed.catalog.problems);
            report.window = Some(observed.catalog.window);
            let mut pace = Pace { rate_bytes, begun: clock.monotonic(), read_bytes: 0, clock };
            let sums = Sums { copy, look: &observed.look };
            sums.compare(&mut report, &mut pace).await?;
            report.proven_bytes += segment_bytes(&observed.runs);
            observed.look
        }
    };
    report.backups = look.backups.len();
    report.objects = look.repository.extent().0;
    if look.files.backup_info.is_none() && report.faults.is_empty() {
        report.faults.push("the copy has no readable backup.info".to_owned());
    }
    Ok(report)
}

/// What a listing alone tells.
fn by_listing(look: &Look) -> Vec<String> {
    let catalog = build::build(Evidence {
        repository: &look.repository,
        backups: &look.backups,
        needs: &look.needs,
        runs: &BTreeMap::new(),
        problems: look.problems.clone(),
    });
    let mut faults: Vec<String> = look.problems.clone();
    for backup in &catalog.backups {
        faults.extend(backup.missing.iter().map(|what| format!("backup {}: {what}", backup.name)));
    }
    for backup in &look.backups {
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

fn segment_bytes(runs: &BTreeMap<String, Arc<IndexedRun>>) -> u64 {
    let proven = runs.values().flat_map(|run| {
        let archive = run.run.archive.directory();
        (0..run.len()).filter_map(move |at| {
            let (place, segment) = run.run.packed(at)?;
            Some(((archive, place), segment.size_bytes()))
        })
    });
    let distinct: BTreeMap<(&str, Place), u64> = proven.collect();
    distinct.values().sum()
}

/// Compares stored files with the checksums of the manifests.
struct Sums<'a> {
    copy: &'a Copy,
    look: &'a Look,
}

impl Sums<'_> {
    async fn compare(
        &self,
        report: &mut CopyReport,
        pace: &mut Pace<'_>,
    ) -> Result<(), StoreError> {
        let BackupFormat::PgBackRest { stanza } = &self.copy.place.format;
        let prefix = &self.copy.place.prefix;
        // Backups share files: each stretch of an object is read once.
        let mut seen: BTreeSet<(String, u64)> = BTreeSet::new();
        for backup in &self.look.backups {
            let Ok(key) = prefix.join(&keys::manifest(stanza, &backup.label)) else { continue };
            let Some(bytes) = read_small(&*self.copy.store, &key).await? else { continue };
            let Ok(files) = stored_files(stanza, &backup.label, &bytes) else { continue };
            let mut by_object: BTreeMap<String, Vec<StoredFile>> = BTreeMap::new();
            for file in files {
                if seen.insert((file.key.clone(), file.offset)) {
                    by_object.entry(file.key.clone()).or_default().push(file);
                }
            }
            for (key, mut files) in by_object {
                files.sort_by_key(|file| file.offset);
                self.object(&key, &files, report, pace).await?;
            }
        }
        Ok(())
    }

    async fn object(
        &self,
        key: &str,
        files: &[StoredFile],
        report: &mut CopyReport,
        pace: &mut Pace<'_>,
    ) -> Result<(), StoreError> {
        report.without_sum += files.iter().filter(|file| file.sha1.is_none()).count() as u64;
        let Ok(full): Result<Key, _> = self.copy.place.prefix.join(key) else { return Ok(()) };
        let mut body = match self.copy.store.get(&full).await {
            Ok(object) => object.body,
            // What is missing has been found by the listing.
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut hasher = PartHasher::new(files.iter().map(|file| (file.offset, file.size_bytes)));
        while let Some(piece) = body.try_next().await? {
            pace.take(piece.len() as u64).await;
            hasher.take(&piece);
        }
        for (file, sum) in files.iter().zip(hasher.finish()) {
            match (&file.sha1, sum) {
                (Some(expected), Some(found)) if *expected == found => {
                    report.proven_bytes += file.size_bytes;
                }
                (Some(expected), found) => {
                    let found = found.unwrap_or_else(|| "an early end".to_owned());
                    report.faults.push(format!(
                        "{key} is damaged: the {} bytes at {} have the SHA-1 {found}, not {expected}",
                        file.size_bytes, file.offset
                    ));
                }
                (None, _) => {}
            }
        }
        Ok(())
    }
}

/// Keeps the reading below a rate.
struct Pace<'a> {
    rate_bytes: Option<u64>,
    begun: Duration,
    read_bytes: u64,
    clock: &'a dyn Clock,
}

impl Pace<'_> {
    async fn take(&mut self, bytes: u64) {
        self.read_bytes += bytes;
        let Some(rate) = self.rate_bytes.filter(|rate| *rate > 0) else { return };
        let due = Duration::from_millis(self.read_bytes.saturating_mul(1000) / rate);
        let spent = self.clock.monotonic().saturating_sub(self.begun);
        if let Some(ahead) = due.checked_sub(spent) {
            self.clock.sleep(ahead).await;
        }
    }
}

/// The report of a copy in words.
#[must_use]
pub fn text(copy: &Copy, depth: Depth, found: &Result<CopyReport, StoreError>) -> String {
    let head = format!("{} in {}", copy.service, copy.region);
    let report = match found {
        Err(error) => return format!("{head}: cannot be read: {}\n", chain(error)),
        Ok(report) => report,
    };
    let verdict = if report.faults.is_empty() { "good" } else { "NOT GOOD" };
    let mut text =
        format!("{head}: {verdict} ({} backups, {} objects", report.backups, report.objects);
    if let Depth::Deep { .. } = depth {
        write!(text, ", {} bytes proven", report.proven_bytes).expect("a string takes it");
    }
    if report.without_sum > 0 {
        let files = report.without_sum;
        write!(text, ", {files} files have no checksum").expect("a string takes it");
    }
    text += ")\n";
    if let Some(window) = report.window.as_ref().filter(|window| !window.ranges().is_empty()) {
        writeln!(text, "  restorable: {window}").expect("a string takes it");
    }
    for fault in &report.faults {
        writeln!(text, "  ! {fault}").expect("a string takes it");
    }
    text
}
