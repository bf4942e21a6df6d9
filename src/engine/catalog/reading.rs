//! Reads segments and proves them by the SHA-1 of their names and by their records.

use crate::{
    domain::recovery::Codec,
    engine::{
        catalog::{runs::Run, segment::StoredSegment},
        error::chain,
    },
    layout::pghoard::metadata::SegmentCoding,
    sealed::{
        keys::Keys,
        segment::{open_history, open_segment},
    },
    store::{BlobStore, StoreError, key::Key, read_all},
    wal::{
        decode,
        record::Record,
        scan::{Scanner, SegmentIndex},
    },
};

/// Largest object of a segment that is read, in bytes: the largest segment and a little.
pub const SEGMENT_OBJECT_BYTES_MAX: u64 = (1 << 30) + (16 << 20);

/// Where a log is read from.
#[derive(Clone, Copy, Debug)]
pub struct LogSource<'a> {
    /// The store.
    pub store: &'a dyn BlobStore,
    /// The repository's prefix there.
    pub prefix: &'a Key,
    /// Private keys for segments that are encrypted.
    pub keys: &'a Keys,
}

/// Room for the contents of a segment, in bytes. glibc's allocator gives a block of more than 32 MiB back
/// to the system at once; a smaller one it keeps for the thread that asked for it, and blocking threads
/// are many. Pages that nothing is written to are no memory.
const SCRATCH_BYTES: usize = (32 << 20) + (64 << 10);

/// A segment that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Key of the object below the repository's prefix.
    pub key: String,
    /// What is wrong, with the segment's name, for people.
    pub what: String,
    /// Name of the private key that was given and does not fit, when that is all.
    pub wrong_key: Option<String>,
}

/// A segment cannot be read.
struct Unreadable {
    what: String,
    wrong_key: Option<String>,
}

impl From<String> for Unreadable {
    fn from(what: String) -> Self {
        Self { what, wrong_key: None }
    }
}

/// Reads and proves one segment, whose contents are left in `scratch`: many are read one by one.
pub(super) async fn read(
    source: LogSource<'_>,
    run: &Run,
    at: usize,
    scanner: Scanner,
    scratch: &mut Vec<u8>,
) -> Result<Result<(SegmentIndex, Scanner), Damage>, StoreError> {
    scan(source, (run, at), scanner, scratch, |_| ()).await
}

/// Reads and proves one segment and shows its records to `sink`.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn scan_with(
    source: LogSource<'_>,
    run: &Run,
    at: usize,
    scanner: Scanner,
    sink: impl FnMut(&Record) + Send + 'static,
) -> Result<Result<(SegmentIndex, Scanner), Damage>, StoreError> {
    scan(source, (run, at), scanner, &mut Vec::new(), sink).await
}

async fn scan(
    source: LogSource<'_>,
    (run, at): (&Run, usize),
    mut scanner: Scanner,
    scratch: &mut Vec<u8>,
    mut sink: impl FnMut(&Record) + Send + 'static,
) -> Result<Result<(SegmentIndex, Scanner), Damage>, StoreError> {
    let Some((segment, stored)) = run.stored(at) else {
        let what = format!("a segment of the log in {} has disappeared", run.archive.directory());
        return Ok(Err(Damage { key: String::new(), what, wrong_key: None }));
    };
    let damaged = |Unreadable { what, wrong_key }: Unreadable| Damage {
        key: stored.key.clone(),
        what,
        wrong_key,
    };
    if let Err(unreadable) = read_into(source, &stored, scratch).await? {
        return Ok(Err(damaged(unreadable)));
    }
    let plain = std::mem::take(scratch);
    let scanned = tokio::task::spawn_blocking(move || {
        let index = scanner.segment(segment, &plain, &mut sink);
        (index, scanner, plain)
    });
    let (index, scanner, plain) = scanned.await.expect("the reader of the log does not panic");
    *scratch = plain;
    Ok(match index {
        Ok(index) => Ok((index, scanner)),
        Err(error) => Err(damaged(error.to_string().into())),
    })
}

/// The contents of a segment, checked against the SHA-1 in its name; or what is wrong with them.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn read_segment(
    source: LogSource<'_>,
    stored: &StoredSegment,
) -> Result<Result<Vec<u8>, String>, StoreError> {
    let mut plain = Vec::new();
    let read = read_into(source, stored, &mut plain).await?;
    Ok(read.map(|()| plain).map_err(|unreadable| unreadable.what))
}

async fn read_into(
    source: LogSource<'_>,
    stored: &StoredSegment,
    scratch: &mut Vec<u8>,
) -> Result<Result<(), Unreadable>, StoreError> {
    let name = stored.place.name();
    let Ok(key) = source.prefix.join(&stored.key) else {
        return Ok(Err(format!("WAL segment {name} has an impossible key").into()));
    };
    let object = match read_all(source.store, &key, SEGMENT_OBJECT_BYTES_MAX).await {
        Ok((_, object)) => object,
        Err(StoreError::NotFound(_)) => {
            return Ok(Err(format!("WAL segment {name} has disappeared").into()));
        }
        Err(error) => return Err(error),
    };
    let (codec, sha1) = (stored.codec, stored.sha1.clone());
    let (key_id, keys) = (stored.key_id.clone(), source.keys.clone());
    let mut plain = std::mem::take(scratch);
    plain.clear();
    plain.reserve(SCRATCH_BYTES);
    let proven = tokio::task::spawn_blocking(move || {
        let proven = match &key_id {
            None => decode::decode_into(codec, &object, &mut plain)
                .and_then(|()| decode::check_sha1(&plain, &sha1))
                .map_err(|error| error.to_string().into()),
            Some(key_id) => {
                let coding = SegmentCoding::sealed(codec, key_id, Some(&sha1));
                let opened = open_segment(&object, &coding, &keys);
                opened.map(|opened| plain = opened).map_err(|error| Unreadable {
                    what: chain(&error),
                    wrong_key: error.wrong_key().map(str::to_owned),
                })
            }
        };
        (proven, plain)
    });
    let (proven, plain) = proven.await.expect("the decoder does not panic");
    *scratch = plain;
    Ok(proven.map_err(|Unreadable { what, wrong_key }| {
        let is = if wrong_key.is_some() { "cannot be opened" } else { "is damaged" };
        Unreadable { what: format!("WAL segment {name} {is}: {what}"), wrong_key }
    }))
}

/// The plain contents of an object of the log, checked against their SHA-1 where it is known: that of
/// history files is not.
///
/// # Errors
/// What is wrong with it, for people.
pub fn open(
    codec: Codec,
    key_id: Option<&str>,
    object: &[u8],
    sha1: Option<&str>,
    keys: &Keys,
) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::error::Error| chain(error);
    match (key_id, sha1) {
        (None, sha1) => {
            let plain = decode::decode(codec, object).map_err(|error| text(&error))?;
            if let Some(sha1) = sha1 {
                decode::check_sha1(&plain, sha1).map_err(|error| text(&error))?;
            }
            Ok(plain)
        }
        (Some(key_id), Some(sha1)) => {
            let coding = SegmentCoding::sealed(codec, key_id, Some(sha1));
            open_segment(object, &coding, keys).map_err(|error| text(&error))
        }
        (Some(key_id), None) => {
            let coding = SegmentCoding::sealed(codec, key_id, None);
            open_history(object, &coding, keys).map_err(|error| text(&error))
        }
    }
}
