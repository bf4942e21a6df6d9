//! Remembers what a deep verification has proven, so that an interrupted one goes on.
//!
//! A directory of its own, with the same kind of state that an engine keeps. What was read is noted with
//! its version: an object that has changed since is read again. It ends with the verification.

use crate::{
    engine::{
        catalog::{binlogs::ReaderMemory, segment::Found},
        state::{State, StateError, records::CopyNumber},
        verify::Copy,
    },
    store::key::Key,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tracing::warn;

/// Objects that are noted together: so many are read again at most.
const TOGETHER: usize = 64;

/// The memory of a verification.
#[derive(Debug)]
pub struct Resume {
    dir: PathBuf,
    state: Arc<State>,
    noted: Mutex<Vec<(String, String)>>,
}

impl Resume {
    /// Begins, or goes on with, what `dir` remembers.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let state = Arc::new(State::open(dir)?);
        Ok(Self { dir: dir.to_owned(), state, noted: Mutex::default() })
    }

    /// The verification has come to its end: the next one begins anew.
    ///
    /// # Errors
    /// What the system said.
    pub fn end(self) -> io::Result<()> {
        let Self { dir, state, .. } = self;
        drop(state);
        for file in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "engine.lock"] {
            match fs::remove_file(dir.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// What was learned of logs.
    pub(super) fn memory(&self) -> Arc<dyn ReaderMemory> {
        self.state.clone()
    }

    /// Whether this very object was proven before.
    pub(super) fn is_proven(&self, copy: &Copy, key: &str, there: Option<Found>) -> bool {
        let Some(there) = there else { return false };
        let known =
            self.number(copy).and_then(|n| self.state.is_verified(n, key, &version(&there)));
        known.unwrap_or_else(|error| {
            warn!(key, %error, "what was proven is not known; it is read again");
            false
        })
    }

    /// An object was proven.
    pub(super) fn note(&self, copy: &Copy, key: &str, there: &Found) {
        let count = {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.push((key.to_owned(), version(there)));
            noted.len()
        };
        if count >= TOGETHER {
            self.flush(copy);
        }
    }

    /// Keeps what was noted.
    pub(super) fn flush(&self, copy: &Copy) {
        let noted = std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = self.number(copy).and_then(|n| self.state.note_verified(n, &noted)) {
            warn!(%error, "what was proven is not noted; it is read again");
        }
    }

    fn number(&self, copy: &Copy) -> Result<CopyNumber, StateError> {
        let prefix: &Key = &copy.place.prefix;
        self.state.copy(&copy.service, &copy.region, prefix.as_str())
    }
}

fn version(found: &Found) -> String {
    format!("{:016x}", found.version)
}
