//! Restores base backups of PGHoard from a store into a data directory, without any other tool.
//!
//! 1. The index object is read and checked; from it comes the plan: every object, every file.
//! 2. A marker is put into the target directory, which must be empty or have such a marker.
//! 3. Objects are streamed through decryption, decompression and tar into files, several at a
//!    time. Nothing counts before its object's checksums, which come at its end, are right.
//! 4. Links to tablespaces are made, and everything is written through to the disk.
//! 5. `global/pg_control`, without which PostgreSQL does not start, comes last; then the marker
//!    goes.
//!
//! Whatever fails leaves the marker and no `pg_control`: the same call may be made again, and
//! begins anew.

pub mod error;
pub mod tablespaces;

pub mod place;
pub mod plan;

pub mod index_object;
mod unpack;

mod jobs;
mod prepare;
mod settle;
pub mod tree;

use crate::{
    restore::{error::RestoreError, plan::Plan, tablespaces::Placement},
    sealed::keys::Keys,
    store::{BlobStore, key::Key},
};
use std::{fmt, num::NonZeroUsize, path::Path};
use tokio_util::sync::CancellationToken;

/// What to restore, and where.
pub struct Order<'a> {
    /// The store to read, whose objects must have their user metadata.
    pub store: &'a dyn BlobStore,
    /// The prefix of the site.
    pub prefix: &'a Key,
    /// The base backup, such as `2026-11-23_09-01_1`.
    pub backup: &'a str,
    /// Private keys for what is encrypted.
    pub keys: &'a Keys,
    /// The data directory to be: empty, absent, or of a restore that was interrupted.
    pub target: &'a Path,
    /// Where tablespaces go.
    pub tablespaces: &'a Placement,
    /// Objects at a time. Each uses a core and a few megabytes.
    pub parallel: NonZeroUsize,
    /// Called now and then, from any thread.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Ends the restore early.
    pub stop: &'a CancellationToken,
}

impl fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("store", &self.store.name())
            .field("prefix", &self.prefix)
            .field("backup", &self.backup)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Read from the store, in bytes.
    pub stored_bytes_read: u64,
    /// To be read in all, in bytes.
    pub stored_bytes: u64,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Files.
    pub files: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// Objects that were read.
    pub objects: usize,
}

/// Restores a base backup. PostgreSQL can begin archive recovery in the target then; its
/// configuration files are those of the server that was backed up.
///
/// To end it early, cancel `order.stop` and wait: who drops the future leaves threads behind that
/// write for a moment longer.
///
/// # Errors
/// [`RestoreError`]. The target has a marker then, and the call may be repeated.
pub async fn restore(order: &Order<'_>) -> Result<Restored, RestoreError> {
    let index = jobs::read_index(order).await?;
    let objects = index.objects();
    let plan = Plan::new(index).map_err(|source| RestoreError::Plan {
        backup: order.backup.to_owned(),
        source: Box::new(source),
    })?;
    let tree = prepare::prepare(order.target, order.tablespaces, &plan).await?;
    jobs::run(order, &plan, &tree).await?;
    settle::settle(plan, tree.clone()).await?;
    let (files, bytes) = tree.written();
    Ok(Restored { files, bytes, objects })
}
