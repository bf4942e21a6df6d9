//! A store that tells what is done with it.

use crate::{
    store::{
        BlobStore, Body, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata,
        key::Key, pool::Pieces, takeover::Original,
    },
    sys::clock::Clock,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use std::{fmt, future::Future, ops::Range, path::PathBuf, sync::Arc, time::Duration};

/// What is done with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`BlobStore::list`].
    List,
    /// [`BlobStore::head`] and [`BlobStore::user_metadata`].
    Head,
    /// [`BlobStore::get`].
    Get,
    /// [`BlobStore::get_range`].
    GetRange,
    /// [`BlobStore::write`].
    Write,
    /// [`BlobStore::take_over`].
    TakeOver,
    /// [`BlobStore::delete`].
    Delete,
}

/// Whoever wants to know what is done with stores.
pub trait Meter: Send + Sync + fmt::Debug {
    /// A call has ended after `elapsed`.
    fn called(
        &self,
        store: &str,
        operation: Operation,
        elapsed: Duration,
        error: Option<&StoreError>,
    );

    /// Bytes have passed: read with [`Operation::Get`] and [`Operation::GetRange`], written with
    /// [`Operation::Write`].
    fn moved(&self, store: &str, operation: Operation, bytes: u64);
}

/// A store with a meter.
#[derive(Debug)]
pub struct MeteredStore {
    inner: Arc<dyn BlobStore>,
    meter: Arc<dyn Meter>,
    clock: Arc<dyn Clock>,
}

impl MeteredStore {
    /// Tells `meter` what is done with `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>, meter: Arc<dyn Meter>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, meter, clock }
    }

    async fn timed<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = self.clock.monotonic();
        let done = call.await;
        let elapsed = self.clock.monotonic().saturating_sub(begun);
        self.meter.called(self.name(), operation, elapsed, done.as_ref().err());
        done
    }

    fn metered(&self, operation: Operation, body: Body) -> Body {
        let (meter, inner) = (self.meter.clone(), self.inner.clone());
        body.inspect(move |piece| {
            if let Ok(piece) = piece {
                meter.moved(inner.name(), operation, piece.len() as u64);
            }
        })
        .boxed()
    }
}

#[async_trait]
impl BlobStore for MeteredStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let (meter, inner, clock) = (self.meter.clone(), self.inner.clone(), self.clock.clone());
        let begun = clock.monotonic();
        let mut told = Told { meter, inner, clock, begun, error: false };
        self.inner
            .list(prefix, after)
            .inspect(move |meta| {
                if let Err(error) = meta {
                    told.tell(Some(error));
                }
            })
            .boxed()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.timed(Operation::Head, self.inner.head(key)).await
    }

    async fn describe(&self, key: &Key) -> Result<(ObjectMeta, UserMetadata), StoreError> {
        self.timed(Operation::Head, self.inner.describe(key)).await
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let object = self.timed(Operation::Get, self.inner.get(key)).await?;
        Ok(Object { body: self.metered(Operation::Get, object.body), ..object })
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        let read = self.timed(Operation::GetRange, self.inner.get_range(key, range)).await?;
        self.meter.moved(self.name(), Operation::GetRange, read.1.len() as u64);
        Ok(read)
    }

    async fn get_pieces(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Pieces), StoreError> {
        let read = self.timed(Operation::GetRange, self.inner.get_pieces(key, range)).await?;
        self.meter.moved(self.name(), Operation::GetRange, read.1.size_bytes());
        Ok(read)
    }

    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        let contents = Contents { body: self.metered(Operation::Write, contents.body), ..contents };
        self.timed(Operation::Write, self.inner.write(key, contents, condition)).await
    }

    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&*self.inner)
    }

    async fn take_over(
        &self,
        key: &Key,
        original: &Original,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        self.timed(Operation::TakeOver, self.inner.take_over(key, original, condition)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.timed(Operation::Delete, self.inner.delete(key)).await
    }

    fn local_root(&self) -> Option<PathBuf> {
        self.inner.local_root()
    }
}

/// Tells of a listing once: at its error, or when it is dropped.
struct Told {
    meter: Arc<dyn Meter>,
    inner: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    begun: Duration,
    error: bool,
}

impl Told {
    fn tell(&mut self, error: Option<&StoreError>) {
        if !self.error {
            self.error = error.is_some();
            let elapsed = self.clock.monotonic().saturating_sub(self.begun);
            self.meter.called(self.inner.name(), Operation::List, elapsed, error);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(None);
    }
}
