//! Looks at one service's backups in one store.

use crate::{
    domain::lsn::{SegmentSize, Timeline},
    engine::catalog::{
        RegionCatalog,
        archive::Archive,
        build::{self, Evidence},
        index::{IndexedRun, LogIndex, read_segment},
        learned::LogMemory,
        listing::{Extent, Listing},
        repository::Repository,
        runs,
    },
    layout::{
        BackupFormat, BackupPlace,
        pgbackrest::{
            backup_info::{BackupInfo, ListedBackup},
            keys,
            manifest::Manifest,
        },
    },
    store::{BlobStore, StoreError, key::Key, read_all},
    wal::{page::PageHeader, timeline::TimelinePath},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Largest catalogue or manifest that is read, in bytes.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 29;

/// A look at a repository: the listing and its small files. Cheap: no segment is read.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The listing.
    pub repository: Arc<Repository>,
    /// The bytes of `backup.info`, as they were *before* the listing.
    pub info_bytes: Option<Bytes>,
    /// What they say.
    pub info: BackupInfo,
    /// The bytes of `archive.info`.
    pub archive_info: Option<Bytes>,
    /// What each listed backup needs, or why that cannot be read.
    pub manifests: BTreeMap<String, Result<Arc<Manifest>, String>>,
    /// The ways to all timelines, by archive.
    pub paths: BTreeMap<String, Vec<TimelinePath>>,
    /// What is wrong with the small files, for people.
    pub problems: Vec<String>,
}

/// A look, the log behind every backup, and the verdict.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The look.
    pub look: Look,
    /// The log behind each listed backup, by label.
    pub runs: BTreeMap<String, Arc<IndexedRun>>,
    /// The verdict.
    pub catalog: RegionCatalog,
}

/// Looks at one service's backups in one store, and remembers what need not be read again.
#[derive(Debug)]
pub struct Reader {
    store: Arc<dyn BlobStore>,
    place: BackupPlace,
    scope: String,
    memory: Arc<dyn LogMemory>,
    listing: Listing,
    last_info: Option<Bytes>,
    logs: HashMap<String, LogIndex>,
    runs: HashMap<String, KnownRun>,
    small: HashMap<String, (u64, Bytes)>,
    manifests: HashMap<String, (u64, Result<Arc<Manifest>, String>)>,
}

/// A run that need not be followed again while nothing of its archive changes.
#[derive(Debug)]
struct KnownRun {
    generation: u64,
    backup: ListedBackup,
    run: Arc<IndexedRun>,
}

impl Reader {
    /// A reader of `place` in `store`; `scope` names both in the memory.
    #[must_use]
    pub fn new(
        store: Arc<dyn BlobStore>,
        place: BackupPlace,
        scope: String,
        memory: Arc<dyn LogMemory>,
    ) -> Self {
        Self {
            store,
            place,
            scope,
            memory,
            listing: Listing::default(),
            last_info: None,
            logs: HashMap::new(),
            runs: HashMap::new(),
            small: HashMap::new(),
            manifests: HashMap::new(),
        }
    }

    /// The store that is looked at.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    /// Where in it.
    #[must_use]
    pub fn place(&self) -> &BackupPlace {
        &self.place
    }

    fn stanza(&self) -> &str {
        let BackupFormat::PgBackRest { stanza } = &self.place.format;
        stanza
    }

    /// Lists the repository, as far as `extent` says, and reads its small files. The files of base
    /// backups are also listed when the catalogue has changed since the last look.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read. A missing repository is an empty one.
    pub async fn look(&mut self, extent: Extent) -> Result<Look, StoreError> {
        let mut look = Look::default();
        // The catalogue comes first: what it lists was there before the listing.
        let stanza = self.stanza().to_owned();
        for file in [keys::backup_info(&stanza), format!("{}.copy", keys::backup_info(&stanza))] {
            let Some(bytes) = self.fetch(&file).await? else { continue };
            match BackupInfo::read(&bytes) {
                Ok(info) => {
                    (look.info, look.info_bytes) = (info, Some(bytes));
                    break;
                }
                Err(error) => look.problems.push(error.to_string()),
            }
        }
        look.archive_info = self.fetch(&keys::archive_info(&stanza)).await?;
        let changed = look.info_bytes != self.last_info;
        let extent = if changed && extent == Extent::Log { Extent::LogAndBackups } else { extent };
        look.repository = self.listing.refresh(&*self.store, &self.place, extent).await?;
        self.last_info.clone_from(&look.info_bytes);
        self.forget(&look.repository);
        for backup in look.info.backups.clone() {
            if let Some(manifest) = self.manifest(&look.repository, &stanza, &backup.label).await? {
                look.manifests.insert(backup.label, manifest);
            }
        }
        let repository = look.repository.clone();
        for (archive, log) in &repository.archives {
            let mut paths = Vec::new();
            for (timeline, key) in &log.histories {
                match self.history(&repository, *timeline, key).await? {
                    Ok(path) => paths.push(path),
                    Err(problem) => look.problems.push(problem),
                }
            }
            look.paths.insert(archive.clone(), paths);
        }
        Ok(look)
    }

    /// Looks, and judges what is seen.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn observe(&mut self, extent: Extent) -> Result<Observed, StoreError> {
        let look = self.look(extent).await?;
        self.judge(look).await
    }

    /// Follows and proves the log behind every backup of a look of this reader, and judges.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn judge(&mut self, look: Look) -> Result<Observed, StoreError> {
        self.runs.retain(|label, _| look.info.backup(label).is_some());
        let mut runs = BTreeMap::new();
        for backup in &look.info.backups {
            if let Some(run) = self.follow(&look, backup).await? {
                runs.insert(backup.label.clone(), run);
            }
        }
        let catalog = build::build(Evidence {
            repository: &look.repository,
            info: &look.info,
            manifests: &look.manifests,
            runs: &runs,
            problems: look.problems.clone(),
        });
        Ok(Observed { look, runs, catalog })
    }

    async fn follow(
        &mut self,
        look: &Look,
        backup: &ListedBackup,
    ) -> Result<Option<Arc<IndexedRun>>, StoreError> {
        let Some(name) = look.info.archive_of(backup) else { return Ok(None) };
        let empty = Arc::new(Archive::default());
        let archive = look.repository.archives.get(&name).unwrap_or(&empty);
        let generation = archive.generation;
        if let Some(known) = self.runs.get(&backup.label)
            && known.generation == generation
            && known.backup == *backup
        {
            return Ok(Some(known.run.clone()));
        }
        let scope = format!("{} {name}", self.scope);
        let memory = self.memory.clone();
        let log = self.logs.entry(name.clone()).or_insert_with(|| LogIndex::open(memory, scope));
        let size = match log.facts() {
            Some(facts) => facts.segment_size,
            None => {
                let first = archive.get(&backup.archive_start).or_else(|| archive.first());
                match first {
                    None => SegmentSize::DEFAULT,
                    Some(first) => {
                        let plain = read_segment(&*self.store, &self.place.prefix, &first).await?;
                        segment_size(&plain.unwrap_or_default())
                    }
                }
            }
        };
        let paths = look.paths.get(&name).map_or(&[][..], Vec::as_slice);
        let Some(run) = runs::follow(archive, size, paths, backup) else { return Ok(None) };
        let run = Arc::new(log.index(&*self.store, &self.place.prefix, run).await?);
        let known = KnownRun { generation, backup: backup.clone(), run: run.clone() };
        self.runs.insert(backup.label.clone(), known);
        Ok(Some(run))
    }

    /// The index of an archive's log.
    #[must_use]
    pub fn log(&self, archive: &str) -> Option<&LogIndex> {
        self.logs.get(archive)
    }

    /// Forgets small files that are gone.
    fn forget(&mut self, repository: &Repository) {
        self.small.retain(|key, _| repository.contains(key));
        self.manifests.retain(|key, _| repository.contains(key));
    }

    async fn fetch(&self, file: &str) -> Result<Option<Bytes>, StoreError> {
        let Ok(key) = self.place.prefix.join(file) else { return Ok(None) };
        read_small(&*self.store, &key).await
    }

    /// What a backup needs, whether the catalogue lists it or not; `None` without a manifest.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn manifest(
        &mut self,
        repository: &Repository,
        stanza: &str,
        label: &str,
    ) -> Result<Option<Result<Arc<Manifest>, String>>, StoreError> {
        let key = keys::manifest(stanza, label);
        let Some(found) = repository.get(&key) else { return Ok(None) };
        let now = found.version;
        if let Some((then, known)) = self.manifests.get(&key)
            && *then == now
        {
            return Ok(Some(known.clone()));
        }
        let Some(bytes) = self.fetch(&key).await? else { return Ok(None) };
        let read = Manifest::read(stanza, label, &bytes).map(Arc::new).map_err(|e| e.to_string());
        self.manifests.insert(key, (now, read.clone()));
        Ok(Some(read))
    }

    async fn history(
        &mut self,
        repository: &Repository,
        timeline: Timeline,
        key: &str,
    ) -> Result<Result<TimelinePath, String>, StoreError> {
        let now = repository.get(key).map(|found| found.version).unwrap_or_default();
        let known = self.small.get(key).filter(|(then, _)| *then == now).map(|(_, b)| b.clone());
        let bytes = match known {
            Some(bytes) => bytes,
            None => match self.fetch(key).await? {
                Some(bytes) => bytes,
                None => return Ok(Err(format!("{} has disappeared", timeline.history_file()))),
            },
        };
        self.small.insert(key.to_owned(), (now, bytes.clone()));
        let text = String::from_utf8_lossy(&bytes);
        Ok(TimelinePath::parse(timeline, &text).map_err(|error| error.to_string()))
    }
}

/// The segment size that a segment's own header names.
fn segment_size(plain: &[u8]) -> SegmentSize {
    PageHeader::read(plain)
        .and_then(|header| header.long)
        .and_then(|long| SegmentSize::new(long.segment_bytes))
        .unwrap_or(SegmentSize::DEFAULT)
}

/// Reads a small object; `None` when it does not exist.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn read_small(store: &dyn BlobStore, key: &Key) -> Result<Option<Bytes>, StoreError> {
    match read_all(store, key, SMALL_FILE_BYTES_MAX).await {
        Ok((_, bytes)) => Ok(Some(bytes)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
