//! A directory as a store.
//!
//! An object is written under a name of its own below `.btar-staging`, synced, and only then linked
//! or renamed to its key: nobody sees a part of it, whenever the process or the machine dies.
//! Symbolic links are not followed and not listed (pgBackRest's `latest` is one). Plain files have
//! no user metadata: writing any is refused.

use crate::store::{BlobStore, Body, Object, ObjectMeta, PutMode, StoreError, key::Key};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

const STAGING: &str = ".btar-staging";
const PIECE_BYTES: usize = 1 << 20;

/// A store whose keys are files below one directory.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    name: String,
}

impl LocalStore {
    /// A store below `root`, which must exist when it is used.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let name = format!("file://{}", root.display());
        Self { root, name }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "every other kind is one and the same case")]
    fn fault(&self, doing: &'static str, key: &Key, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::NotFound if self.root.is_dir() => StoreError::NotFound(key.clone()),
            io::ErrorKind::AlreadyExists => StoreError::AlreadyExists(key.clone()),
            io::ErrorKind::PermissionDenied => {
                StoreError::Denied { store: self.name.clone(), key: key.clone() }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::NoSpace { store: self.name.clone(), key: key.clone() }
            }
            _ => StoreError::Unavailable {
                store: self.name.clone(),
                doing,
                key: key.clone(),
                source: if self.root.is_dir() {
                    error.into()
                } else {
                    format!("the directory {} does not exist", self.root.display()).into()
                },
            },
        }
    }

    /// Writes a staged file and gives its path.
    async fn stage(
        &self,
        key: &Key,
        size_bytes: u64,
        mut body: Body,
    ) -> Result<PathBuf, StoreError> {
        let fault = |error| self.fault("writing", key, error);
        if !self.root.is_dir() {
            return Err(fault(io::ErrorKind::NotFound.into()));
        }
        let staging = self.root.join(STAGING);
        make_dirs(&self.root, &staging).map_err(fault)?;
        let staged = staging.join(format!("{:032x}", rand::random::<u128>()));
        let guard = Staged(staged.clone());
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&staged);
        let mut file = tokio::fs::File::from_std(file.map_err(fault)?);
        let mut written = 0;
        while let Some(piece) = body.try_next().await? {
            written += piece.len() as u64;
            file.write_all(&piece).await.map_err(fault)?;
        }
        if written != size_bytes {
            let what = format!("the contents ended after {written} of {size_bytes} bytes");
            return Err(fault(io::Error::other(what)));
        }
        file.flush().await.map_err(fault)?;
        file.sync_all().await.map_err(fault)?;
        std::mem::forget(guard);
        Ok(staged)
    }
}

/// Removes a staged file unless it was taken over.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        // What cannot be removed stays below the staging directory and is never listed.
        let _ = fs::remove_file(&self.0);
    }
}

#[async_trait]
impl BlobStore for LocalStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let (root, prefix, after) = (self.root.clone(), prefix.clone(), after.cloned());
        let store = Self::new(root);
        let walked = tokio::task::spawn_blocking(move || {
            if !store.root.is_dir() {
                return Err(store.fault("listing", &prefix, io::ErrorKind::NotFound.into()));
            }
            let mut found = Vec::new();
            walk(&store.root, &prefix, &mut found)
                .map_err(|error| store.fault("listing", &prefix, error))?;
            found.retain(|meta: &ObjectMeta| after.as_ref().is_none_or(|after| meta.key > *after));
            found.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(found)
        });
        stream::once(async move { walked.await.expect("listing a directory does not panic") })
            .map_ok(|found| stream::iter(found.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        let meta = fs::metadata(self.path(key)).map_err(|e| self.fault("looking at", key, e))?;
        if meta.is_dir() {
            return Err(StoreError::NotFound(key.clone()));
        }
        Ok(describe(key.clone(), &meta))
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let fault = |error| self.fault("reading", key, error);
        let file = tokio::fs::File::open(self.path(key)).await.map_err(fault)?;
        let meta = file.metadata().await.map_err(fault)?;
        if meta.is_dir() {
            return Err(StoreError::NotFound(key.clone()));
        }
        let (store, name) = (Self::new(self.root.clone()), key.clone());
        let body = ReaderStream::with_capacity(file, PIECE_BYTES)
            .map_err(move |error| store.fault("reading", &name, error))
            .boxed();
        Ok(Object { meta: describe(key.clone(), &meta), user_metadata: BTreeMap::new(), body })
    }

    async fn put(
        &self,
        key: &Key,
        size_bytes: u64,
        user_metadata: &BTreeMap<String, String>,
        body: Body,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        let fault = |error| self.fault("writing", key, error);
        if !user_metadata.is_empty() {
            return Err(fault(io::Error::other("a directory cannot hold user metadata")));
        }
        let path = self.path(key);
        if mode == PutMode::IfAbsent && path.exists() {
            return Err(StoreError::AlreadyExists(key.clone()));
        }
        let staged = Staged(self.stage(key, size_bytes, body).await?);
        let parent = path.parent().unwrap_or(&self.root).to_owned();
        let place = || {
            make_dirs(&self.root, &parent)?;
            match mode {
                PutMode::IfAbsent => fs::hard_link(&staged.0, &path),
                PutMode::Replace => fs::rename(&staged.0, &path),
            }
        };
        // A deletion may take the directory away between its making and its use: once more, then.
        place()
            .or_else(|e| if e.kind() == io::ErrorKind::NotFound { place() } else { Err(e) })
            .map_err(fault)?;
        sync_dir(&parent).map_err(fault)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let path = self.path(key);
        let removed = fs::remove_file(&path).map_err(|e| self.fault("deleting", key, e));
        // Directories are no objects: those that hold nothing any more go, too.
        for dir in path.ancestors().skip(1).take_while(|dir| *dir != self.root) {
            if fs::remove_dir(dir).is_err() {
                break;
            }
        }
        if matches!(removed, Err(StoreError::NotFound(_))) { Ok(()) } else { removed }
    }

    fn local_root(&self) -> Option<PathBuf> {
        Some(self.root.clone())
    }
}

/// Collects the files at or below `prefix`. What disappears meanwhile is left out.
fn walk(root: &Path, prefix: &Key, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
    let mut open = vec![prefix.clone()];
    while let Some(key) = open.pop() {
        let entries = match fs::read_dir(root.join(key.as_str())) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(child) = name.to_str().and_then(|name| key.join(name).ok()) else {
                continue; // Not a key: no tool of ours wrote it.
            };
            if child.as_str() == STAGING {
                continue;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(child),
                Ok(meta) if meta.is_file() => found.push(describe(child, &meta)),
                Ok(_) => {} // Symbolic links, sockets.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn describe(key: Key, meta: &fs::Metadata) -> ObjectMeta {
    let modified_at = meta.modified().map_or(DateTime::<Utc>::UNIX_EPOCH, DateTime::from);
    let etag = format!("{:x}-{:x}-{:x}", meta.ino(), meta.mtime(), meta.mtime_nsec());
    ObjectMeta { key, size_bytes: meta.len(), modified_at, etag: Some(etag) }
}

/// Makes `dir` and its parents below `root`, and syncs the directories that got a new entry.
fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    if dir.is_dir() || dir == root {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(root);
    make_dirs(root, parent)?;
    match fs::DirBuilder::new().mode(0o750).create(dir) {
        Ok(()) => sync_dir(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
