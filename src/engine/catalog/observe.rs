//! Looks at one service's backups in one store.

use crate::{
    domain::lsn::{SegmentSize, Timeline},
    engine::catalog::{
        RegionCatalog,
        build::{self, Evidence},
        index::{IndexedRun, Learned, LogIndex, read_segment, version},
        repository::{Found, Repository},
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
    store::{BlobStore, ObjectMeta, StoreError, key::Key, read_all},
    wal::{page::PageHeader, timeline::TimelinePath},
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Largest catalogue or manifest that is read, in bytes.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 29;

/// Where what was learned about a log is kept over restarts. Losing it costs time and nothing else.
pub trait LogMemory: Send + Sync + std::fmt::Debug {
    /// All that is known about the log `scope`.
    fn recall(&self, scope: &str) -> Vec<Learned>;
    /// Keeps one thing.
    fn keep(&self, scope: &str, learned: &Learned);
}

/// A look at a repository: the listing and its small files. Cheap: no segment is read.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The listing.
    pub repository: Repository,
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
    pub runs: BTreeMap<String, IndexedRun>,
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
    logs: HashMap<String, LogIndex>,
    small: HashMap<String, (String, Bytes)>,
    manifests: HashMap<String, (String, Result<Arc<Manifest>, String>)>,
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
        let (logs, small, manifests) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { store, place, scope, memory, logs, small, manifests }
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

    /// Lists the repository and reads its small files.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read. A missing repository is an empty one.
    pub async fn look(&mut self) -> Result<Look, StoreError> {
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
        look.repository = self.list().await?;
        self.forget(&look.repository);
        for backup in look.info.backups.clone() {
            if let Some(manifest) = self.manifest(&look.repository, &stanza, &backup.label).await? {
                look.manifests.insert(backup.label, manifest);
            }
        }
        for (archive, log) in look.repository.archives.clone() {
            let mut paths = Vec::new();
            for (timeline, key) in log.histories {
                match self.history(&look.repository, timeline, &key).await? {
                    Ok(path) => paths.push(path),
                    Err(problem) => look.problems.push(problem),
                }
            }
            look.paths.insert(archive, paths);
        }
        Ok(look)
    }

    /// Looks, follows and proves the log behind every backup, and judges.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn observe(&mut self) -> Result<Observed, StoreError> {
        let look = self.look().await?;
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
    ) -> Result<Option<IndexedRun>, StoreError> {
        let Some(name) = look.info.archive_of(backup) else { return Ok(None) };
        let empty = crate::engine::catalog::repository::Archive::default();
        let archive = look.repository.archives.get(&name).unwrap_or(&empty);
        let scope = format!("{} {name}", self.scope);
        let memory = self.memory.clone();
        let log =
            self.logs.entry(name.clone()).or_insert_with(|| LogIndex::with(memory.recall(&scope)));
        let size = match log.any() {
            Some(index) => index.segment_size,
            None => {
                let first = archive.segments.get(&backup.archive_start);
                let first = first.or_else(|| archive.segments.values().next());
                match first {
                    None => SegmentSize::DEFAULT,
                    Some(first) => {
                        let plain = read_segment(&*self.store, &self.place.prefix, first).await?;
                        segment_size(&plain.unwrap_or_default())
                    }
                }
            }
        };
        let paths = look.paths.get(&name).map_or(&[][..], Vec::as_slice);
        let Some(run) = runs::follow(archive, size, paths, backup) else { return Ok(None) };
        let mut keep = |learned: &Learned| memory.keep(&scope, learned);
        log.index(&*self.store, &self.place.prefix, run, &mut keep).await.map(Some)
    }

    /// The index of an archive's log.
    #[must_use]
    pub fn log(&self, archive: &str) -> Option<&LogIndex> {
        self.logs.get(archive)
    }

    async fn list(&self) -> Result<Repository, StoreError> {
        let stanza = self.stanza();
        let mut listing = Vec::new();
        for part in ["archive", "backup"] {
            let Ok(prefix) = self.place.prefix.join(&format!("{part}/{stanza}")) else { continue };
            let found: Vec<ObjectMeta> = self.store.list(&prefix, None).try_collect().await?;
            for meta in found {
                let Some(key) = meta.key.below(&self.place.prefix) else { continue };
                let found = Found {
                    size_bytes: meta.size_bytes,
                    modified_at: meta.modified_at,
                    etag: meta.etag.clone(),
                };
                listing.push((key.to_owned(), found));
            }
        }
        Ok(Repository::sort(stanza, listing))
    }

    /// Forgets small files that are gone.
    fn forget(&mut self, repository: &Repository) {
        self.small.retain(|key, _| repository.objects.contains_key(key));
        self.manifests.retain(|key, _| repository.objects.contains_key(key));
    }

    async fn fetch(&self, file: &str) -> Result<Option<Bytes>, StoreError> {
        let Ok(key) = self.place.prefix.join(file) else { return Ok(None) };
        read_small(&*self.store, &key).await
    }

    async fn manifest(
        &mut self,
        repository: &Repository,
        stanza: &str,
        label: &str,
    ) -> Result<Option<Result<Arc<Manifest>, String>>, StoreError> {
        let key = keys::manifest(stanza, label);
        let Some(found) = repository.objects.get(&key) else { return Ok(None) };
        let now = version(found);
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
        let now = repository.objects.get(key).map(version).unwrap_or_default();
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
