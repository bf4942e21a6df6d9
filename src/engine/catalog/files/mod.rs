//! The small files of a repository, which say what backups there are and what each of them needs.

mod noted;
mod pghoard;

use crate::{
    domain::recovery::Codec,
    engine::catalog::{
        archive::Archive,
        files::{noted::KnownNotes, pghoard::KnownIndex},
        observe::Look,
        repository::Repository,
    },
    layout::{
        BackupFormat, BackupPlace,
        backup::Needs,
        pgbackrest::{
            backup_info::{self, BackupInfo, Cluster},
            keys, manifest,
        },
    },
    sealed::keys::Keys,
    store::{BlobStore, StoreError, key::Key, read_all},
    wal::timeline::TimelinePath,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Largest catalogue or manifest that is read, in bytes.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 29;

/// The files that change while a repository lives, as they were *before* it was listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MutableFiles {
    /// The bytes of pgBackRest's `backup.info`.
    pub backup_info: Option<Bytes>,
    /// The bytes of pgBackRest's `archive.info`.
    pub archive_info: Option<Bytes>,
    /// The clusters that `backup.info` knows.
    pub clusters: BTreeMap<u32, Cluster>,
}

impl MutableFiles {
    /// The clusters that `archive.info` knows; `None` when it cannot be read.
    #[must_use]
    pub fn archive_clusters(&self) -> Option<BTreeMap<u32, Cluster>> {
        backup_info::read_archive_info(self.archive_info.as_ref()?).ok()
    }
}

/// What a backup needs, or why that cannot be read.
pub type NeedsOrWhy = Result<Arc<Needs>, String>;

/// Reads the small files of one repository, each once until it changes.
#[derive(Debug)]
pub struct SmallFiles {
    store: Arc<dyn BlobStore>,
    place: BackupPlace,
    last_catalogue: Option<Bytes>,
    keys: Arc<Keys>,
    histories: HashMap<String, (u64, History)>,
    needs: HashMap<String, (u64, NeedsOrWhy)>,
    /// PGHoard's index objects.
    indexes: HashMap<String, KnownIndex>,
    /// The notes of MySQL's backups.
    notes: KnownNotes,
}

/// A history file.
#[derive(Clone, Debug)]
struct History {
    text: Bytes,
    codec: Codec,
    key_id: Option<String>,
}

impl SmallFiles {
    /// Of `place` in `store`; `keys` are for what is encrypted.
    #[must_use]
    pub fn new(store: Arc<dyn BlobStore>, place: BackupPlace, keys: Arc<Keys>) -> Self {
        let (histories, needs, indexes, notes) = Default::default();
        Self { store, place, last_catalogue: None, keys, histories, needs, indexes, notes }
    }

    /// Reads the catalogue, which comes before the listing: what it lists was there by then. Says
    /// whether it has changed, so that the files of base backups are to be listed.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read. A missing catalogue lists nothing.
    pub async fn catalogue(&mut self, look: &mut Look) -> Result<bool, StoreError> {
        let BackupFormat::PgBackRest { stanza } = &self.place.format else { return Ok(false) };
        let main = keys::backup_info(stanza);
        let archive_info = keys::archive_info(stanza);
        for file in [main.clone(), format!("{main}.copy")] {
            let Some(bytes) = self.fetch(&file).await? else { continue };
            match BackupInfo::read(&bytes) {
                Ok(info) => {
                    (look.backups, look.files.clusters) = (info.backups, info.clusters);
                    look.files.backup_info = Some(bytes);
                    break;
                }
                Err(error) => look.problems.push(error.to_string()),
            }
        }
        look.files.archive_info = self.fetch(&archive_info).await?;
        let changed = look.files.backup_info != self.last_catalogue;
        self.last_catalogue.clone_from(&look.files.backup_info);
        Ok(changed)
    }

    /// Whether a listing shows backups that were not there the last time, so that their objects are
    /// to be listed. Only where no catalogue tells.
    #[must_use]
    pub fn shows_new_backups(&self, repository: &Repository) -> bool {
        match &self.place.format {
            // Of these everything is listed each time.
            BackupFormat::PgBackRest { .. }
            | BackupFormat::MyHoard { .. }
            | BackupFormat::Stream => false,
            BackupFormat::PgHoard => pghoard::index_objects(repository)
                .any(|(key, found)| self.indexes.get(key).is_none_or(|known| !known.is_of(found))),
        }
    }

    /// Reads what the listing has shown: manifests and timeline histories.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn listed(&mut self, look: &mut Look) -> Result<(), StoreError> {
        let repository = look.repository.clone();
        self.histories.retain(|key, _| repository.contains(key));
        self.needs.retain(|key, _| repository.contains(key));
        match self.place.format {
            BackupFormat::PgBackRest { .. } => {}
            BackupFormat::PgHoard => self.indexes(look).await?,
            BackupFormat::MyHoard { .. } | BackupFormat::Stream => {
                return self.noted(look).await;
            }
        }
        let labels: Vec<String> = look.all_backups().map(|backup| backup.label.clone()).collect();
        for label in labels {
            if let Some(needs) = self.needs(&repository, &label).await? {
                look.needs.insert(label, needs);
            }
        }
        for (name, archive) in &repository.archives {
            let paths = self.paths(archive, look).await?;
            look.paths.insert(name.clone(), paths);
        }
        Ok(())
    }

    /// What a backup needs, whether the catalogue lists it or not; `None` without a manifest.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn needs(
        &mut self,
        repository: &Repository,
        label: &str,
    ) -> Result<Option<NeedsOrWhy>, StoreError> {
        let stanza = match &self.place.format {
            BackupFormat::PgBackRest { stanza } => stanza,
            BackupFormat::PgHoard => return Ok(self.needs_of_site(repository, label)),
            BackupFormat::MyHoard { .. } | BackupFormat::Stream => {
                return Ok(self.notes.needs(label));
            }
        };
        let key = keys::manifest(stanza, label);
        let Some(found) = repository.get(&key) else { return Ok(None) };
        let now = found.version;
        if let Some((then, known)) = self.needs.get(&key)
            && *then == now
        {
            return Ok(Some(known.clone()));
        }
        let Some(bytes) = self.fetch(&key).await? else { return Ok(None) };
        let mut read = manifest::needs(stanza, label, &bytes);
        if read.is_err() {
            // It may have been read wrong, which must not be remembered.
            let Some(again) = self.fetch(&key).await? else { return Ok(None) };
            if again != bytes {
                read = manifest::needs(stanza, label, &again);
            }
        }
        let read = read.map(Arc::new).map_err(|error| error.to_string());
        self.needs.insert(key, (now, read.clone()));
        Ok(Some(read))
    }

    /// The object with this key is to be read anew.
    pub fn distrust(&mut self, key: &str) {
        self.needs.remove(key);
        self.histories.remove(key);
        self.indexes.remove(key);
        self.notes.distrust(key);
    }

    /// The ways to all timelines of an archive.
    async fn paths(
        &mut self,
        archive: &Archive,
        look: &mut Look,
    ) -> Result<Vec<TimelinePath>, StoreError> {
        let mut paths = Vec::new();
        for (timeline, key) in &archive.histories {
            let now = look.repository.get(key).map(|found| found.version).unwrap_or_default();
            let known = self.histories.get(key).filter(|(then, _)| *then == now);
            let history = match known {
                Some((_, history)) => history.clone(),
                None => match self.history(key).await? {
                    Ok(history) => history,
                    Err(what) => {
                        look.problems.push(format!("{} {what}", timeline.history_file()));
                        continue;
                    }
                },
            };
            let History { text, codec, key_id } = history.clone();
            self.histories.insert(key.clone(), (now, history));
            look.history_codings.insert(key.clone(), (codec, key_id));
            match TimelinePath::parse(*timeline, &String::from_utf8_lossy(&text)) {
                Ok(path) => paths.push(path),
                Err(error) => look.problems.push(error.to_string()),
            }
        }
        Ok(paths)
    }

    /// A history file; or what is wrong with it.
    async fn history(&self, key: &str) -> Result<Result<History, String>, StoreError> {
        match &self.place.format {
            BackupFormat::PgBackRest { .. } => {
                let text = self.fetch(key).await?.ok_or_else(|| "has disappeared".to_owned());
                Ok(text.map(|text| History { text, codec: Codec::None, key_id: None }))
            }
            BackupFormat::PgHoard => self.history_of_site(key).await,
            BackupFormat::MyHoard { .. } | BackupFormat::Stream => {
                Ok(Err("is none of MySQL's".to_owned()))
            }
        }
    }

    async fn fetch(&self, file: &str) -> Result<Option<Bytes>, StoreError> {
        let Ok(key) = self.place.prefix.join(file) else { return Ok(None) };
        read_small(&*self.store, &key).await
    }
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
