//! Works out one recovery: which base backup, which segments, and exactly where to stop.

use crate::{
    domain::{
        lsn::Timeline,
        recovery::{Codec, HistoryObject, LogObject, RecoveryPlan, RecoveryTarget, StopPoint},
        target_time,
        violation::Violation,
    },
    engine::catalog::{
        archive::Archive,
        index::IndexedRun,
        observe::{Observed, Reader},
        reading::scan_with,
    },
    layout::backup::ListedBackup,
    store::StoreError,
    wal::stop::StopFinder,
};
use chrono::{DateTime, Utc};
use std::sync::{Arc, Mutex, PoisonError};

/// A recovery cannot be worked out.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// What is asked for is not covered.
    #[error("{}", .0.explain())]
    Violation(#[from] Violation),
    /// The store cannot be read.
    #[error("the copy cannot be read")]
    Store(#[from] StoreError),
    /// The base backup or its log is encrypted, and the key is not there.
    #[error(
        "backup {backup} is encrypted for the key `{key_id}`, whose private key is not configured; \
         add it to the engine's configuration as a [[private_key]] with id = \"{key_id}\""
    )]
    NoKey {
        /// The base backup.
        backup: String,
        /// Name of the key.
        key_id: String,
    },
    /// The newest base backup or its log is encrypted, and not for the key that is there.
    #[error(
        "{what} is encrypted, and not for the private key that is configured as `{key_id}`: the latest \
         transaction cannot be read; give the private key whose public key PGHoard used as the \
         [[private_key]] with id = \"{key_id}\", or choose a time within what can be restored"
    )]
    WrongKey {
        /// The base backup or segment.
        what: String,
        /// Name of the key.
        key_id: String,
    },
    /// A newer timeline is stored, and nobody knows where it begins.
    #[error(
        "the latest transaction is not known: WAL segments of timeline {} are stored, and {}, which \
         says where that timeline begins, is missing or cannot be read; bring it back, or choose a time",
        .0.0, .0.history_file()
    )]
    UnknownTimeline(Timeline),
    /// The log was fine a moment ago.
    #[error("the copy has changed while the recovery was worked out: {0}")]
    Changed(String),
    /// Times in the log jump so that the moment has no place behind a base backup.
    #[error(
        "{} lies, by the times in the log, before the end of every base backup that could restore it; choose another moment",
        target_time::format(*.0)
    )]
    ClockJump(DateTime<Utc>),
}

/// Works out the recovery of `target` from what has been observed.
///
/// # Errors
/// [`RecoverError`], with the nearest valid time where there is one.
pub async fn plan(
    reader: &Reader,
    observed: &Observed,
    target: RecoveryTarget,
    now: DateTime<Utc>,
) -> Result<RecoveryPlan, RecoverError> {
    match target {
        RecoveryTarget::LatestTransaction => {
            let mut all = candidates(observed, |_| true);
            on_present_timeline(&mut all);
            all_opens(observed, &all)?;
            if let Some((listed, run)) = all.last() {
                // An older one that can be read would not lead to the latest transaction.
                readable(listed, run)?;
            }
            let newest = all.into_iter().max_by_key(|(listed, run)| {
                (run.run.timeline, run.sum().end(), listed.finished_at)
            });
            let Some((listed, run)) = newest else {
                return Err(Violation::NothingRestorable { target: None }.into());
            };
            nothing_newer(observed, listed, run)?;
            let Some(stop) = run.sum().at_end() else {
                return Err(Violation::NothingRestorable { target: None }.into());
            };
            let last = run.sum().last_xact_time;
            assemble(reader, observed, (listed, run), run.len(), stop, last)
        }
        RecoveryTarget::PointInTime(time) => {
            observed.catalog.window.check(time, now)?;
            let mut covering = candidates(observed, |listed| {
                let backup = observed.catalog.backups.iter().find(|b| b.name == listed.label);
                backup
                    .and_then(|backup| backup.range.as_ref())
                    .is_some_and(|range| range.earliest <= time && time <= range.latest)
            });
            on_present_timeline(&mut covering);
            // The newest base backup needs the least log; an older one serves when the clock of the
            // database was set back, so that the moment's place lies before the newer one's end.
            let mut why = RecoverError::ClockJump(time);
            for (listed, run) in covering.into_iter().rev() {
                if let Err(lacks_key) = readable(listed, run) {
                    why = lacks_key;
                    continue;
                }
                let (length, stop, last) = stop_at(reader, listed, run, time).await?;
                if is_consistent(listed, run, &stop) {
                    return assemble(reader, observed, (listed, run), length, stop, last);
                }
            }
            Err(why)
        }
    }
}

/// Refuses what could only fail later: a base backup or a log for which there is no key.
fn readable(listed: &ListedBackup, indexed: &IndexedRun) -> Result<(), RecoverError> {
    match indexed.lacks_key().or_else(|| listed.lacks_key.clone()) {
        None => Ok(()),
        Some(key_id) => Err(RecoverError::NoKey { backup: listed.label.clone(), key_id }),
    }
}

/// Whether a recovery that stops there has a base backup whole.
fn is_consistent(listed: &ListedBackup, run: &IndexedRun, stop: &StopPoint) -> bool {
    match run.consistent_at(listed) {
        // There the record of the end *begins*.
        Some(end) if listed.ends_in_log => stop.replayed_to > end,
        Some(end) => stop.replayed_to >= end,
        None => false,
    }
}

/// Refuses what would end before the latest transaction, since a key does not open what is behind it.
fn all_opens(
    observed: &Observed,
    restorable: &[(&ListedBackup, &IndexedRun)],
) -> Result<(), RecoverError> {
    // Names of base backups begin with the time.
    let newest = restorable.iter().map(|(listed, _)| listed.label.as_str()).max();
    let mut closed =
        observed.look.wrong_keys.iter().filter(|(label, _)| Some(label.as_str()) > newest);
    if let Some((label, key_id)) = closed.next_back() {
        let what = format!("base backup {label}");
        return Err(RecoverError::WrongKey { what, key_id: key_id.clone() });
    }
    let damages = restorable.iter().filter_map(|(_, run)| run.damage.as_ref());
    match damages.filter_map(|damage| Some((damage, damage.wrong_key.clone()?))).next_back() {
        Some((damage, key_id)) => Err(RecoverError::WrongKey { what: damage.key.clone(), key_id }),
        None => Ok(()),
    }
}

/// The restorable backups with their runs, oldest first.
fn candidates(
    observed: &Observed,
    wanted: impl Fn(&ListedBackup) -> bool,
) -> Vec<(&ListedBackup, &IndexedRun)> {
    let restorable =
        |label: &str| observed.catalog.backups.iter().any(|b| b.name == label && b.range.is_some());
    let listed = observed.look.backups.iter();
    listed
        .filter(|listed| restorable(&listed.label) && wanted(listed))
        .filter_map(|listed| Some((listed, &**observed.runs.get(&listed.label)?)))
        .collect()
}

/// Refuses to take a timeline for the newest when there are segments of a newer one that might have
/// left it: the end of the older one would be what was given up then.
fn nothing_newer(
    observed: &Observed,
    listed: &ListedBackup,
    indexed: &IndexedRun,
) -> Result<(), RecoverError> {
    let Some(name) = &listed.archive else { return Ok(()) };
    let known = observed.look.paths.get(name);
    let is_known = |timeline| known.into_iter().flatten().any(|path| path.target() == timeline);
    let stored = observed.look.archive_of(listed).into_iter().flat_map(Archive::timelines);
    let mut unknown = stored.filter(|newer| *newer > indexed.run.timeline && !is_known(*newer));
    unknown.next().map_or(Ok(()), |timeline| Err(RecoverError::UnknownTimeline(timeline)))
}

/// Leaves the runs that lead to the newest timeline, which is what PostgreSQL's `latest` means.
///
/// After the database was set back, the same moment may lie in several of its lives, with other
/// contents in each. Whichever base backup is the newest, and whichever can be read, the present
/// life counts as long as it has the moment.
fn on_present_timeline(runs: &mut Vec<(&ListedBackup, &IndexedRun)>) {
    let present = runs.iter().map(|(_, run)| run.run.timeline).max();
    runs.retain(|(_, run)| Some(run.run.timeline) == present);
}

/// Where a moment stops: how many segments are needed, the stop, the last commit or abort before it.
async fn stop_at(
    reader: &Reader,
    listed: &ListedBackup,
    indexed: &IndexedRun,
    time: DateTime<Utc>,
) -> Result<(usize, StopPoint, Option<DateTime<Utc>>), RecoverError> {
    let vanished = || RecoverError::Changed("the segment of the stop is not indexed".to_owned());
    let Some(at) = indexed.segment_that_stops(time) else {
        let stop = indexed.sum().at_end().ok_or_else(vanished)?;
        return Ok((indexed.len(), stop, indexed.sum().last_xact_time));
    };
    let archive = listed.archive.clone().ok_or_else(vanished)?;
    let log = reader.log(&archive).ok_or_else(vanished)?;
    let source = reader.log_source();
    let scanner = log
        .scanner_before(source, &indexed.run, at)
        .await?
        .map_err(|damage| RecoverError::Changed(damage.what))?;
    let finder = Arc::new(Mutex::new(StopFinder::new(time, &indexed.sum_of(at))));
    let seen = finder.clone();
    let see = move |record: &_| seen.lock().unwrap_or_else(PoisonError::into_inner).see(record);
    scan_with(source, &indexed.run, at, scanner, see)
        .await?
        .map_err(|damage| RecoverError::Changed(damage.what))?;
    let finder = finder.lock().unwrap_or_else(PoisonError::into_inner);
    let stop = finder.found().ok_or_else(vanished)?;
    Ok((at + 1, stop, finder.last_xact_time()))
}

fn assemble(
    reader: &Reader,
    observed: &Observed,
    (listed, indexed): (&ListedBackup, &IndexedRun),
    length: usize,
    stop: StopPoint,
    last_xact: Option<DateTime<Utc>>,
) -> Result<RecoveryPlan, RecoverError> {
    let changed = || RecoverError::Changed("the log of the base backup is empty".to_owned());
    let first = indexed.facts().ok_or_else(changed)?;
    let archive = listed.archive.clone().ok_or_else(changed)?;
    let in_store = |key: &str| {
        reader.place().prefix.join(key).map_or_else(|_| key.to_owned(), |key| key.to_string())
    };
    let stored = (0..length).filter_map(|at| indexed.run.stored(at));
    let log = stored.map(|(segment, stored)| LogObject {
        segment,
        key: in_store(&stored.key),
        size_bytes: stored.found.size_bytes,
        sha1: Some(stored.sha1),
        codec: stored.codec,
        key_id: stored.key_id,
    });
    let repository = &observed.look.repository;
    let histories = repository.archives.get(&archive).into_iter().flat_map(|log| &log.histories);
    let codings = &observed.look.history_codings;
    let histories = histories.map(|(timeline, key)| {
        let (codec, key_id) = codings.get(key).cloned().unwrap_or((Codec::None, None));
        let size_bytes = repository.get(key).map_or(0, |found| found.size_bytes);
        HistoryObject { timeline: *timeline, key: in_store(key), size_bytes, codec, key_id }
    });
    Ok(RecoveryPlan {
        backup_name: listed.label.clone(),
        backup_finished_at: listed.finished_at,
        restored_bytes: listed.size_bytes,
        system_identifier: first.system_identifier,
        postgres_major: first.postgres_major,
        timeline: indexed.run.timeline,
        segment_size: first.segment_size,
        stop,
        recovered_to: last_xact.map_or(listed.finished_at, |last| last.max(listed.finished_at)),
        log: log.collect(),
        histories: histories.collect(),
        parameter_floor: indexed.sum_of(length).parameter_floor,
    })
}
