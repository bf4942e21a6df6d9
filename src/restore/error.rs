//! Why a base backup could not be restored.

use crate::{
    layout::pghoard::{index::IndexError, metadata::MetadataError},
    restore::plan::PlanError,
    sealed::SealedError,
    store::StoreError,
};
use std::{io, path::PathBuf};

/// A base backup could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no such base backup.
    #[error(
        "there is no base backup `{0}` in this place; `basebackup/` below the site's prefix lists \
         those that are there"
    )]
    NoBackup(String),
    /// An object that the index names is not there.
    #[error("the object {0} is missing, so this base backup cannot be restored; choose another")]
    MissingObject(String),
    /// The store cannot be read.
    #[error("reading the store failed")]
    Store(#[from] StoreError),
    /// An object's metadata cannot be used.
    #[error("using the metadata of the object {key} failed")]
    Metadata {
        /// The object.
        key: String,
        /// Why.
        #[source]
        source: MetadataError,
    },
    /// An object cannot be opened.
    #[error("opening the object {key} failed")]
    Sealed {
        /// The object.
        key: String,
        /// Why.
        #[source]
        source: SealedError,
    },
    /// An object has another size than the index says.
    #[error(
        "the object {key} has {found} bytes {what} and the index says {expected}: it is of another \
         base backup, or the copy is damaged"
    )]
    Size {
        /// The object.
        key: String,
        /// `stored` or `decompressed`.
        what: &'static str,
        /// In bytes.
        expected: u64,
        /// In bytes.
        found: u64,
    },
    /// A shared file is not the one that its name promises.
    #[error("the object {key} holds contents whose BLAKE2s is {found}: the copy is damaged")]
    Digest {
        /// The object.
        key: String,
        /// What is there.
        found: String,
    },
    /// A tar file is none, or ends early.
    #[error("reading the tar file in the object {key} failed: {what}")]
    Tar {
        /// The object.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// A tar file has something that no data directory has.
    #[error("the object {key} has the entry `{path}`, {why}; nothing of this kind is restored")]
    Refused {
        /// The object.
        key: String,
        /// The entry.
        path: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// The index cannot be used.
    #[error("using the index {key} failed")]
    Index {
        /// The index.
        key: String,
        /// Why.
        #[source]
        source: IndexError,
    },
    /// The index lacks what every index has.
    #[error("the index {key} has no `{file}`: it is damaged, or not made by PGHoard")]
    NotInIndex {
        /// The index.
        key: String,
        /// What is missing.
        file: &'static str,
    },
    /// The index asks for something that cannot be done.
    #[error("planning the restore of the base backup {backup} failed")]
    Plan {
        /// The base backup.
        backup: String,
        /// Why.
        #[source]
        source: Box<PlanError>,
    },
    /// A file that must be in the base backup was in none of its objects.
    #[error("the base backup lacks the file `{0}`, and cannot be used; choose another")]
    MissingFile(String),
    /// There is something in the target directory.
    #[error(
        "{0} is not empty and not of an interrupted restore: choose another directory, or empty it"
    )]
    TargetInUse(PathBuf),
    /// A tablespace has no place.
    #[error(
        "the base backup has the tablespace `{name}` and no directory was given for it (on the \
         source it was {path}); give one, outside of the data directory"
    )]
    NoTablespace {
        /// The tablespace.
        name: String,
        /// Where it was on the source.
        path: String,
    },
    /// Writing failed.
    #[error("{doing} {path} failed")]
    Target {
        /// Such as `writing`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was asked for.
    #[error("interrupted")]
    Interrupted,
}

impl RestoreError {
    /// Gives an error of the file system its place.
    pub(super) fn target(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Target { doing, path, source }
    }
}
