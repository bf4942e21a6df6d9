//! From a moment to the position where replay stops, by PostgreSQL's own rule.
//!
//! The first commit or abort *in log order* that is later than the moment stops the replay before
//! it (`recoveryStopsBefore` in `xlogrecovery.c`). Times do not rise steadily in the log, so an
//! earlier time may well come behind the stop, and is not replayed.

use crate::{
    domain::{lsn::Lsn, recovery::StopPoint},
    wal::{record::Record, scan::SegmentIndex},
};
use chrono::{DateTime, Utc};

/// The latest moment whose contents a gapless run of segments knows: the largest time in any of
/// its records. A later commit than that may exist in the source and be missing here.
#[must_use]
pub fn covered_until(run: &[SegmentIndex]) -> Option<DateTime<Utc>> {
    run.iter().filter_map(|index| index.latest_time).max()
}

/// Stops after the last complete record of the run.
#[must_use]
pub fn at_end(run: &[SegmentIndex]) -> Option<StopPoint> {
    let last = run.iter().rev().find(|index| index.last_record.is_some())?;
    Some(StopPoint { lsn: last.last_record?, inclusive: true, replayed_to: last.last_end? })
}

/// The first segment, as a place in `run`, that holds a commit or abort later than `target`.
#[must_use]
pub fn segment_that_stops(run: &[SegmentIndex], target: DateTime<Utc>) -> Option<usize> {
    run.iter().position(|index| index.xacts.is_some_and(|xacts| xacts.max_time > target))
}

/// Time of the last commit or abort, in log order, of the run.
#[must_use]
pub fn last_xact_time(run: &[SegmentIndex]) -> Option<DateTime<Utc>> {
    run.iter().rev().find_map(|index| index.xacts.map(|xacts| xacts.last_time))
}

/// End of the last record of the run.
#[must_use]
pub fn end_of(run: &[SegmentIndex]) -> Option<Lsn> {
    run.iter().rev().find_map(|index| index.last_end)
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
    /// A finder for the segment behind `before`, the part of the run that is replayed whole.
    #[must_use]
    pub fn new(target: DateTime<Utc>, before: &[SegmentIndex]) -> Self {
        Self {
            target,
            previous_end: end_of(before),
            last_xact_time: last_xact_time(before),
            found: None,
        }
    }

    /// Shows it the next record.
    pub fn see(&mut self, record: &Record) {
        if self.found.is_some() {
            return;
        }
        if let Some(time) = record.event.xact_time() {
            if time > self.target {
                let replayed_to = self.previous_end.unwrap_or(record.prev);
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
