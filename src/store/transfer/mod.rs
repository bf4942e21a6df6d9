//! One object of a source to one or several destinations: read once, written to each.
//!
//! 1. Memory is taken before anything is read, and given back when the last destination has let go
//!    of the bytes.
//! 2. A small object is read whole, then written to all destinations at the same time. Turns bound how
//!    many are being read, and how many are being written to each destination: more may be under way, so
//!    that the source is read while the destinations write. Large objects take no turns: they could wait
//!    for memory with a turn that whoever has the memory waits for.
//! 3. Of a large one, parts are read ahead and given to every destination in order. Each part must
//!    be of the object that was there in the beginning.
//! 4. A destination that fails is reported, and the others go on. One that all others have been
//!    waiting for is left behind: whoever asked gives it the object alone.
//! 5. What a store says that it holds is compared with the checksum of what was read.
//! 6. A destination that can take over what its provider has already gets no bytes: when all were read
//!    and found good, it has the provider copy exactly that object, and the same proof is asked for.
//! 7. Where the caller knows more about the contents, a [`Check`] sees them before they are whole
//!    anywhere: what fails it is written nowhere.

mod flow;

use crate::{
    store::{
        BlobStore, Condition, Contents, StoreError, Stored, UserMetadata,
        key::Key,
        pool::{Pieces, gather_pieces},
        proof::remove_wrong,
        takeover::{ObjectName, Original},
        wrap::limit::{Held, Memory, Turns},
    },
    sys::clock::Clock,
};
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::{self, BoxFuture},
    stream::{self, FuturesUnordered},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Largest object that is read whole before it is written, in bytes.
pub const WHOLE_BYTES_MAX: u64 = 16 << 20;
/// How long the destinations that are done wait for the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// The smallest part but the last that every store takes, in bytes. S3 demands 5 MiB.
pub(crate) const PART_BYTES_MIN: u64 = 8 << 20;
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
    /// For small objects that are being written there.
    pub turns: Turns,
}

impl Destination {
    fn takes_over(&self, source: &ObjectName, size_bytes: u64) -> bool {
        self.store.takes_over(source, size_bytes)
    }
}

/// What a transfer may use.
#[derive(Clone, Debug)]
pub struct Means {
    /// For what was read and is not written yet.
    pub memory: Memory,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For small objects that are being read.
    pub turns: Turns,
}

/// What came of one destination.
#[derive(Debug)]
pub enum Landed {
    /// The object is there.
    Stored(Stored),
    /// It is not. An error of the source comes to every destination.
    Failed(StoreError),
    /// The source's contents failed the check. Nothing was written.
    Damaged(String),
    /// The others were not to wait for it any longer. Nothing was written.
    LeftBehind,
}

/// Looks at contents while they pass.
pub trait Check: Send {
    /// Is told what is attached to the object, before anything of it is read.
    fn about(&mut self, _user_metadata: &UserMetadata) {}

    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]);

    /// Says, when all were taken, what is wrong with them.
    ///
    /// # Errors
    /// A text for people.
    fn verdict(&mut self) -> Result<(), String>;
}

/// Who is told, by its place among the destinations, what came of each of them, once.
pub type Tell<'a> = &'a mut (dyn FnMut(usize, Landed) + Send);

/// An object in memory.
#[derive(Debug)]
pub struct Whole {
    /// The contents.
    pub pieces: Pieces,
    user_metadata: UserMetadata,
    /// What the provider calls it, and its etag, where it can be taken over.
    name: Option<(ObjectName, String)>,
    _memory: Held,
}

impl Whole {
    fn original(&self) -> Option<Original> {
        let (name, etag) = self.name.clone()?;
        let (size_bytes, crc64) = (self.pieces.size_bytes(), self.pieces.crc64());
        Some(Original { name, etag, size_bytes, crc64, user_metadata: self.user_metadata.clone() })
    }
}

/// Copies an object whose contents pass the check to every destination.
pub async fn transfer(
    origin: &Origin,
    mut check: Option<Box<dyn Check>>,
    to: &[Destination],
    means: &Means,
    tell: Tell<'_>,
) {
    if origin.size_bytes > WHOLE_BYTES_MAX {
        return flow::flow(origin, check, to, means, tell).await;
    }
    let whole = match read_whole(origin, means).await {
        Ok(whole) => whole,
        Err(error) => return fail_all(&error, to.len(), tell),
    };
    if let Some(check) = &mut check {
        check.about(&whole.user_metadata);
        whole.pieces.iter().for_each(|piece| check.take(piece));
        if let Err(what) = check.verdict() {
            return (0..to.len()).for_each(|at| tell(at, Landed::Damaged(what.clone())));
        }
    }
    spread(&whole, to, means, tell).await;
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
    let _turn = means.turns.take().await;
    let object = store.get(key).await?;
    if object.meta.size_bytes != *size_bytes {
        return Err(StoreError::Changed(key.clone()));
    }
    let pieces = gather_pieces(object.body, *size_bytes).await?;
    if pieces.size_bytes() != *size_bytes {
        return Err(StoreError::Changed(key.clone()));
    }
    let name = store.object_name(key).zip(object.meta.etag);
    Ok(Whole { pieces, user_metadata: object.user_metadata, name, _memory: memory })
}

/// Writes an object that is in memory to every destination.
pub async fn spread(whole: &Whole, to: &[Destination], means: &Means, tell: Tell<'_>) {
    let original = &whole.original();
    let writes: FuturesUnordered<_> = to
        .iter()
        .enumerate()
        .map(|(at, destination)| async move {
            let (size_bytes, crc64) = (whole.pieces.size_bytes(), whole.pieces.crc64());
            let pieces = whole.pieces.clone().into_vec();
            let body = stream::iter(pieces.into_iter().map(Ok)).boxed();
            let contents = Contents::new(size_bytes, whole.user_metadata.clone(), body);
            contents.known.note(0..size_bytes, crc64);
            let _turn = destination.turns.take().await;
            let written = match original {
                Some(original) if destination.takes_over(&original.name, size_bytes) => {
                    take_over(destination, original).await
                }
                Some(_) | None => write(destination.clone(), contents).await,
            };
            (at, compared(written, destination, Some(crc64)).await)
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
    let Destination { store, key, condition, quit, .. } = to;
    tokio::select! {
        written = store.write(&key, contents, &condition) => written,
        () = quit.cancelled() => Err(given_up(&*store, &key)),
    }
}

/// Has the provider write what was read, unless it is told to end.
async fn take_over(to: &Destination, original: &Original) -> Result<Stored, StoreError> {
    let Destination { store, key, condition, quit, .. } = to;
    tokio::select! {
        written = store.take_over(key, original, condition) => written,
        () = quit.cancelled() => Err(given_up(&**store, key)),
    }
}

fn given_up(store: &dyn BlobStore, key: &Key) -> StoreError {
    StoreError::unavailable(store.name(), "writing", key, "it was given up")
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
    Landed::Failed(remove_wrong(&*to.store, &to.key, stored.etag.as_deref()).await)
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
