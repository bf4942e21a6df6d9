//! A listing of a pgBackRest repository, sorted by what its objects are.

use crate::{
    domain::{lsn::Timeline, recovery::Codec},
    layout::pgbackrest::keys::{self, Role},
};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// An object of a listing, by its key below the repository's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Size, in bytes.
    pub size_bytes: u64,
    /// When it was written, by the store's clock.
    pub modified_at: DateTime<Utc>,
    /// Changes whenever the contents change.
    pub etag: Option<String>,
}

/// A WAL segment of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    /// Key below the repository's prefix.
    pub key: String,
    /// SHA-1 of the uncompressed contents, from the name.
    pub sha1: String,
    /// Compression.
    pub codec: Codec,
    /// Size and time.
    pub found: Found,
}

/// The log of one cluster, such as `15-1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Segments by PostgreSQL's name.
    pub segments: BTreeMap<String, StoredSegment>,
    /// Keys of the timeline history files.
    pub histories: BTreeMap<Timeline, String>,
    /// Names under which two different segments are stored: neither can be trusted.
    pub ambiguous: Vec<String>,
    /// Grows whenever something here changes.
    pub generation: u64,
}

/// All objects of one stanza.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// Every object by its key below the repository's prefix.
    pub objects: BTreeMap<String, Found>,
    /// The log of each cluster.
    pub archives: BTreeMap<String, Archive>,
}

impl Repository {
    /// Sorts a listing of the stanza's objects.
    #[must_use]
    pub fn sort(stanza: &str, listing: impl IntoIterator<Item = (String, Found)>) -> Self {
        let mut repository = Self::default();
        for (key, found) in listing {
            repository.insert(stanza, key, found);
        }
        repository
    }

    /// Whether a listing of `part` behind the key `after` says something new.
    #[must_use]
    pub fn differs(&self, part: &str, after: &str, listed: &BTreeMap<String, Found>) -> bool {
        !self.below(part, after).eq(listed.iter())
    }

    /// Takes a listing of `part` behind the key `after` in place of what was known of it.
    pub fn replace(
        &mut self,
        stanza: &str,
        part: &str,
        after: &str,
        listed: BTreeMap<String, Found>,
    ) {
        let gone: Vec<String> = self
            .below(part, after)
            .filter(|(key, found)| listed.get(*key) != Some(*found))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.remove(stanza, &key);
        }
        for (key, found) in listed {
            if self.objects.get(&key) != Some(&found) {
                self.insert(stanza, key, found);
            }
        }
    }

    /// The known objects of a part, `archive/m`, behind a key.
    fn below(&self, part: &str, after: &str) -> impl Iterator<Item = (&String, &Found)> {
        let from = if after.is_empty() { format!("{part}/") } else { after.to_owned() };
        let (part, after) = (format!("{part}/"), after.to_owned());
        self.objects
            .range(from..)
            .skip_while(move |(key, _)| **key == after)
            .take_while(move |(key, _)| key.starts_with(&part))
    }

    fn insert(&mut self, stanza: &str, key: String, found: Found) {
        match keys::role(stanza, &key) {
            Role::Segment { archive, name, sha1, codec } => {
                let archive = self.archives.entry(archive).or_default();
                let key = key.clone();
                archive.add(name, StoredSegment { key, sha1, codec, found: found.clone() });
            }
            Role::History { archive, timeline } => {
                let archive = self.archives.entry(archive).or_default();
                archive.histories.insert(timeline, key.clone());
                archive.generation += 1;
            }
            Role::ArchiveInfo
            | Role::BackupLabel
            | Role::Data { .. }
            | Role::Manifest { .. }
            | Role::BackupHistory
            | Role::BackupInfo { .. }
            | Role::Other => {}
        }
        self.objects.insert(key, found);
    }

    fn remove(&mut self, stanza: &str, key: &str) {
        self.objects.remove(key);
        match keys::role(stanza, key) {
            Role::Segment { archive, name, .. } => {
                let archive = self.archives.entry(archive).or_default();
                archive.segments.remove(&name);
                archive.ambiguous.retain(|other| *other != name);
                archive.generation += 1;
            }
            Role::History { archive, timeline } => {
                let archive = self.archives.entry(archive).or_default();
                archive.histories.remove(&timeline);
                archive.generation += 1;
            }
            Role::ArchiveInfo
            | Role::BackupLabel
            | Role::Data { .. }
            | Role::Manifest { .. }
            | Role::BackupHistory
            | Role::BackupInfo { .. }
            | Role::Other => {}
        }
    }

    /// Number of objects and their size together, in bytes.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        (self.objects.len() as u64, self.objects.values().map(|found| found.size_bytes).sum())
    }
}

impl Archive {
    fn add(&mut self, name: String, segment: StoredSegment) {
        self.generation += 1;
        if self.ambiguous.contains(&name) {
            return;
        }
        if let Some(other) = self.segments.get(&name)
            && other.sha1 != segment.sha1
        {
            self.segments.remove(&name);
            self.ambiguous.push(name);
            return;
        }
        self.segments.insert(name, segment);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn found(size_bytes: u64) -> Found {
        Found { size_bytes, modified_at: DateTime::UNIX_EPOCH, etag: Some("1".to_owned()) }
    }

    pub(crate) fn segment_key(name: &str, sha1: char) -> String {
        let sum = sha1.to_string().repeat(40);
        format!("archive/m/15-1/{}/{name}-{sum}.zst", &name[..16])
    }

    #[test]
    fn two_segments_of_one_name_are_trusted_neither() {
        let one = "000000010000000000000001";
        let two = "000000010000000000000002";
        let keys = [segment_key(one, 'a'), segment_key(one, 'b'), segment_key(two, 'c')];
        let listing = keys.into_iter().map(|key| (key, found(9)));
        let repository = Repository::sort("m", listing);
        let archive = &repository.archives["15-1"];
        assert_eq!(archive.segments.keys().collect::<Vec<_>>(), [two]);
        assert_eq!(archive.ambiguous, [one]);
        assert_eq!(repository.extent(), (3, 27));
    }
}
