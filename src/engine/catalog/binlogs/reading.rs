//! Reads one binary log out of a store, as a stream: it may be a gigabyte large.

use crate::{
    binlog::{
        stop::{Cut, find_stop},
        summary::summarize,
    },
    domain::recovery::Codec,
    engine::{
        catalog::{binlogs::FileRead, reading::LogSource},
        error::chain,
    },
    layout::binlogs::ListedBinlog,
    sealed::{self, SealedError, keys::Keys},
    store::{
        BlobStore, StoreError,
        feed::{Feed, Pumped, pair},
        key::Key,
    },
};
use chrono::{DateTime, Utc};
use std::{io::Read, sync::Arc};
use tokio_util::sync::CancellationToken;

/// How a binary log is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Key in the store.
    pub key: &'a Key,
    /// Compression.
    pub codec: Codec,
    /// Name of the key pair that it may be encrypted for.
    pub key_id: Option<&'a str>,
}

/// Reads and sums up a file; `None` when it has disappeared.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn read(
    source: LogSource<'_>,
    object: &ListedBinlog,
) -> Result<Option<FileRead>, StoreError> {
    let Ok(key) = source.prefix.join(&object.key) else { return Ok(None) };
    let stored = Stored { key: &key, codec: object.codec, key_id: object.key_id.as_deref() };
    let expected = object.file_bytes;
    let read = with_file(source.store, stored, source.keys, move |file| match summarize(file) {
        Ok(summary) => {
            let bytes = summary.bytes;
            let fits = expected.is_none_or(|expected| expected == bytes);
            let summary = Arc::new(summary);
            match fits {
                true => FileRead::Sound(summary),
                false => FileRead::Damaged {
                    what: format!("it has {bytes} bytes, not {}", expected.unwrap_or(bytes)),
                },
            }
        }
        Err(fault) => FileRead::Damaged { what: chain(&fault) },
    });
    Ok(match read.await? {
        None => None,
        Some(Ok(read)) => Some(read),
        Some(Err(SealedError::NoKey(key_id))) => Some(FileRead::Sealed { key_id }),
        Some(Err(error)) => Some(FileRead::Damaged { what: chain(&error) }),
    })
}

/// Finds where a moment stops in a file, from an offset on; `None` when it has disappeared.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn cut(
    source: LogSource<'_>,
    object: &ListedBinlog,
    from: u64,
    target: DateTime<Utc>,
) -> Result<Option<Result<Cut, String>>, StoreError> {
    let Ok(key) = source.prefix.join(&object.key) else { return Ok(None) };
    let stored = Stored { key: &key, codec: object.codec, key_id: object.key_id.as_deref() };
    let find =
        move |file: &mut dyn Read| find_stop(file, from, target).map_err(|fault| chain(&fault));
    let found = with_file(source.store, stored, source.keys, find).await?;
    Ok(found.map(|found| found.map_err(|error| chain(&error)).and_then(|found| found)))
}

/// Lets `see` read the plain contents of a file on a thread that may block. What it made of them counts
/// only when the object was sound to its end, unless what it read was not.
async fn with_file<T: Send + 'static>(
    store: &dyn BlobStore,
    stored: Stored<'_>,
    keys: &Keys,
    see: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
) -> Result<Option<Result<T, SealedError>>, StoreError> {
    let object = match store.get(stored.key).await {
        Ok(object) => object,
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (pump, feed) = pair();
    let (codec, key_id) = (stored.codec, stored.key_id.map(str::to_owned));
    let keys = keys.clone();
    let thread =
        tokio::task::spawn_blocking(move || look(feed, codec, key_id.as_deref(), &keys, see));
    let pumped = pump.run(object.body, &CancellationToken::new(), |_| ()).await;
    let seen = thread.await.expect("the reader of a binary log does not panic");
    match pumped {
        Pumped::Failed(error) => Err(error),
        Pumped::Whole | Pumped::Stopped => Ok(Some(seen)),
    }
}

fn look<T>(
    feed: Feed,
    codec: Codec,
    key_id: Option<&str>,
    keys: &Keys,
    see: impl FnOnce(&mut dyn Read) -> T,
) -> Result<T, SealedError> {
    let mut opened = sealed::binlog::open(feed, codec, key_id, keys)?;
    let seen = see(&mut opened);
    opened.finish()?;
    Ok(seen)
}
