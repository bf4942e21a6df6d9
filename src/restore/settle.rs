//! The end of a restore: what comes after all objects, in the order that makes it safe.

use crate::restore::{
    error::RestoreError,
    jobs::blocking,
    place::{MARKER, Place},
    plan::Plan,
    tree::{CopyError, Hashed, Tree},
    unpack::control_path,
};
use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Directories that PostgreSQL wants and that tar files of some formats leave out.
const DIRS: &[&str] = &[
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_wal/archive_status",
];

/// Writes what is left, makes links, syncs, and makes the directory one that PostgreSQL starts in.
pub(super) async fn settle(plan: Plan, tree: Tree) -> Result<(), RestoreError> {
    blocking(move || {
        small(&plan, &tree)?;
        for path in &plan.required {
            if !tree.root().join(path).is_file() {
                return Err(RestoreError::MissingFile(path.display().to_string()));
            }
        }
        links(&plan, &tree)?;
        // Everything else must be on the disk before the file that makes it count.
        sync(tree.root())?;
        for dir in tree.tablespaces().values() {
            sync(dir)?;
        }
        let control = plan
            .control
            .or_else(|| tree.held_control())
            .ok_or_else(|| RestoreError::MissingFile("global/pg_control".to_owned()))?;
        let path = control_path(tree.root());
        write(&tree, &path, &control)?;
        sync_one(&path)?;
        sync_one(&tree.root().join("global"))?;
        let marker = tree.root().join(MARKER);
        fs::remove_file(&marker).map_err(RestoreError::target("removing the marker", &marker))?;
        sync_one(tree.root())
    })
    .await
}

fn small(plan: &Plan, tree: &Tree) -> Result<(), RestoreError> {
    for name in DIRS {
        tree.dir(&tree.root().join(name))?;
    }
    for dir in plan.dirs.iter().filter_map(|place| tree.path(place)) {
        tree.dir(&dir)?;
    }
    for (place, contents) in &plan.files {
        match (place, tree.path(place)) {
            (_, Some(path)) => write(tree, &path, contents)?,
            // The index has a newer one than the manifest.
            (Place::Control | Place::LeftOut, None) => {}
            (Place::Data(_) | Place::Tablespace(..), None) => {
                return Err(RestoreError::MissingFile(format!("{place:?}")));
            }
        }
    }
    Ok(())
}

fn write(tree: &Tree, path: &Path, contents: &[u8]) -> Result<(), RestoreError> {
    tree.file(path, &mut &*contents, contents.len() as u64, Hashed::No).map(drop).map_err(|error| {
        match error {
            CopyError::Read(source) => RestoreError::target("writing", path)(source),
            CopyError::Write(error) => error,
            CopyError::Twice => {
                RestoreError::target("writing", path)(io::ErrorKind::AlreadyExists.into())
            }
        }
    })
}

fn links(plan: &Plan, tree: &Tree) -> Result<(), RestoreError> {
    let make =
        |to: &Path, at: &Path| symlink(to, at).map_err(RestoreError::target("making the link", at));
    for (name, oid, _) in &plan.tablespaces {
        if let Some(dir) = tree.tablespaces().get(name) {
            make(dir, &tree.root().join("pg_tblspc").join(oid.to_string()))?;
        }
    }
    for link in tree.links() {
        let at: PathBuf = tree.root().join(&link.at);
        if let Some(parent) = at.parent() {
            tree.dir(parent)?;
        }
        make(&link.to, &at)?;
    }
    Ok(())
}

/// Writes everything below a directory through to the disk: on Linux with one call for its file
/// system, which takes no time for each file.
fn sync(dir: &Path) -> Result<(), RestoreError> {
    let all = || -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            rustix::fs::syncfs(fs::File::open(dir)?)?;
            Ok(())
        }
        #[cfg(not(target_os = "linux"))]
        {
            sync_each(dir)
        }
    };
    all().map_err(RestoreError::target("syncing", dir))
}

#[cfg(not(target_os = "linux"))]
fn sync_each(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_each(&entry.path())?;
        } else if kind.is_file() {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    fs::File::open(dir)?.sync_all()
}

fn sync_one(path: &Path) -> Result<(), RestoreError> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(RestoreError::target("syncing", path))
}
