//! Syncs of directories that several writers share.
//!
//! A name is durable when its directory has been synced *after* the name was made. So a writer
//! draws a ticket after its rename, and then
//! 1. waits for the directory's turn,
//! 2. finds that a sync that began after its ticket has ended meanwhile, and is done, or
//! 3. syncs for all tickets that were drawn until now.
//!
//! One sync serves all who waited for the one before it.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The directories of one store.
#[derive(Debug, Default)]
pub(super) struct DirSync {
    dirs: Mutex<HashMap<PathBuf, Arc<Dir>>>,
    syncs: AtomicU64,
}

#[derive(Debug, Default)]
struct Dir {
    drawn: AtomicU64,
    /// The last ticket that a finished sync covers.
    covered: Mutex<u64>,
}

/// Directories that are remembered; beyond it those that nobody waits for are forgotten.
const DIRS_MAX: usize = 1024;

impl DirSync {
    /// Makes the names that were made in `dir` before this call durable. Blocks.
    pub(super) fn sync(&self, dir: &Path) -> io::Result<()> {
        let entry = self.entry(dir);
        let ticket = entry.drawn.fetch_add(1, Ordering::SeqCst) + 1;
        let mut covered = entry.covered.lock().unwrap_or_else(PoisonError::into_inner);
        if *covered >= ticket {
            return Ok(());
        }
        // Read before the sync begins: a ticket drawn later may be of a name made later.
        let until = entry.drawn.load(Ordering::SeqCst);
        fs::File::open(dir)?.sync_all()?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        *covered = until;
        Ok(())
    }

    /// How many syncs it took so far.
    #[cfg(test)]
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn entry(&self, dir: &Path) -> Arc<Dir> {
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = dirs.get(dir) {
            return entry.clone();
        }
        if dirs.len() >= DIRS_MAX {
            dirs.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        dirs.entry(dir.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn who_waits_shares_the_next_sync() {
        let dir = tempfile::tempdir().unwrap();
        let syncs = DirSync::default();
        let entry = syncs.entry(dir.path());
        thread::scope(|scope| {
            let turn = entry.covered.lock().unwrap();
            for _ in 0..8 {
                scope.spawn(|| syncs.sync(dir.path()).unwrap());
            }
            while entry.drawn.load(Ordering::SeqCst) < 8 {
                thread::yield_now();
            }
            drop(turn);
        });
        assert_eq!(syncs.syncs(), 1);
        // A name that was made after that sync began is not covered by it.
        syncs.sync(dir.path()).unwrap();
        assert_eq!(syncs.syncs(), 2);
    }

    #[test]
    fn a_directory_that_cannot_be_synced_is_an_error_for_all() {
        let syncs = DirSync::default();
        for _ in 0..2 {
            assert!(syncs.sync(Path::new("/no/such/directory")).is_err());
        }
    }
}
