//! A copy's store, which is examined after each change.

use super::world::LOG;
use crate::{
    layout::pgbackrest::{backup_info::BackupInfo, manifest},
    store::{
        BlobStore, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata,
        key::Key, memory::MemoryStore, read_all,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Every version of everything that the primary wrote.
pub(super) type Written = Arc<Mutex<BTreeMap<String, BTreeSet<Bytes>>>>;

/// What one run has found and done.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) violations: Vec<String>,
    pub(super) changes: u64,
}

/// A copy's store, which is examined after each change.
#[derive(Clone, Debug)]
pub(super) struct Examined {
    pub(super) inner: MemoryStore,
    pub(super) written: Written,
    pub(super) findings: Arc<Mutex<Findings>>,
}

impl Examined {
    pub(super) fn found(&self, what: String) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.violations.push(what);
    }

    pub(super) async fn bytes(&self, key: &str) -> Option<Bytes> {
        let key = Key::parse(&format!("p/s/{key}")).unwrap();
        read_all(&self.inner, &key, 1 << 30).await.ok().map(|(_, bytes)| bytes)
    }

    /// Whether an object is there as the primary wrote it once. A bit that was read wrong may leave a
    /// segment with the same contents: its compression does not use every bit.
    async fn is_as_written(&self, key: &str) -> bool {
        let Some(bytes) = self.bytes(key).await else { return false };
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(versions) = written.get(key) else { return false };
        let same = |version: &Bytes| {
            let [here, there] = [&bytes, version].map(|object| zstd::decode_all(&object[..]));
            key.ends_with(".zst") && here.is_ok_and(|here| there.is_ok_and(|there| here == there))
        };
        versions.contains(&bytes) || versions.iter().any(same)
    }

    /// What keeps a listed backup from being restored.
    pub(super) async fn lacks(&self, label: &str, start: &str, stop: &str) -> Option<String> {
        let name = format!("backup/m/{label}/backup.manifest");
        let Some(bytes) = self.bytes(&name).await else { return Some(name) };
        let needs = match manifest::needs("m", label, &bytes) {
            Ok(needs) => needs,
            Err(error) => return Some(error.to_string()),
        };
        let log = LOG.iter().filter(|part| *start <= *part.name && *part.name <= *stop);
        for key in needs.objects.keys().chain(log.map(|part| &part.key)) {
            if !self.is_as_written(key).await {
                return Some(key.clone());
            }
        }
        None
    }

    async fn examine(&self, after: &str) {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).changes += 1;
        let Some(bytes) = self.bytes("backup/m/backup.info").await else { return };
        match BackupInfo::read(&bytes) {
            Err(error) => self.found(format!("after {after}: {error}")),
            Ok(info) => {
                for backup in &info.backups {
                    let (start, stop) = (&backup.archive_start, &backup.archive_stop);
                    if let Some(what) = self.lacks(&backup.label, start, stop).await {
                        self.found(format!("after {after}: {} lacks {what}", backup.label));
                    }
                }
            }
        }
    }
}

#[async_trait]
impl BlobStore for Examined {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        self.inner.list(prefix, after)
    }
    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.inner.head(key).await
    }
    async fn user_metadata(&self, key: &Key) -> Result<UserMetadata, StoreError> {
        self.inner.user_metadata(key).await
    }
    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        self.inner.get(key).await
    }
    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        self.inner.get_range(key, range).await
    }
    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        let stored = self.inner.write(key, contents, condition).await?;
        self.examine(&format!("writing {key}")).await;
        Ok(stored)
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(key).await?;
        self.examine(&format!("deleting {key}")).await;
        Ok(())
    }
    fn local_root(&self) -> Option<PathBuf> {
        None
    }
}
