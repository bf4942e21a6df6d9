//! Where the tablespaces of a restored cluster go.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Directories for tablespaces. Their directories on the source are never used by themselves: on
/// the same machine the restored cluster would write into the source's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// By the name of the tablespace.
    pub by_name: BTreeMap<String, PathBuf>,
    /// For all others: each in the directory below it that is named after its number.
    pub below: Option<PathBuf>,
}

impl Placement {
    /// All of them below one directory.
    #[must_use]
    pub fn below(dir: impl Into<PathBuf>) -> Self {
        Self { by_name: BTreeMap::new(), below: Some(dir.into()) }
    }

    /// Where one goes; `None` when nobody said so, or it is no absolute path.
    #[must_use]
    pub fn of(&self, name: &str, oid: u32) -> Option<PathBuf> {
        let below = |dir: &PathBuf| dir.join(oid.to_string());
        let place = self.by_name.get(name).cloned().or_else(|| self.below.as_ref().map(below));
        place.filter(|place| Path::is_absolute(place))
    }
}
