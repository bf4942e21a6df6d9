//! A store that moves only so many bytes in a second.

use crate::{
    store::{
        BlobStore, Body, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata,
        key::Key,
    },
    sys::clock::Clock,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A rate that several stores may share. Clones share it.
#[derive(Clone, Debug)]
pub struct Bandwidth {
    bytes_per_second: u64,
    clock: Arc<dyn Clock>,
    /// When the line is free again.
    free_at: Arc<Mutex<Duration>>,
}

impl Bandwidth {
    /// At most `bytes_per_second`.
    #[must_use]
    pub fn new(bytes_per_second: u64, clock: Arc<dyn Clock>) -> Self {
        let free_at = Arc::new(Mutex::new(clock.monotonic()));
        Self { bytes_per_second: bytes_per_second.max(1), clock, free_at }
    }

    /// Waits until the line is free, and takes it for as long as `bytes` need.
    pub async fn take(&self, bytes: usize) {
        let (now, turn) = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.monotonic();
            let turn = (*free_at).max(now);
            let seconds = bytes as f64 / self.bytes_per_second as f64;
            *free_at = turn + Duration::from_secs_f64(seconds);
            (now, turn)
        };
        if turn > now {
            self.clock.sleep(turn - now).await;
        }
    }

    /// A body that flows no faster.
    fn slowed(&self, body: Body) -> Body {
        let line = self.clone();
        body.then(move |piece| {
            let line = line.clone();
            async move {
                if let Ok(piece) = &piece {
                    line.take(piece.len()).await;
                }
                piece
            }
        })
        .boxed()
    }
}

/// A store behind a line of limited width.
#[derive(Debug)]
pub struct SlowedStore {
    inner: Arc<dyn BlobStore>,
    line: Bandwidth,
}

impl SlowedStore {
    /// `inner` behind `line`.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>, line: Bandwidth) -> Self {
        Self { inner, line }
    }
}

#[async_trait]
impl BlobStore for SlowedStore {
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

    async fn describe(&self, key: &Key) -> Result<(ObjectMeta, UserMetadata), StoreError> {
        self.inner.describe(key).await
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let object = self.inner.get(key).await?;
        Ok(Object { body: self.line.slowed(object.body), ..object })
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        let (meta, bytes) = self.inner.get_range(key, range).await?;
        self.line.take(bytes.len()).await;
        Ok((meta, bytes))
    }

    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        let contents = Contents { body: self.line.slowed(contents.body), ..contents };
        self.inner.write(key, contents, condition).await
    }

    // Of what the provider takes over no byte passes here.
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&*self.inner)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    fn local_root(&self) -> Option<PathBuf> {
        self.inner.local_root()
    }
}
