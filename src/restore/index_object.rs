//! Reads the tar file in an index object, which has a few small files and empty directories.

use crate::{
    layout::pghoard::index::{self, TarMetadata},
    restore::{
        error::RestoreError,
        place::{Naming, Place, place},
    },
};
use std::io::Read;
use tar::EntryType;

/// Largest index, plain, in bytes. The manifest takes about 250 bytes a file.
pub const INDEX_BYTES_MAX: u64 = 2 << 30;
/// `pg_control` has 8192 bytes.
const SMALL_BYTES_MAX: u64 = 1 << 20;

/// What an index object holds.
#[derive(Debug, PartialEq, Eq)]
pub struct IndexObject {
    /// What the base backup consists of.
    pub metadata: TarMetadata,
    /// `global/pg_control`.
    pub control: Vec<u8>,
    /// Other files, such as `backup_label`.
    pub files: Vec<(Place, Vec<u8>)>,
    /// Directories.
    pub dirs: Vec<Place>,
}

/// Reads the plain tar file of the index `key` of `backup`.
///
/// # Errors
/// [`RestoreError`].
pub fn read(key: &str, backup: &str, tar: &[u8]) -> Result<IndexObject, RestoreError> {
    let broken = |error: std::io::Error| RestoreError::Tar {
        key: key.to_owned(),
        what: crate::restore::unpack::chain(&error),
    };
    let (mut metadata, mut control) = (None, None);
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for entry in tar::Archive::new(tar).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path_bytes().into_owned();
        let refused = |why| RestoreError::Refused {
            key: key.to_owned(),
            path: String::from_utf8_lossy(&path).into_owned(),
            why,
        };
        let kind = entry.header().entry_type();
        let at = place(Naming::Prefixed, &path).map_err(refused)?;
        if kind == EntryType::Directory {
            dirs.push(at);
            continue;
        }
        if kind != EntryType::Regular && kind != EntryType::Continuous {
            return Err(refused("which is neither a file nor a directory"));
        }
        let is_metadata = path == index::FILE.as_bytes();
        let limit = if is_metadata { INDEX_BYTES_MAX } else { SMALL_BYTES_MAX };
        let size = entry.size();
        if size > limit {
            return Err(refused("which is larger than such a file ever is"));
        }
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).map_err(broken)?;
        if contents.len() as u64 != size {
            return Err(refused("which ends early"));
        }
        match at {
            _ if is_metadata => metadata = Some(contents),
            Place::Control => control = Some(contents),
            Place::LeftOut => {}
            Place::Data(_) | Place::Tablespace(..) => files.push((at, contents)),
        }
    }
    let missing = |file| RestoreError::NotInIndex { key: key.to_owned(), file };
    let json = metadata.ok_or_else(|| missing(index::FILE))?;
    let metadata = TarMetadata::parse(backup, &json)
        .map_err(|source| RestoreError::Index { key: key.to_owned(), source })?;
    let control = control.ok_or_else(|| missing("pgdata/global/pg_control"))?;
    Ok(IndexObject { metadata, control, files, dirs })
}
