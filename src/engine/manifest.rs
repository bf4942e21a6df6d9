//! What a copy's store says about its own objects: size, checksum and tag of each.
//!
//! The manifests lie below a reserved prefix, one for each base backup, one for each directory of the
//! log, and one for the rest, so that each is bounded and rewritten whole. Whoever has nothing but the
//! store can say from them whether the copy is as it was written.

use crate::{
    domain::hex,
    engine::{catalog::files::read_small, state::records::Record},
    layout::{BackupFormat, Role},
    store::{BlobStore, Condition, Contents, StoreError, key::Key},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The manifests of all copies in a store lie below this prefix.
const PREFIX: &str = ".btar/manifests";
/// Version of [`Manifest`].
const VERSION: u32 = 1;
/// Segments whose names begin with these digits share a manifest: 256 of 16 MiB.
const LOG_DIGITS: usize = 16;
/// Binary logs that share a manifest.
const BINLOGS_IN_PART: u64 = 256;

/// A part of a copy as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this document.
    pub version: u32,
    /// The prefix of the copy in its store.
    pub prefix: Key,
    /// Which part: `backup/LABEL`, `log/ARCHIVE/DIGITS` or `rest`.
    pub part: String,
    /// Grows with every writing.
    pub sequence: u64,
    /// When this was written.
    pub written_at: DateTime<Utc>,
    /// The objects, by key.
    pub entries: Vec<Entry>,
    /// SHA-256 of this document with an empty checksum, in lower-case hexadecimal digits.
    pub checksum: String,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Key below the copy's prefix.
    pub key: String,
    /// Size, in bytes.
    pub size_bytes: u64,
    /// CRC-64/NVME of the contents, as 16 lower-case hexadecimal digits.
    pub crc64: String,
    /// Tag in this store, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When its contents were proven.
    pub written_at: DateTime<Utc>,
}

/// The part that the object with this key belongs to.
#[must_use]
pub fn part_of(format: &BackupFormat, key: &str) -> String {
    match format.role(key) {
        Role::Marker { label } | Role::Data { label } => format!("backup/{label}"),
        Role::Segment { archive, name, .. } | Role::NamedSegment { archive, name } => {
            format!("log/{archive}/{}", name.get(..LOG_DIGITS).unwrap_or(&name))
        }
        Role::Binlog { series, sequence, .. } => {
            format!("log/{series}/{:08}", sequence / BINLOGS_IN_PART)
        }
        // By the first digits of its name, so that no part is too large.
        Role::Shared => format!("shared/{}", shared_part(key)),
        Role::History { .. } | Role::Other => "rest".to_owned(),
    }
}

/// Whether the object with this key is replaced in the course of things, such as a catalogue.
#[must_use]
pub fn is_mutable(format: &BackupFormat, key: &str) -> bool {
    match format.role(key) {
        Role::Other => true,
        Role::Marker { .. }
        | Role::Data { .. }
        | Role::Shared
        | Role::Segment { .. }
        | Role::NamedSegment { .. }
        | Role::Binlog { .. }
        | Role::History { .. } => false,
    }
}

/// The first two characters of an object's name.
fn shared_part(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or_default();
    name.get(..2).unwrap_or(name)
}

impl Manifest {
    /// The manifest of a part with these records, which are sorted by key.
    #[must_use]
    pub fn of(
        prefix: &Key,
        part: &str,
        sequence: u64,
        records: &[Record],
        now: DateTime<Utc>,
    ) -> Self {
        let entries = records.iter().map(|record| Entry {
            key: record.key.clone(),
            size_bytes: record.size_bytes,
            crc64: hex::lower(&record.crc64.to_be_bytes()),
            etag: record.etag.clone(),
            written_at: record.written_at,
        });
        let mut manifest = Self {
            version: VERSION,
            prefix: prefix.clone(),
            part: part.to_owned(),
            sequence,
            written_at: now,
            entries: entries.collect(),
            checksum: String::new(),
        };
        manifest.checksum = manifest.sum();
        manifest
    }

    /// What it says, as records; entries that cannot be read are left out.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let record = |entry: &Entry| {
            Some(Record {
                part: self.part.clone(),
                key: entry.key.clone(),
                size_bytes: entry.size_bytes,
                crc64: u64::from_str_radix(&entry.crc64, 16).ok()?,
                etag: entry.etag.clone(),
                source_version: None,
                written_at: entry.written_at,
            })
        };
        self.entries.iter().filter_map(record).collect()
    }

    /// Writes it into the store of the copy, in one step.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write(&self, store: &dyn BlobStore) -> Result<(), StoreError> {
        let Some(key) = key(&self.prefix, &self.part) else { return Ok(()) };
        let contents = Contents::of(Bytes::from(self.text()));
        store.write(&key, contents, &Condition::None).await.map(drop)
    }

    fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest has string keys only")
    }

    fn sum(&self) -> String {
        let bare = Self { checksum: String::new(), ..self.clone() };
        hex::lower(&Sha256::digest(bare.text()))
    }

    /// Reads a manifest of the copy below `prefix`, or says what is wrong with it. `None` when it is
    /// of another copy, whose prefix begins with this one's.
    fn read(prefix: &Key, at: &Key, bytes: &[u8]) -> Option<Result<Self, String>> {
        let manifest: Self = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => return Some(Err(format!("the manifest {at} cannot be read: {error}"))),
        };
        if manifest.version != VERSION {
            let found = manifest.version;
            return Some(Err(format!("the manifest {at} has version {found}, not {VERSION}")));
        }
        if manifest.prefix != *prefix {
            return None;
        }
        let sound =
            manifest.checksum == manifest.sum() && key(prefix, &manifest.part).as_ref() == Some(at);
        Some(if sound {
            Ok(manifest)
        } else {
            Err(format!("the manifest {at} is damaged: its checksum does not match"))
        })
    }
}

/// Removes the manifest of a part.
///
/// # Errors
/// [`StoreError`].
pub async fn remove(store: &dyn BlobStore, prefix: &Key, part: &str) -> Result<(), StoreError> {
    match key(prefix, part) {
        Some(key) => store.delete(&key).await,
        None => Ok(()),
    }
}

/// The manifests of the copy below `prefix`, and what is wrong with those that cannot be used.
///
/// # Errors
/// [`StoreError`] when the store itself cannot be read.
pub async fn find(
    store: &dyn BlobStore,
    prefix: &Key,
) -> Result<(Vec<Manifest>, Vec<String>), StoreError> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for key in keys(store, prefix).await? {
        match load(store, prefix, &key).await? {
            None => {}
            Some(Ok(manifest)) => found.push(manifest),
            Some(Err(fault)) => faults.push(fault),
        }
    }
    Ok((found, faults))
}

/// The keys of what may be manifests of the copy below `prefix`.
///
/// # Errors
/// [`StoreError`].
pub async fn keys(store: &dyn BlobStore, prefix: &Key) -> Result<Vec<Key>, StoreError> {
    let below = place(prefix).expect("the prefix of a copy is a key");
    let listed: Vec<_> = store.list(&below, None).try_collect().await?;
    let keys = listed.into_iter().map(|meta| meta.key);
    Ok(keys.filter(|key| key.as_str().ends_with(".json")).collect())
}

/// Reads one of [`keys`], or says what is wrong with it. `None` when there is none of this copy.
///
/// # Errors
/// [`StoreError`].
pub async fn load(
    store: &dyn BlobStore,
    prefix: &Key,
    key: &Key,
) -> Result<Option<Result<Manifest, String>>, StoreError> {
    let bytes = read_small(store, key).await?;
    Ok(bytes.and_then(|bytes| Manifest::read(prefix, key, &bytes)))
}

fn place(prefix: &Key) -> Option<Key> {
    let root = Key::parse(PREFIX).ok()?;
    if prefix.as_str().is_empty() { Some(root) } else { root.join(prefix.as_str()).ok() }
}

fn key(prefix: &Key, part: &str) -> Option<Key> {
    place(prefix)?.join(&format!("{part}.json")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::state::records::tests::record, store::memory::MemoryStore};

    #[test]
    fn parts_are_natural_units() {
        let format = BackupFormat::PgBackRest { stanza: "m".to_owned() };
        let segment = format!(
            "archive/m/15-1/0000000100000002/00000001000000020000000A-{}.zst",
            "a".repeat(40)
        );
        for (key, part) in [
            ("backup/m/20261123-075157F/pg_data/a", "backup/20261123-075157F"),
            ("backup/m/20261123-075157F/backup.manifest", "backup/20261123-075157F"),
            (segment.as_str(), "log/15-1/0000000100000002"),
            ("archive/m/15-1/00000002.history", "rest"),
            ("backup/m/backup.info", "rest"),
        ] {
            assert_eq!(part_of(&format, key), part, "{key}");
        }
        assert!(is_mutable(&format, "backup/m/backup.info") && !is_mutable(&format, &segment));
    }

    #[tokio::test]
    async fn manifests_are_found_again_and_a_damaged_one_is_named() {
        let store = MemoryStore::new();
        let (prefix, inner) = (Key::parse("p/s").unwrap(), Key::parse("p/s/log").unwrap());
        let records = [record("rest", "a", u64::MAX - 1), record("rest", "b", 2)];
        let now = DateTime::UNIX_EPOCH;
        let rest = Manifest::of(&prefix, "rest", 7, &records, now);
        rest.write(&store).await.unwrap();
        Manifest::of(&prefix, "backup/x", 1, &records[..1], now).write(&store).await.unwrap();
        Manifest::of(&inner, "rest", 1, &records[..1], now).write(&store).await.unwrap();
        let (found, faults) = find(&store, &prefix).await.unwrap();
        assert_eq!((found.len(), faults.len()), (2, 0), "the other copy's is not this one's");
        let found = found.into_iter().find(|manifest| manifest.part == "rest").unwrap();
        assert_eq!(found, rest);
        assert_eq!(found.records(), records);
        let text = String::from_utf8(rest.text()).unwrap();
        let damaged = text.replace("\"size_bytes\":7", "\"size_bytes\":8");
        let at = key(&prefix, "rest").unwrap();
        store.write(&at, Contents::of(damaged.into()), &Condition::None).await.unwrap();
        let (found, faults) = find(&store, &prefix).await.unwrap();
        assert!(found.len() == 1 && faults[0].contains("rest.json is damaged"), "{faults:?}");
        remove(&store, &prefix, "rest").await.unwrap();
        assert_eq!(find(&store, &prefix).await.unwrap().1.len(), 0);
    }
}
