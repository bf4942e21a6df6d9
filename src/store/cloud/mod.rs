//! Buckets and containers of clouds as a store, over the crate `object_store`.

mod build;
mod call;
mod copy;
mod credentials;
mod erase;
mod fault;
mod gate;
mod metadata;
mod parts;
mod place;
mod sums;
mod upload;

pub use build::{Bucket, open};

use crate::{
    store::{
        BlobStore, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata,
        address::Cloud,
        config::{ConditionalWrites, ProofChoice},
        key::Key,
        local::outside,
        pool::{Pieces, gather_pieces},
        takeover::{ObjectName, Original},
        wrap::{limit::Memory, retry::RetryPolicy},
    },
    sys::clock::Clock,
};
use async_trait::async_trait;
use bytes::Bytes;
use call::Call;
use copy::Copier;
use erase::Eraser;
use fault::Doing;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use http::HeaderMap;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, path::Path};
use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

/// A bucket or container, or what lies below a prefix in it. Clones share it.
#[derive(Clone, Debug)]
pub struct CloudStore {
    shared: Arc<Shared>,
}

struct Shared {
    cloud: Cloud,
    name: String,
    prefix: Key,
    client: Box<dyn ObjectStore>,
    /// Of S3, for objects in one request: computes no checksums, which are known by then.
    unsummed: Option<Box<dyn ObjectStore>>,
    /// Where the client's own deletions are not wanted.
    eraser: Option<Eraser>,
    /// Of S3.
    copier: Option<Copier>,
    proof: ProofChoice,
    conditional_writes: ConditionalWrites,
    memory: Memory,
    clock: Arc<dyn Clock>,
    retries: RetryPolicy,
}

impl fmt::Debug for Shared {
    /// Only the name: the clients of some clouds show their tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl CloudStore {
    /// The client's path of a key.
    fn path(&self, key: &Key) -> Result<Path, StoreError> {
        let refused = |what: String| StoreError::refused(&self.shared.name, key, what);
        let full = match key.as_str() {
            "" => self.shared.prefix.clone(),
            key => self.shared.prefix.join(key).map_err(|error| refused(error.to_string()))?,
        };
        Path::parse(full.as_str()).map_err(|error| refused(error.to_string()))
    }

    /// An object as the client lists it; `None` for what is no object of ours.
    fn meta(&self, meta: object_store::ObjectMeta) -> Option<ObjectMeta> {
        let full = Key::parse(meta.location.as_ref()).ok()?;
        let key = Key::parse(full.below(&self.shared.prefix)?).ok()?;
        let (size_bytes, modified_at) = (meta.size, meta.last_modified);
        Some(ObjectMeta { key, size_bytes, modified_at, etag: meta.e_tag })
    }

    fn fault(
        &self,
        what: &'static str,
        key: &Key,
        condition: &Condition,
        error: &object_store::Error,
        call: &Call,
    ) -> StoreError {
        let doing = Doing { store: &self.shared.name, what, key, condition };
        fault::fault(doing, error, &call.notes())
    }

    async fn read(
        &self,
        what: &'static str,
        key: &Key,
        options: GetOptions,
        headers: HeaderMap,
    ) -> Result<(GetResult, ObjectMeta, Arc<Call>), StoreError> {
        let (path, call) = (self.path(key)?, Call::new(headers));
        let got = call.run(self.shared.client.get_opts(&path, options)).await;
        let got = got.map_err(|e| self.fault(what, key, &Condition::None, &e, &call))?;
        let meta = self.meta(got.meta.clone()).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        Ok((got, meta, call))
    }

    fn head_options() -> GetOptions {
        GetOptions { head: true, ..GetOptions::default() }
    }
}

#[async_trait]
impl BlobStore for CloudStore {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let paths = self.path(prefix).and_then(|prefix| {
            let after = after.map(|after| self.path(after)).transpose()?;
            Ok((prefix, after))
        });
        let (path, offset) = match paths {
            Ok(paths) => paths,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let path = Some(&path).filter(|path| !path.is_root());
        let client = &self.shared.client;
        let listing = match &offset {
            Some(offset) => client.list_with_offset(path, offset),
            None => client.list(path),
        };
        let state = (self.clone(), prefix.clone(), after.cloned(), listing);
        stream::try_unfold(state, |(store, prefix, after, mut listing)| async move {
            loop {
                let call = Call::new(HeaderMap::new());
                let next = call.run(listing.try_next()).await;
                let next =
                    next.map_err(|e| store.fault("listing", &prefix, &Condition::None, &e, &call))?;
                let Some(meta) = next else { return Ok(None) };
                // Not every service takes `after` into account, or not alike.
                let wanted = store.meta(meta).filter(|meta| {
                    meta.key.below(&prefix).is_some()
                        && after.as_ref().is_none_or(|after| meta.key > *after)
                });
                if let Some(meta) = wanted {
                    return Ok(Some((meta, (store, prefix, after, listing))));
                }
            }
        })
        .boxed()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        let read = self.read("looking at", key, Self::head_options(), HeaderMap::new()).await;
        Ok(read?.1)
    }

    async fn describe(&self, key: &Key) -> Result<(ObjectMeta, UserMetadata), StoreError> {
        let read = self.read("looking at", key, Self::head_options(), HeaderMap::new()).await;
        let (got, meta, _) = read?;
        Ok((meta, metadata::from_attributes(self.shared.cloud, &got.attributes)))
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let (got, meta, call) =
            self.read("reading", key, GetOptions::default(), HeaderMap::new()).await?;
        let user_metadata = metadata::from_attributes(self.shared.cloud, &got.attributes);
        let (store, name) = (self.clone(), key.clone());
        let body = got
            .into_stream()
            .map_err(move |e| store.fault("reading", &name, &Condition::None, &e, &call))
            .boxed();
        Ok(Object { meta, user_metadata, body })
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        let (meta, pieces) = self.get_pieces(key, range).await?;
        Ok((meta, pieces.join()))
    }

    async fn get_pieces(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Pieces), StoreError> {
        if range.start >= range.end {
            // HTTP has no empty range.
            let meta = self.head(key).await?;
            return if range.start == range.end && range.end <= meta.size_bytes {
                Ok((meta, Pieces::default()))
            } else {
                Err(outside(self.name(), key, &range, meta.size_bytes))
            };
        }
        let options =
            GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let read = self.read("reading", key, options, HeaderMap::new()).await;
        let (got, meta, call) = match read {
            Err(StoreError::Unavailable { .. } | StoreError::Refused { .. }) if range.start > 0 => {
                // Services answer differently to a range that begins beyond the end.
                let meta = self.head(key).await?;
                if range.end > meta.size_bytes {
                    return Err(outside(self.name(), key, &range, meta.size_bytes));
                }
                read?
            }
            read => read?,
        };
        if range.end > meta.size_bytes {
            return Err(outside(self.name(), key, &range, meta.size_bytes));
        }
        let size = range.end - range.start;
        let pieces = call.run(gather_pieces(got.into_stream(), size)).await;
        let pieces = pieces.map_err(|e| self.fault("reading", key, &Condition::None, &e, &call))?;
        if pieces.size_bytes() != size {
            let what = format!("{} bytes came instead of {size}", pieces.size_bytes());
            return Err(StoreError::unavailable(self.name(), "reading", key, what));
        }
        Ok((meta, pieces))
    }

    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        self.upload(key, contents, condition).await
    }

    fn object_name(&self, key: &Key) -> Option<ObjectName> {
        self.name_of(key)
    }

    fn takes_over(&self, source: &ObjectName, size_bytes: u64) -> bool {
        self.copier(source, size_bytes).is_some()
    }

    async fn take_over(
        &self,
        key: &Key,
        original: &Original,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        self.copy_in(key, original, condition).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let (path, call) = (self.path(key)?, Call::new(HeaderMap::new()));
        let fault = |error: &(dyn std::error::Error + Send + Sync + 'static)| {
            let (store, condition) = (self.name(), &Condition::None);
            let doing = Doing { store, what: "deleting", key, condition };
            fault::fault(doing, error, &call.notes())
        };
        let deleted = match &self.shared.eraser {
            None => call.run(self.shared.client.delete(&path)).await.map_err(|e| fault(&e)),
            Some(eraser) => match call.run(eraser.delete(&path)).await {
                Ok(()) if call.notes().refusal.is_some() => Err(fault(&fmt::Error)),
                done => done.map_err(|e| fault(&e)),
            },
        };
        match deleted {
            Err(StoreError::NotFound(_)) => Ok(()),
            done => done,
        }
    }

    fn local_root(&self) -> Option<PathBuf> {
        None
    }
}
