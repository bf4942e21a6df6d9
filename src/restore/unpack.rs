//! Turns the plain contents of an object into files.

use crate::{
    domain::hex,
    restore::{
        error::RestoreError,
        place::{Naming, PG_CONTROL, Place, Why, link, place},
        tree::{CopyError, Hashed, Link, Tree},
    },
    sealed::open::Opened,
};
use std::{
    error::Error,
    io::{self, BufRead, BufReader, Read},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};
use tar::{Entry, EntryType};

/// `pg_control` has 8192 bytes.
const CONTROL_BYTES_MAX: u64 = 1 << 20;

/// Writes the files of a tar file. What was written counts only when `opened` has been finished.
///
/// # Errors
/// [`RestoreError`].
pub(super) fn files<R: BufRead>(
    key: &str,
    opened: &mut Opened<R>,
    naming: Naming,
    tree: &Tree,
) -> Result<(), RestoreError> {
    let result = {
        // Headers are small: they are not to be decompressed piece by piece.
        let mut archive = tar::Archive::new(BufReader::with_capacity(64 << 10, &mut *opened));
        each(key, &mut archive, naming, tree)
    };
    result.map_err(|fault| match fault {
        Fault::Read(error) => read_fault(key, opened, error),
        Fault::Whole(error) => error,
    })
}

enum Fault {
    Read(io::Error),
    Whole(RestoreError),
}

const TWICE: Why = "which the base backup has twice";

fn each<R: Read>(
    key: &str,
    archive: &mut tar::Archive<R>,
    naming: Naming,
    tree: &Tree,
) -> Result<(), Fault> {
    for entry in archive.entries().map_err(Fault::Read)? {
        one(key, &mut entry.map_err(Fault::Read)?, naming, tree)?;
    }
    Ok(())
}

fn one<R: Read>(
    key: &str,
    entry: &mut Entry<'_, R>,
    naming: Naming,
    tree: &Tree,
) -> Result<(), Fault> {
    let name = entry.path_bytes().into_owned();
    let refused = |why: Why| {
        let path = String::from_utf8_lossy(&name).into_owned();
        Fault::Whole(RestoreError::Refused { key: key.to_owned(), path, why })
    };
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(()); // A comment on all entries, such as version control puts there.
    }
    let at = place(naming, &name).map_err(refused)?;
    let path = match (&at, tree.path(&at)) {
        (Place::LeftOut, _) => return Ok(()),
        (Place::Control, _) if is_file(kind) => {
            let mut control = Vec::new();
            entry.take(CONTROL_BYTES_MAX).read_to_end(&mut control).map_err(Fault::Read)?;
            tree.hold_control(control);
            return Ok(());
        }
        (_, Some(path)) => path,
        (Place::Tablespace(..), None) => {
            return Err(refused("which is in a tablespace that the base backup does not name"));
        }
        (Place::Control | Place::Data(_), None) => {
            return Err(refused("which is not a file"));
        }
    };
    if is_file(kind) {
        let size = entry.size();
        return match tree.file(&path, entry, size, Hashed::No) {
            Ok(written) if written.bytes == size => Ok(()),
            Ok(_) => Err(refused("which ends early")),
            Err(CopyError::Read(error)) => Err(Fault::Read(error)),
            Err(CopyError::Write(error)) => Err(Fault::Whole(error)),
            Err(CopyError::Twice) => Err(refused(TWICE)),
        };
    }
    let target = entry.link_name_bytes().map(|target| target.into_owned());
    match (kind, at) {
        (EntryType::Directory, _) => tree.dir(&path).map_err(Fault::Whole),
        (EntryType::Symlink, Place::Data(at)) => {
            let to = target.ok_or_else(|| refused("which is a link to nothing"))?;
            link(&at, &to).map_err(refused)?;
            tree.add_link(Link { at, to: PathBuf::from(std::ffi::OsString::from_vec(to)) });
            Ok(())
        }
        (EntryType::Link, _) => {
            // To an earlier entry of the same tar file: the same contents once more.
            let to = target.ok_or_else(|| refused("which is a link to nothing"))?;
            let from = place(naming, &to).map_err(refused)?;
            let from = tree.path(&from).ok_or_else(|| refused("which is a link to no file"))?;
            tree.copy(&from, &path).map_err(|error| match error {
                CopyError::Read(_) => refused("which is a link to a file that is not there"),
                CopyError::Write(error) => Fault::Whole(error),
                CopyError::Twice => refused(TWICE),
            })
        }
        _ => Err(refused("which is no file, no directory and no link")),
    }
}

fn is_file(kind: EntryType) -> bool {
    kind == EntryType::Regular || kind == EntryType::Continuous
}

/// Writes one shared file, and its copies.
///
/// # Errors
/// [`RestoreError`].
pub(super) fn copies<R: BufRead>(
    key: &str,
    opened: &mut Opened<R>,
    plain_bytes: u64,
    digest: &str,
    places: &[Place],
    tree: &Tree,
) -> Result<(), RestoreError> {
    let refused =
        |why| RestoreError::Refused { key: key.to_owned(), path: format!("{places:?}"), why };
    let mut paths = Vec::new();
    for place in places {
        paths.push(tree.path(place).ok_or_else(|| refused("which is no shared file"))?);
    }
    let Some((first, others)) = paths.split_first() else { return Ok(()) };
    let written = match tree.file(first, opened, plain_bytes, Hashed::Yes) {
        Ok(written) => written,
        Err(CopyError::Read(error)) => return Err(read_fault(key, opened, error)),
        Err(CopyError::Write(error)) => return Err(error),
        Err(CopyError::Twice) => return Err(refused(TWICE)),
    };
    let found = hex::lower(&written.digest.unwrap_or_default());
    if found != digest {
        return Err(RestoreError::Digest { key: key.to_owned(), found });
    }
    for other in others {
        tree.copy(first, other).map_err(|error| match error {
            CopyError::Read(source) => RestoreError::target("reading", first)(source),
            CopyError::Write(error) => error,
            CopyError::Twice => refused(TWICE),
        })?;
    }
    Ok(())
}

/// What an error of reading means: of the object when reading it has failed, else of the tar file.
fn read_fault<R: BufRead>(key: &str, opened: &Opened<R>, error: io::Error) -> RestoreError {
    let key = key.to_owned();
    if opened.failed() {
        RestoreError::Sealed { key, source: opened.fault(error) }
    } else {
        RestoreError::Tar { key, what: chain(&error) }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Where the held file goes in the end.
pub(super) fn control_path(root: &Path) -> PathBuf {
    root.join(PG_CONTROL)
}
