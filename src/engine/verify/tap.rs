//! A store that computes the CRC-64 of whatever is read through it, at a rate.

use crate::{
    store::{
        BlobStore, Condition, Contents, Object, ObjectMeta, StoreError, Stored, key::Key,
        proof::Crc64, wrap::bandwidth::Bandwidth,
    },
    sys::clock::Clock,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// An object that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) size_bytes: u64,
    pub(super) crc64: u64,
}

/// The store.
#[derive(Debug)]
pub(super) struct Tap {
    inner: Arc<dyn BlobStore>,
    line: Option<Bandwidth>,
    sums: Arc<Mutex<BTreeMap<Key, Sum>>>,
}

impl Tap {
    /// `inner`, of which at most `rate_bytes` are read in a second.
    pub(super) fn new(
        inner: Arc<dyn BlobStore>,
        rate_bytes: Option<u64>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let line = rate_bytes.filter(|rate| *rate > 0).map(|rate| Bandwidth::new(rate, clock));
        Self { inner, line, sums: Arc::default() }
    }

    /// The sum of an object that has been read.
    pub(super) fn sum(&self, key: &Key) -> Option<Sum> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

#[async_trait]
impl BlobStore for Tap {
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

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let object = self.inner.get(key).await?;
        let (key, size_bytes) = (key.clone(), object.meta.size_bytes);
        let state = (object.body, Crc64::new(), 0_u64, self.line.clone(), self.sums.clone());
        let body = stream::try_unfold(state, move |(mut body, mut sum, read, line, sums)| {
            let key = key.clone();
            async move {
                let Some(piece) = body.try_next().await? else { return Ok(None) };
                if let Some(line) = &line {
                    line.take(piece.len()).await;
                }
                sum.update(&piece);
                let read = read + piece.len() as u64;
                if read == size_bytes {
                    let seen = Sum { size_bytes, crc64: sum.finish() };
                    sums.lock().unwrap_or_else(PoisonError::into_inner).insert(key, seen);
                }
                Ok(Some((piece, (body, sum, read, line, sums))))
            }
        });
        Ok(Object { body: body.boxed(), ..object })
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        self.inner.get_range(key, range).await
    }

    async fn write(&self, key: &Key, _: Contents, _: &Condition) -> Result<Stored, StoreError> {
        Err(StoreError::refused(self.name(), key, "a verification writes nothing"))
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        Err(StoreError::refused(self.name(), key, "a verification removes nothing"))
    }

    fn local_root(&self) -> Option<PathBuf> {
        self.inner.local_root()
    }
}
