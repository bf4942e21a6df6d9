//! The object-store seam: a few operations that every store can do, with the same promises.

pub mod key;
pub mod local;
pub mod memory;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use key::Key;
use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

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

/// An object's contents on their way.
pub struct Object {
    /// What is being read.
    pub meta: ObjectMeta,
    /// User metadata, which is part of a backup. Empty for stores without any.
    pub user_metadata: BTreeMap<String, String>,
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

/// A store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such object.
    #[error("object {0} does not exist")]
    NotFound(Key),
    /// The key is taken and [`PutMode::IfAbsent`] was asked for.
    #[error("object {0} exists already")]
    AlreadyExists(Key),
    /// No room left in the store.
    #[error("no space left in {store} while writing {key}")]
    NoSpace {
        /// Name of the store.
        store: String,
        /// The object that did not fit.
        key: Key,
    },
    /// The store refuses access.
    #[error("access to {key} in {store} was refused")]
    Denied {
        /// Name of the store.
        store: String,
        /// The object.
        key: Key,
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

/// A store of objects. Writes are atomic and durable when they return.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// A name for messages, without credentials: `file:///srv/eu-west-1`.
    fn name(&self) -> &str;

    /// All objects whose key begins with `prefix` as whole parts, in the order of their keys,
    /// after `after` when given.
    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>>;

    /// One object's size and time.
    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError>;

    /// One object.
    async fn get(&self, key: &Key) -> Result<Object, StoreError>;

    /// Writes an object of `size_bytes` bytes. When `body` fails or ends early nothing becomes
    /// visible.
    async fn put(
        &self,
        key: &Key,
        size_bytes: u64,
        user_metadata: &BTreeMap<String, String>,
        body: Body,
        mode: PutMode,
    ) -> Result<(), StoreError>;

    /// Removes an object. Removing what is not there is no error.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// The directory under which the keys are files, for stores that are a directory. Tools such
    /// as pgBackRest read it themselves.
    fn local_root(&self) -> Option<PathBuf>;
}

/// A store's address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL.
    #[error("`{0}` is not a URL; write a store as file:///absolute/directory")]
    NotAUrl(String),
    /// A kind of store that does not exist yet.
    #[error("stores of kind `{0}` are not supported; use file:///absolute/directory")]
    Unsupported(String),
    /// A `file` URL without an absolute directory.
    #[error("`{0}` does not name an absolute directory; write file:///absolute/directory")]
    NotADirectory(String),
}

/// Opens the store at a URL. Nothing is touched yet: a store that is down is found out by use.
///
/// # Errors
/// [`AddressError`], with how to write it.
pub fn open(address: &str) -> Result<Arc<dyn BlobStore>, AddressError> {
    let url = url::Url::parse(address).map_err(|_| AddressError::NotAUrl(address.to_owned()))?;
    if url.scheme() != "file" {
        return Err(AddressError::Unsupported(url.scheme().to_owned()));
    }
    let root = url.to_file_path().map_err(|()| AddressError::NotADirectory(address.to_owned()))?;
    Ok(Arc::new(local::LocalStore::new(root)))
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
    use futures_util::TryStreamExt;
    let object = store.get(key).await?;
    let fault = |what: String| StoreError::Unavailable {
        store: store.name().to_owned(),
        doing: "reading",
        key: key.clone(),
        source: what.into(),
    };
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
