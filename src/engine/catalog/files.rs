//! The small files of a repository, which say what backups there are and what each of them needs.

use crate::{
    engine::catalog::{archive::Archive, observe::Look, repository::Repository},
    layout::{
        BackupFormat, BackupPlace,
        backup::Needs,
        pgbackrest::{
            backup_info::{self, BackupInfo, Cluster},
            keys, manifest,
        },
    },
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
    histories: HashMap<String, (u64, Bytes)>,
    needs: HashMap<String, (u64, NeedsOrWhy)>,
}

impl SmallFiles {
    /// Of `place` in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn BlobStore>, place: BackupPlace) -> Self {
        let (histories, needs) = Default::default();
        Self { store, place, last_catalogue: None, histories, needs }
    }

    /// Reads the catalogue, which comes before the listing: what it lists was there by then. Says
    /// whether it has changed, so that the files of base backups are to be listed.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read. A missing catalogue lists nothing.
    pub async fn catalogue(&mut self, look: &mut Look) -> Result<bool, StoreError> {
        let BackupFormat::PgBackRest { stanza } = &self.place.format;
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

    /// Reads what the listing has shown: manifests and timeline histories.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn listed(&mut self, look: &mut Look) -> Result<(), StoreError> {
        let repository = look.repository.clone();
        self.histories.retain(|key, _| repository.contains(key));
        self.needs.retain(|key, _| repository.contains(key));
        for at in 0..look.backups.len() {
            let label = look.backups[at].label.clone();
            if let Some(needs) = self.needs(&repository, &label).await? {
                look.needs.insert(label, needs);
            }
        }
        for (name, archive) in &repository.archives {
            let paths = self.paths(&repository, archive, &mut look.problems).await?;
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
        let BackupFormat::PgBackRest { stanza } = &self.place.format;
        let key = keys::manifest(stanza, label);
        let Some(found) = repository.get(&key) else { return Ok(None) };
        let now = found.version;
        if let Some((then, known)) = self.needs.get(&key)
            && *then == now
        {
            return Ok(Some(known.clone()));
        }
        let Some(bytes) = self.fetch(&key).await? else { return Ok(None) };
        let read = manifest::needs(stanza, label, &bytes).map(Arc::new).map_err(|e| e.to_string());
        self.needs.insert(key, (now, read.clone()));
        Ok(Some(read))
    }

    /// The object with this key is to be read anew.
    pub fn distrust(&mut self, key: &str) {
        self.needs.remove(key);
        self.histories.remove(key);
    }

    /// The ways to all timelines of an archive.
    async fn paths(
        &mut self,
        repository: &Repository,
        archive: &Archive,
        problems: &mut Vec<String>,
    ) -> Result<Vec<TimelinePath>, StoreError> {
        let mut paths = Vec::new();
        for (timeline, key) in &archive.histories {
            let now = repository.get(key).map(|found| found.version).unwrap_or_default();
            let known = self.histories.get(key).filter(|(then, _)| *then == now);
            let bytes = match known {
                Some((_, bytes)) => bytes.clone(),
                None => match self.fetch(key).await? {
                    Some(bytes) => bytes,
                    None => {
                        problems.push(format!("{} has disappeared", timeline.history_file()));
                        continue;
                    }
                },
            };
            self.histories.insert(key.clone(), (now, bytes.clone()));
            match TimelinePath::parse(*timeline, &String::from_utf8_lossy(&bytes)) {
                Ok(path) => paths.push(path),
                Err(error) => problems.push(error.to_string()),
            }
        }
        Ok(paths)
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
