//! Makes a target directory ready, and marks it as one whose restore has not ended.

use crate::restore::{
    error::RestoreError, jobs::blocking, place::MARKER, plan::Plan, tablespaces::Placement,
    tree::Tree,
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// File systems have it at their top, and PostgreSQL puts up with it.
const LOST_AND_FOUND: &str = "lost+found";

/// Empties what an interrupted restore left, makes directories, and sets the marker.
pub(super) async fn prepare(
    target: &Path,
    placement: &Placement,
    plan: &Plan,
) -> Result<Tree, RestoreError> {
    let mut spaces = BTreeMap::new();
    for (name, oid, path) in &plan.tablespaces {
        let dir = placement
            .of(name, *oid)
            .ok_or_else(|| RestoreError::NoTablespace { name: name.clone(), path: path.clone() })?;
        if dir.starts_with(target) {
            return Err(RestoreError::NoTablespace { name: name.clone(), path: path.clone() });
        }
        spaces.insert(name.clone(), dir);
    }
    let target = target.to_owned();
    blocking(move || {
        let dirs: Vec<PathBuf> = spaces.values().cloned().collect();
        begin(&target, &dirs)?;
        Ok(Tree::new(target, spaces))
    })
    .await
}

fn begin(target: &Path, spaces: &[PathBuf]) -> Result<(), RestoreError> {
    let marker = target.join(MARKER);
    let started = fs::read_to_string(&marker).ok();
    for dir in std::iter::once(target).chain(spaces.iter().map(PathBuf::as_path)) {
        make(dir)?;
        // A directory of a tablespace is emptied only when the marker names it: else it was not
        // this restore that filled it.
        let ours = started
            .as_ref()
            .is_some_and(|text| dir == target || text.lines().any(|line| Path::new(line) == dir));
        if ours {
            empty(dir)?;
        } else if !is_empty(dir)? {
            return Err(RestoreError::TargetInUse(dir.to_owned()));
        }
    }
    // Only now, with the directories of this attempt. Until it is there, nothing is written.
    let names: String = spaces.iter().map(|dir| format!("{}\n", dir.display())).collect();
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&marker)?;
        io::Write::write_all(&mut file, names.as_bytes())?;
        file.sync_all()?;
        fs::File::open(target)?.sync_all()
    };
    write().map_err(RestoreError::target("writing the marker", &marker))
}

fn make(dir: &Path) -> Result<(), RestoreError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(RestoreError::target("making the directory", dir))?;
    // PostgreSQL refuses a data directory that others may look into.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .map_err(RestoreError::target("setting the permissions of", dir))
}

fn is_empty(dir: &Path) -> Result<bool, RestoreError> {
    let look = || -> io::Result<bool> {
        for entry in fs::read_dir(dir)? {
            if entry?.file_name() != LOST_AND_FOUND {
                return Ok(false);
            }
        }
        Ok(true)
    };
    look().map_err(RestoreError::target("looking into", dir))
}

/// Removes everything in a directory but the marker, which goes last of all, and the directory.
fn empty(dir: &Path) -> Result<(), RestoreError> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            if name == LOST_AND_FOUND || name == MARKER {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    };
    remove().map_err(RestoreError::target("emptying", dir))
}
