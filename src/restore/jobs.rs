//! Reads the objects of a base backup, several at a time.

use crate::{
    layout::pghoard::{
        keys::index_keys,
        metadata::{BackupFormat, BackupMetadata, Coding, MetadataError, Raw},
    },
    restore::{
        Order, Progress,
        error::RestoreError,
        index_object::{self, INDEX_BYTES_MAX},
        plan::{Becomes, Index, Job, Plan},
        tree::Tree,
        unpack,
    },
    sealed::{open::Opened, small::open_bytes},
    store::{
        Object, StoreError,
        feed::{Feed, Pumped, pair},
        key::Key,
        read_all,
    },
};
use futures_util::{FutureExt, StreamExt, stream};
use std::sync::atomic::{AtomicU64, Ordering};

/// Finds the index, reads it where the base backup has one, and checks it.
pub(super) async fn read_index(order: &Order<'_>) -> Result<Index, RestoreError> {
    for relative in index_keys(order.backup) {
        let key = full(order.prefix, &relative)?;
        let raw = match order.store.user_metadata(&key).await {
            Ok(raw) => raw,
            Err(StoreError::NotFound(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let metadata = BackupMetadata::of(&raw)
            .map_err(|source| RestoreError::Metadata { key: key.to_string(), source })?;
        return match metadata.format {
            BackupFormat::Raw | BackupFormat::WholeTar => {
                let stored_bytes = order.store.head(&key).await?.size_bytes;
                Ok(Index::Whole { key: relative, metadata, stored_bytes })
            }
            BackupFormat::Chunks | BackupFormat::Delta => parse_index(order, key, metadata).await,
        };
    }
    Err(RestoreError::NoBackup(order.backup.to_owned()))
}

async fn parse_index(
    order: &Order<'_>,
    key: Key,
    metadata: BackupMetadata,
) -> Result<Index, RestoreError> {
    let (_, bytes) = read_all(order.store, &key, INDEX_BYTES_MAX).await?;
    let (keys, backup) = (order.keys.clone(), order.backup.to_owned());
    blocking(move || {
        let tar = open_bytes(&bytes, &metadata.coding, &keys, INDEX_BYTES_MAX)
            .map_err(|source| RestoreError::Sealed { key: key.to_string(), source })?;
        let object = index_object::read(key.as_str(), &backup, &tar)?;
        Ok(Index::Read { metadata, object })
    })
    .await
}

/// Does all jobs of the plan. The first error ends the rest.
pub(super) async fn run(order: &Order<'_>, plan: &Plan, tree: &Tree) -> Result<(), RestoreError> {
    let total = plan.jobs.iter().map(|job| job.about_bytes).sum();
    let read = AtomicU64::new(0);
    let count = |bytes: usize| {
        let stored_bytes_read = read.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        (order.progress)(Progress { stored_bytes_read, stored_bytes: total });
    };
    // One that failed must end the others *and* wait for their threads: a repeated restore empties
    // the directory, and nobody may write into it then.
    let stop = order.stop.child_token();
    let mut first = None;
    let jobs: Vec<_> =
        plan.jobs.iter().map(|job| one(order, job, tree, &stop, &count).boxed()).collect();
    let mut running = stream::iter(jobs).buffer_unordered(order.parallel.get());
    while let Some(result) = running.next().await {
        if let Err(error) = result {
            stop.cancel();
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

async fn one(
    order: &Order<'_>,
    job: &Job,
    tree: &Tree,
    stop: &tokio_util::sync::CancellationToken,
    count: &(dyn Fn(usize) + Sync),
) -> Result<(), RestoreError> {
    if stop.is_cancelled() {
        return Err(RestoreError::Interrupted);
    }
    let key = full(order.prefix, &job.key)?;
    let object = match order.store.get(&key).await {
        Err(StoreError::NotFound(key)) => {
            return Err(RestoreError::MissingObject(key.to_string()));
        }
        got => got?,
    };
    let found = object.meta.size_bytes;
    if let Some(expected) = job.stored_bytes.filter(|expected| *expected != found) {
        let key = key.to_string();
        return Err(RestoreError::Size { key, what: "stored", expected, found });
    }
    let Object { user_metadata, body, meta: _ } = object;
    let (pump, feed) = pair();
    let (job, tree, keys) = (job.clone(), tree.clone(), order.keys.clone());
    let decoding = blocking(move || decode(&key, &user_metadata, feed, &job, &keys, &tree));
    let (pumped, decoded) = tokio::join!(pump.run(body, stop, count), decoding);
    match pumped {
        // What the thread says then is that the body ended early.
        Pumped::Failed(error) => Err(error.into()),
        Pumped::Stopped => Err(RestoreError::Interrupted),
        Pumped::Whole => decoded,
    }
}

/// Opens one object and writes what it becomes.
fn decode(
    key: &Key,
    raw: &Raw,
    feed: Feed,
    job: &Job,
    keys: &crate::sealed::keys::Keys,
    tree: &Tree,
) -> Result<(), RestoreError> {
    let key = key.as_str();
    let metadata = |source| RestoreError::Metadata { key: key.to_owned(), source };
    let sealed = |source| RestoreError::Sealed { key: key.to_owned(), source };
    let coding = Coding::of(raw).map_err(metadata)?;
    // Every object of a base backup says its plain size. Without it its metadata were lost, and
    // compressed bytes would be taken for plain ones.
    let found =
        coding.plain_bytes.ok_or_else(|| metadata(MetadataError::Missing("original-file-size")))?;
    if let Some(expected) = job.plain_bytes.filter(|expected| *expected != found) {
        let key = key.to_owned();
        return Err(RestoreError::Size { key, what: "decompressed", expected, found });
    }
    let mut opened = Opened::begin(feed, &coding, keys).map_err(sealed)?;
    match &job.becomes {
        Becomes::Files(naming) => unpack::files(key, &mut opened, *naming, tree)?,
        Becomes::Copies { digest, places } => {
            unpack::copies(key, &mut opened, found, digest, places, tree)?;
        }
    }
    opened.finish().map_err(sealed).map(drop)
}

fn full(prefix: &Key, relative: &str) -> Result<Key, RestoreError> {
    // Only names that were looked at become keys; what is none has no object.
    prefix.join(relative).map_err(|_| RestoreError::MissingObject(relative.to_owned()))
}

/// Runs what blocks on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, RestoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(RestoreError::Interrupted),
    }
}
