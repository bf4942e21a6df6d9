//! Which moments a region's copies can restore, and why another moment cannot be had.

use crate::domain::{target_time, violation::Violation};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The moments that one restorable base backup and its gapless log reach, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRange {
    /// The end of the base backup. Nothing before it can be restored from it.
    pub earliest: DateTime<Utc>,
    /// The latest moment whose contents are known: the last commit, or a later checkpoint.
    pub latest: DateTime<Utc>,
    /// Whether `latest` was read from the log, and not estimated from names.
    pub exact: bool,
}

/// All restore ranges of one region, in order of `earliest`. They may be disjoint or overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreWindow {
    ranges: Vec<RestoreRange>,
}

impl RestoreWindow {
    /// Sorts the ranges and joins those that overlap, so that the gaps are what is really missing.
    #[must_use]
    pub fn new(mut ranges: Vec<RestoreRange>) -> Self {
        ranges.retain(|range| range.earliest <= range.latest);
        ranges.sort_by_key(|range| (range.earliest, range.latest));
        let mut joined: Vec<RestoreRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.earliest <= last.latest => {
                    if range.latest > last.latest {
                        last.latest = range.latest;
                        last.exact = range.exact;
                    }
                }
                _ => joined.push(range),
            }
        }
        Self { ranges: joined }
    }

    /// The ranges, disjoint and in order.
    #[must_use]
    pub fn ranges(&self) -> &[RestoreRange] {
        &self.ranges
    }

    /// The first restorable moment, or `None` when nothing can be restored.
    #[must_use]
    pub fn earliest(&self) -> Option<DateTime<Utc>> {
        self.ranges.first().map(|range| range.earliest)
    }

    /// The last restorable moment, or `None` when nothing can be restored.
    #[must_use]
    pub fn latest(&self) -> Option<DateTime<Utc>> {
        self.ranges.last().map(|range| range.latest)
    }

    /// Checks that `target` can be restored. `now` is the present: a later target is a mistake.
    ///
    /// # Errors
    /// [`Violation::TimeInFuture`], [`Violation::NothingRestorable`] or
    /// [`Violation::TimeOutsideWindow`], the latter with the nearest valid time.
    pub fn check(&self, target: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), Violation> {
        if target > now {
            return Err(Violation::TimeInFuture { target, now, window: self.clone() });
        }
        let Some(nearest) = self.nearest(target) else {
            return Err(Violation::NothingRestorable { target: Some(target) });
        };
        if nearest == target {
            Ok(())
        } else {
            Err(Violation::TimeOutsideWindow { target, nearest, window: self.clone() })
        }
    }

    /// The restorable moment nearest to `target`: `target` itself where it is covered.
    #[must_use]
    pub fn nearest(&self, target: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let clamp = |range: &RestoreRange| target.clamp(range.earliest, range.latest);
        self.ranges.iter().map(clamp).min_by_key(|moment| (*moment - target).abs())
    }
}

impl fmt::Display for RestoreWindow {
    /// `[2026-11-23T07:00:00Z .. 2026-11-23T09:12:44.120000Z]`, several with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let (from, to) =
                (target_time::format(range.earliest), target_time::format(range.latest));
            write!(f, "{comma}[{from} .. {to}]")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn window(ranges: &[(i64, i64)]) -> RestoreWindow {
        let range = |&(from, to): &(i64, i64)| RestoreRange {
            earliest: at(from),
            latest: at(to),
            exact: true,
        };
        RestoreWindow::new(ranges.iter().map(range).collect())
    }

    fn check(window: &RestoreWindow, target: i64, expect: Option<i64>) {
        assert_eq!(window.nearest(at(target)), expect.map(at));
        let fits = window.check(at(target), at(1000)).is_ok();
        assert_eq!(fits, expect == Some(target));
    }

    #[test]
    fn both_ends_are_inside() {
        let one = window(&[(10, 20)]);
        check(&one, 10, Some(10));
        check(&one, 20, Some(20));
        check(&one, 9, Some(10));
        check(&one, 21, Some(20));
        let micro = at(20) + TimeDelta::microseconds(1);
        assert_eq!(one.check(micro, at(1000)).unwrap_err().code(), "time_outside_window");
    }

    #[test]
    fn gaps_between_ranges_are_refused_with_the_nearest_end() {
        let two = window(&[(30, 40), (10, 20)]);
        check(&two, 24, Some(20));
        check(&two, 26, Some(30));
        check(&two, 35, Some(35));
    }

    #[test]
    fn overlapping_ranges_are_one() {
        assert_eq!(window(&[(10, 20), (15, 40), (16, 18)]).ranges().len(), 1);
        assert_eq!(window(&[(10, 9)]).ranges().len(), 0);
    }

    #[test]
    fn an_empty_window_and_the_future_have_their_own_words() {
        assert_eq!(window(&[]).check(at(1), at(2)).unwrap_err().code(), "nothing_restorable");
        assert_eq!(window(&[(1, 9)]).check(at(3), at(2)).unwrap_err().code(), "time_in_future");
    }
}
