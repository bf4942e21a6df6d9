//! A store that lists page by page, as those behind a network do, for tests.

use crate::store::{
    BlobStore, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata, key::Key,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream};
use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

type Before = dyn Fn(u64) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync;

/// A store whose listings show each page as it is when that is asked for. Clones share it.
#[derive(Clone)]
pub(crate) struct Paged {
    inner: Arc<dyn BlobStore>,
    page: usize,
    before: Arc<Before>,
}

impl fmt::Debug for Paged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paged").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Paged {
    /// `before` is waited for before each page of so many keys, and is told its number from 0 on.
    pub(crate) fn new(
        inner: Arc<dyn BlobStore>,
        page: usize,
        before: impl Fn(u64) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, page, before: Arc::new(before) }
    }
}

#[async_trait]
impl BlobStore for Paged {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let (store, prefix) = (self.clone(), prefix.clone());
        let first = Some((0_u64, after.cloned()));
        let pages = stream::try_unfold(first, move |next| {
            let (store, prefix) = (store.clone(), prefix.clone());
            async move {
                let Some((number, after)) = next else { return Ok(None) };
                (store.before)(number).await?;
                let listed = store.inner.list(&prefix, after.as_ref()).take(store.page);
                let page: Vec<ObjectMeta> = listed.try_collect().await?;
                let last = page.last().filter(|_| page.len() == store.page);
                let next = last.map(|last| (number + 1, Some(last.key.clone())));
                Ok(Some((stream::iter(page.into_iter().map(Ok)), next)))
            }
        });
        pages.try_flatten().boxed()
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
        self.inner.write(key, contents, condition).await
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
    fn local_root(&self) -> Option<PathBuf> {
        None
    }
}
