//! Brings what a recovery needs from a remote store to this machine, and nothing else.
//!
//! pgBackRest and PostgreSQL read files. Where the copy is not in a directory, the objects of one
//! base backup and its log are copied below the fork's own directory first, in the layout of the
//! repository. That may be repeated: what is there with the right size is not copied again.

use crate::{
    domain::recovery::{Codec, HistoryObject, LogObject, RecoveryPlan},
    engine::{
        catalog::{
            files::read_small,
            reading::{SEGMENT_OBJECT_BYTES_MAX, open},
        },
        error::chain,
        replicate::{
            execute::{FILES_AT_ONCE, Progress, Sides, execute},
            plan::{Proof, Stage, Step},
        },
    },
    layout::{
        BackupFormat, BackupPlace,
        pgbackrest::{keys, manifest},
    },
    sealed::keys::Keys,
    store::{BlobStore, Condition, Contents, StoreError, key::Key, local::LocalStore, read_all},
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};
use tokio_util::sync::CancellationToken;

/// Segments that are opened at the same time. Each is held in memory.
const SEGMENTS_OPENED_AT_ONCE: usize = 4;

/// The objects could not be brought here.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The copy cannot be read.
    #[error("reading the copy failed")]
    Store(#[from] StoreError),
    /// Something that was there when the recovery was planned is not any more.
    #[error("the copy has changed since the fork was asked for: {0}; fork again")]
    Changed(String),
    /// Objects could not be copied to this machine.
    #[error("bringing the base backup to this machine failed: {0}")]
    Copy(String),
    /// The directory cannot be used.
    #[error("using {dir} failed")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The engine is being stopped, or the fork deleted.
    #[error("interrupted")]
    Interrupted,
}

/// Copies everything that `plan` needs from `place` in `store` below `dir`, and gives the directory
/// that stands for the store's root.
///
/// # Errors
/// [`StageError`]; what was copied stays for the next attempt.
pub async fn stage(
    store: Arc<dyn BlobStore>,
    place: &BackupPlace,
    plan: &RecoveryPlan,
    dir: &Path,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<PathBuf, StageError> {
    let root = root_of(dir);
    make_private(&root)?;
    let local = Arc::new(LocalStore::new(root.clone()));
    let needed = needed(&*store, place, plan).await?;
    let mut steps = Vec::new();
    for key in needed {
        let full =
            place.prefix.join(&key).map_err(|error| StageError::Changed(error.to_string()))?;
        let size_bytes = match store.head(&full).await {
            Ok(meta) => meta.size_bytes,
            Err(StoreError::NotFound(_)) => {
                return Err(StageError::Changed(format!("{key} is missing")));
            }
            Err(error) => return Err(error.into()),
        };
        let there = local.head(&full).await.is_ok_and(|meta| meta.size_bytes == size_bytes);
        if !there {
            steps.push(Step::Copy { key, size_bytes, proof: Proof::Size, replace: true });
        }
    }
    let sides = Sides {
        source: store,
        source_prefix: place.prefix.clone(),
        target: local,
        target_prefix: place.prefix.clone(),
    };
    let stages = [Stage { name: "staging", steps }];
    let errors = execute(&sides, &stages, FILES_AT_ONCE, progress, stop).await;
    if stop.is_cancelled() {
        return Err(StageError::Interrupted);
    }
    match errors.first() {
        None => Ok(root),
        Some(error) => Err(StageError::Copy(chain(error))),
    }
}

/// Opens the log that `plan` needs, of a site of PGHoard, and writes it below `dir`, plain but for a
/// quick compression: `restore_command` needs no key then, and each segment is proven before it is
/// asked for. Gives the directory and the plan with the keys below it.
///
/// # Errors
/// [`StageError`]; what was written stays for the next attempt.
pub async fn open_log(
    store: &dyn BlobStore,
    plan: &RecoveryPlan,
    dir: &Path,
    keys: &Arc<Keys>,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<(PathBuf, RecoveryPlan), StageError> {
    let root = root_of(dir);
    make_private(&root)?;
    let local = &LocalStore::new(root.clone());
    let bytes = plan.log.iter().map(|object| object.size_bytes).sum();
    progress.total_bytes.store(bytes, Ordering::Relaxed);
    let mut opened = plan.clone();
    let one = |object: LogObject| async move {
        let name = object.segment.file_name(plan.segment_size);
        let sealed = Sealed {
            key: &object.key,
            codec: object.codec,
            key_id: object.key_id.as_deref(),
            sha1: object.sha1.as_deref(),
        };
        let to = format!("log/{name}.zst");
        let size_bytes = sealed.open(store, keys, local, &to, stop).await?;
        progress.done_bytes.fetch_add(object.size_bytes, Ordering::Relaxed);
        let (codec, key_id) = (Codec::Zst, None);
        Ok::<_, StageError>(LogObject { key: to, size_bytes, codec, key_id, ..object })
    };
    let segments = stream::iter(plan.log.clone()).map(|object| one(object).boxed());
    opened.log = segments.buffered(SEGMENTS_OPENED_AT_ONCE).try_collect().await?;
    opened.histories.clear();
    for history in &plan.histories {
        let HistoryObject { timeline, key, codec, key_id, .. } = history;
        let sealed = Sealed { key, codec: *codec, key_id: key_id.as_deref(), sha1: None };
        let text = sealed.contents(store, keys).await?;
        let (key, size_bytes) = (format!("log/{}", timeline.history_file()), text.len() as u64);
        write(local, &key, text).await?;
        let (codec, key_id) = (Codec::None, None);
        opened.histories.push(HistoryObject {
            timeline: *timeline,
            key,
            size_bytes,
            codec,
            key_id,
        });
    }
    Ok((root, opened))
}

/// An object of the log as it is stored.
struct Sealed<'a> {
    key: &'a str,
    codec: Codec,
    key_id: Option<&'a str>,
    /// Of segments.
    sha1: Option<&'a str>,
}

impl Sealed<'_> {
    /// Writes the plain contents, quickly compressed, to `to` unless they are there. Gives the size.
    async fn open(
        &self,
        store: &dyn BlobStore,
        keys: &Arc<Keys>,
        local: &LocalStore,
        to: &str,
        stop: &CancellationToken,
    ) -> Result<u64, StageError> {
        if stop.is_cancelled() {
            return Err(StageError::Interrupted);
        }
        let there = Key::parse(to).map_err(|error| StageError::Changed(error.to_string()))?;
        if let Ok(meta) = local.head(&there).await {
            return Ok(meta.size_bytes);
        }
        let plain = self.contents(store, keys).await?;
        let packed = tokio::task::spawn_blocking(move || zstd::encode_all(&plain[..], 1)).await;
        let packed = packed.expect("the compressor does not panic");
        let packed = packed.map_err(|error| StageError::Copy(error.to_string()))?;
        let size_bytes = packed.len() as u64;
        write(local, to, packed).await?;
        Ok(size_bytes)
    }

    /// The plain contents, proven where that is possible.
    async fn contents(
        &self,
        store: &dyn BlobStore,
        keys: &Arc<Keys>,
    ) -> Result<Vec<u8>, StageError> {
        let changed = |what: String| StageError::Changed(format!("{}: {what}", self.key));
        let key = Key::parse(self.key).map_err(|error| changed(error.to_string()))?;
        let object = match read_all(store, &key, SEGMENT_OBJECT_BYTES_MAX).await {
            Ok((_, object)) => object,
            Err(StoreError::NotFound(_)) => return Err(changed("it is missing".to_owned())),
            Err(error) => return Err(error.into()),
        };
        let (codec, keys) = (self.codec, keys.clone());
        let (key_id, sha1) = (self.key_id.map(str::to_owned), self.sha1.map(str::to_owned));
        let opened = tokio::task::spawn_blocking(move || {
            open(codec, key_id.as_deref(), &object, sha1.as_deref(), &keys)
        });
        opened.await.expect("the decoder does not panic").map_err(changed)
    }
}

async fn write(local: &LocalStore, key: &str, bytes: Vec<u8>) -> Result<(), StageError> {
    let key = Key::parse(key).map_err(|error| StageError::Changed(error.to_string()))?;
    local.write(&key, Contents::of(bytes.into()), &Condition::None).await.map(drop)?;
    Ok(())
}

fn make_private(root: &Path) -> Result<(), StageError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.map_err(|source| StageError::Directory { dir: root.to_owned(), source })
}

/// Where the objects of the fork in `dir` are brought to.
#[must_use]
pub fn root_of(dir: &Path) -> PathBuf {
    dir.join("staged")
}

/// The keys that one recovery needs, below the repository's prefix.
async fn needed(
    store: &dyn BlobStore,
    place: &BackupPlace,
    plan: &RecoveryPlan,
) -> Result<Vec<String>, StageError> {
    let BackupFormat::PgBackRest { stanza } = &place.format else { return Ok(Vec::new()) };
    let main = keys::manifest(stanza, &plan.backup_name);
    let missing = || StageError::Changed(format!("{main} is missing"));
    let key = place.prefix.join(&main).map_err(|error| StageError::Changed(error.to_string()))?;
    let bytes = read_small(store, &key).await?.ok_or_else(missing)?;
    let needs = manifest::needs(stanza, &plan.backup_name, &bytes)
        .map_err(|error| StageError::Changed(error.to_string()))?;
    let mut needed: BTreeMap<String, ()> = needs.objects.into_keys().map(|key| (key, ())).collect();
    needed.insert(main, ());
    needed.insert(keys::backup_info(stanza), ());
    needed.insert(keys::archive_info(stanza), ());
    let log = plan.log.iter().map(|object| &object.key);
    for key in log.chain(plan.histories.iter().map(|object| &object.key)) {
        let relative =
            Key::parse(key).ok().and_then(|key| key.below(&place.prefix).map(str::to_owned));
        let outside = || StageError::Changed(format!("{key} lies outside the repository"));
        needed.insert(relative.ok_or_else(outside)?, ());
    }
    Ok(needed.into_keys().collect())
}
