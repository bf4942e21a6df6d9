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
    let mut gathered = Gathered::new();
    let mut see = |seen: Seen<'_>| {
        match seen {
            Seen::Begun { start, committed_at: Some(time) } if start >= from && time > target => {
                stop = Some((start, time));
            }
            Seen::Begun { .. } => {}
            Seen::Incident { start } => incidents += u64::from(start >= from),
            Seen::Group(found) if found.end <= from => {}
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
    })
}
