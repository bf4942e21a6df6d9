//! The manifest of a base backup in delta mode: every file, and where its contents are.

use crate::layout::pghoard::keys;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use std::collections::BTreeSet;

/// A manifest is not what PGHoard writes.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It says of a file neither contents nor a place.
    #[error("it does not say where the contents of `{0}` are")]
    Nowhere(String),
    /// What names a shared file is no digest.
    #[error("it says that the contents of `{path}` are in `{digest}`, which is no BLAKE2s digest")]
    NoDigest {
        /// The file.
        path: String,
        /// What is there.
        digest: String,
    },
    /// Embedded contents cannot be read, or have another size than the file.
    #[error("the embedded contents of `{0}` are damaged")]
    Embedded(String),
}

/// All files of a base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Directories, relative to the data directory.
    pub dirs: Vec<String>,
    /// Files.
    pub files: Vec<File>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path relative to the data directory.
    pub path: String,
    /// Its size, in bytes. Of bundled files the size when the backup began: they may have grown
    /// before they were copied.
    pub size_bytes: u64,
    /// Where its contents are.
    pub contents: Contents,
}

/// Where the contents of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Here.
    Embedded(Vec<u8>),
    /// In an object that is named after them.
    Shared {
        /// BLAKE2s of the contents, in lower-case hexadecimal digits.
        digest: String,
        /// Size of the object, in bytes.
        stored_bytes: u64,
    },
    /// In one of the chunks.
    Bundled {
        /// Whether it may have vanished while it was to be copied.
        may_be_missing: bool,
    },
}

impl Manifest {
    /// Digests of all shared files that the base backup refers to.
    #[must_use]
    pub fn digests(&self) -> BTreeSet<&str> {
        self.files
            .iter()
            .filter_map(|file| match &file.contents {
                Contents::Shared { digest, .. } => Some(digest.as_str()),
                Contents::Embedded(_) | Contents::Bundled { .. } => None,
            })
            .collect()
    }
}

/// As it is written. What a restore does not need is left out.
#[derive(Deserialize)]
pub(super) struct Stored {
    snapshot_result: SnapshotResult,
}

#[derive(Deserialize)]
struct SnapshotResult {
    state: SnapshotState,
}

#[derive(Deserialize)]
struct SnapshotState {
    files: Vec<SnapshotFile>,
    #[serde(default)]
    empty_dirs: Vec<String>,
}

#[derive(Deserialize)]
struct SnapshotFile {
    relative_path: String,
    file_size: u64,
    #[serde(default)]
    stored_file_size: u64,
    #[serde(default)]
    hexdigest: Option<String>,
    #[serde(default)]
    content_b64: Option<String>,
    #[serde(default)]
    should_be_bundled: bool,
    /// The first format did not know it, and put up with files that vanish.
    #[serde(default = "yes")]
    missing_ok: bool,
}

fn yes() -> bool {
    true
}

impl TryFrom<Stored> for Manifest {
    type Error = ManifestError;
    fn try_from(stored: Stored) -> Result<Self, ManifestError> {
        let state = stored.snapshot_result.state;
        let files = state.files.into_iter().map(File::try_from).collect::<Result<_, _>>()?;
        Ok(Self { dirs: state.empty_dirs, files })
    }
}

impl TryFrom<SnapshotFile> for File {
    type Error = ManifestError;
    fn try_from(stored: SnapshotFile) -> Result<Self, ManifestError> {
        let path = stored.relative_path;
        // In this order, which is PGHoard's: a digest goes before contents, and contents that are
        // empty are contents.
        let contents = match (stored.hexdigest.filter(|d| !d.is_empty()), stored.content_b64) {
            (Some(digest), _) if keys::is_digest(&digest) => {
                Contents::Shared { digest, stored_bytes: stored.stored_file_size }
            }
            (Some(digest), _) => return Err(ManifestError::NoDigest { path, digest }),
            (None, Some(text)) => match STANDARD.decode(text) {
                Ok(bytes) if bytes.len() as u64 == stored.file_size => Contents::Embedded(bytes),
                Ok(_) | Err(_) => return Err(ManifestError::Embedded(path)),
            },
            (None, None) if stored.should_be_bundled => {
                Contents::Bundled { may_be_missing: stored.missing_ok }
            }
            (None, None) => return Err(ManifestError::Nowhere(path)),
        };
        Ok(Self { path, size_bytes: stored.file_size, contents })
    }
}
