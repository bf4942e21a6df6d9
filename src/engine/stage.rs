//! Brings what a recovery needs from a remote store to this machine, and nothing else.
//!
//! pgBackRest and PostgreSQL read files. Where the copy is not in a directory, the objects of one
//! base backup and its log are copied below the fork's own directory first, in the layout of the
//! repository. That may be repeated: what is there with the right size is not copied again.

use crate::{
    domain::recovery::RecoveryPlan,
    engine::{
        catalog::files::read_small,
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
    store::{BlobStore, StoreError, key::Key, local::LocalStore},
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

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
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&root)
        .map_err(|source| StageError::Directory { dir: root.clone(), source })?;
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
    let BackupFormat::PgBackRest { stanza } = &place.format;
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
