//! Reads the segments of a run that were not read before, proves them, and sums each of them up.
//!
//! A segment is proven when its contents have the SHA-1 of its name and its records follow those of
//! the segment before. What was proven once is not read again until the store says that the object
//! has changed, or another segment comes before it.

use crate::{
    domain::lsn::{Lsn, Segment},
    engine::catalog::{
        learned::{Chain, KnownCarry, KnownTo, Learned, LogFacts, LogMemory},
        reading::{Damage, LogSource, read},
        runs::Run,
        segment::{Place, StoredSegment},
    },
    layout::backup::ListedBackup,
    store::StoreError,
    wal::{
        scan::{Scanner, SegmentIndex},
        stop::Sum,
    },
};
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// The scanner's memory is kept at every so many segments, and at the newest one.
const CARRY_EVERY: u64 = 64;

/// Carries that are held here besides: mostly only the newest is asked for, and each may be large.
const CARRIES_HELD: usize = 8;

/// What is known of one log in one store.
#[derive(Debug)]
pub struct LogIndex {
    memory: Arc<dyn LogMemory>,
    scope: String,
    chain: Arc<Chain>,
    carries: BTreeMap<Place, KnownCarry>,
}

/// A run and how much of it can be used. It shares segments and summaries with all other runs.
#[derive(Clone, Debug)]
pub struct IndexedRun {
    /// The run by names.
    pub run: Run,
    /// What ended it early.
    pub damage: Option<Damage>,
    chain: Arc<Chain>,
    len: usize,
    sum: Sum,
    bytes: u64,
    is_read: bool,
}

impl IndexedRun {
    fn new(run: Run, chain: Arc<Chain>, len: usize, damage: Option<Damage>) -> Self {
        let sum = chain.sum(&run, 0..len);
        let mut hint = 0;
        let bytes = run.spans(0..len).filter_map(|span| {
            let block = run.archive.blocks().near(span.id, &mut hint)?;
            if span.count() == block.segments().len() {
                return Some(block.bytes());
            }
            let from = block.place_of((*span.slots.start()).into());
            let segments = block.segments().get(from..from + span.count())?;
            Some(segments.iter().map(|segment| segment.size_bytes()).sum())
        });
        let bytes = bytes.sum();
        Self { run, damage, chain, len, sum, bytes, is_read: true }
    }

    /// Number of its usable segments, from the first one to the end or the first damage.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no segment can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of its usable segments, and the size of their objects together, in bytes.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        (self.len as u64, self.bytes)
    }

    /// What the usable segments sum up to.
    #[must_use]
    pub fn sum(&self) -> &Sum {
        &self.sum
    }

    /// What the first `length` segments sum up to.
    #[must_use]
    pub fn sum_of(&self, length: usize) -> Sum {
        self.chain.sum(&self.run, 0..length)
    }

    /// What the first segment says of its cluster.
    #[must_use]
    pub fn facts(&self) -> Option<&LogFacts> {
        let (place, _) = self.run.packed(0).filter(|_| self.len > 0)?;
        self.chain.facts_of(place)
    }

    /// The last usable segment.
    #[must_use]
    pub fn last(&self) -> Option<(Segment, StoredSegment)> {
        self.run.stored(self.len.checked_sub(1)?)
    }

    /// A run of which no segment can be read for the lack of a key.
    #[must_use]
    pub fn unread(run: Run) -> Self {
        let len = run.len();
        Self { is_read: false, ..Self::new(run, Arc::default(), len, None) }
    }

    /// Whether its segments were read. What an unread run holds can only be estimated.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    /// Name of the key for the lack of which it was not read.
    #[must_use]
    pub fn lacks_key(&self) -> Option<String> {
        self.run.stored(0).filter(|_| !self.is_read).and_then(|(_, first)| first.key_id)
    }

    /// The position from which on `backup` is consistent; `None` when the log does not reach it.
    #[must_use]
    pub fn consistent_at(&self, backup: &ListedBackup) -> Option<Lsn> {
        let size = self.run.size();
        let first = self.run.segment(0)?;
        let stop = Segment::parse(&backup.archive_stop, size).ok()?;
        let count = usize::try_from(stop.number.checked_sub(first.number)? + 1).ok()?;
        if !backup.ends_in_log {
            let reached = self.run.reaches_backup_end && self.sum.end()? >= backup.lsn_stop;
            return reached.then_some(backup.lsn_stop);
        }
        let ends = (0..count).rev().filter(|_| count <= self.len).find_map(|at| {
            let (place, _) = self.run.packed(at)?;
            self.chain.backup_ends(place).last().copied()
        });
        ends.filter(|_| self.run.reaches_backup_end)
    }

    /// Whether a base backup ended in a usable segment.
    #[must_use]
    pub fn has_backup_end(&self, at: usize) -> bool {
        let place = self.run.packed(at).filter(|_| at < self.len);
        place.is_some_and(|(place, _)| !self.chain.backup_ends(place).is_empty())
    }

    /// Largest time in any record of these usable segments.
    #[must_use]
    pub fn latest_time(&self, places: Range<usize>) -> Option<DateTime<Utc>> {
        self.chain.sum(&self.run, places).latest_time
    }

    /// The first usable segment, as a place in the run, that holds a commit or abort later than
    /// `target`.
    #[must_use]
    pub fn segment_that_stops(&self, target: DateTime<Utc>) -> Option<usize> {
        self.chain.segment_that_stops(&self.run, self.len, target)
    }
}

impl LogIndex {
    /// An index with what an earlier process learned.
    #[must_use]
    pub fn open(memory: Arc<dyn LogMemory>, scope: String) -> Self {
        let mut chain = Chain::default();
        memory.recall(&scope, &mut |learned| {
            chain.learn(&learned);
        });
        Self { memory, scope, chain: Arc::new(chain), carries: BTreeMap::new() }
    }

    /// What the segments that were read agree on: the cluster and the segment size.
    #[must_use]
    pub fn facts(&self) -> Option<&LogFacts> {
        self.chain.facts()
    }

    /// The segment at a place is to be read and proven anew.
    pub fn distrust(&mut self, place: Place) {
        Arc::make_mut(&mut self.chain).forget(place);
    }

    /// Indexes `run`, reading what is not known.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read. Damaged objects are no error: they end the run.
    pub async fn index(
        &mut self,
        source: LogSource<'_>,
        run: Run,
    ) -> Result<IndexedRun, StoreError> {
        self.forget_expired(&run);
        let (mut scanner, mut scratch): (Option<Scanner>, _) = (None, Vec::new());
        let mut at = 0;
        let damage = loop {
            let known = self.known_to(&run, at);
            if known.place > at {
                (at, scanner) = (known.place, None);
            }
            if known.ends || at == run.len() {
                break None; // The valid log may end within a segment: nothing can follow it.
            }
            let ready = match scanner.take() {
                Some(scanner) => Ok(scanner),
                None => self.scanner_before(source, &run, at).await?,
            };
            let step = match ready {
                Ok(scanner) => read(source, &run, at, scanner, &mut scratch).await?,
                Err(damage) => Err(damage),
            };
            let (index, after) = match step {
                Ok(read) => read,
                Err(damage) => break Some(damage),
            };
            let ends = index.ends_early;
            if let Err(damage) = self.learn(&run, at, index, &after) {
                break Some(damage);
            }
            (at, scanner) = (at + 1, Some(after));
            if ends {
                break None;
            }
        };
        Ok(IndexedRun::new(run, self.chain.clone(), at, damage))
    }

    fn known_to(&mut self, run: &Run, at: usize) -> KnownTo {
        let mut clean = Vec::new();
        let known = self.chain.known_to(run, at, &mut clean);
        for (id, identity) in clean {
            Arc::make_mut(&mut self.chain).note_clean(id, identity);
        }
        known
    }

    /// Retention has removed what lies before the archive's first block.
    fn forget_expired(&mut self, run: &Run) {
        let Some((first, _)) = run.archive.blocks().all().first() else { return };
        if self.chain.first().is_some_and(|known| known < *first) {
            Arc::make_mut(&mut self.chain).forget_before(*first);
            let place = first.place(0);
            self.carries = self.carries.split_off(&place);
            self.memory.forget_before(&self.scope, place);
        }
    }

    fn learn(
        &mut self,
        run: &Run,
        at: usize,
        index: SegmentIndex,
        after: &Scanner,
    ) -> Result<(), Damage> {
        let Some((place, packed)) = run.packed(at) else { return Ok(()) };
        let before = at.checked_sub(1).and_then(|before| {
            let segment = run.segment(before)?;
            run.packed(before).map(|(place, packed)| (segment, place, packed))
        });
        let learned = Learned {
            place,
            proof: packed.proof(),
            previous: before.map_or(0, |(_, _, packed)| packed.link()),
            index,
            carry: after.carry(),
            forget_carry_of: before
                .filter(|(segment, _, _)| segment.number % CARRY_EVERY != 0)
                .map(|(_, place, _)| place),
        };
        if !Arc::make_mut(&mut self.chain).learn(&learned) {
            let what = format!("WAL segment {} cannot belong to this log", place.name());
            return Err(Damage { key: run.archive.key(place, packed), what, wrong_key: None });
        }
        self.memory.keep(&self.scope, &learned);
        if let Some(place) = &learned.forget_carry_of {
            self.carries.remove(place);
        }
        self.carries.remove(&place);
        if let Some(carry) = learned.carry {
            self.carries.insert(place, KnownCarry { proof: learned.proof, carry });
            if self.carries.len() > CARRIES_HELD {
                self.carries.pop_first();
            }
        }
        Ok(())
    }

    /// A scanner that has read everything before the segment `at`.
    pub(crate) async fn scanner_before(
        &self,
        source: LogSource<'_>,
        run: &Run,
        at: usize,
    ) -> Result<Result<Scanner, Damage>, StoreError> {
        let (mut place, mut scanner) = self.resume(run, at).unwrap_or((0, Scanner::new()));
        let mut scratch = Vec::new();
        while place < at {
            match read(source, run, place, scanner, &mut scratch).await? {
                Ok((_, after)) => scanner = after,
                Err(damage) => return Ok(Err(damage)),
            }
            place += 1;
        }
        Ok(Ok(scanner))
    }

    /// The nearest scanner that was kept before `at`, and the place that it would read next.
    fn resume(&self, run: &Run, at: usize) -> Option<(usize, Scanner)> {
        let mut end = at;
        let parts: Vec<_> = run.parts(at).collect();
        for (timeline, numbers) in parts.into_iter().rev() {
            let begin = end - usize::try_from(numbers.end - numbers.start).ok()?;
            let place = |number| Place::of(Segment { timeline, number }, run.size());
            let (first, mut last) = (numbers.start, numbers.end);
            while last > first {
                let Some((found, known)) = self.carry(place(first), place(last - 1)) else { break };
                let number = found.segment(run.size())?.number;
                let at = begin + usize::try_from(number - first).ok()?;
                // What was kept of other contents does not count.
                if run.packed(at).is_some_and(|(_, packed)| packed.proof() == known.proof) {
                    return Some((at + 1, Scanner::resume(known.carry)));
                }
                last = number;
            }
            end = begin;
        }
        None
    }

    /// The nearest carry that is held or kept between two places.
    fn carry(&self, first: Place, last: Place) -> Option<(Place, KnownCarry)> {
        let held = self.carries.range(first..=last).next_back();
        if let Some((place, carry)) = held.filter(|(place, _)| **place == last) {
            return Some((*place, carry.clone()));
        }
        let kept = self.memory.carry(&self.scope, first, last);
        match (held, kept) {
            (Some((place, carry)), Some(kept)) if kept.0 <= *place => Some((*place, carry.clone())),
            (Some((place, carry)), None) => Some((*place, carry.clone())),
            (_, kept) => kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            lsn::{SegmentSize, Timeline},
            recovery::Codec,
        },
        engine::{
            catalog::{
                listing::{Extent, Listing},
                runs::follow,
                samples::{WAL_SIZE, backup, commit_time, format, wal},
            },
            state::State,
        },
        layout::{BackupPlace, pgbackrest::keys},
        sealed::keys::Keys,
        store::{BlobStore, PutMode, body_of, key::Key, memory::MemoryStore},
        wal::{decode, timeline::TimelinePath},
    };
    use chrono::TimeDelta;
    use std::ops::Range;

    /// A log in a store, and what an engine knows of it.
    struct World {
        store: MemoryStore,
        place: BackupPlace,
        listing: Listing,
        state: Arc<State>,
        index: LogIndex,
        _dir: tempfile::TempDir,
    }

    impl World {
        async fn new(numbers: Range<u64>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let state = Arc::new(State::open(dir.path()).unwrap());
            let place = BackupPlace { format: format(), prefix: Key::parse("repo").unwrap() };
            let index = LogIndex::open(state.clone(), "s".to_owned());
            let (store, listing) = (MemoryStore::new(), Listing::default());
            let world = Self { store, place, listing, state, index, _dir: dir };
            for number in numbers {
                world.put(number, &wal(number)).await;
            }
            world
        }

        fn size() -> SegmentSize {
            SegmentSize::new(WAL_SIZE).unwrap()
        }

        fn segment(number: u64) -> Segment {
            Segment { timeline: Timeline(1), number }
        }

        fn key(&self, number: u64) -> Key {
            let sha1 = decode::sha1_hex(&wal(number));
            let name = Self::segment(number).file_name(Self::size());
            let key = keys::segment_key("archive/m/15-1", &name, &sha1, Codec::None);
            self.place.prefix.join(&key).unwrap()
        }

        /// Writes bytes under the name of the right ones.
        async fn put(&self, number: u64, bytes: &[u8]) {
            let body = body_of(bytes.to_vec().into());
            let size = bytes.len() as u64;
            let none = BTreeMap::new();
            self.store.fail_from(None);
            self.store.put(&self.key(number), size, &none, body, PutMode::Replace).await.unwrap();
        }

        fn restart(&mut self) {
            self.index = LogIndex::open(self.state.clone(), "s".to_owned());
        }

        /// The run from `first` on, of which so many segments may be read.
        async fn run(&mut self, first: u64, reads: u64) -> Result<IndexedRun, StoreError> {
            let everything = Extent::Everything;
            self.store.fail_from(None);
            let listed = self.listing.refresh(&self.store, &self.place, everything).await?;
            self.store.fail_from(Some(reads));
            let name = Self::segment(first).file_name(Self::size());
            let path = [TimelinePath::first(Timeline(1))];
            let archive = &listed.archives["15-1"];
            let run = follow(archive, Self::size(), &path, &backup(&name, &name, 0)).unwrap();
            let keys = Keys::none();
            let source = LogSource { store: &self.store, prefix: &self.place.prefix, keys: &keys };
            self.index.index(source, run).await
        }

        fn check(run: &IndexedRun, numbers: Range<u64>) {
            assert_eq!(run.damage, None);
            let mut scanner = Scanner::new();
            let indexes = numbers.clone().map(|number| {
                scanner.segment(Self::segment(number), &wal(number), &mut |_| {}).unwrap()
            });
            let indexes: Vec<SegmentIndex> = indexes.collect();
            assert_eq!(*run.sum(), Sum::of(&indexes));
            let count = numbers.end - numbers.start;
            assert_eq!(run.extent(), (count, count * WAL_SIZE));
            let last = run.last().unwrap();
            assert_eq!(last.0, Self::segment(numbers.end - 1));
            assert_eq!(run.facts().unwrap().system_identifier, 77);
            for number in [numbers.start, numbers.end - 2, numbers.end - 1] {
                let before = commit_time(number) - TimeDelta::seconds(1);
                let at = usize::try_from(number - numbers.start).unwrap();
                assert_eq!(run.segment_that_stops(before), Some(at));
            }
            assert_eq!(run.segment_that_stops(commit_time(numbers.end - 1)), None);
        }
    }

    #[tokio::test]
    async fn what_was_proven_is_not_read_again() {
        let mut world = World::new(250..330).await;
        World::check(&world.run(250, 80).await.unwrap(), 250..330);
        World::check(&world.run(250, 0).await.unwrap(), 250..330);
        // Another backup begins later and shares it all.
        World::check(&world.run(300, 0).await.unwrap(), 300..330);
        world.restart();
        World::check(&world.run(250, 0).await.unwrap(), 250..330);
        // After a restart the scanner goes on from what it kept.
        world.restart();
        world.put(330, &wal(330)).await;
        world.put(331, &wal(331)).await;
        World::check(&world.run(250, 2).await.unwrap(), 250..332);
        // A run that begins earlier than what was read must read only where reading began.
        world.put(249, &wal(249)).await;
        World::check(&world.run(249, 2).await.unwrap(), 249..332);
    }

    #[tokio::test]
    async fn a_replaced_object_is_read_anew_and_damage_ends_the_run() {
        let mut world = World::new(250..330).await;
        World::check(&world.run(250, 80).await.unwrap(), 250..330);
        // The same contents again, behind the carry of segment 256.
        world.put(258, &wal(258)).await;
        World::check(&world.run(250, 2).await.unwrap(), 250..330);
        let mut bytes = wal(300);
        bytes[100] ^= 1;
        world.put(300, &bytes).await;
        // The newest carry that is kept before it is that of 256; then it is the turn of 300.
        let run = world.run(250, 44).await.unwrap();
        assert_eq!(run.len(), 50);
        assert_eq!(run.sum().end(), Some(World::segment(299).end(World::size())));
        let damage = run.damage.unwrap();
        assert!(world.key(300).as_str().ends_with(&damage.key), "{damage:?}");
        assert!(damage.what.contains("is damaged"), "{damage:?}");
        // It is mended; what lies behind it is known already.
        world.put(300, &wal(300)).await;
        World::check(&world.run(250, 44).await.unwrap(), 250..330);
        world.store.fail_from(None);
        world.store.delete(&world.key(270)).await.unwrap();
        World::check(&world.run(250, 0).await.unwrap(), 250..270);
    }

    #[tokio::test]
    async fn what_has_expired_is_forgotten() {
        let mut world = World::new(250..262).await;
        World::check(&world.run(250, 12).await.unwrap(), 250..262);
        for number in 250..257 {
            world.store.fail_from(None);
            world.store.delete(&world.key(number)).await.unwrap();
        }
        World::check(&world.run(257, 0).await.unwrap(), 257..262);
        let mut places = Vec::new();
        world.state.recall("s", &mut |learned| places.push(learned.index.segment.number));
        assert_eq!(places, (256..262).collect::<Vec<_>>());
        world.restart();
        World::check(&world.run(257, 0).await.unwrap(), 257..262);
        let mut other = 0;
        world.state.recall("another", &mut |_| other += 1);
        assert_eq!(other, 0);
    }
}
