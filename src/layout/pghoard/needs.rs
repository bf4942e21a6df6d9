//! Which objects a base backup needs, and what can be known of them without its private key.

use crate::layout::pghoard::{
    index::TarMetadata,
    keys::{self, Role},
    manifest::Contents,
    metadata::{BackupFormat, BackupMetadata},
};
use std::collections::BTreeMap;

/// Keys and sizes, in bytes, of a listing of the site.
pub type Listing = BTreeMap<String, u64>;

/// An object that a base backup needs, besides its index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// Its key.
    pub key: String,
    /// Its size in bytes, where the index tells it.
    pub stored_bytes: Option<u64>,
}

/// What a listing proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Everything is there.
    Complete,
    /// Something is not.
    Incomplete(Vec<Fault>),
    /// The index would tell, but it is encrypted and has not been read.
    NeedsKey,
}

/// What is wrong with an object that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing(String),
    /// It has another size.
    Size {
        /// Its key.
        key: String,
        /// What the index says, in bytes.
        expected: u64,
        /// What the listing says, in bytes.
        found: u64,
    },
    /// The chunks together have another size than the metadata of the index say, or their numbers
    /// have a gap.
    Chunks {
        /// What the metadata say, in bytes.
        expected: u64,
        /// What the listing says, in bytes.
        found: u64,
    },
}

/// Exactly what the base backup needs, by its index. Every object once.
///
/// With [`BackupFormat::Raw`] and [`BackupFormat::WholeTar`] that is nothing besides the index.
#[must_use]
pub fn by_index(index: &TarMetadata) -> Vec<Needed> {
    let prefix =
        if index.manifest.is_some() { "basebackup_delta_chunk" } else { "basebackup_chunk" };
    let mut needed: BTreeMap<String, Option<u64>> = index
        .chunks
        .iter()
        .map(|chunk| (format!("{prefix}/{}", chunk.file), Some(chunk.stored_bytes)))
        .collect();
    for file in index.manifest.iter().flat_map(|manifest| &manifest.files) {
        match &file.contents {
            Contents::Shared { digest, stored_bytes } => {
                // Zero where a file was not uploaded anew and nobody knew its size.
                let size = Some(*stored_bytes).filter(|bytes| *bytes > 0);
                needed.insert(keys::delta_file(digest), size);
            }
            Contents::Embedded(_) | Contents::Bundled { .. } => {}
        }
    }
    needed.into_iter().map(|(key, stored_bytes)| Needed { key, stored_bytes }).collect()
}

/// Whether all of `needed` is in a listing.
#[must_use]
pub fn check(needed: &[Needed], listing: &Listing) -> Completeness {
    let fault = |object: &Needed| match (listing.get(&object.key), object.stored_bytes) {
        (None, _) => Some(Fault::Missing(object.key.clone())),
        (Some(found), Some(expected)) if *found != expected => {
            Some(Fault::Size { key: object.key.clone(), expected, found: *found })
        }
        (Some(_), _) => None,
    };
    let faults: Vec<Fault> = needed.iter().filter_map(fault).collect();
    if faults.is_empty() { Completeness::Complete } else { Completeness::Incomplete(faults) }
}

/// A chunk that a listing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedChunk {
    /// Its key.
    pub key: String,
    /// Counted from 1.
    pub number: u32,
    /// Its size, in bytes.
    pub stored_bytes: u64,
}

/// The chunks of a base backup that a listing shows, in either mode, in their order. All of them
/// are copied, with a key or without one.
#[must_use]
pub fn chunks_listed(backup: &str, listing: &Listing) -> Vec<ListedChunk> {
    let mut found = Vec::new();
    for prefix in [keys::chunks_of(backup), keys::delta_chunks_of(backup)] {
        let (from, to) = (format!("{prefix}/"), format!("{prefix}0")); // `0` follows `/`.
        for (key, size) in listing.range(from..to) {
            match keys::role(key) {
                Role::Chunk { number, .. } | Role::DeltaChunk { number, .. } => {
                    found.push(ListedChunk { key: key.clone(), number, stored_bytes: *size });
                }
                Role::Index { .. }
                | Role::DeltaFile { .. }
                | Role::Segment { .. }
                | Role::History { .. }
                | Role::PreservationRequest
                | Role::Other => {}
            }
        }
    }
    found
}

/// What a listing proves of a base backup whose index has not been read.
///
/// In the format of chunks, `total-size-enc` is the size of all chunks together. In delta mode it
/// counts shared files once per use, and embedded ones too, and nothing follows from it.
#[must_use]
pub fn by_listing(backup: &str, metadata: &BackupMetadata, listing: &Listing) -> Completeness {
    match metadata.format {
        BackupFormat::Raw | BackupFormat::WholeTar => Completeness::Complete,
        BackupFormat::Delta => Completeness::NeedsKey,
        BackupFormat::Chunks => {
            let Some(expected) = metadata.total_stored_bytes else {
                return Completeness::NeedsKey;
            };
            let chunks = chunks_listed(backup, listing);
            let found = chunks.iter().map(|chunk| chunk.stored_bytes).sum();
            let gapless = chunks.iter().zip(1..).all(|(chunk, expect)| chunk.number == expect);
            if found == expected && gapless {
                Completeness::Complete
            } else {
                Completeness::Incomplete(vec![Fault::Chunks { expected, found }])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::pghoard::{
        index::Chunk,
        manifest::{File, Manifest},
        metadata::Coding,
    };
    use chrono::DateTime;

    const ID: &str = "2026-11-23_09-01_0";

    fn chunk(number: u32) -> String {
        format!("basebackup_chunk/{ID}/{ID}.{number:08}.pghoard")
    }

    fn metadata(format: BackupFormat, total: Option<u64>) -> BackupMetadata {
        BackupMetadata {
            format,
            mode: None,
            started_at: DateTime::UNIX_EPOCH,
            finished_at: None,
            start_segment: String::new(),
            end_segment: None,
            postgres_major: None,
            total_plain_bytes: None,
            total_stored_bytes: total,
            reason: None,
            site: None,
            tablespaces: vec![],
            coding: Coding::default(),
        }
    }

    #[test]
    fn sizes_prove_chunks_without_a_key_and_nothing_in_delta_mode() {
        let chunks = metadata(BackupFormat::Chunks, Some(60));
        let mut listing: Listing = (1..=3).map(|n| (chunk(n), u64::from(n) * 10)).collect();
        listing.insert(format!("basebackup_chunk/{ID}9/{ID}9.00000004.pghoard"), 1);
        assert_eq!(by_listing(ID, &chunks, &listing), Completeness::Complete);
        let unknown = metadata(BackupFormat::Chunks, None);
        assert_eq!(by_listing(ID, &unknown, &listing), Completeness::NeedsKey);
        let delta = metadata(BackupFormat::Delta, Some(60));
        assert_eq!(by_listing(ID, &delta, &listing), Completeness::NeedsKey);

        listing.remove(&chunk(2));
        let missing = Completeness::Incomplete(vec![Fault::Chunks { expected: 60, found: 40 }]);
        assert_eq!(by_listing(ID, &chunks, &listing), missing);
        listing.insert(chunk(4), 20);
        let gap = Completeness::Incomplete(vec![Fault::Chunks { expected: 60, found: 60 }]);
        assert_eq!(by_listing(ID, &chunks, &listing), gap);
    }

    #[test]
    fn an_index_names_every_object_once() {
        let shared = |path: &str| File {
            path: path.into(),
            size_bytes: 1,
            contents: Contents::Shared { digest: "ab".repeat(32), stored_bytes: 7 },
        };
        let mut index = TarMetadata {
            start_segment: None,
            end_segment: None,
            chunks: vec![Chunk {
                file: format!("{ID}/{ID}.00000001.pghoard"),
                plain_bytes: 100,
                stored_bytes: 10,
            }],
            tablespaces: BTreeMap::new(),
            manifest: None,
        };
        assert_eq!(by_index(&index), [Needed { key: chunk(1), stored_bytes: Some(10) }]);
        index.manifest = Some(Manifest { dirs: vec![], files: vec![shared("a"), shared("b")] });
        let needed = by_index(&index);
        let digest = format!("basebackup_delta/{}", "ab".repeat(32));
        let bundle = format!("basebackup_delta_chunk/{ID}/{ID}.00000001.pghoard");
        assert_eq!(
            needed.iter().map(|n| n.key.as_str()).collect::<Vec<_>>(),
            [digest.as_str(), bundle.as_str()]
        );

        let mut listing = Listing::from([(digest.clone(), 7), (bundle.clone(), 10)]);
        assert_eq!(check(&needed, &listing), Completeness::Complete);
        listing.insert(bundle.clone(), 9);
        listing.remove(&digest);
        assert_eq!(
            check(&needed, &listing),
            Completeness::Incomplete(vec![
                Fault::Missing(digest),
                Fault::Size { key: bundle, expected: 10, found: 9 }
            ])
        );
    }
}
