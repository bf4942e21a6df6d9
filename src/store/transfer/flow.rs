//! Large objects: parts are read ahead and given to every destination in order.

use crate::store::{
    Body, Contents, ObjectMeta, StoreError,
    pool::Pieces,
    proof::{Crc64, KnownCrc64},
    transfer::{
        Check, Destination, Landed, Means, Origin, Tell, all_but_late, compared, fail_all,
        part_bytes, write,
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
    sync::{Arc, OnceLock},
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
    let (mut feeds, writes) = (Vec::new(), FuturesUnordered::new());
    // Known before any feed ends, and so before any write can have ended well.
    let (crc64, damage) = (Arc::new(OnceLock::new()), OnceLock::new());
    let known = KnownCrc64::default();
    for (at, destination) in to.iter().enumerate() {
        let ((feed, parts), behind) = (mpsc::channel(1), CancellationToken::new());
        feeds.push(Some((feed, behind.clone())));
        let (size_bytes, user_metadata) = (origin.size_bytes, user_metadata.clone());
        let contents = Contents {
            known: known.clone(),
            ..Contents::new(size_bytes, user_metadata, body_of_parts(parts))
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
    let feeding = feed_all(origin, &meta, means, feeds, check, (&known, &crc64, &damage));
    let writing = all_but_late(writes, to.len(), &*means.clock, |(at, landed)| {
        let is_done = matches!(landed, Landed::Stored(_));
        let landed = match (landed, damage.get()) {
            (Landed::Failed(_), Some(what)) => Landed::Damaged(String::clone(what)),
            (landed, _) => landed,
        };
        tell(at, landed);
        (at, is_done)
    });
    let ((), late) = future::join(feeding, writing).await;
    for at in late {
        tell(at, Landed::LeftBehind);
    }
}

fn body_of_parts(parts: mpsc::Receiver<Result<Pieces, StoreError>>) -> Body {
    stream::unfold(parts, |mut parts| async { parts.recv().await.map(|part| (part, parts)) })
        .map_ok(|part| stream::iter(part.into_vec().into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// Gives every part to every destination, as long as there are any.
async fn feed_all(
    origin: &Origin,
    meta: &ObjectMeta,
    means: &Means,
    mut feeds: Vec<Option<Feed>>,
    mut check: Option<Box<dyn Check>>,
    (known, crc64, damage): (&KnownCrc64, &OnceLock<u64>, &OnceLock<String>),
) {
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
                        return give(&mut feeds, means, || Err(refuse())).await;
                    }
                }
                give(&mut feeds, means, || Ok(part.clone())).await;
            }
            Err(error) => return give(&mut feeds, means, || Err(error.again())).await,
        }
        if feeds.iter().all(Option::is_none) {
            return;
        }
    }
    // Set once: there is one reader.
    let _ = crc64.set(sum);
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
