//! From a moment to the position where replay stops, by PostgreSQL's own rule.
//!
//! The first commit or abort *in log order* that is later than the moment stops the replay before
//! it (`recoveryStopsBefore` in `xlogrecovery.c`, with `recovery_target_inclusive` at its default).
//! One of the very same microsecond is replayed. Times do not rise steadily in the log, so an
//! earlier time may well come behind the stop, and is not replayed. Nothing else stops a moment:
//! checkpoints and restore points have times, but PostgreSQL does not look at them.
//!
//! PostgreSQL asks this of each *whole* record. So a recovery that stops before a record needs every
//! segment to the one where that record ends, although [`StopPoint::lsn`] lies where it begins.

use crate::{
    domain::{lsn::Lsn, recovery::StopPoint},
    wal::{record::Record, scan::SegmentIndex},
};
use chrono::{DateTime, Utc};

/// What segments that follow each other sum up to. Sums of neighbours are joined, so whoever keeps
/// those of longer stretches need not go through every segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Start and end of the last complete record.
    pub last_record: Option<(Lsn, Lsn)>,
    /// Largest time of a commit or abort.
    pub max_xact_time: Option<DateTime<Utc>>,
    /// Time of the last commit or abort, in log order.
    pub last_xact_time: Option<DateTime<Utc>>,
    /// Largest time in any record.
    pub latest_time: Option<DateTime<Utc>>,
    /// Largest settings that a hot standby needs.
    pub parameter_floor: Option<[u32; 5]>,
}

impl From<&SegmentIndex> for Sum {
    fn from(index: &SegmentIndex) -> Self {
        Self {
            last_record: index.last_record.zip(index.last_end),
            max_xact_time: index.xacts.map(|xacts| xacts.max_time),
            last_xact_time: index.xacts.map(|xacts| xacts.last_time),
            latest_time: index.latest_time,
            parameter_floor: index.parameter_floor,
        }
    }
}

impl Sum {
    /// Of a run of segments.
    #[must_use]
    pub fn of(run: &[SegmentIndex]) -> Self {
        let mut sum = Self::default();
        run.iter().for_each(|index| sum.join(&index.into()));
        sum
    }

    /// Takes in what follows.
    pub fn join(&mut self, next: &Self) {
        self.last_record = next.last_record.or(self.last_record);
        self.max_xact_time = self.max_xact_time.max(next.max_xact_time);
        self.last_xact_time = next.last_xact_time.or(self.last_xact_time);
        self.latest_time = self.latest_time.max(next.latest_time);
        self.parameter_floor = match (self.parameter_floor, next.parameter_floor) {
            (Some(a), Some(b)) => Some(std::array::from_fn(|at| a[at].max(b[at]))),
            (one, other) => one.or(other),
        };
    }

    /// The latest moment whose contents a gapless run knows: the largest time in any of its records.
    /// A later commit than that may exist in the source and be missing here.
    ///
    /// A transaction takes its time just before it writes its record, so within some microseconds of
    /// this moment another one may follow behind the end of the run, as PostgreSQL itself would see.
    #[must_use]
    pub fn covered_until(&self) -> Option<DateTime<Utc>> {
        self.latest_time
    }

    /// Stops after the last complete record.
    #[must_use]
    pub fn at_end(&self) -> Option<StopPoint> {
        let (lsn, replayed_to) = self.last_record?;
        Some(StopPoint { lsn, inclusive: true, replayed_to })
    }

    /// Whether a commit or abort here is later than `target`: the first segment that has one stops.
    #[must_use]
    pub fn stops(&self, target: DateTime<Utc>) -> bool {
        self.max_xact_time.is_some_and(|time| time > target)
    }

    /// End of the last record.
    #[must_use]
    pub fn end(&self) -> Option<Lsn> {
        self.last_record.map(|(_, end)| end)
    }
}

/// Finds the exact stop while the records of the segment that holds it go by.
#[derive(Debug)]
pub struct StopFinder {
    target: DateTime<Utc>,
    previous_end: Option<Lsn>,
    last_xact_time: Option<DateTime<Utc>>,
    found: Option<StopPoint>,
}

impl StopFinder {
    /// A finder for the segment behind `before`, the part of the run that is replayed whole. It must
    /// be shown the records of that segment as a [`Scanner`](crate::wal::scan::Scanner) that went
    /// through `before`, or resumed there, gives them: the first of them may have begun earlier.
    #[must_use]
    pub fn new(target: DateTime<Utc>, before: &Sum) -> Self {
        let (previous_end, last_xact_time) = (before.end(), before.last_xact_time);
        Self { target, previous_end, last_xact_time, found: None }
    }

    /// Shows it the next record.
    pub fn see(&mut self, record: &Record) {
        if self.found.is_some() {
            return;
        }
        if let Some(time) = record.event.xact_time() {
            if time > self.target {
                // With no record before it nothing is replayed. PostgreSQL then fails, as no base
                // backup is consistent yet; but it must still count as a stop.
                let replayed_to = self.previous_end.unwrap_or(record.lsn);
                self.found = Some(StopPoint { lsn: record.lsn, inclusive: false, replayed_to });
                return;
            }
            self.last_xact_time = Some(time);
        }
        self.previous_end = Some(record.end);
    }

    /// Where replay stops, once it was seen.
    #[must_use]
    pub fn found(&self) -> Option<StopPoint> {
        self.found
    }

    /// Time of the last commit or abort before the stop.
    #[must_use]
    pub fn last_xact_time(&self) -> Option<DateTime<Utc>> {
        self.last_xact_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::lsn::{Segment, SegmentSize, Timeline},
        wal::{record::Event, scan::Xacts},
    };
    use chrono::TimeDelta;

    fn at(microseconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::microseconds(microseconds)
    }

    fn xact(time: i64) -> Event {
        Event::Xact { committed: true, prepared: false, time: at(time) }
    }

    /// Records of 32 bytes behind each other, from 0/100 on.
    fn records(events: &[Event]) -> Vec<Record> {
        let lsn = |n: usize| Lsn(0x100 + 0x20 * n as u64);
        let record = |(n, event): (usize, &Event)| Record {
            lsn: lsn(n),
            end: lsn(n + 1),
            prev: Lsn(lsn(n).0 - 0x20),
            xid: 0,
            length: 32,
            manager: 0,
            info: 0,
            event: event.clone(),
        };
        events.iter().enumerate().map(record).collect()
    }

    fn check(events: &[Event], target: i64, stop: Option<(u64, u64)>, last: Option<i64>) {
        let mut finder = StopFinder::new(at(target), &Sum::default());
        records(events).iter().for_each(|record| finder.see(record));
        let expected = stop.map(|(lsn, replayed_to)| StopPoint {
            lsn: Lsn(lsn),
            inclusive: false,
            replayed_to: Lsn(replayed_to),
        });
        assert_eq!(finder.found(), expected, "{events:?} at {target}");
        assert_eq!(finder.last_xact_time(), last.map(at), "{events:?} at {target}");
    }

    #[test]
    fn the_first_later_one_in_log_order_stops() {
        let log = [Event::Other, xact(10), xact(30), xact(20), xact(40)];
        check(&log, 9, Some((0x120, 0x120)), None);
        check(&log, 10, Some((0x140, 0x140)), Some(10));
        check(&log, 20, Some((0x140, 0x140)), Some(10));
        check(&log, 30, Some((0x180, 0x180)), Some(20));
        check(&log, 40, None, Some(40));
    }

    #[test]
    fn only_the_end_of_a_transaction_stops() {
        let others = [
            Event::Checkpoint { time: at(50) },
            Event::RestorePoint { time: at(50) },
            Event::EndOfRecovery { time: at(50) },
            Event::Switch,
            Event::Other,
        ];
        let abort = Event::Xact { committed: false, prepared: true, time: at(50) };
        check(&others, 10, None, None);
        check(&[others.as_slice(), &[abort]].concat(), 10, Some((0x1A0, 0x1A0)), None);
    }

    #[test]
    fn a_stop_before_everything_is_still_a_stop() {
        check(&[xact(10)], 5, Some((0x100, 0x100)), None);
    }

    fn index(number: u64, xacts: Option<(i64, i64)>, latest: Option<i64>) -> SegmentIndex {
        let size = SegmentSize::DEFAULT;
        let segment = Segment { timeline: Timeline(1), number };
        SegmentIndex {
            segment,
            system_identifier: 1,
            segment_size: size,
            postgres_major: 15,
            records: 1,
            last_record: Some(segment.start(size)),
            last_end: Some(Lsn(segment.start(size).0 + 8)),
            xacts: xacts.map(|(max, last)| Xacts {
                count: 2,
                max_time: at(max),
                last_time: at(last),
            }),
            latest_time: latest.map(at),
            backup_ends: vec![],
            parameter_floor: None,
            ends_early: false,
        }
    }

    #[test]
    fn sums_find_the_segment_and_the_end() {
        let empty = SegmentIndex { last_record: None, last_end: None, ..index(4, None, None) };
        let run = [
            index(1, Some((30, 20)), Some(30)),
            index(2, None, Some(90)),
            index(3, Some((40, 35)), Some(60)),
            empty,
        ];
        for (target, segment) in [(0, Some(0)), (29, Some(0)), (30, Some(2)), (40, None)] {
            let stops = |index| Sum::from(index).stops(at(target));
            assert_eq!(run.iter().position(stops), segment, "{target}");
        }
        let sum = Sum::of(&run);
        assert_eq!(sum.covered_until(), Some(at(90)));
        assert_eq!(sum.last_xact_time, Some(at(35)));
        assert_eq!(Sum::of(&run[..2]).last_xact_time, Some(at(20)));
        assert_eq!(sum.end(), Some(Lsn(0x0300_0008)));
        let end =
            StopPoint { lsn: Lsn(0x0300_0000), inclusive: true, replayed_to: Lsn(0x0300_0008) };
        assert_eq!(sum.at_end(), Some(end));
        assert_eq!(Sum::of(&run[3..]).at_end(), None);
        // The finder behind whole segments knows what they ended with.
        let mut finder = StopFinder::new(at(45), &sum);
        records(&[xact(50)]).iter().for_each(|record| finder.see(record));
        assert_eq!(finder.found().unwrap().replayed_to, Lsn(0x0300_0008));
        assert_eq!(finder.last_xact_time(), Some(at(35)));
    }
}
