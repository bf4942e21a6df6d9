//! A store that fails when it is told to, for tests.

use crate::{
    store::{
        BlobStore, Body, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata,
        key::Key, takeover::Original, wrap::metrics::Operation,
    },
    sys::clock::Clock,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream, stream::BoxStream};
use std::{
    fmt,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A call, for deciding what goes wrong with it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counted from 0.
    pub number: u64,
    /// What is done.
    pub operation: Operation,
    /// The object or prefix.
    pub key: Key,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails and has done nothing.
    Before,
    /// It has been done, and fails nevertheless: the answer was lost.
    After,
    /// It takes so long.
    Stall(Duration),
    /// What is read breaks off with an error after so many bytes, or a listing after so many keys.
    BreakOff(u64),
    /// What is read ends after so many bytes as if that were all.
    EndEarly(u64),
    /// One bit of the byte at this place is read wrong.
    Flip(u64),
    /// What is written does not fit any more after so many bytes.
    Full(u64),
    /// It is not allowed (any more).
    Denied,
}

type Decide = dyn Fn(&Call) -> Fault + Send + Sync;

/// A store with faults. Clones share it.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    decide: Arc<Decide>,
    calls: Arc<AtomicU64>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// `decide` says what goes wrong with each call.
    #[must_use]
    pub fn new(
        inner: Arc<dyn BlobStore>,
        clock: Arc<dyn Clock>,
        decide: impl Fn(&Call) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self { inner, clock, decide: Arc::new(decide), calls: Arc::default() }
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn fault(&self, operation: Operation, key: &Key) -> Fault {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        (self.decide)(&Call { number, operation, key: key.clone() })
    }

    fn error(&self, key: &Key) -> StoreError {
        StoreError::unavailable(self.name(), "working with", key, "told to fail")
    }

    /// Fails or stalls before a call.
    async fn before(&self, operation: Operation, key: &Key) -> Result<Fault, StoreError> {
        let fault = self.fault(operation, key);
        match fault {
            Fault::Before => Err(self.error(key)),
            Fault::Denied => {
                let (store, why) = (self.name().to_owned(), "told to refuse".to_owned());
                Err(StoreError::Denied { store, key: key.clone(), why })
            }
            Fault::Stall(period) => {
                self.clock.sleep(period).await;
                Ok(fault)
            }
            Fault::None
            | Fault::After
            | Fault::BreakOff(_)
            | Fault::EndEarly(_)
            | Fault::Flip(_)
            | Fault::Full(_) => Ok(fault),
        }
    }

    /// Fails after a call that was done.
    fn after<T>(&self, fault: Fault, key: &Key, done: T) -> Result<T, StoreError> {
        if fault == Fault::After { Err(self.error(key)) } else { Ok(done) }
    }

    fn spoil(&self, fault: Fault, key: &Key, body: Body) -> Body {
        let mut at = 0u64;
        let (store, key) = (self.clone(), key.clone());
        let spoiled = body.map(move |piece| {
            let piece = piece?;
            let begin = at;
            at += piece.len() as u64;
            Ok(match fault {
                Fault::Flip(place) => flip(piece, begin, place),
                Fault::BreakOff(end) | Fault::EndEarly(end) | Fault::Full(end) if at > end => {
                    let keep = usize::try_from(end.saturating_sub(begin)).unwrap_or(0);
                    piece.slice(..keep.min(piece.len()))
                }
                Fault::None
                | Fault::Before
                | Fault::After
                | Fault::Stall(_)
                | Fault::BreakOff(_)
                | Fault::EndEarly(_)
                | Fault::Full(_)
                | Fault::Denied => piece,
            })
        });
        match fault {
            Fault::BreakOff(_) => {
                let error = stream::once(async move { Err(store.error(&key)) });
                spoiled.chain(error).boxed()
            }
            Fault::Full(_) => {
                let full = StoreError::NoSpace { store: store.name().to_owned(), key };
                spoiled.chain(stream::once(async { Err(full) })).boxed()
            }
            Fault::None
            | Fault::Before
            | Fault::After
            | Fault::Stall(_)
            | Fault::EndEarly(_)
            | Fault::Flip(_)
            | Fault::Denied => spoiled.boxed(),
        }
    }
}

fn flip(piece: Bytes, begin: u64, place: u64) -> Bytes {
    let within = place.checked_sub(begin).and_then(|at| usize::try_from(at).ok());
    let mut bytes = BytesMut::from(&piece[..]);
    if let Some(byte) = within.and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1;
    }
    bytes.freeze()
}

#[async_trait]
impl BlobStore for FaultyStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let error = self.error(prefix);
        let listing = self.inner.list(prefix, after);
        match self.fault(Operation::List, prefix) {
            Fault::Before | Fault::After | Fault::Denied => {
                stream::once(async { Err(error) }).boxed()
            }
            Fault::BreakOff(keys) => {
                let keys = usize::try_from(keys).unwrap_or(usize::MAX);
                listing.take(keys).chain(stream::once(async { Err(error) })).boxed()
            }
            Fault::Stall(period) => {
                let pause = self.clock.sleep(period);
                stream::once(async move {
                    pause.await;
                    listing
                })
                .flatten()
                .boxed()
            }
            Fault::None | Fault::EndEarly(_) | Fault::Flip(_) | Fault::Full(_) => listing,
        }
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        let fault = self.before(Operation::Head, key).await?;
        self.after(fault, key, self.inner.head(key).await?)
    }

    async fn describe(&self, key: &Key) -> Result<(ObjectMeta, UserMetadata), StoreError> {
        let fault = self.before(Operation::Head, key).await?;
        self.after(fault, key, self.inner.describe(key).await?)
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let fault = self.before(Operation::Get, key).await?;
        let object = self.after(fault, key, self.inner.get(key).await?)?;
        Ok(Object { body: self.spoil(fault, key, object.body), ..object })
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        let fault = self.before(Operation::GetRange, key).await?;
        let start = range.start;
        let (meta, bytes) = self.after(fault, key, self.inner.get_range(key, range).await?)?;
        match fault {
            Fault::Flip(place) => Ok((meta, flip(bytes, start, place))),
            Fault::BreakOff(_) | Fault::EndEarly(_) => Err(self.error(key)),
            Fault::None
            | Fault::Before
            | Fault::After
            | Fault::Stall(_)
            | Fault::Full(_)
            | Fault::Denied => Ok((meta, bytes)),
        }
    }

    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        let fault = self.before(Operation::Write, key).await?;
        let contents = Contents { body: self.spoil(fault, key, contents.body), ..contents };
        self.after(fault, key, self.inner.write(key, contents, condition).await?)
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
        let fault = self.before(Operation::TakeOver, key).await?;
        self.after(fault, key, self.inner.take_over(key, original, condition).await?)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let fault = self.before(Operation::Delete, key).await?;
        self.inner.delete(key).await?;
        self.after(fault, key, ())
    }

    fn local_root(&self) -> Option<PathBuf> {
        self.inner.local_root()
    }
}
