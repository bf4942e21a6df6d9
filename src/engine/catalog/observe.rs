//! Looks at one service's backups in one store.

mod ends;
mod scans;

use crate::{
    domain::{lsn::SegmentSize, recovery::Codec},
    engine::catalog::{
        RegionCatalog,
        archive::Archive,
        binlogs::{BinlogIndex, ReadChain, ReaderMemory},
        build::{self, Evidence},
        files::{MutableFiles, NeedsOrWhy, SmallFiles},
        index::{IndexedRun, LogIndex},
        learned::LogMemory,
        listing::{Extent, Listing},
        observe::ends::KnownEnd,
        reading::{LogSource, read_segment},
        repository::Repository,
        runs,
        segment::Place,
    },
    layout::{BackupPlace, Role, backup::ListedBackup, binlogs::BinlogChain},
    sealed::keys::Keys,
    store::{BlobStore, StoreError},
    wal::{page::PageHeader, timeline::TimelinePath},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// A look at a repository: the listing and its small files. Cheap: no segment is read.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The listing.
    pub repository: Arc<Repository>,
    /// The backups that the tool's own catalogue lists, oldest first.
    pub backups: Vec<ListedBackup>,
    /// Base backups that do not say when they ended. A judged look has those here of which the log
    /// does not say it either.
    pub endless: Vec<ListedBackup>,
    /// Base backups that cannot be read since the private key that was given does not fit: their
    /// labels, and the names of the keys.
    pub wrong_keys: BTreeMap<String, String>,
    /// The files that say so.
    pub files: MutableFiles,
    /// What each listed backup needs, or why that cannot be read.
    pub needs: BTreeMap<String, NeedsOrWhy>,
    /// The ways to all timelines, by archive.
    pub paths: BTreeMap<String, Vec<TimelinePath>>,
    /// How the history files are stored, by key, where not as they are.
    pub history_codings: BTreeMap<String, (Codec, Option<String>)>,
    /// The binary logs behind each listed backup of MySQL or MariaDB by names and notes, by label.
    pub chains: BTreeMap<String, Arc<BinlogChain>>,
    /// The contents of the notes of MySQL's backups, by key.
    pub notes: BTreeMap<String, Bytes>,
    /// What is wrong with the small files, for people.
    pub problems: Vec<String>,
}

impl Look {
    /// The listed backup with this label.
    #[must_use]
    pub fn backup(&self, label: &str) -> Option<&ListedBackup> {
        self.backups.iter().find(|backup| backup.label == label)
    }

    /// The listed backups, and those that do not say when they ended.
    pub fn all_backups(&self) -> impl Iterator<Item = &ListedBackup> {
        self.backups.iter().chain(&self.endless)
    }

    /// Brings the listed backups into their order.
    pub(super) fn sort_backups(&mut self) {
        self.backups.sort_by(|a, b| (a.started_at, &a.label).cmp(&(b.started_at, &b.label)));
    }

    /// The log of a listed backup.
    #[must_use]
    pub fn archive_of(&self, backup: &ListedBackup) -> Option<&Archive> {
        self.repository.archives.get(backup.archive.as_ref()?).map(|archive| &**archive)
    }
}

/// A look, the log behind every backup, and the verdict.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The look.
    pub look: Look,
    /// The log behind each listed backup, by label.
    pub runs: BTreeMap<String, Arc<IndexedRun>>,
    /// The binary logs behind each listed backup of MySQL or MariaDB, by label.
    pub chains: BTreeMap<String, Arc<ReadChain>>,
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
    keys: Arc<Keys>,
    listing: Listing,
    files: SmallFiles,
    logs: HashMap<String, LogIndex>,
    binlogs: BinlogIndex,
    runs: HashMap<String, KnownRun>,
    ends: HashMap<String, KnownEnd>,
    damaged: BTreeSet<String>,
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
        memory: Arc<dyn ReaderMemory>,
    ) -> Self {
        let binlogs = BinlogIndex::new(memory.clone(), scope.clone());
        let keys = Arc::<Keys>::default();
        let files = SmallFiles::new(store.clone(), place.clone(), keys.clone());
        let (listing, logs, runs, ends, damaged) = Default::default();
        Self {
            store,
            place,
            scope,
            memory,
            keys,
            listing,
            files,
            logs,
            binlogs,
            runs,
            ends,
            damaged,
        }
    }

    /// The same, with private keys for what is encrypted.
    #[must_use]
    pub fn with_keys(self, keys: Arc<Keys>) -> Self {
        let files = SmallFiles::new(self.store.clone(), self.place.clone(), keys.clone());
        Self { keys, files, ..self }
    }

    /// The store that is looked at.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    /// Where its log is read from.
    #[must_use]
    pub fn log_source(&self) -> LogSource<'_> {
        LogSource { store: &*self.store, prefix: &self.place.prefix, keys: &self.keys }
    }

    /// Where in it.
    #[must_use]
    pub fn place(&self) -> &BackupPlace {
        &self.place
    }

    /// Lists the repository, as far as `extent` says, and reads its small files. The files of base
    /// backups are also listed when the catalogue has changed since the last look.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read. A missing repository is an empty one.
    pub async fn look(&mut self, extent: Extent) -> Result<Look, StoreError> {
        let mut look = Look::default();
        let changed = self.files.catalogue(&mut look).await?;
        let extent = if changed && extent == Extent::Log { Extent::LogAndBackups } else { extent };
        look.repository = self.listing.refresh(&*self.store, &self.place, extent).await?;
        if extent == Extent::Log && self.files.shows_new_backups(&look.repository) {
            let extent = Extent::LogAndBackups;
            look.repository = self.listing.refresh(&*self.store, &self.place, extent).await?;
        }
        self.files.listed(&mut look).await?;
        Ok(look)
    }

    /// Takes note of the objects, by key, that are known to be damaged: they count as missing, and what
    /// was remembered of them is read anew. Says whether others are damaged than before.
    pub fn heed(&mut self, damaged: BTreeSet<String>) -> bool {
        if damaged == self.damaged {
            return false;
        }
        for key in damaged.difference(&self.damaged) {
            self.files.distrust(key);
            self.binlogs.distrust(key);
            if let Some((archive, place)) = segment_of(&self.place, key)
                && let Some(log) = self.logs.get_mut(&archive)
            {
                log.distrust(place);
            }
        }
        self.runs.clear();
        self.ends.clear();
        self.damaged = damaged;
        true
    }

    /// What a backup of a look of this reader needs, whether its catalogue lists it or not; `None`
    /// when nothing tells.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn needs(
        &mut self,
        repository: &Repository,
        label: &str,
    ) -> Result<Option<NeedsOrWhy>, StoreError> {
        self.files.needs(repository, label).await
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
    pub async fn judge(&mut self, mut look: Look) -> Result<Observed, StoreError> {
        self.find_ends(&mut look).await?;
        self.runs.retain(|label, _| look.backup(label).is_some());
        let mut runs = BTreeMap::new();
        for backup in &look.backups {
            if let Some(run) = self.follow(&look, backup).await? {
                runs.insert(backup.label.clone(), run);
            }
        }
        let chains = self.chains(&look).await?;
        let catalog = build::build(Evidence {
            repository: &look.repository,
            backups: &look.backups,
            needs: &look.needs,
            runs: &runs,
            paths: &look.paths,
            chains: &chains,
            damaged: &self.damaged,
            problems: look.problems.clone(),
        });
        Ok(Observed { look, runs, chains, catalog })
    }

    /// Reads the binary logs behind every backup, and goes along them.
    async fn chains(
        &mut self,
        look: &Look,
    ) -> Result<BTreeMap<String, Arc<ReadChain>>, StoreError> {
        let source =
            LogSource { store: &*self.store, prefix: &self.place.prefix, keys: &self.keys };
        let mut chains = BTreeMap::new();
        for (label, chain) in &look.chains {
            self.binlogs.read(source, &look.repository, chain).await?;
            let chain = self.binlogs.follow(&look.repository, chain.clone(), &self.damaged);
            chains.insert(label.clone(), Arc::new(chain));
        }
        self.binlogs.retain(&look.repository);
        Ok(chains)
    }

    async fn follow(
        &mut self,
        look: &Look,
        backup: &ListedBackup,
    ) -> Result<Option<Arc<IndexedRun>>, StoreError> {
        let Some(name) = backup.archive.clone() else { return Ok(None) };
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
        let source =
            LogSource { store: &*self.store, prefix: &self.place.prefix, keys: &self.keys };
        let log = self.logs.entry(name.clone()).or_insert_with(|| {
            let mut log = LogIndex::open(memory, scope);
            let places = self.damaged.iter().filter_map(|key| segment_of(&self.place, key));
            for (_, place) in places.filter(|(archive, _)| *archive == name) {
                log.distrust(place);
            }
            log
        });
        let size = match log.facts() {
            Some(facts) => facts.segment_size,
            None => {
                let first = archive.get(&backup.archive_start).or_else(|| archive.first());
                match first {
                    None => SegmentSize::DEFAULT,
                    // Without its key its size is not known; that of nearly all clusters is taken.
                    Some(first) => {
                        let plain = read_segment(source, &first).await?;
                        segment_size(&plain.unwrap_or_default())
                    }
                }
            }
        };
        let mut paths = look.paths.get(&name).cloned().unwrap_or_default();
        let run = loop {
            let Some(run) = runs::follow(archive, size, &paths, backup) else { return Ok(None) };
            let key_id = run.stored(0).and_then(|(_, first)| first.key_id);
            if key_id.is_some_and(|key_id| !source.keys.has(&key_id)) {
                break Arc::new(IndexedRun::unread(run));
            }
            let run = log.index(source, run).await?;
            // A timeline may have left the one of the backup just before the backup's end.
            let ended = !backup.ends_in_log || run.consistent_at(backup).is_some();
            let before = paths.len();
            paths.retain(|path| path.target() != run.run.timeline);
            if ended || paths.len() == before {
                break Arc::new(run);
            }
        };
        let known = KnownRun { generation, backup: backup.clone(), run: run.clone() };
        self.runs.insert(backup.label.clone(), known);
        Ok(Some(run))
    }

    /// The index of an archive's log.
    #[must_use]
    pub fn log(&self, archive: &str) -> Option<&LogIndex> {
        self.logs.get(archive)
    }
}

/// The archive and the place of a segment, when the key is of one.
fn segment_of(place: &BackupPlace, key: &str) -> Option<(String, Place)> {
    match place.format.role(key) {
        Role::Segment { archive, name, .. } | Role::NamedSegment { archive, name } => {
            Some((archive, Place::parse(&name)?))
        }
        Role::History { .. }
        | Role::Marker { .. }
        | Role::Data { .. }
        | Role::Binlog { .. }
        | Role::Shared
        | Role::Other => None,
    }
}

/// The segment size that a segment's own header names.
fn segment_size(plain: &[u8]) -> SegmentSize {
    PageHeader::read(plain)
        .and_then(|header| header.long)
        .and_then(|long| SegmentSize::new(long.segment_bytes))
        .unwrap_or(SegmentSize::DEFAULT)
}
