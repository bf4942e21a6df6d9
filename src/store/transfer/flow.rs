//! Large objects: parts are read ahead and given to every destination in order; those that take over
//! what their provider has already begin when all parts were read.

use crate::store::{
    Body, Contents, ObjectMeta, StoreError, UserMetadata,
    pool::Pieces,
    proof::{Crc64, KnownCrc64},
    takeover::{ObjectName, Original},
    transfer::{
        Check, Destination, Landed, Means, Origin, Tell, all_but_late, compared, fail_all,
        given_up, part_bytes, take_over, write,
    },
    wrap::limit::Held,
};
use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt, TryStreamExt, future,
    stream::{self, BoxStream, FuturesUnordered},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Parts of one object that are read ahead.
const PARTS_AHEAD: usize = 3;

/// What gives a destination its parts, and what tells it that it is left behind.
type Feed = (mpsc::Sender<Result<Pieces, StoreError>>, CancellationToken);

/// Copies an object part by part.
pub(super) async fn flow(
    origin: &Origin,
    mut check: Option<Box<dyn Check>>,
    to: &[Destination],
    means: &Means,
    tell: Tell<'_>,
) {
    let described = origin.store.describe(&origin.key).await;
    let (meta, user_metadata) = match described {
        Ok((meta, metadata)) if meta.size_bytes == origin.size_bytes => (meta, metadata),
        Ok(_) => return fail_all(&StoreError::Changed(origin.key.clone()), to.len(), tell),
        Err(error) => return fail_all(&error, to.len(), tell),
    };
    if let Some(check) = &mut check {
        check.about(&user_metadata);
    }
    let name = origin.store.object_name(&origin.key).zip(meta.etag.clone());
    let takers = Takers::among(to, name, origin.size_bytes);
    let (mut feeds, writes) = (Vec::new(), FuturesUnordered::new());
    // Known before any feed ends, and so before any write can have ended well.
    let (crc64, damage) = (Arc::new(OnceLock::new()), OnceLock::new());
    let known = KnownCrc64::default();
    for (at, destination) in to.iter().enumerate() {
        if takers.has(at) {
            feeds.push(None);
            continue;
        }
        let ((feed, parts), behind) = (mpsc::channel(1), CancellationToken::new());
        feeds.push(Some((feed, behind.clone())));
        let contents = Contents {
            known: known.clone(),
            ..Contents::new(origin.size_bytes, user_metadata.clone(), body_of_parts(parts))
        };
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
    let tell = Mutex::new(tell);
    let tell = |at: usize, landed: Landed| {
        let landed = match (landed, damage.get()) {
            (Landed::Failed(_), Some(what)) => Landed::Damaged(String::clone(what)),
            (landed, _) => landed,
        };
        tell.lock().unwrap_or_else(PoisonError::into_inner)(at, landed);
    };
    let feeding = async {
        let known = (&known, &*crc64, &damage);
        let read = feed_all(origin, &meta, means, feeds, check, &takers, known).await;
        takers.take_over(read, &user_metadata, &tell).await;
    };
    let writing = all_but_late(writes, to.len(), &*means.clock, |(at, landed)| {
        let is_done = matches!(landed, Landed::Stored(_));
        tell(at, landed);
        (at, is_done)
    });
    let ((), late) = future::join(feeding, writing).await;
    for at in late.into_iter().filter(|at| !takers.has(*at)) {
        tell(at, Landed::LeftBehind);
    }
}

/// Destinations that get no parts, and take the object over when all of it was read. Nobody waits for
/// them, and they for nobody: they hold no memory.
struct Takers<'a> {
    to: Vec<(usize, &'a Destination)>,
    name: Option<(ObjectName, String)>,
    size_bytes: u64,
}

impl<'a> Takers<'a> {
    fn among(to: &'a [Destination], name: Option<(ObjectName, String)>, size_bytes: u64) -> Self {
        let takes_over = |to: &Destination| {
            name.as_ref().is_some_and(|(name, _)| to.takes_over(name, size_bytes))
        };
        let to = to.iter().enumerate().filter(|(_, to)| takes_over(to)).collect();
        Self { to, name, size_bytes }
    }

    fn has(&self, at: usize) -> bool {
        self.to.iter().any(|(taker, _)| *taker == at)
    }

    /// Whether nobody waits for the object any more.
    fn have_quit(&self) -> bool {
        self.to.iter().all(|(_, to)| to.quit.is_cancelled())
    }

    /// Takes over what was read, whose checksum `read` is.
    async fn take_over(
        &self,
        read: Result<u64, StoreError>,
        user_metadata: &UserMetadata,
        tell: &(impl Fn(usize, Landed) + Sync),
    ) {
        let Some((name, etag)) = self.name.clone() else { return };
        let crc64 = match read {
            Ok(crc64) => crc64,
            Err(error) => {
                return self.to.iter().for_each(|(at, _)| tell(*at, Landed::Failed(error.again())));
            }
        };
        let (size_bytes, user_metadata) = (self.size_bytes, user_metadata.clone());
        let original = &Original { name, etag, size_bytes, crc64, user_metadata };
        let mut taking: FuturesUnordered<_> = self
            .to
            .iter()
            .map(|(at, to)| async move {
                let written = take_over(to, original).await;
                (*at, compared(written, to, Some(crc64)).await)
            })
            .collect();
        while let Some((at, landed)) = taking.next().await {
            tell(at, landed);
        }
    }
}

fn body_of_parts(parts: mpsc::Receiver<Result<Pieces, StoreError>>) -> Body {
    stream::unfold(parts, |mut parts| async { parts.recv().await.map(|part| (part, parts)) })
        .map_ok(|part| stream::iter(part.into_vec().into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// Gives every part to every destination, as long as there are any, and then the checksum of all.
async fn feed_all(
    origin: &Origin,
    meta: &ObjectMeta,
    means: &Means,
    mut feeds: Vec<Option<Feed>>,
    mut check: Option<Box<dyn Check>>,
    takers: &Takers<'_>,
    (known, crc64, damage): (&KnownCrc64, &OnceLock<u64>, &OnceLock<String>),
) -> Result<u64, StoreError> {
    let (mut parts, mut sum, mut read) = (read_ahead(origin, meta, means), 0, 0);
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => {
                let size_bytes = part.size_bytes();
                known.note(read..read + size_bytes, part.crc64());
                sum = Crc64::joined(sum, part.crc64(), size_bytes);
                read += size_bytes;
                if let Some(check) = &mut check {
                    part.iter().for_each(|piece| check.take(piece));
                    // Before the last part is given, otherwise the object would be whole somewhere.
                    if read == origin.size_bytes
                        && let Err(what) = check.verdict()
                    {
                        let refuse =
                            || StoreError::refused(origin.store.name(), &origin.key, &what);
                        damage.get_or_init(|| what.clone());
                        give(&mut feeds, means, || Err(refuse())).await;
                        return Err(refuse());
                    }
                }
                give(&mut feeds, means, || Ok(part.clone())).await;
            }
            Err(error) => {
                give(&mut feeds, means, || Err(error.again())).await;
                return Err(error);
            }
        }
        if feeds.iter().all(Option::is_none) && takers.have_quit() {
            return Err(given_up(&*origin.store, &origin.key));
        }
    }
    // Set once: there is one reader.
    let _ = crc64.set(sum);
    Ok(sum)
}

/// Gives one part to all destinations that are still there.
async fn give(
    feeds: &mut [Option<Feed>],
    means: &Means,
    part: impl Fn() -> Result<Pieces, StoreError>,
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
) -> BoxStream<'a, Result<Pieces, StoreError>> {
    let (size, part) = (origin.size_bytes, part_bytes(origin.size_bytes));
    let read = move |number: u64| async move {
        let range = number * part..size.min((number + 1) * part);
        let memory = means.memory.take(range.end - range.start).await;
        let (now, pieces) = origin.store.get_pieces(&origin.key, range).await?;
        if now.etag != meta.etag || now.size_bytes != meta.size_bytes {
            return Err(StoreError::Changed(origin.key.clone()));
        }
        let memory = Arc::new(memory);
        Ok(pieces.map(|bytes| Bytes::from_owner(HeldBytes { bytes, _memory: memory.clone() })))
    };
    stream::iter(0..size.div_ceil(part)).map(read).buffered(PARTS_AHEAD).boxed()
}

struct HeldBytes {
    bytes: Bytes,
    _memory: Arc<Held>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
