//! The files below a directory in the order of their keys, without holding more than the names of
//! the directories that are open.

use crate::store::{
    ObjectMeta,
    key::Key,
    local::{Sidecars, sidecar},
};
use chrono::{DateTime, Utc};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What is listed.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) root: PathBuf,
    pub(super) prefix: Key,
    pub(super) after: Option<Key>,
    /// Whether files have their user metadata in files beside them, which are no objects.
    pub(super) sidecars: Sidecars,
}

/// A directory being read: what its keys begin with, and the names that are left, in order.
struct Open {
    begin: String,
    names: std::vec::IntoIter<String>,
}

impl Walk {
    /// Gives each file to `give` until it says to end. What disappears meanwhile is left out.
    pub(super) fn run(&self, give: &mut dyn FnMut(ObjectMeta) -> bool) -> io::Result<()> {
        let begin = match self.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let mut stack = vec![self.open(begin)?];
        while let Some(open) = stack.last_mut() {
            let Some(name) = open.names.next() else {
                stack.pop();
                continue;
            };
            let full = format!("{}{name}", open.begin);
            if name.ends_with('/') {
                if !self.lies_before(&full) {
                    stack.push(self.open(full)?);
                }
                continue;
            }
            let Ok(key) = Key::parse(&full) else { continue };
            if self.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            let path = self.root.join(&full);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    let beside = self.sidecars.beside(&path);
                    if !give(describe(key, &meta, beside.as_ref())) {
                        return Ok(());
                    }
                }
                Ok(_) => {} // Replaced by something else since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether every key that begins so comes before what was asked for.
    fn lies_before(&self, begin: &str) -> bool {
        self.after
            .as_ref()
            .is_some_and(|after| begin < after.as_str() && !after.as_str().starts_with(begin))
    }

    /// Reads the names of a directory. The names of directories get a slash at their end *before*
    /// they are sorted, since `a-b` comes before `a/b` and `a/b` before `a0`.
    fn open(&self, begin: String) -> io::Result<Open> {
        let mut names = Vec::new();
        match fs::read_dir(self.root.join(&begin)) {
            Ok(entries) => {
                for entry in entries {
                    names.extend(self.name(&begin, &entry?)?);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The prefix is an object, and nothing lies below an object.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
        names.sort_unstable();
        Ok(Open { begin, names: names.into_iter() })
    }

    /// The name of a file or directory, and nothing for symbolic links, sockets and what is no key.
    fn name(&self, begin: &str, entry: &fs::DirEntry) -> io::Result<Option<String>> {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| Key::parse(name).is_ok()) else {
            return Ok(None);
        };
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if kind.is_dir() {
            let ours = begin.is_empty() && name == super::STAGING;
            return Ok((!ours).then(|| format!("{name}/")));
        }
        let hidden = match self.sidecars {
            Sidecars::None => false,
            Sidecars::Json => sidecar::hides(name, sidecar::ENDING),
        };
        Ok((kind.is_file() && !hidden).then(|| name.to_owned()))
    }
}

pub(super) fn describe(key: Key, meta: &fs::Metadata, beside: Option<&fs::Metadata>) -> ObjectMeta {
    let modified_at = meta.modified().map_or(DateTime::<Utc>::UNIX_EPOCH, DateTime::from);
    ObjectMeta { key, size_bytes: meta.len(), modified_at, etag: Some(etag(meta, beside)) }
}

/// The tag of a version: of the file and of its sidecar, since an object that has lost its user metadata
/// is another one.
pub(super) fn etag(meta: &fs::Metadata, beside: Option<&fs::Metadata>) -> String {
    let of = |meta: &fs::Metadata| {
        format!("{:x}-{:x}-{:x}", meta.ino(), meta.mtime(), meta.mtime_nsec())
    };
    match beside {
        None => of(meta),
        Some(beside) => format!("{}+{}", of(meta), of(beside)),
    }
}

/// Makes `dir` and its parents below `root`, and syncs the directories that got a new entry.
pub(super) fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() || dir == root {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(root);
    make_dirs(root, parent)?;
    match fs::DirBuilder::new().mode(0o750).create(dir) {
        Ok(()) => fs::File::open(parent)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_before_the_place_to_begin_at_are_not_opened() {
        let before = |begin: &str, after: &str| {
            let (prefix, after) = (Key::default(), Key::parse(after).ok());
            Walk { root: PathBuf::new(), prefix, after, sidecars: Sidecars::None }
                .lies_before(begin)
        };
        assert!(before("a/", "b") && before("a/", "a0") && before("a/b/", "a/c/d"));
        assert!(!before("b/", "b/c") && !before("b/", "b") && !before("b/", "a/x"));
        assert!(!before("b/", "b-x"), "b- comes before b/");
    }
}
