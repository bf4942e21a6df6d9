//! The notes of MySQL's and MariaDB's backups, each read once until it changes.

use crate::{
    engine::catalog::{
        files::{NeedsOrWhy, SmallFiles},
        observe::Look,
        repository::Repository,
    },
    layout::{
        BackupFormat,
        binlogs::NotedBackup,
        myhoard::{
            keys::{Role, role},
            streams::{self, Notes},
        },
        stream::noted,
    },
    store::{StoreError, UserMetadata},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap};

/// Notes that are read at the same time.
const READ_AT_ONCE: usize = 32;

/// What was read of small objects, by key, with the version that was read.
#[derive(Debug, Default)]
pub(super) struct KnownNotes {
    texts: HashMap<String, (u64, Bytes)>,
    metadata: HashMap<String, (u64, UserMetadata)>,
    needs: HashMap<String, NeedsOrWhy>,
}

impl KnownNotes {
    pub(super) fn distrust(&mut self, key: &str) {
        self.texts.remove(key);
        self.metadata.remove(key);
    }

    fn texts(&self) -> BTreeMap<&str, &[u8]> {
        self.texts.iter().map(|(key, (_, text))| (key.as_str(), &**text)).collect()
    }

    /// What a backup of the last look needs.
    pub(super) fn needs(&self, label: &str) -> Option<NeedsOrWhy> {
        self.needs.get(label).cloned()
    }
}

impl SmallFiles {
    /// Reads the notes of a listing, which say what backups there are and what is behind each.
    pub(super) async fn noted(&mut self, look: &mut Look) -> Result<(), StoreError> {
        let repository = look.repository.clone();
        self.notes.texts.retain(|key, _| repository.contains(key));
        self.notes.metadata.retain(|key, _| repository.contains(key));
        let objects = repository.others().map(|(key, found)| (key.as_str(), found.size_bytes));
        let (backups, problems) = match self.place.format.clone() {
            BackupFormat::PgBackRest { .. } | BackupFormat::PgHoard => return Ok(()),
            BackupFormat::MyHoard { key_id } => {
                self.texts(&repository, |key| role(key).is_note()).await?;
                self.metadata(&repository, |key| matches!(role(key), Role::Binlog { .. })).await?;
                let metadata = self.notes.metadata.iter();
                let notes = Notes {
                    texts: self.notes.texts(),
                    metadata: metadata.map(|(key, (_, data))| (key.as_str(), data)).collect(),
                };
                streams::read(objects, &notes, key_id.as_deref())
            }
            BackupFormat::Stream => {
                self.texts(&repository, noted::is_note).await?;
                noted::read(&objects.collect::<Vec<_>>(), &self.notes.texts())
            }
        };
        look.problems.extend(problems);
        let texts = self.notes.texts.iter();
        look.notes = texts.map(|(key, (_, text))| (key.clone(), text.clone())).collect();
        self.notes.needs.clear();
        for NotedBackup { listed, needs, chain } in backups {
            look.needs.insert(listed.label.clone(), needs.clone());
            self.notes.needs.insert(listed.label.clone(), needs);
            look.chains.insert(listed.label.clone(), chain.into());
            look.backups.push(listed);
        }
        Ok(())
    }

    async fn texts(
        &mut self,
        repository: &Repository,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        let unread = unread(repository, &self.notes.texts, wanted);
        let this = &*self;
        let read: Vec<_> = stream::iter(unread)
            .map(|(key, version)| async move { Ok((this.fetch(&key).await?, key, version)) })
            .buffer_unordered(READ_AT_ONCE)
            .try_collect::<Vec<(Option<Bytes>, String, u64)>>()
            .await?;
        for (text, key, version) in read {
            // What has disappeared is missing in the next listing.
            self.notes.texts.insert(key, (version, text.unwrap_or_default()));
        }
        Ok(())
    }

    async fn metadata(
        &mut self,
        repository: &Repository,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        let unread = unread(repository, &self.notes.metadata, wanted);
        let (store, place) = (&self.store, &self.place);
        let read: Vec<_> = stream::iter(unread)
            .map(|(key, version)| async move {
                let Ok(full) = place.prefix.join(&key) else { return Ok(None) };
                match store.user_metadata(&full).await {
                    // A directory shows an object before the file with its metadata: asked again.
                    Ok(metadata) if metadata.is_empty() => Ok(None),
                    Ok(metadata) => Ok(Some((key, version, metadata))),
                    Err(StoreError::NotFound(_)) => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(READ_AT_ONCE)
            .try_collect::<Vec<Option<(String, u64, UserMetadata)>>>()
            .await?;
        for (key, version, metadata) in read.into_iter().flatten() {
            self.notes.metadata.insert(key, (version, metadata));
        }
        Ok(())
    }
}

/// Keys and versions of the wanted objects that were not read in their present version.
fn unread<T>(
    repository: &Repository,
    known: &HashMap<String, (u64, T)>,
    wanted: impl Fn(&str) -> bool,
) -> Vec<(String, u64)> {
    let wanted = repository.others().filter(|(key, _)| wanted(key));
    let unread = wanted
        .filter(|(key, found)| known.get(*key).is_none_or(|(then, _)| *then != found.version));
    unread.map(|(key, found)| (key.clone(), found.version)).collect()
}
