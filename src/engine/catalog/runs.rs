//! Follows the log of a base backup by the names of its segments, to the first gap.

use crate::{
    domain::lsn::{Segment, SegmentSize, Timeline},
    engine::catalog::{
        archive::Archive,
        segment::{BlockId, Packed, Place, StoredSegment},
    },
    layout::backup::ListedBackup,
    wal::timeline::TimelinePath,
};
use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

/// The gapless log behind a base backup, by names alone. The segments themselves stay in the archive:
/// the run knows only from which number to which it goes on each timeline.
#[derive(Clone, Debug)]
pub struct Run {
    /// The timeline that it leads to.
    pub timeline: Timeline,
    /// Whether the segments up to the backup's end are all there.
    pub reaches_backup_end: bool,
    /// The segment that is missing next.
    pub next: Segment,
    /// How many segments of this timeline lie behind the missing one.
    pub behind_gap: usize,
    /// Where the segments are.
    pub archive: Arc<Archive>,
    size: SegmentSize,
    /// The numbers on each timeline, in log order. The first one holds the backup's start.
    parts: Vec<(Timeline, Range<u64>)>,
}

/// Neighbours of a run that are in the same block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The block.
    pub id: BlockId,
    /// Its slots.
    pub slots: RangeInclusive<u8>,
    /// Place of the first one in the run.
    pub at: usize,
}

impl Span {
    /// Whether a block can have no other segments than these.
    #[must_use]
    pub fn is_whole(&self, size: SegmentSize) -> bool {
        *self.slots.start() == 0 && u64::from(*self.slots.end()) + 1 == self.id.slots(size)
    }

    /// Number of segments.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(*self.slots.end() - *self.slots.start()) + 1
    }
}

impl Run {
    /// Size of the segments.
    #[must_use]
    pub fn size(&self) -> SegmentSize {
        self.size
    }

    /// Number of segments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|(_, numbers)| count(numbers)).sum()
    }

    /// Whether not even the first segment is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// A segment by its place in the run.
    #[must_use]
    pub fn segment(&self, at: usize) -> Option<Segment> {
        let mut left = at as u64;
        for (timeline, numbers) in &self.parts {
            let number = numbers.start + left;
            if number < numbers.end {
                return Some(Segment { timeline: *timeline, number });
            }
            left -= numbers.end - numbers.start;
        }
        None
    }

    /// Whether a segment is one of the run.
    #[must_use]
    pub fn holds(&self, segment: Segment) -> bool {
        let part = |(timeline, numbers): &(Timeline, Range<u64>)| {
            *timeline == segment.timeline && numbers.contains(&segment.number)
        };
        self.parts.iter().any(part)
    }

    /// Where a segment of the run is in the archive.
    #[must_use]
    pub fn packed(&self, at: usize) -> Option<(Place, &Packed)> {
        let place = Place::of(self.segment(at)?, self.size);
        self.archive.at(place).map(|packed| (place, packed))
    }

    /// A segment and its object.
    #[must_use]
    pub fn stored(&self, at: usize) -> Option<(Segment, StoredSegment)> {
        let (place, packed) = self.packed(at)?;
        self.segment(at).zip(Some(self.archive.stored(place, packed)))
    }

    /// The numbers on each timeline before the place `end`.
    pub fn parts(&self, end: usize) -> impl Iterator<Item = (Timeline, Range<u64>)> + '_ {
        let mut left = end as u64;
        self.parts.iter().map_while(move |(timeline, numbers)| {
            let part = numbers.start..numbers.end.min(numbers.start.saturating_add(left));
            left -= part.end - part.start;
            (!part.is_empty()).then_some((*timeline, part))
        })
    }

    /// The segments with these places, by blocks.
    pub fn spans(&self, places: Range<usize>) -> impl Iterator<Item = Span> + '_ {
        let mut at = 0;
        let mut parts = self.parts(places.end).map(move |(timeline, numbers)| {
            let begin = at;
            at += count(&numbers);
            (begin, timeline, numbers)
        });
        let skip = places.start;
        let mut now: Option<(usize, Timeline, Range<u64>)> = None;
        std::iter::from_fn(move || {
            loop {
                let Some((at, timeline, numbers)) = &mut now else {
                    let (begin, timeline, mut numbers) = parts.next()?;
                    let before = skip.saturating_sub(begin).min(count(&numbers));
                    numbers.start += before as u64;
                    now = Some((begin + before, timeline, numbers));
                    continue;
                };
                if numbers.is_empty() {
                    now = None;
                    continue;
                }
                let segment = Segment { timeline: *timeline, number: numbers.start };
                let place = Place::of(segment, self.size);
                let room = place.block().slots(self.size).saturating_sub(place.slot().into());
                let taken = room.min(numbers.end - numbers.start).max(1);
                let last = u8::try_from(u64::from(place.slot()) + taken - 1).unwrap_or(u8::MAX);
                let span = Span { id: place.block(), slots: place.slot()..=last, at: *at };
                numbers.start += taken;
                *at += usize::try_from(taken).unwrap_or(usize::MAX);
                return Some(span);
            }
        })
    }
}

fn count(numbers: &Range<u64>) -> usize {
    usize::try_from(numbers.end.saturating_sub(numbers.start)).unwrap_or(usize::MAX)
}

/// Follows the log of `backup`. `paths` are the ways to all timelines that the archive knows.
///
/// The newest timeline that passes the end of the backup counts: that is the database's present
/// history. An older one is followed only when the log towards the newer one does not even make
/// the backup consistent.
///
/// `None` when the names of the backup's segments are no segments of this size.
#[must_use]
pub fn follow(
    archive: &Arc<Archive>,
    size: SegmentSize,
    paths: &[TimelinePath],
    backup: &ListedBackup,
) -> Option<Run> {
    let start = Segment::parse(&backup.archive_start, size).ok()?;
    let stop = Segment::parse(&backup.archive_stop, size).ok()?;
    let end = if backup.ends_in_log { stop.start(size) } else { backup.lsn_stop };
    let mut ways: Vec<TimelinePath> =
        paths.iter().filter(|path| path.passes(stop.timeline, end)).cloned().collect();
    if !ways.iter().any(|path| path.target() == stop.timeline) {
        ways.push(TimelinePath::first(stop.timeline));
    }
    ways.sort_by_key(|path| std::cmp::Reverse(path.target()));
    let runs = ways.iter().map(|path| walk(archive, size, path, start, stop));
    let mut first = None;
    for run in runs {
        if run.reaches_backup_end {
            return Some(run);
        }
        first = first.or(Some(run));
    }
    first
}

fn walk(
    archive: &Arc<Archive>,
    size: SegmentSize,
    path: &TimelinePath,
    start: Segment,
    stop: Segment,
) -> Run {
    let mut parts = Vec::new();
    let mut next = Segment { timeline: path.target(), number: start.number };
    let mut behind_gap = 0;
    let mut is_gap = false;
    // Only the newest timeline's file will do: it holds the older one's records up to the switch,
    // and the older one's file goes on with records of an abandoned history.
    for (timeline, numbers) in path.preferred(size) {
        if is_gap {
            behind_gap += stored(archive, size, timeline, numbers);
            continue;
        }
        if !numbers.contains(&next.number) {
            continue;
        }
        let end = gapless_end(archive, size, timeline, next.number..numbers.end);
        if end > next.number {
            parts.push((timeline, next.number..end));
        }
        next = Segment { timeline, number: end };
        if end < numbers.end {
            is_gap = true;
            behind_gap += stored(archive, size, timeline, end + 1..numbers.end);
        }
    }
    Run {
        timeline: path.target(),
        reaches_backup_end: next.number > stop.number,
        next,
        behind_gap,
        archive: archive.clone(),
        size,
        parts,
    }
}

/// The first of these numbers that is not stored on a timeline, or their end.
fn gapless_end(
    archive: &Archive,
    size: SegmentSize,
    timeline: Timeline,
    numbers: Range<u64>,
) -> u64 {
    let mut number = numbers.start;
    let place = |number| Place::of(Segment { timeline, number }, size);
    for (id, block) in archive.blocks().from(place(number).block()) {
        let first = place(number);
        if id.slots(size) == 0 {
            continue; // Names that segments of this size do not have.
        }
        if *id != first.block() {
            break;
        }
        let segments = &block.segments()[..block.place_of(id.slots(size))];
        let from = block.place_of(first.slot().into());
        let gap_at = |at: usize| u64::from(segments[at].slot()) - u64::from(first.slot());
        let count = segments.len().saturating_sub(from);
        // Slots rise, so there is no gap up to a segment that is not farther than their number.
        let gapless = match count {
            0 => 0,
            _ if gap_at(segments.len() - 1) == count as u64 - 1 => count,
            _ => (0..count).take_while(|n| gap_at(from + n) == *n as u64).count(),
        };
        number += gapless as u64;
        let ends_here = u64::from(first.slot()) + gapless as u64 != id.slots(size);
        if ends_here || number >= numbers.end {
            break;
        }
    }
    number.min(numbers.end)
}

/// How many segments with these numbers are stored on a timeline.
fn stored(archive: &Archive, size: SegmentSize, timeline: Timeline, numbers: Range<u64>) -> usize {
    if numbers.is_empty() {
        return 0;
    }
    let place = |number| Place::of(Segment { timeline, number }, size);
    let (first, last) = (place(numbers.start), place(numbers.end - 1));
    let blocks = archive.blocks().from(first.block()).iter();
    let blocks =
        blocks.take_while(|(id, _)| *id <= last.block() && id.place(0).timeline == timeline);
    let count = |(id, block): &(BlockId, Arc<_>)| {
        let block: &Arc<crate::engine::catalog::archive::Block> = block;
        let from = if *id == first.block() { first.slot().into() } else { 0 };
        let to = if *id == last.block() { u64::from(last.slot()) + 1 } else { u64::MAX };
        let (from, to) = (block.place_of(from), block.place_of(to.min(id.slots(size))));
        to.saturating_sub(from)
    };
    blocks.map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::lsn::Lsn,
        engine::catalog::samples::{backup, found, segment_key, sorted},
    };
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn name(timeline: u32, number: u64) -> String {
        Segment { timeline: Timeline(timeline), number }.file_name(SegmentSize::DEFAULT)
    }

    /// Segments of the run, whether it makes the backup consistent, the next one, those behind.
    type Expect<'a> = (&'a [(u32, u64)], bool, (u32, u64), usize);

    fn check(stored: &[(u32, u64)], histories: &[(u32, &str)], expect: Expect<'_>) {
        let keys = stored.iter().map(|&(t, n)| (segment_key(&name(t, n), 'a'), found(1)));
        let repository = sorted(keys);
        let paths: Vec<TimelinePath> = histories
            .iter()
            .map(|(t, text)| TimelinePath::parse(Timeline(*t), text).unwrap())
            .collect();
        let backup = backup(&name(1, 2), &name(1, 3), 0x0300_0100);
        let archive = &repository.archives["15-1"];
        let run = follow(archive, SegmentSize::DEFAULT, &paths, &backup).unwrap();
        let names: Vec<(u32, u64)> = (0..run.len())
            .filter_map(|at| run.segment(at))
            .map(|s| (s.timeline.0, s.number))
            .collect();
        let next = (run.next.timeline.0, run.next.number);
        assert_eq!((names.as_slice(), run.reaches_backup_end, next, run.behind_gap), expect);
    }

    #[test]
    fn a_gap_ends_the_run_and_what_lies_behind_is_counted() {
        let all = [(1, 1), (1, 2), (1, 3), (1, 4), (1, 6), (1, 7)];
        check(&all, &[], (&[(1, 2), (1, 3), (1, 4)], true, (1, 5), 2));
        check(&[(1, 2), (1, 4)], &[], (&[(1, 2)], false, (1, 3), 1));
        check(&[(1, 9)], &[], (&[], false, (1, 2), 1));
    }

    #[test]
    fn the_newest_timeline_is_followed_through_the_segment_of_the_switch() {
        // Timeline 2 left timeline 1 within segment 4.
        let switch = [(2, "1\t0/4000100\treason\n")];
        let all = [(1, 2), (1, 3), (1, 4), (1, 5), (2, 4), (2, 5)];
        check(&all, &switch, (&[(1, 2), (1, 3), (2, 4), (2, 5)], true, (2, 6), 0));
        // Without the newer file of that segment the log ends before it: the older file goes on
        // with an abandoned history.
        let missing = [(1, 2), (1, 3), (1, 4), (1, 5), (2, 5)];
        check(&missing, &switch, (&[(1, 2), (1, 3)], true, (2, 4), 1));
        // A backup that the newer timeline does not pass stays on its own.
        let before = [(2, "1\t0/2000100\treason\n")];
        check(&all, &before, (&[(1, 2), (1, 3), (1, 4), (1, 5)], true, (1, 6), 0));
    }

    /// The run by single names, the simple way.
    fn naive(
        names: &BTreeSet<String>,
        size: SegmentSize,
        path: &TimelinePath,
        start: u64,
    ) -> (Vec<Segment>, Segment, usize) {
        let wanted = |number| path.candidates(number, size)[0];
        let mut found = Vec::new();
        let mut number = start;
        while names.contains(&wanted(number).file_name(size)) {
            found.push(wanted(number));
            number += 1;
        }
        let next = wanted(number);
        let behind = names.iter().filter_map(|name| Segment::parse(name, size).ok());
        let behind = behind.filter(|s| s.number > next.number && *s == wanted(s.number)).count();
        (found, next, behind)
    }

    proptest! {
        #[test]
        fn blocks_and_single_names_make_the_same_run(
            shift in prop::sample::select(vec![20_u32, 22, 24, 26, 30]),
            stretches in prop::collection::vec((1_u32..4, 0_u64..900, 1_u64..400), 1..8),
            holes in prop::collection::vec((1_u32..4, 0_u64..900), 0..6),
            switches in prop::collection::vec(0_u64..900, 2),
            start in 0_u64..900,
            (from, to) in (0_usize..1500, 0_usize..1500),
            odd in any::<bool>(),
        ) {
            let size = SegmentSize::new(1 << shift).unwrap();
            let named = |timeline, number| {
                Segment { timeline: Timeline(timeline), number }.file_name(size)
            };
            let mut names: BTreeSet<String> = BTreeSet::new();
            for (timeline, first, count) in stretches {
                names.extend((first..first + count).map(|number| named(timeline, number)));
            }
            names.retain(|name| holes.iter().all(|&(timeline, at)| *name != named(timeline, at)));
            if odd {
                // A name that segments of this size do not have, unless they are small.
                names.insert("000000010000000000000100".to_owned());
                names.insert("000000010000000000000004".to_owned());
            }
            let repository = sorted(names.iter().map(|name| (segment_key(name, 'a'), found(1))));
            let archive = &repository.archives["15-1"];
            let mut ends = switches.iter().map(|at| at * size.bytes() + 8).collect::<Vec<_>>();
            ends.sort_unstable();
            let lines = format!("1\t{}\tx\n2\t{}\tx\n", Lsn(ends[0]), Lsn(ends[1]));
            let path = TimelinePath::parse(Timeline(3), &lines).unwrap();
            let (found, next, behind) = naive(&names, size, &path, start);
            let at = Segment { timeline: Timeline(1), number: start };
            let run = walk(archive, size, &path, at, at);
            prop_assert_eq!((run.next, run.behind_gap, run.len()), (next, behind, found.len()));
            let segments: Vec<_> = (0..run.len()).filter_map(|at| run.segment(at)).collect();
            prop_assert_eq!(&segments, &found);
            prop_assert!((0..run.len()).all(|at| run.packed(at).is_some()));
            prop_assert_eq!(run.segment(run.len()), None);
            // The spans cover what is asked for, once and in order.
            let (from, to) = (from.min(to).min(found.len()), from.max(to).min(found.len()));
            let spans: Vec<Span> = run.spans(from..to).collect();
            let places = spans.iter().flat_map(|span| {
                let places = span.slots.clone().map(|slot| span.id.place(slot).segment(size).unwrap());
                (span.at..).zip(places)
            });
            let expect = (from..).zip(found[from..to].iter().copied());
            prop_assert!(places.eq(expect));
        }
    }
}
