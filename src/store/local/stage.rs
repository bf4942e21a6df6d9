//! Files on their way: written under a name of their own, synced, then given their key.

use crate::store::{
    Body, Condition, StoreError,
    key::Key,
    local::{LocalStore, STAGING, Sidecars, walk},
    proof::Crc64,
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// What is gathered before the file is touched: a small file is one trip to another thread.
const GATHERED_BYTES: usize = 4 << 20;
/// What is read back at once: little enough for a processor's cache.
const READ_BACK_BYTES: usize = 256 << 10;
/// A staged file that nobody has written to for so long was left by a process that died.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The object is not the one that was to be replaced.
#[derive(Debug, thiserror::Error)]
#[error("it has been changed by somebody else")]
pub(super) struct NotTheSame;

/// A staged file. It is removed unless it was placed.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) path: PathBuf,
    file: fs::File,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing to remove. What cannot be removed is never listed.
        let _ = fs::remove_file(&self.path);
    }
}

impl Staged {
    fn create(root: &Path) -> io::Result<Self> {
        let staging = root.join(STAGING);
        let path = staging.join(format!("{:032x}", rand::random::<u128>()));
        let open = || fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path);
        let file = match open() {
            // Somebody has removed the staging directory since it was made.
            Err(error) if error.kind() == io::ErrorKind::NotFound && root.is_dir() => {
                walk::make_dirs(root, &staging)?;
                open()?
            }
            opened => opened?,
        };
        Ok(Self { path, file })
    }

    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        pieces.iter().try_for_each(|piece| self.file.write_all(piece))
    }

    /// Reads what was written, and compares it.
    fn compare(&self, crc64: u64) -> io::Result<()> {
        let (mut file, mut buffer) = (fs::File::open(&self.path)?, vec![0; READ_BACK_BYTES]);
        let mut sum = Crc64::new();
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => sum.update(&buffer[..read]),
            }
        }
        if sum.finish() == crc64 {
            return Ok(());
        }
        Err(io::Error::other("what was read back is not what was written"))
    }

    /// Gives the file its key, when the condition holds.
    pub(super) fn place(
        &self,
        root: &Path,
        path: &Path,
        condition: &Condition,
        sidecars: Sidecars,
    ) -> io::Result<()> {
        match condition {
            Condition::IfAbsent => rename_to_free(&self.path, path),
            Condition::None => {
                let _shared = lock(root, FlockOperation::LockShared)?;
                fs::rename(&self.path, path)
            }
            Condition::IfMatch(etag) => {
                // Whoever replaces or removes an object meanwhile waits for this lock.
                let _alone = lock(root, FlockOperation::LockExclusive)?;
                let now = fs::metadata(path)
                    .map(|meta| walk::etag(&meta, sidecars.beside(path).as_ref()));
                match now {
                    Ok(now) if now == *etag => fs::rename(&self.path, path),
                    Ok(_) => Err(io::Error::other(NotTheSame)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        Err(io::Error::other(NotTheSame))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }
}

/// Renames without replacing. File systems that cannot do that get a second link instead.
fn rename_to_free(staged: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, staged, CWD, path, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::hard_link(staged, path),
        done => Ok(done?),
    }
}

/// Locks all changes of objects that are there already. The lock ends when it is dropped.
pub(super) fn lock(root: &Path, how: FlockOperation) -> io::Result<fs::File> {
    let path = root.join(STAGING).join("lock");
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(path)?;
    flock(&file, how)?;
    Ok(file)
}

/// Writes and syncs a staged file, and gives it with the checksum of what it holds.
pub(super) async fn stage(
    store: &LocalStore,
    key: &Key,
    size_bytes: u64,
    mut body: Body,
) -> Result<(Staged, u64), StoreError> {
    let fault = |error| store.fault("writing", key, error);
    let (mut sum, mut written, mut gathered, mut held) = (Crc64::new(), 0u64, Vec::new(), 0);
    let mut staged = None;
    loop {
        let piece = body.try_next().await?;
        let end = piece.is_none();
        if let Some(piece) = piece {
            written += piece.len() as u64;
            if written > size_bytes {
                let what = format!("the contents have more than {size_bytes} bytes");
                return Err(StoreError::unavailable(&store.shared.name, "writing", key, what));
            }
            held += piece.len();
            gathered.push(piece);
        }
        if end && written != size_bytes {
            let what = format!("the contents ended after {written} of {size_bytes} bytes");
            return Err(StoreError::unavailable(&store.shared.name, "writing", key, what));
        }
        if end || held >= GATHERED_BYTES {
            let (pieces, root) = (std::mem::take(&mut gathered), store.shared.root.clone());
            let (taken, sum_before) = (staged.take(), sum);
            let end = match (end, store.shared.reads_back) {
                (false, _) => End::NotYet,
                (true, false) => End::Sync,
                (true, true) => End::SyncAndReadBack,
            };
            let work = move || write_pieces(&root, taken, &pieces, sum_before, end);
            let (file, sum_now) = blocking(work).await.map_err(fault)?;
            (staged, sum, held) = (Some(file), sum_now, 0);
        }
        if end {
            let staged = staged.expect("the last round writes the file");
            return Ok((staged, sum.finish()));
        }
    }
}

/// What is done after pieces were written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Sync,
    SyncAndReadBack,
}

fn write_pieces(
    root: &Path,
    staged: Option<Staged>,
    pieces: &[Bytes],
    mut sum: Crc64,
    end: End,
) -> io::Result<(Staged, Crc64)> {
    let mut staged = match staged {
        Some(staged) => staged,
        None => Staged::create(root)?,
    };
    staged.write(pieces)?;
    pieces.iter().for_each(|piece| sum.update(piece));
    if end != End::NotYet {
        staged.file.sync_data()?;
    }
    if end == End::SyncAndReadBack {
        staged.compare(sum.finish())?;
    }
    Ok((staged, sum))
}

/// Makes the staging directory, and clears it of what processes that died have left in it.
pub(super) fn prepare(root: &Path) -> io::Result<()> {
    let staging = root.join(STAGING);
    walk::make_dirs(root, &staging)?;
    // The file system's own time, since its clock may be another machine's.
    let now = {
        let probe = Staged::create(root)?;
        fs::metadata(&probe.path)?.modified()?
    };
    for entry in fs::read_dir(&staging)?.flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified());
        let age = age.ok().and_then(|modified| now.duration_since(modified).ok());
        if age.is_some_and(|age| age > ABANDONED_AFTER) && entry.file_name() != "lock" {
            // Left alone when it cannot be removed: it is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Does blocking work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
