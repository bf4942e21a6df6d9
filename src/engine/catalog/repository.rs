//! What a listing of a pgBackRest repository found: its logs, and its other objects by key.

use crate::engine::catalog::{archive::Archive, segment::Found};
use std::{collections::BTreeMap, sync::Arc};

/// All objects of one stanza.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// The log of each cluster.
    pub archives: BTreeMap<String, Arc<Archive>>,
    /// The objects that are no segments, by key, of each part that was listed.
    pub(super) others: BTreeMap<String, Arc<BTreeMap<String, Found>>>,
    /// Changes whenever something here changes.
    pub(super) generation: u64,
    /// Number and size of the others.
    pub(super) others_extent: (u64, u64),
}

impl Repository {
    /// An object, by its key below the repository's prefix.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Found> {
        let others = self.part_of(key).and_then(|part| part.get(key));
        others.copied().or_else(|| {
            let mut archives = self.archives.values();
            archives.find_map(|archive| archive.by_key(key)).map(|(_, segment)| segment.found())
        })
    }

    /// Whether there is an object with this key.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The objects that are no segments, by key.
    pub fn others(&self) -> impl Iterator<Item = (&String, &Found)> {
        self.others.values().flat_map(|part| part.iter())
    }

    /// The objects that are no segments and whose keys begin so.
    pub fn others_below<'a>(
        &'a self,
        begin: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Found)> {
        let part = self.part_of(begin).into_iter();
        part.flat_map(move |part| {
            let from = part
                .range::<str, _>((std::ops::Bound::Included(begin), std::ops::Bound::Unbounded));
            from.take_while(move |(key, _)| key.starts_with(begin))
        })
    }

    /// Number of objects and their size together, in bytes.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        let archives = self.archives.values().map(|archive| archive.extent());
        archives.fold(self.others_extent, |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn part_of(&self, key: &str) -> Option<&BTreeMap<String, Found>> {
        // The empty part is all there is.
        let below = |part: &String| {
            part.is_empty() || key.strip_prefix(&**part).is_some_and(|k| k.starts_with('/'))
        };
        self.others.iter().find(|(part, _)| below(part)).map(|(_, others)| &**others)
    }
}
