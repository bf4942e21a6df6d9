//! A store in memory, for tests: it keeps the same promises and refuses the same things as a
//! directory, and fails when it is told to.

use crate::store::{
    BlobStore, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata,
    key::Key,
    local::outside,
    proof::{Crc64, Proof},
};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A store in memory. Clones share the objects.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Held>,
    calls: u64,
    versions: u64,
    fail_from: Option<u64>,
}

#[derive(Clone, Debug)]
struct Held {
    bytes: Bytes,
    user_metadata: UserMetadata,
    version: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From the `calls`-th call on (counted from 0), every call fails; `None` ends it.
    pub fn fail_from(&self, calls: Option<u64>) {
        let mut inner = self.lock();
        inner.fail_from = calls;
        inner.calls = 0;
    }

    /// All keys, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.lock().objects.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, or fails it.
    fn call(&self, doing: &'static str, key: &Key) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let mut inner = self.lock();
        let number = inner.calls;
        inner.calls += 1;
        if inner.fail_from.is_some_and(|from| number >= from) {
            return Err(StoreError::unavailable(self.name(), doing, key, "told to fail"));
        }
        Ok(inner)
    }
}

impl Held {
    fn describe(&self, key: &Key) -> ObjectMeta {
        let seconds = i64::try_from(self.version).unwrap_or(0);
        ObjectMeta {
            key: key.clone(),
            size_bytes: self.bytes.len() as u64,
            modified_at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(seconds),
            etag: Some(self.version.to_string()),
        }
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let found: Vec<_> = match self.call("listing", prefix) {
            Err(error) => vec![Err(error)],
            Ok(inner) => inner
                .objects
                .iter()
                .filter(|(key, _)| key.below(prefix).is_some())
                .filter(|(key, _)| after.is_none_or(|after| *key > after))
                .map(|(key, stored)| Ok(stored.describe(key)))
                .collect(),
        };
        stream::iter(found).boxed()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        let inner = self.call("looking at", key)?;
        let stored = inner.objects.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        Ok(stored.describe(key))
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let inner = self.call("reading", key)?;
        let stored = inner.objects.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        Ok(Object {
            meta: stored.describe(key),
            user_metadata: stored.user_metadata.clone(),
            body: super::body_of(stored.bytes.clone()),
        })
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        let inner = self.call("reading", key)?;
        let stored = inner.objects.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        let size = stored.bytes.len() as u64;
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
        else {
            return Err(outside(self.name(), key, &range, size));
        };
        if start > end || end > stored.bytes.len() {
            return Err(outside(self.name(), key, &range, size));
        }
        Ok((stored.describe(key), stored.bytes.slice(start..end)))
    }

    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        let (mut bytes, mut body, mut sum) = (Vec::new(), contents.body, Crc64::new());
        while let Some(piece) = body.try_next().await? {
            bytes.extend_from_slice(&piece);
            sum.update(&piece);
        }
        let mut inner = self.call("writing", key)?;
        if bytes.len() as u64 != contents.size_bytes {
            let what = format!("it has {} bytes, not {}", bytes.len(), contents.size_bytes);
            return Err(StoreError::unavailable(self.name(), "writing", key, what));
        }
        let etag = inner.objects.get(key).map(|stored| stored.version.to_string());
        match (condition, etag) {
            (Condition::IfAbsent, Some(_)) => return Err(StoreError::AlreadyExists(key.clone())),
            (Condition::IfMatch(expected), found) if found.as_ref() != Some(expected) => {
                return Err(StoreError::Changed(key.clone()));
            }
            (Condition::None | Condition::IfAbsent | Condition::IfMatch(_), _) => {}
        }
        inner.versions += 1;
        let version = inner.versions;
        let user_metadata = contents.user_metadata;
        let stored = Stored {
            size_bytes: contents.size_bytes,
            etag: Some(version.to_string()),
            crc64: sum.finish(),
            proof: Proof::Synced,
        };
        inner.objects.insert(key.clone(), Held { bytes: bytes.into(), user_metadata, version });
        Ok(stored)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.call("deleting", key)?.objects.remove(key);
        Ok(())
    }

    fn local_root(&self) -> Option<PathBuf> {
        None
    }
}
