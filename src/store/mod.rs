//! The object-store seam: a few operations that every store can do, with the same promises.

pub mod key;

pub mod address;
pub mod config;
pub mod open;
pub mod proof;
pub mod takeover;

pub mod feed;
pub mod pool;

pub mod cloud;
pub mod local;
pub mod memory;

pub mod transfer;
pub mod wrap;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{TryStreamExt, stream::BoxStream};
use key::Key;
use pool::Pieces;
use proof::{KnownCrc64, Proof};
use std::{collections::BTreeMap, fmt, ops::Range, path::PathBuf};
use takeover::{ObjectName, Original};

/// An object as a listing or a `head` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Key.
    pub key: Key,
    /// Size, in bytes.
    pub size_bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified_at: DateTime<Utc>,
    /// Changes whenever the contents change, where the store has such a tag.
    pub etag: Option<String>,
}

/// What a user of the store attached to an object: names and values, byte for byte.
pub type UserMetadata = BTreeMap<String, String>;

/// An object's contents on their way.
pub struct Object {
    /// What is being read.
    pub meta: ObjectMeta,
    /// User metadata, which is part of a backup. Empty for stores without any.
    pub user_metadata: UserMetadata,
    /// The contents.
    pub body: Body,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// Contents in pieces.
pub type Body = BoxStream<'static, Result<Bytes, StoreError>>;

/// What to do when the key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Fail with [`StoreError::AlreadyExists`].
    IfAbsent,
    /// Replace the object in one step: a reader sees the old or the new one, never a part.
    Replace,
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: an object that is there is replaced.
    None,
    /// The key is free. Else [`StoreError::AlreadyExists`].
    IfAbsent,
    /// The object has this etag. Else [`StoreError::Changed`]. For small objects only.
    IfMatch(String),
}

impl From<PutMode> for Condition {
    fn from(mode: PutMode) -> Self {
        match mode {
            PutMode::IfAbsent => Self::IfAbsent,
            PutMode::Replace => Self::None,
        }
    }
}

/// An object to write.
pub struct Contents {
    /// Size of the whole body, in bytes.
    pub size_bytes: u64,
    /// User metadata. A store that cannot keep it byte for byte refuses it.
    pub user_metadata: UserMetadata,
    /// The contents.
    pub body: Body,
    /// Checksums of them that are known already.
    pub known: KnownCrc64,
}

impl Contents {
    /// Contents that are in memory already, without user metadata.
    #[must_use]
    pub fn of(bytes: Bytes) -> Self {
        Self::new(bytes.len() as u64, UserMetadata::new(), body_of(bytes))
    }

    /// Contents of which no checksum is known yet.
    #[must_use]
    pub fn new(size_bytes: u64, user_metadata: UserMetadata, body: Body) -> Self {
        Self { size_bytes, user_metadata, body, known: KnownCrc64::default() }
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

/// An object that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Size, in bytes.
    pub size_bytes: u64,
    /// The etag that a `head` shows, where the store tells it.
    pub etag: Option<String>,
    /// CRC-64/NVME of the contents.
    pub crc64: u64,
    /// How it is known that the store holds them.
    pub proof: Proof,
}

/// A store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such object.
    #[error("object {0} does not exist")]
    NotFound(Key),
    /// The key is taken and it was asked that it be free.
    #[error("object {0} exists already")]
    AlreadyExists(Key),
    /// The object is not the one that was to be replaced.
    #[error("object {0} has been changed by somebody else")]
    Changed(Key),
    /// No room left in the store.
    #[error("no space left in {store} while writing {key}")]
    NoSpace {
        /// Name of the store.
        store: String,
        /// The object that did not fit.
        key: Key,
    },
    /// The store refuses access.
    #[error("access to {key} in {store} was refused: {why}")]
    Denied {
        /// Name of the store.
        store: String,
        /// The object.
        key: Key,
        /// What the store said.
        why: String,
    },
    /// This store can never do this with this object.
    #[error("{store} cannot hold or give {key} like this: {what}")]
    Refused {
        /// Name of the store.
        store: String,
        /// The object.
        key: Key,
        /// Why, and what would do.
        what: String,
    },
    /// The store cannot be reached or failed.
    #[error("{store} failed while {doing} {key}")]
    Unavailable {
        /// Name of the store.
        store: String,
        /// Such as `reading`.
        doing: &'static str,
        /// The object or prefix.
        key: Key,
        /// What the store or its library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A fault that trying again cannot mend, as the source of [`StoreError::Unavailable`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lasting(pub String);

impl StoreError {
    /// The store failed while doing something.
    pub fn unavailable(
        store: &str,
        doing: &'static str,
        key: &Key,
        what: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { store: store.to_owned(), doing, key: key.clone(), source: what.into() }
    }

    /// The store never does this with this object.
    pub fn refused(store: &str, key: &Key, what: impl Into<String>) -> Self {
        Self::Refused { store: store.to_owned(), key: key.clone(), what: what.into() }
    }

    /// The same error once more, for somebody else whom it concerns.
    #[must_use]
    pub fn again(&self) -> Self {
        match self {
            Self::NotFound(key) => Self::NotFound(key.clone()),
            Self::AlreadyExists(key) => Self::AlreadyExists(key.clone()),
            Self::Changed(key) => Self::Changed(key.clone()),
            Self::NoSpace { store, key } => {
                Self::NoSpace { store: store.clone(), key: key.clone() }
            }
            Self::Denied { store, key, why } => {
                Self::Denied { store: store.clone(), key: key.clone(), why: why.clone() }
            }
            Self::Refused { store, key, what } => Self::refused(store, key, what),
            Self::Unavailable { store, doing, key, source } => {
                match source.downcast_ref::<Lasting>() {
                    Some(lasting) => Self::unavailable(store, doing, key, lasting.clone()),
                    None => Self::unavailable(store, doing, key, retold(&**source)),
                }
            }
        }
    }

    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => !source.is::<Lasting>(),
            Self::NotFound(_)
            | Self::AlreadyExists(_)
            | Self::Changed(_)
            | Self::NoSpace { .. }
            | Self::Denied { .. }
            | Self::Refused { .. } => false,
        }
    }
}

/// What an error and its causes say.
fn retold(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A store of objects. Writes are atomic and durable when they return.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// A name for messages, without credentials: `file:///srv/eu-west-1`.
    fn name(&self) -> &str;

    /// All objects whose key begins with `prefix` as whole parts, in the order of their keys,
    /// after `after` when given. What lies before `after` is not looked at, where the store can.
    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>>;

    /// One object's size and time.
    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError>;

    /// What one object is, with its user metadata.
    async fn describe(&self, key: &Key) -> Result<(ObjectMeta, UserMetadata), StoreError> {
        let object = self.get(key).await?;
        Ok((object.meta, object.user_metadata))
    }

    /// One object's user metadata.
    async fn user_metadata(&self, key: &Key) -> Result<UserMetadata, StoreError> {
        Ok(self.describe(key).await?.1)
    }

    /// One object.
    async fn get(&self, key: &Key) -> Result<Object, StoreError>;

    /// The bytes of `range`, which must lie within the object, and what object they are of.
    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError>;

    /// [`BlobStore::get_range`] in the pieces in which the bytes come, where that saves copying.
    async fn get_pieces(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Pieces), StoreError> {
        let (meta, bytes) = self.get_range(key, range).await?;
        Ok((meta, bytes.into()))
    }

    /// Writes an object. When the body fails, ends early or goes on beyond its size, nothing
    /// becomes visible.
    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError>;

    /// Writes an object of `size_bytes` bytes: [`BlobStore::write`] for whoever does not ask how
    /// it was proven.
    async fn put(
        &self,
        key: &Key,
        size_bytes: u64,
        user_metadata: &UserMetadata,
        body: Body,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        let contents = Contents::new(size_bytes, user_metadata.clone(), body);
        self.write(key, contents, &mode.into()).await.map(drop)
    }

    /// The store that this one is around: it is asked where this one adds nothing.
    fn inner(&self) -> Option<&dyn BlobStore> {
        None
    }

    /// What others of the same provider call an object, where its provider can copy it.
    fn object_name(&self, key: &Key) -> Option<ObjectName> {
        self.inner()?.object_name(key)
    }

    /// Whether [`BlobStore::take_over`] is possible here, and asked for, with an object of this size.
    fn takes_over(&self, source: &ObjectName, size_bytes: u64) -> bool {
        self.inner().is_some_and(|inner| inner.takes_over(source, size_bytes))
    }

    /// Has the provider write an object that was read and found good. Promises what
    /// [`BlobStore::write`] promises, and asks for the same proof.
    async fn take_over(
        &self,
        key: &Key,
        original: &Original,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        match self.inner() {
            Some(inner) => inner.take_over(key, original, condition).await,
            None => Err(StoreError::refused(self.name(), key, "this store takes over no objects")),
        }
    }

    /// Removes an object. Removing what is not there is no error.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// The directory under which the keys are files, for stores that are a directory. Tools such
    /// as pgBackRest read it themselves.
    fn local_root(&self) -> Option<PathBuf>;
}

/// A body of bytes that are in memory already.
#[must_use]
pub fn body_of(bytes: Bytes) -> Body {
    Box::pin(futures_util::stream::once(async move { Ok(bytes) }))
}

/// Reads a whole object of at most `limit` bytes.
///
/// # Errors
/// Those of [`BlobStore::get`], and [`StoreError::Unavailable`] when it is larger or ends early.
pub async fn read_all(
    store: &dyn BlobStore,
    key: &Key,
    limit: u64,
) -> Result<(ObjectMeta, Bytes), StoreError> {
    let object = store.get(key).await?;
    let fault = |what: String| StoreError::unavailable(store.name(), "reading", key, what);
    let size = object.meta.size_bytes;
    if size > limit {
        return Err(fault(format!("it has {size} bytes, more than the limit of {limit}")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    let mut body = object.body;
    while let Some(piece) = body.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() as u64 != size {
        return Err(fault(format!("it ended after {} of {size} bytes", bytes.len())));
    }
    Ok((object.meta, bytes.into()))
}
