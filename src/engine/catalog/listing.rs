//! A listing that is kept, and brought up to date by listing only what can have changed.
//!
//! Names of segments sort, so new ones lie behind the old ones: in the steady state only the end of the
//! log is listed. The files of base backups are listed again when the caller has reason to. Everything
//! is listed now and then, since objects can also disappear or be damaged: by a scan, which goes on beside.
//!
//! 1. `scan` begins with what is known. From then on `refresh` notes how much it lists.
//! 2. [`Scan::list`] lists everything, and touches nothing: when it fails nothing has happened.
//! 3. The first `refresh` behind `take_in` begins with what the scan has found, and lists besides what
//!    was listed since the scan began: of all that two have looked at it has the newest look.

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
use std::{collections::BTreeSet, sync::Arc};

/// Segments before the newest one that are listed again: archivers store some out of order.
const TAIL_SEGMENTS: usize = 64;

/// Segments whose metadata are read before the listing goes on.
const UNKNOWN_MAX: usize = 1000;
/// Objects that were written before the end of the log and are looked at by one refresh.
const WRITTEN_MAX: usize = 256;
/// Objects of a listing that are gone through before others have their turn.
const OBJECTS_AT_ONCE: usize = 1000;
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
#[derive(Debug)]
pub struct Listing {
    /// Segments before the newest one that are listed again.
    tail: usize,
    known: Option<Arc<Repository>>,
    /// What was asked for and has not been listed: the reason for it does not come again.
    owed: Option<Extent>,
    /// Scans that were begun.
    scans: u64,
    /// What has been listed since the last one began; `None` when that was everything.
    since: Option<Since>,
    /// What the last scan has found, until it is part of what is known.
    scanned: Option<Arc<Repository>>,
    whole: Option<Whole>,
    /// Objects that were written where the end of the log does not show them, until they are looked at.
    written: BTreeSet<String>,
}

impl Default for Listing {
    fn default() -> Self {
        Self::with_tail(TAIL_SEGMENTS)
    }
}

/// How everything was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// At once.
    AtOnce,
    /// By a scan.
    Scan,
}

/// What has been listed since a scan began.
#[derive(Debug, Default)]
struct Since {
    /// The log behind this key.
    log: Option<String>,
    /// The files of base backups.
    backups: bool,
    /// Single objects.
    written: BTreeSet<String>,
}

/// A listing of everything that is to go on beside others.
#[derive(Debug)]
pub struct Scan {
    number: u64,
    known: Arc<Repository>,
}

/// What a scan has found.
#[derive(Clone, Debug)]
pub struct Scanned {
    number: u64,
    /// All objects, each as it was when the scan passed by it.
    pub repository: Arc<Repository>,
}

impl Scan {
    /// Lists everything.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has happened.
    pub async fn list(
        self,
        store: &dyn BlobStore,
        place: &BackupPlace,
    ) -> Result<Scanned, StoreError> {
        let mut merge = Merge::new(&place.format, self.known);
        let Parts { log, small, backups } = place.format.parts();
        for part in log.into_iter().chain(small).chain(backups) {
            merge.begin(&part, "");
            list(store, place, &part, "", &mut merge).await?;
        }
        Ok(Scanned { number: self.number, repository: merge.finish() })
    }
}

impl Listing {
    /// A listing that lists so many segments before the newest one again.
    #[must_use]
    pub fn with_tail(tail: usize) -> Self {
        let (known, owed, scans, since, scanned, whole, written) = Default::default();
        Self { tail, known, owed, scans, since, scanned, whole, written }
    }

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
        let is_whole = self.known.is_none() || extent == Extent::Everything;
        let known = self.known.clone().unwrap_or_default();
        let base = self.scanned.as_ref().filter(|_| !is_whole).unwrap_or(&known).clone();
        let (after, with_backups) = self.open(is_whole, &base, extent);
        let Parts { log, small, backups } = place.format.parts();
        let whole = |part| (part, String::new());
        let mut parts: Vec<_> = log.iter().map(|log| (log.clone(), after.clone())).collect();
        parts.extend(small.into_iter().map(whole));
        if with_backups {
            parts.extend(backups.into_iter().map(whole));
        }
        let mut merge = Merge::onto(&place.format, known, base);
        let is_log = |part: &str| log.as_deref() == Some(part);
        for (part, after) in parts {
            merge.begin(&part, &after);
            if is_log(&part) && !is_whole {
                self.look_at_written(store, place, &after, &mut merge).await?;
            }
            list(store, place, &part, &after, &mut merge).await?;
        }
        let known = merge.finish();
        let written = std::mem::take(&mut self.written);
        if let Some(since) = &mut self.since {
            since.written.extend(written);
        }
        (self.known, self.owed) = (Some(known.clone()), None);
        if is_whole || self.scanned.is_some() {
            self.whole = Some(if is_whole { Whole::AtOnce } else { Whole::Scan });
            (self.since, self.scanned) = (None, None);
        }
        Ok(known)
    }

    /// Objects of the log are being written: those that a listing of its end does not show are looked
    /// at one by one. A few at a time: the others are planned, and found there, once more.
    pub fn wrote<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        let Some(known) = &self.known else { return };
        let tail = tail(known, self.tail);
        let room = WRITTEN_MAX.saturating_sub(self.written.len());
        self.written.extend(keys.filter(|key| **key <= *tail).take(room).map(str::to_owned));
    }

    /// Shows `merge` what was written before `after`.
    async fn look_at_written(
        &self,
        store: &dyn BlobStore,
        place: &BackupPlace,
        after: &str,
        merge: &mut Merge,
    ) -> Result<(), StoreError> {
        let since = self.since.as_ref().filter(|_| self.scanned.is_some());
        let again = since.into_iter().flat_map(|since| &since.written);
        let all: BTreeSet<String> = self.written.iter().chain(again).cloned().collect();
        let metas =
            stream::iter(all.into_iter().filter(|key| **key <= *after)).map(|key| async move {
                match place.prefix.join(&key) {
                    Ok(full) => (key, store.head(&full).await.map(Some)),
                    Err(_) => (key, Ok(None)),
                }
            });
        let mut metas = metas.buffered(ASKED_AT_ONCE);
        while let Some((key, meta)) = metas.next().await {
            match meta {
                Ok(Some(meta)) => {
                    let etag = meta.etag.as_deref();
                    merge.take(&key, Found::new(meta.size_bytes, meta.modified_at, etag));
                }
                Ok(None) | Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The key behind which the log is to be listed, and whether the files of base backups are. Notes
    /// both for the scan that may be going on.
    fn open(&mut self, is_whole: bool, base: &Repository, extent: Extent) -> (String, bool) {
        let mut after = if is_whole { String::new() } else { tail(base, self.tail) };
        let mut with_backups = is_whole || extent >= Extent::LogAndBackups;
        if let Some(since) = &mut self.since {
            let lowest =
                since.log.take().map_or_else(|| after.clone(), |log| log.min(after.clone()));
            if self.scanned.is_some() {
                after.clone_from(&lowest);
                with_backups |= since.backups;
            }
            since.backups |= with_backups;
            since.log = Some(lowest);
        }
        (after, with_backups)
    }

    /// Begins a scan in place of the last one; `None` as long as nothing is known and the next
    /// `refresh` lists everything anyway.
    pub fn scan(&mut self) -> Option<Scan> {
        let known = self.known.clone()?;
        self.give_up_scan();
        self.since = Some(Since::default());
        Some(Scan { number: self.scans, known })
    }

    /// Takes in what a scan has found, for the next `refresh`. A scan that was given up counts for
    /// nothing, and one beside which everything was listed is not needed any more.
    pub fn take_in(&mut self, scanned: Scanned) {
        if scanned.number != self.scans {
            return;
        }
        match self.since {
            Some(_) => self.scanned = Some(scanned.repository),
            None => self.whole = Some(Whole::Scan),
        }
    }

    /// What the last scan finds, or has found, counts for nothing.
    pub fn give_up_scan(&mut self) {
        self.scans += 1;
        (self.since, self.scanned) = (None, None);
    }

    /// Whether everything has been listed since this was asked last.
    pub fn take_whole(&mut self) -> Option<Whole> {
        self.whole.take()
    }
}

/// The key behind which new segments are stored.
fn tail(known: &Repository, segments: usize) -> String {
    let newest = known.archives.values().next_back();
    let segment = newest.and_then(|archive| archive.nth_last(segments));
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
    let mut count = 0_usize;
    while let Some(meta) = listed.try_next().await? {
        count += 1;
        if count.is_multiple_of(OBJECTS_AT_ONCE) {
            // A store that answers at once would keep others from what arrives meanwhile.
            tokio::task::yield_now().await;
        }
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
    use crate::{
        engine::catalog::paged::Paged,
        layout::BackupFormat,
        store::{PutMode, body_of, memory::MemoryStore},
    };
    use bytes::Bytes;
    use futures_util::FutureExt;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::collections::BTreeMap;
    use tokio::{sync::Semaphore, task::JoinHandle};

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

    /// A store, its scans, which get a page for each permit, and what is known of it.
    struct World {
        store: MemoryStore,
        paged: Arc<Paged>,
        pages: Arc<Semaphore>,
        listing: Listing,
        writes: u32,
    }

    /// A scan that goes on.
    type Running = JoinHandle<Result<Scanned, StoreError>>;

    impl World {
        async fn new(segments: u32) -> Self {
            let (store, pages) = (MemoryStore::new(), Arc::new(Semaphore::new(0)));
            let turns = pages.clone();
            let paged = Paged::new(Arc::new(store.clone()), 10, move |_| {
                let turns = turns.clone();
                async move {
                    turns.acquire().await.unwrap().forget();
                    Ok(())
                }
                .boxed()
            });
            let (paged, listing) = (Arc::new(paged), Listing::default());
            let mut world = Self { store, paged, pages, listing, writes: 0 };
            for number in 0..segments {
                world.put(&segment(number)).await;
            }
            world.refresh(Extent::Log).await;
            world
        }

        /// Writes another version of an object.
        async fn put(&mut self, key: &str) {
            self.writes += 1;
            let key = Key::parse(&format!("repo/{key}")).unwrap();
            let bytes = Bytes::from(vec![b'x'; 1 + self.writes as usize % 50]);
            let body = body_of(bytes.clone());
            let none = BTreeMap::new();
            let size = bytes.len() as u64;
            self.store.put(&key, size, &none, body, PutMode::Replace).await.unwrap();
        }

        async fn delete(&self, key: &str) {
            self.store.delete(&Key::parse(&format!("repo/{key}")).unwrap()).await.unwrap();
        }

        async fn refresh(&mut self, extent: Extent) -> Arc<Repository> {
            self.listing.refresh(&self.store, &place(), extent).await.unwrap()
        }

        fn scan(&mut self) -> Running {
            let (scan, store) = (self.listing.scan().unwrap(), self.paged.clone());
            tokio::spawn(async move { scan.list(&*store, &place()).await })
        }

        /// The scan goes on by so many pages.
        async fn go_on(&self, pages: usize) {
            self.pages.add_permits(pages);
            for _ in 0..pages * 10 + 10 {
                tokio::task::yield_now().await;
            }
        }

        /// The scan ends; what it has found is part of the next refresh.
        async fn end(&mut self, running: Running) -> Arc<Repository> {
            self.pages.add_permits(1000);
            let scanned = running.await.unwrap().unwrap();
            self.pages.forget_permits(1000);
            self.listing.take_in(scanned);
            self.refresh(Extent::Log).await
        }

        /// What a first listing says.
        async fn truth(&self) -> Arc<Repository> {
            let mut fresh = Listing::default();
            fresh.refresh(&self.store, &place(), Extent::Everything).await.unwrap()
        }

        async fn is_true(&self, known: &Repository) -> bool {
            let truth = self.truth().await;
            let logs = |of: &Repository| -> Vec<_> {
                let logs = of.archives.iter();
                logs.map(|(name, log)| (name.clone(), log.blocks().clone(), log.extent())).collect()
            };
            (&truth.others, truth.extent(), logs(&truth))
                == (&known.others, known.extent(), logs(known))
        }
    }

    #[tokio::test]
    async fn what_happens_while_a_scan_goes_by_is_known_behind_it() {
        let mut world = World::new(200).await;
        let (old, file) = (segment(150), "backup/m/20261123-075157F/pg_data/a");
        world.put(file).await;
        world.delete(&segment(3)).await;
        world.put(&segment(100)).await;
        let running = world.scan();
        world.go_on(18).await;
        // The scan has passed these by.
        world.delete(&segment(170)).await;
        world.put(&segment(171)).await;
        // And not these, of which the last is seen by the scan alone.
        for number in 200..240 {
            world.put(&segment(number)).await;
        }
        world.delete(&segment(190)).await;
        let seen = world.refresh(Extent::Log).await;
        let log = &seen.archives["15-1"];
        let name = |number: u32| segment(number)[32..56].to_owned();
        assert!(log.contains(&name(239)), "what arrives is known before the scan has ended");
        assert!(log.contains(&name(3)) && !log.contains(&name(170)));
        for number in 240..400 {
            world.put(&segment(number)).await;
            if number % 20 == 0 {
                world.refresh(Extent::Log).await;
            }
        }
        world.delete(&segment(239)).await;
        let known = world.end(running).await;
        assert!(known.get(&old).is_some() && known.get(file).is_some());
        assert!(world.is_true(&known).await);
        let again = world.refresh(Extent::Log).await;
        assert!(Arc::ptr_eq(&again, &known), "it is part of what is known");
        assert_eq!(world.listing.take_whole(), Some(Whole::Scan));
    }

    #[tokio::test]
    async fn base_backups_that_were_listed_beside_a_scan_are_as_they_were_seen_last() {
        let mut world = World::new(100).await;
        for number in 0..3 {
            world.put(&file(number)).await;
        }
        let running = world.scan();
        world.go_on(13).await;
        world.delete(&file(0)).await;
        world.put(&file(1)).await;
        world.put(&file(3)).await;
        world.refresh(Extent::LogAndBackups).await;
        let known = world.end(running).await;
        assert!(world.is_true(&known).await);
    }

    #[tokio::test]
    async fn a_scan_that_fails_or_was_overtaken_or_given_up_leaves_nothing() {
        let mut world = World::new(100).await;
        world.delete(&segment(3)).await;
        let before = world.refresh(Extent::Log).await;
        // It fails half-way.
        let running = world.scan();
        world.go_on(4).await;
        world.store.fail_from(Some(0));
        world.go_on(1000).await;
        running.await.unwrap().unwrap_err();
        world.pages.forget_permits(1000);
        world.store.fail_from(None);
        assert!(Arc::ptr_eq(&world.refresh(Extent::Log).await, &before));
        // Another one began, or what it saw is known to be old.
        for overtaken in [true, false] {
            let first = world.scan();
            world.go_on(12).await;
            let scanned = first.await.unwrap().unwrap();
            assert_eq!(scanned.repository.extent().0, 99);
            world.listing.take_in(scanned.clone());
            if overtaken {
                drop(world.listing.scan());
            } else {
                world.listing.give_up_scan();
            }
            world.listing.take_in(scanned);
            assert!(Arc::ptr_eq(&world.refresh(Extent::Log).await, &before));
            assert_eq!(world.listing.take_whole().filter(|whole| *whole == Whole::Scan), None);
        }
        // Everything was listed beside it: that is newer.
        let running = world.scan();
        world.go_on(4).await;
        let all = world.refresh(Extent::Everything).await;
        world.put(&segment(3)).await;
        let known = world.end(running).await;
        assert!(Arc::ptr_eq(&known, &all));
        assert_eq!(all.extent().0, 99);
        assert_eq!(world.listing.take_whole(), Some(Whole::Scan));
    }

    /// Keys that a seed may use.
    fn universe(next: u32) -> impl Iterator<Item = String> {
        (0..next).map(segment).chain((0..30).map(file))
    }

    fn file(number: u32) -> String {
        format!("backup/m/20261123-075157F/pg_data/{number}")
    }

    #[tokio::test]
    async fn what_is_written_before_the_end_of_the_log_is_known_at_once_and_beside_a_scan() {
        let mut world = World::new(100).await;
        for number in [3, 5] {
            world.delete(&segment(number)).await;
        }
        let running = world.scan();
        let known = world.end(running).await;
        assert!(world.is_true(&known).await);
        let running = world.scan();
        world.go_on(4).await;
        // Behind the scan's back; the second one is not there in the end.
        world.put(&segment(3)).await;
        let keys = [segment(3), segment(5), segment(99)];
        world.listing.wrote(keys.iter().map(String::as_str));
        let known = world.refresh(Extent::Log).await;
        assert!(world.is_true(&known).await);
        let known = world.end(running).await;
        assert!(world.is_true(&known).await);
        assert!(Arc::ptr_eq(&world.refresh(Extent::Log).await, &known));
    }

    #[tokio::test]
    async fn a_scan_makes_nothing_wrong_that_was_known_right() {
        for seed in 0..200 {
            let mut chance = StdRng::seed_from_u64(seed);
            let mut world = World::new(90).await;
            let (mut next, mut running, mut scans) = (90, None, 0);
            // Since the scan began: what was written or removed, and what looks have missed.
            let (mut changed, mut missed) = (BTreeSet::new(), BTreeSet::new());
            while scans < 3 || running.is_some() {
                let near = segment(next - chance.random_range(1..80));
                let data = file(chance.random_range(0..30));
                let key = if chance.random_bool(0.5) { near } else { data };
                match chance.random_range(0..12) {
                    0..=2 => {
                        world.put(&segment(next)).await;
                        next += 1;
                    }
                    3 | 4 => {
                        world.put(&key).await;
                        missed.remove(&key);
                        changed.insert(key);
                    }
                    5 | 6 => {
                        world.delete(&key).await;
                        changed.insert(key);
                    }
                    what @ (7 | 8) => {
                        let before = world.listing.known.clone().unwrap();
                        let extent = if what == 7 { Extent::Log } else { Extent::LogAndBackups };
                        let now = world.refresh(extent).await;
                        let gone =
                            universe(next).filter(|k| before.contains(k) && !now.contains(k));
                        missed.extend(gone);
                    }
                    9 if running.is_none() => {
                        scans += 1;
                        (changed, missed) = Default::default();
                        running = Some(world.scan());
                    }
                    9 | 10 => world.go_on(chance.random_range(1..6)).await,
                    _ => {
                        let Some(running) = running.take() else { continue };
                        let before = world.listing.known.clone().unwrap();
                        let now = world.end(running).await;
                        let truth = world.truth().await;
                        for key in universe(next) {
                            let (is, was) = (truth.get(&key), before.get(&key));
                            let right = !changed.contains(&key)
                                || (is.is_some() && is == was)
                                || (is.is_none() && missed.contains(&key));
                            assert!(!right || now.get(&key) == is, "seed {seed}: {key}");
                        }
                    }
                }
            }
            let running = world.scan();
            let known = world.end(running).await;
            assert!(world.is_true(&known).await, "seed {seed}: in the end");
        }
    }
}
