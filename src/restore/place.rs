//! Where an entry of a tar file, or a file of a manifest, goes. Nothing leads out of the target.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

/// Marks a target directory whose restore has not ended.
pub const MARKER: &str = ".btar-restore";
/// The file that comes last.
pub const PG_CONTROL: &str = "global/pg_control";

/// Files at the top that belong to a running server or to another recovery. PostgreSQL 12 and later
/// refuse to start with a `recovery.conf`.
const LEFT_OUT: &[&str] = &[
    "postmaster.pid",
    "postmaster.opts",
    "recovery.signal",
    "standby.signal",
    "recovery.conf",
    "recovery.done",
    crate::layout::pghoard::index::FILE,
];

/// How the entries of a tar file are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Relative to the data directory: bundles of small files, and `pg_basebackup`.
    Relative,
    /// `pgdata/…` and `tablespaces/<name>/…`.
    Prefixed,
}

/// Where something goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below the data directory; empty for itself.
    Data(PathBuf),
    /// Below the directory of a tablespace; empty for itself.
    Tablespace(String, PathBuf),
    /// `global/pg_control`, which is held back until everything else is there.
    Control,
    /// Nowhere.
    LeftOut,
}

/// Why a path is refused.
pub type Why = &'static str;

/// Where the entry `path` goes.
///
/// # Errors
/// When it would lead out of the target directory, or be where a data directory has nothing.
pub fn place(naming: Naming, path: &[u8]) -> Result<Place, Why> {
    let path = inside(path)?;
    let mut parts = path.components().map(Component::as_os_str);
    match naming {
        Naming::Relative => data(path),
        Naming::Prefixed => match parts.next().map(OsStr::as_bytes) {
            None => Ok(Place::LeftOut),
            Some(b"pgdata") => data(parts.collect()),
            Some(b"tablespaces") => tablespace(parts),
            Some(_) if path == Path::new(crate::layout::pghoard::index::FILE) => Ok(Place::LeftOut),
            Some(_) => Err("which is neither below `pgdata` nor below `tablespaces`"),
        },
    }
}

/// The path without `.`, when it is relative and goes nowhere up.
fn inside(path: &[u8]) -> Result<PathBuf, Why> {
    if path.contains(&0) {
        return Err("whose name has a zero byte");
    }
    let mut plain = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("which leads out of the directory with `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("which is an absolute path"),
        }
    }
    Ok(plain)
}

fn data(path: PathBuf) -> Result<Place, Why> {
    if path.starts_with(MARKER) {
        return Err("which is the name of the marker of a restore");
    }
    if LEFT_OUT.iter().any(|name| path == Path::new(name)) {
        return Ok(Place::LeftOut);
    }
    if path == Path::new(PG_CONTROL) {
        return Ok(Place::Control);
    }
    Ok(Place::Data(path))
}

fn tablespace<'a>(mut parts: impl Iterator<Item = &'a OsStr>) -> Result<Place, Why> {
    match parts.next().map(OsStr::to_str) {
        None => Ok(Place::LeftOut),
        Some(Some(name)) => Ok(Place::Tablespace(name.to_owned(), parts.collect())),
        Some(None) => Err("whose tablespace has a name that is no UTF-8"),
    }
}

/// Where a symbolic link at `at`, a path below the data directory, leads when it says `to`: a path
/// below the data directory again.
///
/// # Errors
/// When it leads out of the data directory.
pub fn link(at: &Path, to: &[u8]) -> Result<PathBuf, Why> {
    let mut end: PathBuf = at.parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(OsStr::from_bytes(to)).components() {
        match part {
            Component::Normal(name) => end.push(name),
            Component::CurDir => {}
            Component::ParentDir if end.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err("which is a link out of the data directory");
            }
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for naming in [Naming::Relative, Naming::Prefixed] {
            for path in ["/etc/passwd", "../x", "pgdata/../../x", "pgdata/..", "a\0b"] {
                assert!(place(naming, path.as_bytes()).is_err(), "{naming:?} {path}");
            }
        }
        for path in ["x", "base/1", "pgdatax/1", "pgdata/.btar-restore"] {
            assert!(place(Naming::Prefixed, path.as_bytes()).is_err(), "{path}");
        }
        for (at, to) in [("pg_wal", "/wal"), ("a/b", "../../c"), ("x", ".."), ("a/b", "c/../../..")]
        {
            assert!(link(Path::new(at), to.as_bytes()).is_err(), "{at} -> {to}");
        }
        assert_eq!(link(Path::new("a/b"), b"../c/./d"), Ok("c/d".into()));
    }

    #[test]
    fn every_naming_has_its_places() {
        let data = |path: &str| Ok(Place::Data(path.into()));
        for (naming, path, expect) in [
            (Naming::Prefixed, "pgdata/base/1/2", data("base/1/2")),
            (Naming::Prefixed, "pgdata", data("")),
            (Naming::Prefixed, "pgdata/global/pg_control", Ok(Place::Control)),
            (Naming::Prefixed, ".pghoard_tar_metadata.json", Ok(Place::LeftOut)),
            (Naming::Prefixed, "pgdata/standby.signal", Ok(Place::LeftOut)),
            (
                Naming::Prefixed,
                "tablespaces/fast one/PG_15_202209061/5/1",
                Ok(Place::Tablespace("fast one".into(), "PG_15_202209061/5/1".into())),
            ),
            (Naming::Prefixed, "tablespaces", Ok(Place::LeftOut)),
            (Naming::Relative, "./base//1/2", data("base/1/2")),
            (Naming::Relative, "pgdata/x", data("pgdata/x")),
            (Naming::Relative, "global/pg_control", Ok(Place::Control)),
            (Naming::Relative, "base/standby.signal", data("base/standby.signal")),
        ] {
            assert_eq!(place(naming, path.as_bytes()), expect, "{path}");
        }
    }
}
