//! Follows the log of a base backup by the names of its segments, to the first gap.

use crate::{
    domain::lsn::{Segment, SegmentSize, Timeline},
    engine::catalog::repository::{Archive, StoredSegment},
    layout::backup::ListedBackup,
    wal::timeline::TimelinePath,
};

/// The gapless log behind a base backup, by names alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The timeline that it leads to.
    pub timeline: Timeline,
    /// The segments in log order, the first one holds the backup's start.
    pub segments: Vec<(Segment, StoredSegment)>,
    /// Whether the segments up to the backup's end are all there.
    pub reaches_backup_end: bool,
    /// The segment that is missing next.
    pub next: Segment,
    /// How many segments of this timeline lie behind the missing one.
    pub behind_gap: usize,
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
    archive: &Archive,
    size: SegmentSize,
    paths: &[TimelinePath],
    backup: &ListedBackup,
) -> Option<Run> {
    let start = Segment::parse(&backup.archive_start, size).ok()?;
    let stop = Segment::parse(&backup.archive_stop, size).ok()?;
    let mut ways: Vec<TimelinePath> =
        paths.iter().filter(|path| path.passes(stop.timeline, backup.lsn_stop)).cloned().collect();
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
    archive: &Archive,
    size: SegmentSize,
    path: &TimelinePath,
    start: Segment,
    stop: Segment,
) -> Run {
    let mut segments = Vec::new();
    let mut number = start.number;
    // Only the newest timeline's file will do: it holds the older one's records up to the switch,
    // and the older one's file goes on with records of an abandoned history.
    let wanted = |number| {
        let fallback = Segment { timeline: path.target(), number };
        path.candidates(number, size).first().copied().unwrap_or(fallback)
    };
    while let Some(stored) = archive.segments.get(&wanted(number).file_name(size)) {
        segments.push((wanted(number), stored.clone()));
        number += 1;
    }
    let next = wanted(number);
    let behind_gap = archive
        .segments
        .keys()
        .filter_map(|name| Segment::parse(name, size).ok())
        .filter(|segment| segment.number > next.number && *segment == wanted(segment.number))
        .count();
    Run {
        timeline: path.target(),
        segments,
        reaches_backup_end: number > stop.number,
        next,
        behind_gap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::lsn::Lsn,
        engine::catalog::repository::{
            Repository,
            tests::{found, segment_key},
        },
    };
    use chrono::DateTime;

    fn backup(start: &str, stop: &str, lsn_stop: u64) -> ListedBackup {
        ListedBackup {
            label: "20261123-075157F".into(),
            archive: Some("15-1".into()),
            archive_start: start.into(),
            archive_stop: stop.into(),
            lsn_stop: Lsn(lsn_stop),
            started_at: DateTime::UNIX_EPOCH,
            finished_at: DateTime::UNIX_EPOCH,
            size_bytes: 1,
            stored_bytes: 1,
            references: vec![],
        }
    }

    fn name(timeline: u32, number: u64) -> String {
        Segment { timeline: Timeline(timeline), number }.file_name(SegmentSize::DEFAULT)
    }

    /// Segments of the run, whether it makes the backup consistent, the next one, those behind.
    type Expect<'a> = (&'a [(u32, u64)], bool, (u32, u64), usize);

    fn check(stored: &[(u32, u64)], histories: &[(u32, &str)], expect: Expect<'_>) {
        let keys = stored.iter().map(|&(t, n)| (segment_key(&name(t, n), 'a'), found(1)));
        let repository = Repository::sort("m", keys);
        let paths: Vec<TimelinePath> = histories
            .iter()
            .map(|(t, text)| TimelinePath::parse(Timeline(*t), text).unwrap())
            .collect();
        let backup = backup(&name(1, 2), &name(1, 3), 0x0300_0100);
        let archive = &repository.archives["15-1"];
        let run = follow(archive, SegmentSize::DEFAULT, &paths, &backup).unwrap();
        let names: Vec<(u32, u64)> =
            run.segments.iter().map(|(s, _)| (s.timeline.0, s.number)).collect();
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
}
