//! The object-store seam: a few operations that every store can do, with the same promises.

pub mod key;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use key::Key;
use std::{collections::BTreeMap, fmt, path::PathBuf};

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
