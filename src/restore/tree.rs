//! Files and directories of a restore, written by several threads into one tree.
//!
//! The tree has no symbolic link while anything is written: links are made when everything else is
//! there, so that no name leads out of it.

use crate::restore::{error::RestoreError, place::Place};
use blake2::{Blake2s256, Digest};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How much is copied at once, in bytes. A page cache takes a larger piece in larger pages, for which an
/// old system has to move others first.
const PIECE: usize = 128 << 10;
/// Files of this size have their room reserved at once, in bytes: else the file system looks for the
/// place of each of their blocks, which takes longer than to copy the contents.
const RESERVED_BYTES_MIN: u64 = 1 << 20;

/// The tree. Clones share it.
#[derive(Clone, Debug)]
pub struct Tree {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    tablespaces: BTreeMap<String, PathBuf>,
    /// Directories that are there, so that not every file asks the system for them.
    dirs: Mutex<HashSet<PathBuf>>,
    links: Mutex<Vec<Link>>,
    control: Mutex<Option<Vec<u8>>>,
    /// Buffers of [`PIECE`] bytes, one for each thread that writes: most files are smaller than one.
    buffers: Mutex<Vec<Vec<u8>>>,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// A link within the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it is, below the data directory.
    pub at: PathBuf,
    /// What it says.
    pub to: PathBuf,
}

/// What was written into a file.
#[derive(Debug)]
pub struct Written {
    /// Its size, in bytes.
    pub bytes: u64,
    /// BLAKE2s of the contents, when it was asked for.
    pub digest: Option<[u8; 32]>,
}

/// Which side of a copy failed.
#[derive(Debug)]
pub enum CopyError {
    /// Reading the contents.
    Read(io::Error),
    /// Writing the file.
    Write(RestoreError),
    /// There is such a file already. No base backup has a file twice, and which one would be right
    /// is not known.
    Twice,
}

impl Tree {
    /// A tree below `root`, which exists, with the directories of tablespaces by their names.
    #[must_use]
    pub fn new(root: PathBuf, tablespaces: BTreeMap<String, PathBuf>) -> Self {
        let shared = Shared {
            root,
            tablespaces,
            dirs: Mutex::default(),
            links: Mutex::default(),
            control: Mutex::default(),
            buffers: Mutex::default(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The data directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// The directories of tablespaces.
    #[must_use]
    pub fn tablespaces(&self) -> &BTreeMap<String, PathBuf> {
        &self.shared.tablespaces
    }

    /// Files and bytes that were written.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        (self.shared.files.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed))
    }

    /// The path of a place; `None` for what is not written, or is in a tablespace that nobody knows.
    #[must_use]
    pub fn path(&self, place: &Place) -> Option<PathBuf> {
        match place {
            Place::Data(path) => Some(self.shared.root.join(path)),
            Place::Tablespace(name, path) => {
                self.shared.tablespaces.get(name).map(|dir| dir.join(path))
            }
            Place::Control | Place::LeftOut => None,
        }
    }

    /// Makes a directory and those above it, for the owner alone.
    ///
    /// # Errors
    /// [`RestoreError::Target`].
    pub fn dir(&self, path: &Path) -> Result<(), RestoreError> {
        if lock(&self.shared.dirs).contains(path) {
            return Ok(());
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(RestoreError::target("making the directory", path))?;
        lock(&self.shared.dirs).insert(path.to_owned());
        Ok(())
    }

    /// Writes a new file for the owner alone, which should come to have `expected_bytes`.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn file(
        &self,
        path: &Path,
        contents: &mut impl Read,
        expected_bytes: u64,
        hashed: Hashed,
    ) -> Result<Written, CopyError> {
        let write = |error| CopyError::Write(RestoreError::target("writing", path)(error));
        if let Some(parent) = path.parent() {
            self.dir(parent).map_err(CopyError::Write)?;
        }
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = opened.map_err(|error| {
            let twice = error.kind() == io::ErrorKind::AlreadyExists;
            if twice { CopyError::Twice } else { write(error) }
        })?;
        reserve(&file, expected_bytes);
        let mut hash = match hashed {
            Hashed::Yes => Some(Blake2s256::new()),
            Hashed::No => None,
        };
        let kept = lock(&self.shared.buffers).pop();
        let (mut buffer, mut bytes) = (kept.unwrap_or_else(|| vec![0; PIECE]), 0_u64);
        loop {
            let count = match contents.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CopyError::Read(error)),
            };
            file.write_all(&buffer[..count]).map_err(write)?;
            if let Some(hash) = &mut hash {
                hash.update(&buffer[..count]);
            }
            bytes += count as u64;
        }
        lock(&self.shared.buffers).push(buffer);
        self.shared.files.fetch_add(1, Ordering::Relaxed);
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Written { bytes, digest: hash.map(|hash| hash.finalize().into()) })
    }

    /// Writes a second file with the contents of one that was written.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn copy(&self, from: &Path, to: &Path) -> Result<(), CopyError> {
        let mut source = fs::OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0))
            .open(from)
            .map_err(CopyError::Read)?;
        let bytes = source.metadata().map_err(CopyError::Read)?.len();
        self.file(to, &mut source, bytes, Hashed::No).map(drop)
    }

    /// Remembers a link for the end.
    pub fn add_link(&self, link: Link) {
        lock(&self.shared.links).push(link);
    }

    /// The links that were remembered.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        lock(&self.shared.links).clone()
    }

    /// Remembers `pg_control` for the end.
    pub fn hold_control(&self, control: Vec<u8>) {
        *lock(&self.shared.control) = Some(control);
    }

    /// What was remembered.
    #[must_use]
    pub fn held_control(&self) -> Option<Vec<u8>> {
        lock(&self.shared.control).clone()
    }
}

/// Whether a file's digest is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Finds the place of a large file that is about to be written.
pub(crate) fn reserve(file: &fs::File, bytes: u64) {
    #[cfg(target_os = "linux")]
    if bytes >= RESERVED_BYTES_MIN {
        use rustix::fs::{FallocateFlags, fallocate};
        // Not every file system can; where there is no room, writing says so.
        let _ = fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, bytes, RESERVED_BYTES_MIN);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_what_was_written_and_not_what_was_expected() {
        let temp = tempfile::tempdir().unwrap();
        let tree = Tree::new(temp.path().to_owned(), BTreeMap::new());
        let large = vec![7; 3 * PIECE + 5];
        for (name, expected_bytes) in
            [("more", 1 << 30), ("less", 10), ("right", large.len() as u64)]
        {
            let path = temp.path().join(name);
            let written = tree.file(&path, &mut &large[..], expected_bytes, Hashed::No).unwrap();
            assert_eq!(written.bytes, large.len() as u64);
            assert!(fs::read(&path).unwrap() == large, "{name}");
        }
        assert_eq!(tree.written(), (3, 3 * large.len() as u64));
        let again = tree.file(&temp.path().join("more"), &mut &large[..], 1, Hashed::No);
        assert!(matches!(again, Err(CopyError::Twice)));
    }
}
