//! What PGHoard's index objects and history files say, each read once until it changes.

use crate::{
    domain::lsn::Lsn,
    engine::{
        catalog::{
            files::{History, NeedsOrWhy, SMALL_FILE_BYTES_MAX, SmallFiles},
            observe::Look,
            repository::Repository,
            segment::Found,
        },
        error::chain,
    },
    layout::{
        backup::{ExpectedSize, ListedBackup, LogPlace, Needs},
        pghoard::{
            keys::{self, LOG, Role},
            metadata::{BackupFormat, BackupMetadata, Coding, SegmentCoding},
            needs::{self, Completeness, Listing, Needed},
        },
    },
    restore::index_object::{self, INDEX_BYTES_MAX},
    sealed::{
        SealedError,
        envelope::{HEAD, Unsealing},
        segment::open_history,
        small::open_bytes,
    },
    store::{StoreError, key::Key, read_all},
};
use std::{collections::BTreeMap, sync::Arc};

/// As much of an encrypted object as tells whether a key fits it, in bytes.
const SEALED_HEAD_BYTES: u64 = 4096;

/// What an index object says.
#[derive(Clone, Debug)]
pub(super) struct KnownIndex {
    version: u64,
    backup: String,
    metadata: Arc<BackupMetadata>,
    /// Everything that the base backup needs; `None` without the key that would tell.
    needed: Option<Arc<[Needed]>>,
    /// Name of the key that is needed and not configured.
    lacks_key: Option<String>,
}

/// Why an index object says nothing.
struct Unusable {
    /// For people.
    what: String,
    /// Name of the private key that was given and does not fit.
    wrong_key: Option<String>,
}

impl<T: Into<String>> From<T> for Unusable {
    fn from(what: T) -> Self {
        Self { what: what.into(), wrong_key: None }
    }
}

impl Unusable {
    fn sealed(error: &SealedError) -> Self {
        let wrong_key = error.wrong_key().map(str::to_owned);
        Self { what: chain(error), wrong_key }
    }
}

impl KnownIndex {
    /// Whether it was read from this very object.
    pub(super) fn is_of(&self, found: &Found) -> bool {
        self.version == found.version
    }
}

/// The index objects of a listing.
pub(super) fn index_objects(repository: &Repository) -> impl Iterator<Item = (&String, &Found)> {
    let below = repository.others_below("basebackup/");
    below.filter(|(key, _)| matches!(keys::role(key), Role::Index { .. }))
}

impl SmallFiles {
    /// Reads the index objects, which say what backups there are.
    pub(super) async fn indexes(&mut self, look: &mut Look) -> Result<(), StoreError> {
        let repository = look.repository.clone();
        self.indexes.retain(|key, _| repository.contains(key));
        for (key, found) in index_objects(&repository) {
            if self.indexes.get(key).is_none_or(|known| !known.is_of(found)) {
                match self.index(key, found).await? {
                    Ok(known) => drop(self.indexes.insert(key.clone(), known)),
                    // Not kept: its metadata may still be on their way.
                    Err(Unusable { what, wrong_key }) => {
                        self.indexes.remove(key);
                        look.problems.push(format!("base backup {key} cannot be used: {what}"));
                        if let (Some(key_id), Role::Index { backup }) = (wrong_key, keys::role(key))
                        {
                            look.wrong_keys.insert(backup, key_id);
                        }
                    }
                }
            }
        }
        for known in self.indexes.values() {
            let (backup, says_its_end) = listed(known);
            if says_its_end { look.backups.push(backup) } else { look.endless.push(backup) }
        }
        look.sort_backups();
        let histories = repository.archives.get(LOG).map(|log| &log.histories);
        // Where the first one begins is nobody's concern: nothing before it is here.
        let timelines = repository.archives.get(LOG).into_iter().flat_map(|log| log.timelines());
        for timeline in timelines.skip(1) {
            if histories.is_none_or(|known| !known.contains_key(&timeline)) {
                look.problems.push(format!(
                    "{} is missing: WAL segments of timeline {} are stored, and without it nobody \
                     knows where that timeline begins",
                    timeline.history_file(),
                    timeline.0
                ));
            }
        }
        Ok(())
    }

    /// What one index object says; or why it says nothing.
    async fn index(
        &self,
        key: &str,
        found: &Found,
    ) -> Result<Result<KnownIndex, Unusable>, StoreError> {
        let Role::Index { backup } = keys::role(key) else { return Ok(Err("its name".into())) };
        let Ok(full) = self.place.prefix.join(key) else { return Ok(Err("its name".into())) };
        let raw = match self.store.user_metadata(&full).await {
            Ok(raw) => raw,
            Err(StoreError::NotFound(_)) => return Ok(Err("it has disappeared".into())),
            Err(error) => return Err(error),
        };
        let metadata = match BackupMetadata::of(&raw) {
            Ok(metadata) => metadata,
            Err(error) => return Ok(Err(error.to_string().into())),
        };
        if metadata.coding.stored_bytes.is_some_and(|stored| stored != found.size_bytes) {
            return Ok(Err("it is truncated, or not written to its end".into()));
        }
        let one_file = match metadata.format {
            BackupFormat::Raw | BackupFormat::WholeTar => true,
            BackupFormat::Chunks | BackupFormat::Delta => false,
        };
        let lacks_key = metadata.coding.key_id.clone().filter(|key_id| !self.keys.has(key_id));
        let needed = match (one_file, lacks_key.is_none()) {
            (true, false) => Some(Vec::new()),
            (true, true) => match self.fits(&full, found.size_bytes, &metadata.coding).await? {
                Ok(()) => Some(Vec::new()),
                Err(unusable) => return Ok(Err(unusable)),
            },
            (false, false) => None,
            (false, true) => match read_all(&*self.store, &full, SMALL_FILE_BYTES_MAX).await {
                Ok((_, object)) => {
                    let (key, name) = (key.to_owned(), backup.clone());
                    let (coding, keys) = (metadata.coding.clone(), self.keys.clone());
                    let read = tokio::task::spawn_blocking(move || {
                        let tar = open_bytes(&object, &coding, &keys, INDEX_BYTES_MAX)
                            .map_err(|error| Unusable::sealed(&error))?;
                        let index = index_object::read(&key, &name, &tar);
                        let index = index.map_err(|error| chain(&error))?;
                        Ok::<_, Unusable>(needs::by_index(&index.metadata))
                    });
                    match read.await.expect("the reader of an index does not panic") {
                        Ok(needed) => Some(needed),
                        Err(unusable) => return Ok(Err(unusable)),
                    }
                }
                Err(StoreError::NotFound(_)) => return Ok(Err("it has disappeared".into())),
                Err(error) => return Err(error),
            },
        };
        let (metadata, needed) = (Arc::new(metadata), needed.map(Into::into));
        Ok(Ok(KnownIndex { version: found.version, backup, metadata, needed, lacks_key }))
    }

    /// Whether the private key of a base backup in one file is the right one: nothing else of the
    /// file is read before a fork.
    async fn fits(
        &self,
        key: &Key,
        size_bytes: u64,
        coding: &Coding,
    ) -> Result<Result<(), Unusable>, StoreError> {
        let Some(key_id) = &coding.key_id else { return Ok(Ok(())) };
        let head = match self.store.get_range(key, 0..size_bytes.min(SEALED_HEAD_BYTES)).await {
            Ok((_, head)) => head,
            Err(StoreError::NotFound(_)) => return Ok(Err("it has disappeared".into())),
            Err(error) => return Err(error),
        };
        let (first, rest) = head.split_at(head.len().min(HEAD));
        let opened = Unsealing::begin(first, rest, key_id, &self.keys);
        Ok(opened.map(drop).map_err(|error| Unusable::sealed(&error)))
    }

    /// What a base backup of the site needs.
    pub(super) fn needs_of_site(&self, repository: &Repository, label: &str) -> Option<NeedsOrWhy> {
        let (key, known) = self.indexes.iter().find(|(_, known)| known.backup == label)?;
        let said_by = Some(key.clone());
        let log =
            Some(LogPlace { archive: LOG.to_owned(), start: known.metadata.start_segment.clone() });
        if let Some(needed) = &known.needed {
            let expected = |object: &Needed| {
                let size =
                    object.stored_bytes.map_or(ExpectedSize::AtLeast(0), ExpectedSize::Exactly);
                (object.key.clone(), size)
            };
            let objects = needed.iter().map(expected).collect();
            return Some(Ok(Arc::new(Needs { objects, log, said_by, ..Needs::default() })));
        }
        // Without the key, the listing alone tells.
        let mut listing = Listing::new();
        for prefix in [keys::chunks_of(label), keys::delta_chunks_of(label)] {
            let below = format!("{prefix}/");
            let found = repository.others_below(&below);
            listing.extend(found.map(|(key, found)| (key.clone(), found.size_bytes)));
        }
        match needs::by_listing(label, &known.metadata, &listing) {
            Completeness::Incomplete(faults) => {
                let what: Vec<String> = faults.iter().map(ToString::to_string).collect();
                Some(Err(what.join(", ")))
            }
            Completeness::Complete | Completeness::NeedsKey => {
                let exactly = |(key, size)| (key, ExpectedSize::Exactly(size));
                let objects: BTreeMap<_, _> = listing.into_iter().map(exactly).collect();
                Some(Ok(Arc::new(Needs { objects, log, said_by, ..Needs::default() })))
            }
        }
    }

    /// A history file of the site; or what is wrong with it.
    pub(super) async fn history_of_site(
        &self,
        key: &str,
    ) -> Result<Result<History, String>, StoreError> {
        let gone = || Ok(Err("has disappeared".to_owned()));
        let Ok(full) = self.place.prefix.join(key) else { return gone() };
        let object = match read_all(&*self.store, &full, SMALL_FILE_BYTES_MAX).await {
            Ok((_, object)) => object,
            Err(StoreError::NotFound(_)) => return gone(),
            Err(error) => return Err(error),
        };
        let raw = self.store.user_metadata(&full).await?;
        let read = SegmentCoding::of(&raw).map_err(|error| error.to_string()).and_then(|coding| {
            let text = open_history(&object, &coding, &self.keys).map_err(|error| chain(&error))?;
            let (codec, key_id) = (coding.coding.compression.into(), coding.coding.key_id);
            Ok(History { text: text.into(), codec, key_id })
        });
        Ok(read.map_err(|what| format!("cannot be read: {what}")))
    }
}

/// The base backup of an index object, and whether that tells when it ended.
fn listed(known: &KnownIndex) -> (ListedBackup, bool) {
    let metadata = &known.metadata;
    // Only the log knows where in its last segment the backup ended.
    let stop = metadata.end_segment.as_ref().unwrap_or(&metadata.start_segment);
    let backup = ListedBackup {
        label: known.backup.clone(),
        archive: Some(LOG.to_owned()),
        archive_start: metadata.start_segment.clone(),
        archive_stop: stop.clone(),
        lsn_stop: Lsn(0),
        ends_in_log: true,
        started_at: metadata.started_at,
        finished_at: metadata.finished_at.unwrap_or(metadata.started_at),
        size_bytes: metadata.total_plain_bytes.unwrap_or(0),
        stored_bytes: metadata.total_stored_bytes.unwrap_or(0),
        references: Vec::new(),
        lacks_key: known.lacks_key.clone(),
    };
    (backup, metadata.finished_at.is_some())
}
