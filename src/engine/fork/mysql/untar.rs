//! Unpacks the tar archive of a data directory. Nothing of it leads out of the target.

use crate::restore::tree::{CopyError, Hashed, Tree};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};
use tar::EntryType;

/// An archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    /// It cannot be read.
    #[error("reading the archive failed")]
    Read(#[source] io::Error),
    /// A file cannot be written.
    #[error("writing a file of the archive failed")]
    Write(#[source] crate::restore::error::RestoreError),
    /// Something in it has no place in a data directory.
    #[error("the archive has {path:?}, {why}")]
    Refused {
        /// The entry.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
}

/// Writes the files and directories of `archive` below `target`. The archive is not read behind its
/// end.
///
/// # Errors
/// [`TarError`]. What was written until then stays.
pub(super) fn unpack(archive: impl Read, target: &Path) -> Result<(), TarError> {
    let tree = Tree::new(target.to_owned(), BTreeMap::new());
    let mut archive = tar::Archive::new(BufReader::with_capacity(64 << 10, archive));
    for entry in archive.entries().map_err(TarError::Read)? {
        let mut entry = entry.map_err(TarError::Read)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let refused = |why| TarError::Refused { path: name.clone(), why };
        let path = target
            .join(relative(&name).ok_or_else(|| refused("which leads out of the data directory"))?);
        if kind == EntryType::Directory {
            tree.dir(&path).map_err(TarError::Write)?;
        } else if kind == EntryType::Regular || kind == EntryType::Continuous {
            let size = entry.size();
            match tree.file(&path, &mut entry, size, Hashed::No) {
                Ok(written) if written.bytes == size => {}
                Ok(_) => return Err(refused("which ends early")),
                Err(CopyError::Read(error)) => return Err(TarError::Read(error)),
                Err(CopyError::Write(error)) => return Err(TarError::Write(error)),
                Err(CopyError::Twice) => return Err(refused("which it has twice")),
            }
        } else {
            return Err(refused("which is no file and no directory"));
        }
    }
    Ok(())
}

/// The path of an entry below the data directory: plain names only.
fn relative(name: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, contents) in entries {
            let mut header = tar::Header::new_gnu();
            // Written as it is: the library refuses `..` itself.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(contents.len() as u64);
            header.set_mode(0o777);
            header.set_cksum();
            builder.append(&header, *contents).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_and_directories_are_written_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = archive(&[
            ("./", EntryType::Directory, b""),
            ("./mysql/", EntryType::Directory, b""),
            ("./mysql/a.ibd", EntryType::Regular, b"abc"),
            ("d/b.ibd", EntryType::Regular, b""),
        ]);
        unpack(&bytes[..], dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("mysql/a.ibd")).unwrap(), b"abc");
        assert!(dir.path().join("d/b.ibd").is_file());
        let again = unpack(&bytes[..], dir.path()).unwrap_err();
        assert!(again.to_string().contains("twice"), "{again}");
    }

    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        for (name, kind) in [
            ("../a", EntryType::Regular),
            ("/etc/a", EntryType::Regular),
            ("a/../../b", EntryType::Directory),
            ("a", EntryType::Symlink),
            ("a", EntryType::Link),
            ("a", EntryType::Char),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let inner = dir.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let error = unpack(&archive(&[(name, kind, b"")])[..], &inner).unwrap_err();
            assert!(matches!(error, TarError::Refused { .. }), "{name} {kind:?}: {error}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_truncated_archive_is_noticed() {
        let bytes = archive(&[("a", EntryType::Regular, &[7; 5000])]);
        let dir = tempfile::tempdir().unwrap();
        assert!(unpack(&bytes[..3000], dir.path()).is_err());
    }
}
