//! What was learned of the segments of a log: summaries in few bytes, parallel to the archive's blocks.
//!
//! Each block keeps the sum of its summaries, so that a run of a million segments is summed up in some
//! thousand steps. What is rare – ends of backups, settings – stands beside the blocks.

use crate::{
    domain::lsn::{Lsn, SegmentSize},
    engine::catalog::{
        blocks::Blocks,
        runs::Run,
        segment::{BlockId, Packed, Place},
    },
    wal::{
        scan::{Carry, SegmentIndex},
        stop::Sum,
    },
};
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, fmt, ops::Range};

/// Where what was learned about a log is kept over restarts. Losing it costs time and nothing else.
pub trait LogMemory: Send + Sync + fmt::Debug {
    /// Gives all that is known about the log `scope`, best in the order of places, without carries.
    fn recall(&self, scope: &str, give: &mut dyn FnMut(Learned));
    /// The carry that lies nearest before or at `last`, not before `first`, and what it was taken of.
    fn carry(&self, scope: &str, first: Place, last: Place) -> Option<(Place, KnownCarry)>;
    /// Keeps one thing.
    fn keep(&self, scope: &str, learned: &Learned);
    /// Forgets what lies before a place.
    fn forget_before(&self, scope: &str, place: Place);
}

/// Keeps nothing.
#[derive(Debug)]
pub struct NoMemory;

impl LogMemory for NoMemory {
    fn recall(&self, _: &str, _: &mut dyn FnMut(Learned)) {}
    fn carry(&self, _: &str, _: Place, _: Place) -> Option<(Place, KnownCarry)> {
        None
    }
    fn keep(&self, _: &str, _: &Learned) {}
    fn forget_before(&self, _: &str, _: Place) {}
}

/// A scanner's memory behind a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCarry {
    /// [`Packed::proof`] of that segment when it was read.
    pub proof: u64,
    /// The memory.
    pub carry: Carry,
}

/// One segment that was read and proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Its place.
    pub place: Place,
    /// [`Packed::proof`] of the object.
    pub proof: u64,
    /// [`Packed::link`] of the segment that was read before it; 0 when reading began here.
    pub previous: u32,
    /// The summary.
    pub index: SegmentIndex,
    /// What a scanner needs to go on behind it.
    pub carry: Option<Carry>,
    /// The place of a segment whose carry is not needed any more.
    pub forget_carry_of: Option<Place>,
}

/// What the segments of a log agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFacts {
    /// The database cluster.
    pub system_identifier: u64,
    /// Major version of PostgreSQL.
    pub postgres_major: u32,
    /// Size of the segments.
    pub segment_size: SegmentSize,
}

/// What was learned of one log.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    blocks: Blocks<Summaries>,
    /// Summaries name their cluster by its place here. More than one is an accident.
    facts: Vec<LogFacts>,
}

/// The summaries of a block's segments.
#[derive(Clone, Debug, Default)]
pub struct Summaries {
    /// By slot.
    slots: Vec<Summary>,
    rare: BTreeMap<u8, Rare>,
    sum: Sum,
    /// Identity of the archive's block all of whose segments are proven here, each following the one
    /// before it.
    clean_for: Option<u64>,
}

/// What few segments have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    backup_ends: Vec<Lsn>,
    parameter_floor: Option<[u32; 5]>,
}

/// A [`SegmentIndex`] in few bytes, with what it was taken of. Times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    latest_time: i64,
    max_xact_time: i64,
    last_xact_time: i64,
    proof: u64,
    /// End of the last record, from the segment's start.
    last_end: u32,
    /// From the last record's start to its end.
    last_length: u32,
    previous: u32,
    /// Which of the above there are, the cluster, and the number of commits and aborts above them.
    bits: u32,
}

const IS_KNOWN: u32 = 1;
const HAS_RECORD: u32 = 1 << 1;
const HAS_XACTS: u32 = 1 << 2;
const HAS_TIME: u32 = 1 << 3;
const ENDS_EARLY: u32 = 1 << 4;
const FACTS_SHIFT: u32 = 5;
const FACTS_MAX: usize = 8;
const COUNT_SHIFT: u32 = 8;
const COUNT_MAX: u32 = u32::MAX >> COUNT_SHIFT;

impl Summary {
    /// `None` when the summary contradicts itself.
    fn new(learned: &Learned, facts: usize) -> Option<Self> {
        let index = &learned.index;
        let mut bits = IS_KNOWN | u32::try_from(facts).ok()? << FACTS_SHIFT;
        let mut summary =
            Self { proof: learned.proof, previous: learned.previous, ..Self::default() };
        if let Some((start, end)) = index.last_record.zip(index.last_end) {
            let begin = index.segment.start(index.segment_size);
            summary.last_end = u32::try_from(end.0.checked_sub(begin.0)?).ok()?;
            summary.last_length = u32::try_from(end.0.checked_sub(start.0)?).ok()?;
            bits |= HAS_RECORD;
        }
        if let Some(xacts) = index.xacts {
            summary.max_xact_time = xacts.max_time.timestamp_micros();
            summary.last_xact_time = xacts.last_time.timestamp_micros();
            let count = u32::try_from(xacts.count).unwrap_or(u32::MAX).min(COUNT_MAX);
            bits |= HAS_XACTS | count << COUNT_SHIFT;
        }
        if let Some(time) = index.latest_time {
            summary.latest_time = time.timestamp_micros();
            bits |= HAS_TIME;
        }
        if index.ends_early {
            bits |= ENDS_EARLY;
        }
        Some(Self { bits, ..summary })
    }

    fn has(&self, what: u32) -> bool {
        self.bits & what != 0
    }

    fn facts(&self) -> usize {
        (self.bits >> FACTS_SHIFT) as usize % FACTS_MAX
    }

    /// Whether this was learned of the object, behind the segment that is before it now.
    fn is_of(&self, segment: &Packed, previous: Option<u32>) -> bool {
        self.has(IS_KNOWN) && self.proof == segment.proof() && self.follows(previous)
    }

    fn follows(&self, previous: Option<u32>) -> bool {
        previous.is_none_or(|previous| self.previous == previous)
    }
}

impl Summaries {
    fn sum_of(&self, place: Place, size: SegmentSize) -> Sum {
        let slot = place.slot();
        let Some(of) = self.slots.get(usize::from(slot)).filter(|of| of.has(IS_KNOWN)) else {
            return Sum::default();
        };
        let time = |micros: i64| DateTime::<Utc>::from_timestamp_micros(micros);
        let xact = |micros: i64| of.has(HAS_XACTS).then(|| time(micros)).flatten();
        let last_record = place.segment(size).filter(|_| of.has(HAS_RECORD)).map(|segment| {
            let end = segment.start(size).0 + u64::from(of.last_end);
            (Lsn(end - u64::from(of.last_length)), Lsn(end))
        });
        Sum {
            last_record,
            max_xact_time: xact(of.max_xact_time),
            last_xact_time: xact(of.last_xact_time),
            latest_time: of.has(HAS_TIME).then(|| time(of.latest_time)).flatten(),
            parameter_floor: self.rare.get(&slot).and_then(|rare| rare.parameter_floor),
        }
    }

    fn put(&mut self, learned: &Learned, summary: Summary) {
        let (slot, id) = (learned.place.slot(), learned.place.block());
        let at = usize::from(slot);
        let is_last = at >= self.slots.len();
        if is_last {
            self.slots.resize(at + 1, Summary::default());
        }
        self.slots[at] = summary;
        self.clean_for = None;
        let index = &learned.index;
        if index.backup_ends.is_empty() && index.parameter_floor.is_none() {
            self.rare.remove(&slot);
        } else {
            let backup_ends = index.backup_ends.clone();
            self.rare.insert(slot, Rare { backup_ends, parameter_floor: index.parameter_floor });
        }
        let size = index.segment_size;
        if is_last {
            let next = self.sum_of(learned.place, size);
            self.sum.join(&next);
            return;
        }
        let slots = (0..=u8::MAX).take(self.slots.len());
        let mut sum = Sum::default();
        slots.for_each(|slot| sum.join(&self.sum_of(id.place(slot), size)));
        self.sum = sum;
    }

    /// Whatever needs the sum needs the slot, which is learned anew and summed up then.
    fn forget(&mut self, slot: u8) {
        self.slots.get_mut(usize::from(slot)).into_iter().for_each(|of| *of = Summary::default());
        self.clean_for = None;
    }
}

/// How far a run is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownTo {
    /// The first place that is not known.
    pub place: usize,
    /// Whether the valid log ends in the segment before it.
    pub ends: bool,
}

impl Chain {
    /// What the segments agree on; of the first one that was learned.
    #[must_use]
    pub fn facts(&self) -> Option<&LogFacts> {
        self.facts.first()
    }

    /// What the segment at a place says of itself.
    #[must_use]
    pub fn facts_of(&self, place: Place) -> Option<&LogFacts> {
        let summaries = self.blocks.get(place.block())?;
        let summary = summaries.slots.get(usize::from(place.slot()))?;
        self.facts.get(summary.facts()).filter(|_| summary.has(IS_KNOWN))
    }

    /// Where base backups ended in the segment at a place.
    #[must_use]
    pub fn backup_ends(&self, place: Place) -> &[Lsn] {
        let rare = self.blocks.get(place.block()).and_then(|block| block.rare.get(&place.slot()));
        rare.map_or(&[], |rare| &rare.backup_ends)
    }

    /// Takes in what was learned; says whether it makes sense.
    pub fn learn(&mut self, learned: &Learned) -> bool {
        let index = &learned.index;
        let facts = LogFacts {
            system_identifier: index.system_identifier,
            postgres_major: index.postgres_major,
            segment_size: index.segment_size,
        };
        let known = self.facts.iter().position(|known| *known == facts);
        let at = known.unwrap_or(self.facts.len());
        let fits = at < FACTS_MAX && learned.place.segment(index.segment_size).is_some();
        let Some(summary) = Summary::new(learned, at).filter(|_| fits) else { return false };
        if known.is_none() {
            self.facts.push(facts);
        }
        self.blocks.make_mut(learned.place.block()).put(learned, summary);
        true
    }

    /// The first block of which something is known.
    #[must_use]
    pub fn first(&self) -> Option<BlockId> {
        self.blocks.all().first().map(|(id, _)| *id)
    }

    /// Forgets what was learned of the segment at a place.
    pub fn forget(&mut self, place: Place) {
        if self.blocks.get(place.block()).is_some() {
            self.blocks.make_mut(place.block()).forget(place.slot());
        }
    }

    /// Forgets the blocks before a place.
    pub fn forget_before(&mut self, id: BlockId) {
        self.blocks.forget_before(id);
    }

    /// Goes along `run` from the place `from` as far as it was read before, each segment behind the
    /// one that is before it now. `clean` is told the blocks of which nothing else need be asked again.
    #[must_use]
    pub fn known_to(&self, run: &Run, from: usize, clean: &mut Vec<(BlockId, u64)>) -> KnownTo {
        let end = run.len();
        let mut previous = from.checked_sub(1).and_then(|at| run.packed(at)).map(|(_, p)| p.link());
        let (mut here, mut there) = (0, 0);
        for span in run.spans(from..end) {
            let unknown = KnownTo { place: span.at, ends: false };
            let Some(block) = run.archive.blocks().near(span.id, &mut here) else { return unknown };
            let Some(known) = self.blocks.near(span.id, &mut there) else { return unknown };
            let begin = block.place_of((*span.slots.start()).into());
            let segments = block.segments().get(begin..begin + span.count()).unwrap_or_default();
            let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
                return unknown;
            };
            let is_all = segments.len() == block.segments().len();
            let slot = |segment: &Packed| known.slots.get(usize::from(segment.slot()));
            if is_all
                && known.clean_for == Some(block.identity())
                && slot(first).is_some_and(|summary| summary.follows(previous))
            {
                previous = Some(last.link());
                continue;
            }
            for (n, segment) in segments.iter().enumerate() {
                let place = span.at + n;
                match slot(segment).filter(|summary| summary.is_of(segment, previous)) {
                    None => return KnownTo { place, ends: false },
                    Some(summary) if summary.has(ENDS_EARLY) => {
                        return KnownTo { place: place + 1, ends: true };
                    }
                    Some(_) => previous = Some(segment.link()),
                }
            }
            if is_all {
                clean.push((span.id, block.identity()));
            }
        }
        KnownTo { place: end, ends: false }
    }

    /// Notes that all segments of a block are known, each behind the one before it.
    pub fn note_clean(&mut self, id: BlockId, identity: u64) {
        self.blocks.make_mut(id).clean_for = Some(identity);
    }

    /// Whether a segment is known as it is now.
    #[must_use]
    pub fn knows(&self, place: Place, segment: &Packed) -> bool {
        let summaries = self.blocks.get(place.block());
        let summary = summaries.and_then(|block| block.slots.get(usize::from(place.slot())));
        summary.is_some_and(|summary| summary.is_of(segment, None))
    }

    /// The sum of known segments of a run.
    #[must_use]
    pub fn sum(&self, run: &Run, places: Range<usize>) -> Sum {
        let mut sum = Sum::default();
        let mut hint = 0;
        for span in run.spans(places) {
            let Some(block) = self.blocks.near(span.id, &mut hint) else { continue };
            if span.is_whole(run.size()) {
                sum.join(&block.sum);
            } else {
                for slot in span.slots {
                    sum.join(&block.sum_of(span.id.place(slot), run.size()));
                }
            }
        }
        sum
    }

    /// The first of the known segments before `end` that holds a commit or abort later than `target`.
    #[must_use]
    pub fn segment_that_stops(
        &self,
        run: &Run,
        end: usize,
        target: DateTime<Utc>,
    ) -> Option<usize> {
        let mut hint = 0;
        run.spans(0..end).find_map(|span| {
            let block = self.blocks.near(span.id, &mut hint)?;
            if span.is_whole(run.size()) && !block.sum.stops(target) {
                return None;
            }
            let mut slots = span.slots.clone();
            let stops = |slot| block.sum_of(span.id.place(slot), run.size()).stops(target);
            slots.position(stops).map(|n| span.at + n)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::lsn::{Segment, Timeline},
        engine::catalog::{
            runs::follow,
            samples::{backup, found, sorted},
        },
        wal::{scan::Xacts, timeline::TimelinePath},
    };
    use chrono::TimeDelta;
    use proptest::prelude::*;

    #[test]
    fn a_summary_takes_few_bytes() {
        assert_eq!(size_of::<Summary>(), 48);
    }

    fn at(micros: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::microseconds(micros)
    }

    /// Of a segment: whether it was read, whether the log ends in it, and its times, if any.
    type Of = (bool, bool, Option<(i64, i64)>, Option<i64>, bool);

    fn index(segment: Segment, size: SegmentSize, of: Of) -> SegmentIndex {
        let (_, ends_early, xacts, latest, rare) = of;
        let begin = segment.start(size).0;
        let has_record = xacts.is_some() || latest.is_some();
        SegmentIndex {
            segment,
            system_identifier: 7,
            segment_size: size,
            postgres_major: 15,
            records: 1,
            last_record: has_record.then_some(Lsn(begin - 8)),
            last_end: has_record.then_some(Lsn(begin + 8)),
            xacts: xacts.map(|(max, last)| Xacts {
                count: u64::MAX,
                max_time: at(max.max(last)),
                last_time: at(last),
            }),
            latest_time: latest.map(at),
            backup_ends: rare.then_some(Lsn(begin)).into_iter().collect(),
            parameter_floor: rare.then_some([
                u32::from(Place::of(segment, size).slot() % 7),
                3,
                0,
                1,
                9,
            ]),
            ends_early,
        }
    }

    fn of() -> impl Strategy<Value = Of> {
        let time = || 0_i64..50;
        (
            prop::bool::weighted(0.995),
            prop::bool::weighted(0.003),
            prop::option::weighted(0.5, (time(), time())),
            prop::option::weighted(0.7, time()),
            prop::bool::weighted(0.02),
        )
    }

    /// Everything that a run is asked for is compared with what single segments say.
    fn check(chain: &Chain, run: &Run, all: &[Of], expect: usize, target: i64) {
        let size = run.size();
        let indexes: Vec<SegmentIndex> =
            (0..expect).map(|n| index(run.segment(n).unwrap(), size, all[n])).collect();
        assert_eq!(chain.sum(run, 0..expect), Sum::of(&indexes));
        let stop = indexes.iter().position(|index| Sum::from(index).stops(at(target)));
        assert_eq!(chain.segment_that_stops(run, expect, at(target)), stop);
        let length = stop.unwrap_or(expect);
        assert_eq!(chain.sum(run, 0..length), Sum::of(&indexes[..length]));
        for (n, index) in indexes.iter().enumerate() {
            let (place, segment) = run.packed(n).unwrap();
            assert!(chain.knows(place, segment));
            assert_eq!(chain.backup_ends(place), index.backup_ends);
            assert_eq!(chain.facts_of(place).unwrap().system_identifier, 7);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn blocks_know_of_a_run_what_its_segments_say(
            all in prop::collection::vec(of(), 1..900),
            shift in prop::sample::select(vec![20_u32, 24, 26, 30]),
            (first, start) in (1_u64..600, any::<prop::sample::Index>()),
            replaced in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            (target, forwards) in (0_i64..60, any::<bool>()),
        ) {
            let size = SegmentSize::new(1 << shift).unwrap();
            let segment = |n: usize| Segment { timeline: Timeline(1), number: first + n as u64 };
            let sum = |n: usize, version: u64| format!("{n:032x}{version:08x}");
            let mut objects = BTreeMap::new();
            let put = |objects: &mut BTreeMap<_, _>, n: usize, version| {
                let name = segment(n).file_name(size);
                let high = &name[..16];
                let key = format!("archive/m/15-1/{high}/{name}-{}", sum(n, version));
                objects.retain(|known: &String, _| !known.contains(&name));
                objects.insert(key, found(9));
            };
            (0..all.len()).for_each(|n| put(&mut objects, n, 0));
            let run_from = |objects: &BTreeMap<_, _>, n: usize| {
                let repository = sorted(objects.clone());
                let path = [TimelinePath::first(Timeline(1))];
                let name = segment(n).file_name(size);
                follow(&repository.archives["15-1"], size, &path, &backup(&name, &name, 0)).unwrap()
            };
            let run = run_from(&objects, 0);
            let mut chain = Chain::default();
            let order: Vec<usize> = match forwards {
                true => (0..all.len()).collect(),
                false => (0..all.len()).rev().collect(),
            };
            for n in order.into_iter().filter(|n| all[*n].0) {
                let (place, packed) = run.packed(n).unwrap();
                let before = n.checked_sub(1).and_then(|n| run.packed(n));
                let learned = Learned {
                    place,
                    proof: packed.proof(),
                    previous: before.map_or(0, |(_, before)| before.link()),
                    index: index(segment(n), size, all[n]),
                    carry: None,
                    forget_carry_of: None,
                };
                prop_assert!(chain.learn(&learned));
            }
            let known = |all: &[Of], ends: bool| {
                let ends_at = all.iter().position(|of| ends && of.0 && of.1).map(|n| n + 1);
                let unknown = all.iter().position(|of| !of.0);
                let place = [ends_at, unknown].into_iter().flatten().min().unwrap_or(all.len());
                KnownTo { place, ends: ends_at == Some(place) }
            };
            // Twice: the second time whole blocks are known to be clean.
            for _ in 0..2 {
                let mut clean = Vec::new();
                let found = chain.known_to(&run, 0, &mut clean);
                prop_assert_eq!(found, known(&all, true));
                check(&chain, &run, &all, found.place, target);
                clean.into_iter().for_each(|(id, identity)| chain.note_clean(id, identity));
            }
            // Another backup begins later in the same chain.
            let start = start.index(all.len());
            let later = run_from(&objects, start);
            let found = chain.known_to(&later, 0, &mut Vec::new());
            prop_assert_eq!(found, known(&all[start..], true));
            check(&chain, &later, &all[start..], found.place, target);
            // Replaced objects cut the run, and so does what was read behind another one.
            let mut changed = all.clone();
            let replaced: Vec<usize> = replaced.iter().map(|n| n.index(all.len())).collect();
            for &n in &replaced {
                put(&mut objects, n, 1);
                changed[n].0 = false;
            }
            let run = run_from(&objects, 0);
            let found = chain.known_to(&run, 0, &mut Vec::new());
            prop_assert_eq!(found, known(&changed, true));
            if let Some(n) = (1..all.len()).find(|n| !changed[n - 1].0 && changed[*n].0) {
                let found = chain.known_to(&run, n, &mut Vec::new());
                // It still follows a segment that was never read, but not another one in its place.
                prop_assert_eq!(found.place == n, replaced.contains(&(n - 1)));
            }
        }
    }
}
