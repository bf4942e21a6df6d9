//! One base backup at a time on a machine, and what one that died has left behind.
//!
//! A file in the state directory is locked while a base backup is made, and names it. Whoever gets the
//! lock and finds a name knows that its push is dead, and removes its parts at once. Parts of pushes on
//! other machines are removed when the newest of them is a day old and there is no manifest.

use crate::{
    layout::stream::keys::{self, Role},
    push::{error::PushError, stored::Place},
    store::key::Key,
    sys::clock::Clock,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use rustix::fs::{FlockOperation, flock};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use tracing::info;

/// A push that has not stored a part for so long is dead.
const DEAD_AFTER: TimeDelta = TimeDelta::hours(24);
/// How the directories that CLONE makes are called.
const CLONE_PREFIX: &str = "btar-push-";

/// The right to make a base backup on this machine, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    /// The base backup that was being made when its push died.
    pub(super) dead: Option<String>,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`PushError::Running`], [`PushError::File`].
    pub(super) fn take(dir: &Path) -> Result<Self, PushError> {
        fs::create_dir_all(dir).map_err(PushError::file("making", dir))?;
        let path = dir.join("base.lock");
        let fault = |doing| PushError::file(doing, &path);
        let mut options = File::options();
        options.create(true).read(true).write(true).truncate(false);
        let mut file = options.open(&path).map_err(fault("opening"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PushError::Running),
            Err(error) => return Err(fault("locking")(error.into())),
        }
        let mut text = String::new();
        // What is no label is none: it was cut when the machine died.
        let _ = (&mut file).take(100).read_to_string(&mut text).map_err(fault("reading"))?;
        let dead = Some(text).filter(|text| keys::label_time(text).is_some());
        Ok(Self { file, path, dead })
    }

    /// Names the base backup that is made; `""` for none any more.
    ///
    /// # Errors
    /// [`PushError::File`].
    pub(super) fn name(&mut self, label: &str) -> Result<(), PushError> {
        let mut write = || {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(label.as_bytes())?;
            self.file.sync_all()
        };
        write().map_err(PushError::file("writing", &self.path))
    }
}

/// Removes parts without a manifest of pushes that are dead: of `ours` and of those that have stored
/// nothing for a day. Gives their labels.
///
/// # Errors
/// [`PushError`].
pub(super) async fn remove_parts(
    place: &Place,
    ours: Option<&str>,
    clock: &dyn Clock,
) -> Result<Vec<String>, PushError> {
    let mut parts: BTreeMap<String, (DateTime<Utc>, Vec<Key>)> = BTreeMap::new();
    let mut whole = Vec::new();
    let mut listed = place.store.list(&place.key(keys::BACKUPS)?, None);
    while let Some(meta) = listed.try_next().await? {
        match meta.key.below(&place.prefix).map(keys::role) {
            Some(Role::Part { label, .. }) => {
                let (newest, keys) = parts.entry(label).or_default();
                *newest = meta.modified_at.max(*newest);
                keys.push(meta.key);
            }
            Some(Role::Manifest { label }) => whole.push(label),
            Some(Role::Series { .. } | Role::Binlog(_) | Role::Other) | None => {}
        }
    }
    let mut removed = Vec::new();
    for (label, (newest, keys)) in parts {
        let is_dead = ours == Some(label.as_str()) || clock.now() - newest > DEAD_AFTER;
        if whole.contains(&label) || !is_dead {
            continue;
        }
        // It may have been finished since it was listed.
        let manifest = place.key(&keys::manifest(&label))?;
        match place.store.head(&manifest).await {
            Err(crate::store::StoreError::NotFound(_)) => {}
            Ok(_) => continue,
            Err(error) => return Err(error.into()),
        }
        for key in keys {
            place.store.delete(&key).await?;
        }
        info!(label, "the parts of a base backup that was never finished are removed");
        removed.push(label);
    }
    Ok(removed)
}

/// The directory that CLONE makes for a base backup.
pub(super) fn clone_dir(dir: &Path, label: &str) -> PathBuf {
    dir.join(format!("{CLONE_PREFIX}{label}"))
}

/// Removes what clones that died have left. Only with the lock.
///
/// # Errors
/// [`PushError::File`].
pub(super) fn remove_clones(dir: &Path) -> Result<(), PushError> {
    let entries = fs::read_dir(dir).map_err(PushError::file("listing", dir))?;
    for entry in entries {
        let path = entry.map_err(PushError::file("listing", dir))?.path();
        let label = path.file_name().and_then(|name| name.to_str());
        let label = label.and_then(|name| name.strip_prefix(CLONE_PREFIX));
        if label.is_some_and(|label| keys::label_time(label).is_some()) {
            fs::remove_dir_all(&path).map_err(PushError::file("removing", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Contents, memory::MemoryStore};
    use bytes::Bytes;
    use std::sync::Arc;

    #[test]
    fn one_at_a_time_and_the_dead_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = Lock::take(dir.path()).unwrap();
        assert_eq!(lock.dead, None);
        assert!(matches!(Lock::take(dir.path()), Err(PushError::Running)));
        lock.name("20261126-043000").unwrap();
        drop(lock);
        let mut lock = Lock::take(dir.path()).unwrap();
        assert_eq!(lock.dead.as_deref(), Some("20261126-043000"));
        lock.name("").unwrap();
        drop(lock);
        assert_eq!(Lock::take(dir.path()).unwrap().dead, None);
    }

    #[test]
    fn only_directories_of_clones_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let made = clone_dir(dir.path(), "20261126-043000");
        for path in [made.join("mysql"), dir.path().join("btar-push-mine"), dir.path().join("x")] {
            fs::create_dir_all(path).unwrap();
        }
        remove_clones(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(!made.exists());
    }

    #[tokio::test]
    async fn only_parts_of_the_dead_without_a_manifest_are_removed() {
        let store = Arc::new(MemoryStore::new());
        let place = Place { store, prefix: Key::parse("orders").unwrap() };
        let (ours, others, whole) = ("20261126-043000", "20261126-043001", "20261126-043002");
        for key in [
            keys::part(ours, 1),
            keys::part(ours, 2),
            keys::part(others, 1),
            keys::part(whole, 1),
            keys::manifest(whole),
        ] {
            place.write_once(&key, Contents::of(Bytes::from_static(b"x"))).await.unwrap();
        }
        let list = || async {
            place.store.list(&place.prefix, None).try_collect::<Vec<_>>().await.unwrap()
        };
        let newest = list().await.iter().map(|meta| meta.modified_at).max().unwrap();
        let soon = At(newest + TimeDelta::hours(1));
        // What is finished is let be, whoever thinks otherwise.
        assert!(remove_parts(&place, Some(whole), &soon).await.unwrap().is_empty());
        assert_eq!(remove_parts(&place, Some(ours), &soon).await.unwrap(), [ours]);
        assert!(remove_parts(&place, None, &soon).await.unwrap().is_empty());
        assert_eq!(list().await.len(), 3);
        let later = At(newest + TimeDelta::hours(25));
        assert_eq!(remove_parts(&place, None, &later).await.unwrap(), [others]);
        assert_eq!(list().await.len(), 2);
    }

    /// A clock that stands.
    #[derive(Debug)]
    struct At(DateTime<Utc>);

    impl Clock for At {
        fn now(&self) -> DateTime<Utc> {
            self.0
        }

        fn monotonic(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }

        fn sleep(&self, _: std::time::Duration) -> futures_util::future::BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }
}
