//! Where a replay of a binary log ends for a moment.

use crate::{
    binlog::{
        fault::{Damage, Fault},
        gtids::Gathered,
        summary::{Seen, walk},
    },
    domain::binlog::GtidSet,
};
use chrono::{DateTime, Utc};
use std::{io::Read, ops::ControlFlow};

/// What is replayed of a file for a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where the group begins that is not replayed any more. `None` when all of the file is.
    pub stop: Option<u64>,
    /// Commit time of that group.
    pub stopped_by: Option<DateTime<Utc>>,
    /// Where the replay ends, in either case: `stop`, or the end of the last group, or `from` when
    /// there is none after it.
    pub end: u64,
    /// Number of groups that are replayed.
    pub groups: u64,
    /// Of those, without an id.
    pub anonymous: u64,
    /// Marks of lost events in what is replayed. With any, the result is not what the server had.
    pub incidents: u64,
    /// Commit time of the last group that is replayed.
    pub last_commit: Option<DateTime<Utc>>,
    /// The groups that are replayed.
    pub gtids: GtidSet,
    /// Number of groups before `from`.
    pub groups_before: u64,
    /// Those.
    pub gtids_before: GtidSet,
}

/// The first group in log order at or after `from` that was committed later than `target`: replay ends
/// where it begins. Times in a log are not sorted, so groups behind it may have been committed
/// earlier; they are not replayed, as the server's own recovery would not either.
///
/// Give it the sound part of a file: of one that breaks off, so many bytes as the summary says.
///
/// # Errors
/// [`Fault`], also when `from` is inside of a group or behind the end of the file.
pub fn find_stop(file: impl Read, from: u64, target: DateTime<Utc>) -> Result<Cut, Fault> {
    let (mut stop, mut inside) = (None, false);
    let (mut groups, mut anonymous, mut incidents) = (0, 0, 0);
    let (mut last_commit, mut end) = (None, from);
    let (mut gathered, mut gathered_before, mut groups_before) =
        (Gathered::new(), Gathered::new(), 0);
    let mut see = |seen: Seen<'_>| {
        match seen {
            Seen::Begun { start, committed_at: Some(time) } if start >= from && time > target => {
                stop = Some((start, time));
            }
            Seen::Begun { .. } => {}
            Seen::Incident { start } => incidents += u64::from(start >= from),
            Seen::Group(found) if found.end <= from => {
                groups_before += 1;
                gathered_before.add(&found.id);
            }
            Seen::Group(found) if found.start < from => inside = true,
            // Without a GTID event the time is known at the end only.
            Seen::Group(found) if found.committed_at > target => {
                stop = Some((found.start, found.committed_at));
            }
            Seen::Group(found) => {
                groups += 1;
                anonymous += u64::from(found.is_anonymous());
                last_commit = Some(found.committed_at);
                end = found.end;
                gathered.add(&found.id);
            }
        }
        if stop.is_some() || inside { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let summary = walk(file, &mut see)?;
    let fault = |damage| Fault { offset: from, damage, so_far: Some(Box::new(summary.clone())) };
    if inside {
        return Err(fault(Damage::NotABoundary));
    }
    if stop.is_none() && from > summary.bytes {
        return Err(fault(Damage::Beyond));
    }
    Ok(Cut {
        stop: stop.map(|(start, _)| start),
        stopped_by: stop.map(|(_, time)| time),
        end: stop.map_or(end, |(start, _)| start),
        groups,
        anonymous,
        incidents,
        last_commit,
        gtids: gathered.finish(summary.flavour, None),
        groups_before,
        gtids_before: gathered_before.finish(summary.flavour, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::{
        fake::Log,
        fixture::{self, ALL, Fixture},
    };
    use chrono::TimeDelta;

    /// The rule, by the times and places that the server's own tool gives.
    fn check(fixture: &Fixture, from: u64, target: DateTime<Utc>) {
        let facts = fixture.facts();
        let behind = facts.groups.iter().position(|group| group.start >= from);
        let rest = behind.map_or(&[][..], |first| &facts.groups[first..]);
        let later = rest.iter().position(|group| group.committed_at() > target);
        let replayed = &rest[..later.unwrap_or(rest.len())];
        let cut = find_stop(fixture.bytes, from, target).unwrap();
        let stop = later.map(|later| rest[later].start);
        assert_eq!(cut.stop, stop, "{} from {from} to {target}", fixture.name);
        assert_eq!(cut.stopped_by, later.map(|later| rest[later].committed_at()));
        assert_eq!(cut.groups, replayed.len() as u64);
        assert_eq!(cut.last_commit, replayed.last().map(fixture::FactGroup::committed_at));
        assert_eq!(cut.gtids, fixture::of(fixture.flavour(), replayed));
        let end = stop.unwrap_or(replayed.last().map_or(from, |last| last.end));
        assert_eq!(cut.end, end, "{} from {from} to {target}", fixture.name);
    }

    #[test]
    fn the_first_later_group_stops() {
        for fixture in ALL {
            let groups = fixture.facts().groups;
            let places = groups.iter().flat_map(|group| [group.start, group.end]);
            for from in [4].into_iter().chain(places) {
                for group in &groups {
                    let time = group.committed_at();
                    for shift in [-1, 0, 1] {
                        check(fixture, from, time + TimeDelta::microseconds(shift));
                    }
                }
            }
        }
    }

    /// A log of transactions with these commit times, and where each begins.
    fn transactions_at(micros: [u64; 4]) -> (Log, Vec<u64>) {
        let mut log = Log::mysql();
        let starts = (1..).zip(micros).map(|(number, time)| {
            let start = log.gtid(number, time);
            log.query("create table t (id int)");
            start
        });
        let starts = starts.collect();
        (log, starts)
    }

    fn at(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    #[test]
    fn times_that_go_back_stop_once() {
        let (log, starts) = transactions_at([30, 50, 40, 60]);
        let cut = find_stop(&log.bytes[..], 4, at(45)).unwrap();
        assert_eq!((cut.stop, cut.groups, cut.last_commit), (Some(starts[1]), 1, Some(at(30))));
        let cut = find_stop(&log.bytes[..], 4, at(50)).unwrap();
        assert_eq!((cut.stop, cut.groups, cut.last_commit), (Some(starts[3]), 3, Some(at(40))));
        // What lies before the beginning stops nothing.
        let cut = find_stop(&log.bytes[..], starts[2], at(45)).unwrap();
        assert_eq!((cut.stop, cut.groups), (Some(starts[3]), 1));
        assert_eq!(cut.gtids.to_string(), "abababab-abab-abab-abab-abababababab:3");
    }

    #[test]
    fn transactions_of_one_microsecond_belong_together() {
        let (log, starts) = transactions_at([30, 31, 31, 32]);
        for (target, stop) in [(30, starts[1]), (31, starts[3])] {
            assert_eq!(find_stop(&log.bytes[..], 4, at(target)).unwrap().stop, Some(stop));
        }
    }

    #[test]
    fn groups_without_a_gtid_event_stop_too() {
        let mut log = Log::new("5.6.51", 35, true);
        let first = log.query("create table t (id int)");
        let begin = log.query("BEGIN");
        log.seconds += 10;
        log.xid();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let stop = |seconds| find_stop(&log.bytes[..], 4, at(seconds)).unwrap().stop;
        assert_eq!((stop(999), stop(1_000), stop(1_009)), (Some(first), Some(begin), Some(begin)));
        assert_eq!(stop(1_010), None);
    }

    #[test]
    fn a_beginning_that_is_none_is_refused() {
        let mut log = Log::mysql();
        let first = log.gtid(1, 30);
        log.query("create table t (id int)");
        let target = DateTime::from_timestamp(5, 0).unwrap();
        let fault = |from| find_stop(&log.bytes[..], from, target).unwrap_err();
        assert!(matches!(fault(first + 1).damage, Damage::NotABoundary));
        let end = log.bytes.len() as u64;
        assert!(matches!(fault(end + 1).damage, Damage::Beyond));
        assert_eq!(find_stop(&log.bytes[..], end, target).unwrap().end, end);
        // A file that breaks off before any stop is no answer; after one it is.
        let cut = &log.bytes[..log.bytes.len() - 3];
        let fault = find_stop(cut, 4, target).unwrap_err();
        assert!(fault.damage.only_the_end_is_missing());
        assert_eq!(find_stop(cut, 4, DateTime::UNIX_EPOCH).unwrap().stop, Some(first));
    }
}
