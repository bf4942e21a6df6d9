//! Reads one object of a copy again, and says from its record and its layout whether it is good.

use crate::{
    domain::recovery::Codec,
    engine::{
        catalog::{files::read_small, reading::SEGMENT_OBJECT_BYTES_MAX},
        parts::PartHasher,
        state::records::Record,
        stretches::{cover, difference},
    },
    layout::{
        BackupFormat, BackupPlace, Role,
        pgbackrest::{
            keys,
            manifest::{self, StoredFile, stored_files},
        },
    },
    store::{BlobStore, StoreError, key::Key, proof::Crc64, wrap::bandwidth::Bandwidth},
    wal::decode,
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::collections::BTreeMap;

/// An object's contents, read to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) size_bytes: u64,
    pub(super) etag: Option<String>,
    pub(super) crc64: u64,
    pub(super) has_user_metadata: bool,
    pub(super) layout: Verdict,
}

/// What the backup tool's own checksums say of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are right.
    Proven,
    /// They are wrong.
    Refuted(String),
    /// The tool keeps no checksum of all of it.
    Silent,
}

/// What is to be compared while an object is read.
#[derive(Clone, Debug)]
pub(super) enum Check {
    /// Nothing.
    Nothing,
    /// The SHA-1 in a segment's name.
    Segment { codec: Codec, sha1: String },
    /// The sums of a backup's manifest.
    Files(Vec<StoredFile>),
    /// A manifest's own checksum.
    Manifest { label: String },
}

/// What is to be done about an object that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It is as it was recorded.
    Good,
    /// It is good, and is to be recorded like this.
    Record,
    /// It is damaged.
    Damaged(String),
    /// Nothing here tells: the primary's object does.
    AskPrimary,
}

/// Judges what was read.
#[must_use]
pub(super) fn judge(record: Option<&Record>, seen: &Seen) -> Finding {
    let same = |record: &Record| record.size_bytes == seen.size_bytes && record.crc64 == seen.crc64;
    match (record, &seen.layout) {
        (Some(record), _) if same(record) => {
            if seen.etag == record.etag {
                Finding::Good
            } else {
                Finding::Record
            }
        }
        (_, Verdict::Proven) => Finding::Record,
        (_, Verdict::Refuted(what)) => Finding::Damaged(what.clone()),
        (_, Verdict::Silent) => Finding::AskPrimary,
    }
}

/// What is wrong with contents that are not the recorded ones.
#[must_use]
pub(super) fn mismatch(record: &Record, seen: &Seen) -> String {
    if record.size_bytes != seen.size_bytes {
        return format!("it has {} bytes, not {}", seen.size_bytes, record.size_bytes);
    }
    format!("its CRC-64 is {:016x}, not {:016x}", seen.crc64, record.crc64)
}

/// The sums of the backup that was asked for last: keys come in order.
#[derive(Debug, Default)]
pub(super) struct KnownSums {
    label: String,
    files: BTreeMap<String, Vec<StoredFile>>,
}

impl KnownSums {
    /// What the layout knows of an object of `place` in `store`.
    pub(super) async fn check(
        &mut self,
        store: &dyn BlobStore,
        place: &BackupPlace,
        key: &str,
    ) -> Result<Check, StoreError> {
        Ok(match place.format.role(key) {
            Role::Segment { codec, sha1, .. } => Check::Segment { codec, sha1 },
            Role::Marker { label } => match place.format {
                BackupFormat::PgBackRest { .. } => Check::Manifest { label },
                BackupFormat::PgHoard | BackupFormat::MyHoard { .. } | BackupFormat::Stream => {
                    Check::Nothing
                }
            },
            Role::Data { label } => {
                if self.label != label {
                    self.files = sums(store, place, &label).await?;
                    self.label = label;
                }
                self.files.get(key).map_or(Check::Nothing, |files| Check::Files(files.clone()))
            }
            // What PGHoard's objects say of themselves is not kept by every store.
            Role::History { .. }
            | Role::NamedSegment { .. }
            | Role::Binlog { .. }
            | Role::Shared
            | Role::Other => Check::Nothing,
        })
    }

    /// The manifest of a backup may have changed since it was read.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The files of a backup's manifest by object; nothing when it cannot be read.
async fn sums(
    store: &dyn BlobStore,
    place: &BackupPlace,
    label: &str,
) -> Result<BTreeMap<String, Vec<StoredFile>>, StoreError> {
    let mut sums: BTreeMap<String, Vec<StoredFile>> = BTreeMap::new();
    let BackupFormat::PgBackRest { stanza } = &place.format else { return Ok(sums) };
    let Ok(key) = place.prefix.join(&keys::manifest(stanza, label)) else { return Ok(sums) };
    let Some(bytes) = read_small(store, &key).await? else { return Ok(sums) };
    for file in stored_files(stanza, label, &bytes).unwrap_or_default() {
        sums.entry(file.key.clone()).or_default().push(file);
    }
    for files in sums.values_mut() {
        files.sort_by_key(|file| file.offset);
    }
    Ok(sums)
}

/// Reads an object to its end, no faster than `line` lets it. `None` when it does not exist.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub(super) async fn read(
    store: &dyn BlobStore,
    key: &Key,
    check: &Check,
    line: Option<&Bandwidth>,
) -> Result<Option<Seen>, StoreError> {
    let object = match store.get(key).await {
        Ok(object) => object,
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (size_bytes, has_user_metadata) =
        (object.meta.size_bytes, !object.user_metadata.is_empty());
    let mut whole = match check {
        Check::Segment { .. } | Check::Manifest { .. }
            if size_bytes <= SEGMENT_OBJECT_BYTES_MAX =>
        {
            Some(Vec::new())
        }
        Check::Segment { .. } | Check::Manifest { .. } | Check::Nothing | Check::Files(_) => None,
    };
    let files: &[StoredFile] = if let Check::Files(files) = check { files } else { &[] };
    let (mut sum, mut hasher, mut read) =
        (Crc64::new(), PartHasher::new(files.iter().map(|f| (f.offset, f.size_bytes))), 0);
    let mut body = object.body;
    while let Some(piece) = body.try_next().await? {
        if let Some(line) = line {
            line.take(piece.len()).await;
        }
        sum.update(&piece);
        hasher.take(&piece);
        read += piece.len() as u64;
        if let Some(whole) = &mut whole {
            whole.extend_from_slice(&piece);
        }
    }
    if read != size_bytes {
        let what = format!("it ended after {read} of {size_bytes} bytes");
        return Err(StoreError::unavailable(store.name(), "reading", key, what));
    }
    let layout = match whole {
        Some(whole) => of_whole(check, whole.into()).await,
        None if files.is_empty() => Verdict::Silent,
        None => of_files(files, &hasher.finish(), size_bytes),
    };
    let (etag, crc64) = (object.meta.etag, sum.finish());
    Ok(Some(Seen { size_bytes, etag, crc64, has_user_metadata, layout }))
}

async fn of_whole(check: &Check, bytes: Bytes) -> Verdict {
    let check = check.clone();
    let judged = tokio::task::spawn_blocking(move || match check {
        Check::Segment { codec, sha1 } => {
            decode::check(codec, &bytes, &sha1).map_err(|error| error.to_string())
        }
        Check::Manifest { label } => {
            manifest::needs("", &label, &bytes).map(drop).map_err(|error| error.to_string())
        }
        Check::Nothing | Check::Files(_) => Ok(()),
    });
    match judged.await.expect("the decoder does not panic") {
        Ok(()) => Verdict::Proven,
        Err(what) => Verdict::Refuted(what),
    }
}

fn of_files(files: &[StoredFile], sums: &[Option<String>], size_bytes: u64) -> Verdict {
    let wrong = files.iter().zip(sums).find_map(|(file, sum)| difference(file, sum.as_ref()));
    match wrong {
        Some(what) => Verdict::Refuted(what),
        None if cover(files, size_bytes) => Verdict::Proven,
        None => Verdict::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::records::tests::record;

    #[test]
    fn a_record_counts_more_than_the_layout_and_the_layout_more_than_a_tag() {
        let check = |crc64, etag: &str, layout: &Verdict, recorded: bool| {
            let record = record("p", "k", 5);
            let (etag, layout) = (Some(etag.to_owned()), layout.clone());
            let has_user_metadata = false;
            let seen = Seen { size_bytes: 7, etag, crc64, has_user_metadata, layout };
            judge(recorded.then_some(&record), &seen)
        };
        let refuted = Verdict::Refuted("w".to_owned());
        let damaged = Finding::Damaged("w".to_owned());
        for layout in [&Verdict::Proven, &refuted, &Verdict::Silent] {
            assert_eq!(check(5, "e", layout, true), Finding::Good);
            assert_eq!(check(5, "other", layout, true), Finding::Record);
        }
        for recorded in [true, false] {
            assert_eq!(check(6, "e", &Verdict::Proven, recorded), Finding::Record);
            assert_eq!(check(6, "e", &refuted, recorded), damaged);
            assert_eq!(check(6, "e", &Verdict::Silent, recorded), Finding::AskPrimary);
        }
    }
}
