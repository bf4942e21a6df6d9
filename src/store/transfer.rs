//! One object of a source to one or several destinations: read once, written to each.
//!
//! 1. Memory is taken before anything is read, and given back when the last destination has let go
//!    of the bytes.
//! 2. A small object is read whole, then written to all destinations at the same time.
//! 3. Of a large one, parts are read ahead and given to every destination in order. Each part must
//!    be of the object that was there in the beginning.
//! 4. A destination that fails is reported, and the others go on. One that all others have been
//!    waiting for is left behind: whoever asked gives it the object alone.
//! 5. What a store says that it holds is compared with the checksum of what was read.

use crate::{
    store::{
        BlobStore, Body, Condition, Contents, ObjectMeta, StoreError, Stored, UserMetadata,
        key::Key,
        pool::gather,
        proof::Crc64,
        wrap::limit::{Held, Memory},
    },
    sys::clock::Clock,
};
use bytes::Bytes;
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream, FuturesUnordered},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Largest object that is read whole before it is written, in bytes.
pub const WHOLE_BYTES_MAX: u64 = 16 << 20;
/// Parts of one object that are read ahead.
const PARTS_AHEAD: usize = 3;
/// How long the destinations that are done wait for the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// The smallest part but the last that every store takes, in bytes. S3 demands 5 MiB.
const PART_BYTES_MIN: u64 = 8 << 20;
/// Most parts of S3 and Google. Azure takes 50,000.
const PARTS_MAX: u64 = 10_000;

/// The size of the parts of an object: a multiple of 1 MiB, so that it fits with few enough. Parts
/// that are read as they are written can be let go one by one.
pub(crate) fn part_bytes(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(PARTS_MAX).next_multiple_of(1 << 20).max(PART_BYTES_MIN)
}

/// The object that is copied.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Where it is.
    pub store: Arc<dyn BlobStore>,
    /// Its key there.
    pub key: Key,
    /// The size that it had when it was listed, in bytes.
    pub size_bytes: u64,
}

/// A place that it is copied to.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The store.
    pub store: Arc<dyn BlobStore>,
    /// The key there.
    pub key: Key,
    /// What must hold for the write to happen.
    pub condition: Condition,
    /// Ends the write.
    pub quit: CancellationToken,
}

/// What a transfer may use.
#[derive(Clone, Debug)]
pub struct Means {
    /// For what was read and is not written yet.
    pub memory: Memory,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What came of one destination.
#[derive(Debug)]
pub enum Landed {
    /// The object is there.
    Stored(Stored),
    /// It is not. An error of the source comes to every destination.
    Failed(StoreError),
    /// The others were not to wait for it any longer. Nothing was written.
    LeftBehind,
}

/// Who is told, by its place among the destinations, what came of each of them, once.
pub type Tell<'a> = &'a mut (dyn FnMut(usize, Landed) + Send);

/// An object in memory.
#[derive(Debug)]
pub struct Whole {
    /// The contents.
    pub bytes: Bytes,
    user_metadata: UserMetadata,
    crc64: u64,
    _memory: Held,
}

/// Copies an object to every destination.
pub async fn transfer(origin: &Origin, to: &[Destination], means: &Means, tell: Tell<'_>) {
    if origin.size_bytes > WHOLE_BYTES_MAX {
        return flow(origin, to, means, tell).await;
    }
    match read_whole(origin, means).await {
        Ok(whole) => spread(&whole, to, means, tell).await,
        Err(error) => fail_all(&error, to.len(), tell),
    }
}

/// Tells every destination of one error.
pub fn fail_all(error: &StoreError, destinations: usize, tell: Tell<'_>) {
    (0..destinations).for_each(|at| tell(at, Landed::Failed(error.again())));
}

/// Reads an object into memory.
///
/// # Errors
/// Those of [`BlobStore::get`], and [`StoreError::Changed`] when it does not have the size that it
/// had when it was listed.
pub async fn read_whole(origin: &Origin, means: &Means) -> Result<Whole, StoreError> {
    let Origin { store, key, size_bytes } = origin;
    let memory = means.memory.take(*size_bytes).await;
    let object = store.get(key).await?;
    if object.meta.size_bytes != *size_bytes {
        return Err(StoreError::Changed(key.clone()));
    }
    let bytes = gather(object.body, usize::try_from(*size_bytes).unwrap_or(usize::MAX)).await?;
    if bytes.len() as u64 != *size_bytes {
        return Err(StoreError::Changed(key.clone()));
    }
    let mut sum = Crc64::new();
    sum.update(&bytes);
    let (user_metadata, crc64) = (object.user_metadata, sum.finish());
    Ok(Whole { bytes, user_metadata, crc64, _memory: memory })
}

/// Writes an object that is in memory to every destination.
pub async fn spread(whole: &Whole, to: &[Destination], means: &Means, tell: Tell<'_>) {
    let writes: FuturesUnordered<_> = to
        .iter()
        .enumerate()
        .map(|(at, destination)| async move {
            let user_metadata = whole.user_metadata.clone();
            let contents = Contents { user_metadata, ..Contents::of(whole.bytes.clone()) };
            let written = write(destination.clone(), contents).await;
            (at, compared(written, destination, Some(whole.crc64)).await)
        })
        .collect();
    let left = all_but_late(writes, to.len(), &*means.clock, |(at, landed)| {
        let is_done = matches!(landed, Landed::Stored(_));
        tell(at, landed);
        (at, is_done)
    });
    for at in left.await {
        tell(at, Landed::LeftBehind);
    }
}

/// Waits for all of `work`. When one is done, the others have [`PATIENCE`]; gives those that were
/// late. `ended` says who has ended, and whether it is one that others may be measured by.
pub(crate) async fn all_but_late<T>(
    mut work: impl Stream<Item = T> + Unpin,
    count: usize,
    clock: &dyn Clock,
    mut ended: impl FnMut(T) -> (usize, bool),
) -> BTreeSet<usize> {
    let mut open: BTreeSet<usize> = (0..count).collect();
    let mut late: BoxFuture<'static, ()> = future::pending().boxed();
    let mut is_timed = false;
    loop {
        tokio::select! {
            biased;
            next = work.next() => {
                let Some(next) = next else { return BTreeSet::new() };
                let (at, is_measure) = ended(next);
                open.remove(&at);
                if is_measure && !is_timed && !open.is_empty() {
                    (late, is_timed) = (clock.sleep(PATIENCE), true);
                }
            }
            () = &mut late => return open,
        }
    }
}

/// Writes, unless it is told to end.
async fn write(to: Destination, contents: Contents) -> Result<Stored, StoreError> {
    let Destination { store, key, condition, quit } = to;
    tokio::select! {
        written = store.write(&key, contents, &condition) => written,
        () = quit.cancelled() => {
            Err(StoreError::unavailable(store.name(), "writing", &key, "it was given up"))
        }
    }
}

/// A write has succeeded when the store holds what was read.
async fn compared(
    written: Result<Stored, StoreError>,
    to: &Destination,
    crc64: Option<u64>,
) -> Landed {
    let stored = match written {
        Ok(stored) if Some(stored.crc64) == crc64 => return Landed::Stored(stored),
        Ok(stored) => stored,
        Err(error) => return Landed::Failed(error),
    };
    let Destination { store, key, .. } = to;
    // Left there, it would be taken for the object by whoever lists it next.
    let wrong = match store.head(key).await {
        Ok(now) if now.etag == stored.etag => store.delete(key).await,
        Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    };
    let what = match wrong {
        Ok(()) => "what was written is not what was read; it was removed".to_owned(),
        Err(error) => {
            format!("what was written is not what was read, and it is still there: {error}")
        }
    };
    Landed::Failed(StoreError::unavailable(store.name(), "proving", key, what))
}

/// What gives a destination its parts, and what tells it that it is left behind.
type Feed = (mpsc::Sender<Result<Bytes, StoreError>>, CancellationToken);

async fn flow(origin: &Origin, to: &[Destination], means: &Means, tell: Tell<'_>) {
    let described = origin.store.describe(&origin.key).await;
    let (meta, user_metadata) = match described {
        Ok((meta, metadata)) if meta.size_bytes == origin.size_bytes => (meta, metadata),
        Ok(_) => return fail_all(&StoreError::Changed(origin.key.clone()), to.len(), tell),
        Err(error) => return fail_all(&error, to.len(), tell),
    };
    let (mut feeds, writes) = (Vec::new(), FuturesUnordered::new());
    // Known before any feed ends, and so before any write can have ended well.
    let crc64 = Arc::new(OnceLock::new());
    for (at, destination) in to.iter().enumerate() {
        let ((feed, parts), behind) = (mpsc::channel(1), CancellationToken::new());
        feeds.push(Some((feed, behind.clone())));
        let (size_bytes, user_metadata) = (origin.size_bytes, user_metadata.clone());
        let contents = Contents { size_bytes, user_metadata, body: body_of_parts(parts) };
        let crc64 = crc64.clone();
        let writing = async move {
            tokio::select! {
                written = write(destination.clone(), contents) => {
                    (at, compared(written, destination, crc64.get().copied()).await)
                }
                () = behind.cancelled() => (at, Landed::LeftBehind),
            }
        };
        writes.push(writing.boxed());
    }
    let feeding = feed_all(origin, &meta, means, feeds, &crc64);
    let writing = all_but_late(writes, to.len(), &*means.clock, |(at, landed)| {
        let is_done = matches!(landed, Landed::Stored(_));
        tell(at, landed);
        (at, is_done)
    });
    let ((), late) = future::join(feeding, writing).await;
    for at in late {
        tell(at, Landed::LeftBehind);
    }
}

fn body_of_parts(parts: mpsc::Receiver<Result<Bytes, StoreError>>) -> Body {
    stream::unfold(parts, |mut parts| async { parts.recv().await.map(|part| (part, parts)) })
        .boxed()
}

/// Gives every part to every destination, as long as there are any.
async fn feed_all(
    origin: &Origin,
    meta: &ObjectMeta,
    means: &Means,
    mut feeds: Vec<Option<Feed>>,
    crc64: &OnceLock<u64>,
) {
    let (mut parts, mut sum) = (read_ahead(origin, meta, means), Crc64::new());
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => {
                sum.update(&part);
                give(&mut feeds, means, || Ok(part.clone())).await;
            }
            Err(error) => return give(&mut feeds, means, || Err(error.again())).await,
        }
        if feeds.iter().all(Option::is_none) {
            return;
        }
    }
    // Set once: there is one reader.
    let _ = crc64.set(sum.finish());
}

/// Gives one part to all destinations that are still there.
async fn give(
    feeds: &mut [Option<Feed>],
    means: &Means,
    part: impl Fn() -> Result<Bytes, StoreError>,
) {
    let (count, mut gone) = (feeds.len(), BTreeSet::new());
    let sends: FuturesUnordered<_> = feeds
        .iter()
        .enumerate()
        .filter_map(|(at, feed)| Some((at, feed.as_ref()?)))
        .map(|(at, (feed, _))| feed.send(part()).map(move |sent| (at, sent.is_ok())))
        .collect();
    let late = all_but_late(sends, count, &*means.clock, |(at, is_taken)| {
        if !is_taken {
            gone.insert(at);
        }
        (at, is_taken)
    });
    let late = late.await;
    for at in late.union(&gone) {
        if let Some((_, behind)) = feeds[*at].take() {
            // Of no effect on a write that has ended by itself, and has told so.
            if late.contains(at) {
                behind.cancel();
            }
        }
    }
}

/// The parts of an object, some of them read ahead, in order and all of the same object. Each holds
/// its memory as long as anybody holds the bytes.
fn read_ahead<'a>(
    origin: &'a Origin,
    meta: &'a ObjectMeta,
    means: &'a Means,
) -> BoxStream<'a, Result<Bytes, StoreError>> {
    let (size, part) = (origin.size_bytes, part_bytes(origin.size_bytes));
    let read = move |number: u64| async move {
        let range = number * part..size.min((number + 1) * part);
        let memory = means.memory.take(range.end - range.start).await;
        let (now, bytes) = origin.store.get_range(&origin.key, range).await?;
        if now.etag != meta.etag || now.size_bytes != meta.size_bytes {
            return Err(StoreError::Changed(origin.key.clone()));
        }
        Ok(Bytes::from_owner(HeldBytes { bytes, _memory: memory }))
    };
    stream::iter(0..size.div_ceil(part)).map(read).buffered(PARTS_AHEAD).boxed()
}

struct HeldBytes {
    bytes: Bytes,
    _memory: Held,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_enough_and_not_too_small() {
        assert_eq!(part_bytes(17 << 20), PART_BYTES_MIN);
        for size in [80_000 << 20, (80_000 << 20) + 1, 5 << 40] {
            let part = part_bytes(size);
            assert!(
                size.div_ceil(part) <= PARTS_MAX && part.is_multiple_of(1 << 20),
                "{size}: {part}"
            );
        }
    }
}
