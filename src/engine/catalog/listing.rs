//! A listing that is kept, and brought up to date by listing only what can have changed.
//!
//! Names of segments sort, so new ones lie behind the old ones: in the steady state only the end of the
//! log is listed. The files of base backups are listed again when the caller has reason to. Everything
//! is listed now and then, since objects can also disappear or be damaged.

use crate::{
    engine::catalog::{
        merge::{Merge, SegmentContents},
        repository::Repository,
        segment::Found,
    },
    layout::{BackupPlace, Parts, pghoard::metadata::SegmentCoding},
    store::{BlobStore, StoreError, UserMetadata, key::Key},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;

/// Segments before the newest one that are listed again: archivers store some out of order.
const TAIL_SEGMENTS: usize = 64;

/// Segments whose metadata are read before the listing goes on.
const UNKNOWN_MAX: usize = 1000;
/// Metadata that are read at the same time.
const ASKED_AT_ONCE: usize = 32;

/// How much is listed, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// The end of the log.
    Log,
    /// The end of the log and the files of base backups.
    LogAndBackups,
    /// Everything.
    Everything,
}

/// The listing of one repository in one store.
#[derive(Debug, Default)]
pub struct Listing {
    known: Option<Arc<Repository>>,
    /// What was asked for and has not been listed: the reason for it does not come again.
    owed: Option<Extent>,
}

impl Listing {
    /// Brings the listing up to date and gives it. The first time everything is listed.
    ///
    /// # Errors
    /// [`StoreError`]; the listing stays as it was, and the next one is of as much at least.
    pub async fn refresh(
        &mut self,
        store: &dyn BlobStore,
        place: &BackupPlace,
        extent: Extent,
    ) -> Result<Arc<Repository>, StoreError> {
        let extent = self.owed.map_or(extent, |owed| owed.max(extent));
        // Before anything that can fail or be given up, otherwise it would be forgotten.
        self.owed = Some(extent);
        let Parts { log, small, backups } = place.format.parts();
        let (after, with_backups) = match (&self.known, extent) {
            (None, _) | (_, Extent::Everything) => (String::new(), true),
            (Some(known), Extent::Log) => (tail(known), false),
            (Some(known), Extent::LogAndBackups) => (tail(known), true),
        };
        let whole = |part| (part, String::new());
        let mut parts: Vec<_> = log.into_iter().map(|log| (log, after.clone())).collect();
        parts.extend(small.into_iter().map(whole));
        if with_backups {
            parts.extend(backups.into_iter().map(whole));
        }
        let mut merge = Merge::new(&place.format, self.known.clone().unwrap_or_default());
        for (part, after) in parts {
            merge.begin(&part, &after);
            list(store, place, &part, &after, &mut merge).await?;
        }
        let known = merge.finish();
        (self.known, self.owed) = (Some(known.clone()), None);
        Ok(known)
    }
}

/// The key behind which new segments are stored.
fn tail(known: &Repository) -> String {
    let newest = known.archives.values().next_back();
    let segment = newest.and_then(|archive| archive.nth_last(TAIL_SEGMENTS));
    segment.map_or_else(String::new, |segment| segment.key)
}

/// Shows every object of a part to `merge` as it is listed: a log may have millions.
async fn list(
    store: &dyn BlobStore,
    place: &BackupPlace,
    part: &str,
    after: &str,
    merge: &mut Merge,
) -> Result<(), StoreError> {
    let Some(prefix) = place.part(part) else { return Ok(()) };
    let after: Option<Key> = (!after.is_empty()).then(|| place.prefix.join(after).ok()).flatten();
    let mut listed = store.list(&prefix, after.as_ref());
    while let Some(meta) = listed.try_next().await? {
        if let Some(key) = meta.key.below(&place.prefix) {
            merge.take(key, Found::new(meta.size_bytes, meta.modified_at, meta.etag.as_deref()));
        }
        if merge.unknown_count() >= UNKNOWN_MAX {
            ask(store, place, merge).await?;
        }
    }
    ask(store, place, merge).await
}

/// Reads the metadata of the segments that only they can tell about.
async fn ask(
    store: &dyn BlobStore,
    place: &BackupPlace,
    merge: &mut Merge,
) -> Result<(), StoreError> {
    let asked = stream::iter(merge.take_unknown()).map(|segment| async move {
        let Ok(key) = place.prefix.join(&segment.key) else { return Ok((segment, None)) };
        match store.user_metadata(&key).await {
            Ok(metadata) => {
                let contents = contents(&metadata, segment.found.size_bytes);
                Ok((segment, contents))
            }
            Err(StoreError::NotFound(_)) => Ok((segment, None)),
            Err(error) => Err(error),
        }
    });
    let mut asked = asked.buffered(ASKED_AT_ONCE);
    while let Some((segment, contents)) = asked.try_next().await? {
        merge.know(segment, contents);
    }
    Ok(())
}

/// What metadata say of a segment; `None` when they cannot be relied on, as those of an object that
/// is still being written or was truncated.
fn contents(metadata: &UserMetadata, size_bytes: u64) -> Option<SegmentContents> {
    let SegmentCoding { coding, plain_hash, .. } = SegmentCoding::of(metadata).ok()?;
    if coding.stored_bytes.is_some_and(|stored| stored != size_bytes) {
        return None;
    }
    let sha1 = plain_hash.filter(|hash| hash.algorithm == "sha1")?.digest;
    Some(SegmentContents { sha1, codec: coding.compression.into(), key_id: coding.key_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::BackupFormat;
    use crate::store::{PutMode, body_of, memory::MemoryStore};
    use bytes::Bytes;
    use std::collections::BTreeMap;

    fn place() -> BackupPlace {
        BackupPlace {
            format: BackupFormat::PgBackRest { stanza: "m".to_owned() },
            prefix: Key::parse("repo").unwrap(),
        }
    }

    fn segment(number: u32) -> String {
        let name = format!("00000001000000{:02X}000000{:02X}", number / 256, number % 256);
        format!("archive/m/15-1/{}/{name}-{}.zst", &name[..16], "a".repeat(40))
    }

    async fn put(store: &MemoryStore, key: &str) {
        let key = Key::parse(&format!("repo/{key}")).unwrap();
        let body = body_of(Bytes::from_static(b"x"));
        store.put(&key, 1, &BTreeMap::new(), body, PutMode::Replace).await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_log_is_enough_until_everything_is_asked_for() {
        let (store, place) = (MemoryStore::new(), place());
        for number in 0..200 {
            put(&store, &segment(number)).await;
        }
        let data = "backup/m/20261123-075157F/pg_data/a";
        put(&store, data).await;
        let mut listing = Listing::default();
        let first = listing.refresh(&store, &place, Extent::Log).await.unwrap();
        assert_eq!(first.extent().0, 201, "the first time everything is listed");
        let unchanged = listing.refresh(&store, &place, Extent::Log).await.unwrap();
        assert!(Arc::ptr_eq(&first, &unchanged), "nothing was copied");
        let generation = first.archives["15-1"].generation;

        put(&store, &segment(200)).await;
        put(&store, "backup/m/20261123-075157F/pg_data/b").await;
        let old = Key::parse(&format!("repo/{}", segment(3))).unwrap();
        store.delete(&old).await.unwrap();
        let late = Key::parse(&format!("repo/{}", segment(190))).unwrap();
        store.delete(&late).await.unwrap();

        let log = listing.refresh(&store, &place, Extent::Log).await.unwrap();
        assert_eq!(log.extent().0, 201, "one came, one of the last went");
        assert!(log.archives["15-1"].generation > generation);
        assert!(!log.archives["15-1"].contains("0000000100000000000000BE"));
        let backups = listing.refresh(&store, &place, Extent::LogAndBackups).await.unwrap();
        assert_eq!(backups.extent().0, 202);
        let all = listing.refresh(&store, &place, Extent::Everything).await.unwrap();
        assert_eq!(all.extent().0, 201, "the old one is missed");
        assert_eq!(all.archives["15-1"].len(), 199);
    }

    #[tokio::test]
    async fn what_a_failed_listing_was_to_show_is_shown_by_the_next_one() {
        let (store, place) = (MemoryStore::new(), place());
        for number in 0..100 {
            put(&store, &segment(number)).await;
        }
        let mut listing = Listing::default();
        let asked = [Extent::LogAndBackups, Extent::Everything];
        for (count, extent) in (100..).zip(asked) {
            listing.refresh(&store, &place, Extent::Log).await.unwrap();
            put(&store, &format!("backup/m/20261123-075157F/pg_data/{count}")).await;
            store.fail_from(Some(0));
            listing.refresh(&store, &place, extent).await.unwrap_err();
            listing.refresh(&store, &place, Extent::Log).await.unwrap_err();
            store.fail_from(None);
            let shown = listing.refresh(&store, &place, Extent::Log).await.unwrap();
            assert_eq!(shown.extent().0, count + 1);
        }
        put(&store, "backup/m/20261123-075157F/pg_data/later").await;
        let shown = listing.refresh(&store, &place, Extent::Log).await.unwrap();
        assert_eq!(shown.extent().0, 102, "nothing is owed any more");
    }
}
