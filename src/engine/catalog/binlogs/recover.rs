//! Works out one recovery along binary logs: which base backup, which files, exactly where to stop.

use crate::{
    binlog::summary::Summary,
    domain::{
        binlog::{Flavour, GtidSet},
        recovery::{BaseImage, BinlogObject, BinlogPlan, RecoveryTarget},
        violation::Violation,
    },
    engine::catalog::{
        binlogs::{ReadChain, reading},
        observe::{Observed, Reader},
        recover::RecoverError,
    },
    layout::{backup::ListedBackup, binlogs::ListedBinlog},
};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// Where a replay ends.
#[derive(Debug)]
struct End {
    /// The last file, by its place in the chain.
    file: usize,
    /// Where in it.
    offset: u64,
    /// What the server has executed there, where its log has transaction ids.
    executed: Option<GtidSet>,
    /// Transactions of the last file before the end.
    groups: u64,
    /// The last transaction before it in that file.
    last_commit: Option<DateTime<Utc>>,
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
) -> Result<BinlogPlan, RecoverError> {
    match target {
        RecoveryTarget::LatestTransaction => {
            // The log that reaches furthest; of several, the newest base backup needs least of it.
            let candidates = candidates(observed).into_iter();
            let furthest = candidates.max_by_key(|(listed, chain)| {
                let latest = range_of(observed, &listed.label).map(|(_, latest)| latest);
                (latest, chain.covered_until(), listed.finished_at)
            });
            let Some((listed, chain)) = furthest else {
                return Err(Violation::NothingRestorable { target: None }.into());
            };
            readable(listed, chain)?;
            let Some(end) = at_end(chain) else {
                return Err(Violation::NothingRestorable { target: None }.into());
            };
            assemble(reader, listed, chain, end).await
        }
        RecoveryTarget::PointInTime(time) => {
            observed.catalog.window.check(time, now)?;
            let mut why = RecoverError::ClockJump(time);
            for (listed, chain) in candidates(observed).into_iter().rev() {
                let Some((earliest, latest)) = range_of(observed, &listed.label) else { continue };
                if time < earliest || latest < time {
                    continue;
                }
                if let Err(lacks_key) = readable(listed, chain) {
                    why = lacks_key;
                    continue;
                }
                let end = end_at(reader, chain, time).await?;
                let consistent = chain.chain.consistent_at;
                if (end.file, end.offset) >= consistent {
                    return assemble(reader, listed, chain, end).await;
                }
            }
            Err(why)
        }
    }
}

/// The restorable backups with their logs, oldest first.
fn candidates(observed: &Observed) -> Vec<(&ListedBackup, &ReadChain)> {
    let listed = observed.look.backups.iter();
    listed
        .filter(|listed| range_of(observed, &listed.label).is_some())
        .filter_map(|listed| Some((listed, &**observed.chains.get(&listed.label)?)))
        .collect()
}

fn range_of(observed: &Observed, label: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let backup = observed.catalog.backups.iter().find(|backup| backup.name == label)?;
    backup.range.as_ref().map(|range| (range.earliest, range.latest))
}

/// Refuses what could only fail later.
fn readable(listed: &ListedBackup, chain: &ReadChain) -> Result<(), RecoverError> {
    match chain.lacks_key.clone().or_else(|| listed.lacks_key.clone()) {
        None => Ok(()),
        Some(key_id) => Err(RecoverError::NoKey { backup: listed.label.clone(), key_id }),
    }
}

/// The end of everything.
fn at_end(chain: &ReadChain) -> Option<End> {
    let last = chain.files.last()?;
    Some(End {
        file: chain.files.len() - 1,
        offset: last.groups_end,
        executed: last.after.clone(),
        groups: last.groups,
        last_commit: last.last_commit,
    })
}

/// Where a moment stops: before the first transaction in log order that is later.
async fn end_at(
    reader: &Reader,
    chain: &ReadChain,
    time: DateTime<Utc>,
) -> Result<End, RecoverError> {
    let vanished = || RecoverError::Changed("the binary log of the stop is gone".to_owned());
    let start = chain.chain.start_offset.unwrap_or(0);
    for (file, summary) in chain.files.iter().enumerate() {
        if summary.max_commit.is_none_or(|last| last <= time) {
            continue;
        }
        let from = if file == 0 { start.max(summary.first_group_start) } else { 0 };
        let object = &chain.chain.objects[file];
        let cut = reading::cut(reader.log_source(), object, from, time).await?;
        let cut = cut.ok_or_else(vanished)?.map_err(RecoverError::Changed)?;
        // The later transaction may lie before the end of the base backup.
        let Some(stop) = cut.stop else { continue };
        if cut.groups == 0 && file > 0 {
            // Nothing of this file: the one before is the last.
            let before = &chain.files[file - 1];
            return Ok(End {
                file: file - 1,
                offset: before.groups_end,
                executed: before.after.clone(),
                groups: before.groups,
                last_commit: before.last_commit,
            });
        }
        let mut executed = summary.before.clone();
        if let Some(executed) = &mut executed {
            executed.extend(&cut.gtids_before);
            executed.extend(&cut.gtids);
        }
        let groups = cut.groups_before + cut.groups;
        return Ok(End { file, offset: stop, executed, groups, last_commit: cut.last_commit });
    }
    at_end(chain).ok_or_else(vanished)
}

/// Number of transactions of the first file before the replay begins, and what is executed by then.
async fn before_start(
    reader: &Reader,
    object: &ListedBinlog,
    summary: &Summary,
    start: u64,
) -> Result<(u64, Option<GtidSet>), RecoverError> {
    if start <= summary.first_group_start {
        return Ok((0, summary.before.clone()));
    }
    let all = DateTime::<Utc>::MAX_UTC;
    let cut = reading::cut(reader.log_source(), object, start, all).await?;
    let vanished = || RecoverError::Changed(format!("{} is gone", object.key));
    let cut = cut.ok_or_else(vanished)?.map_err(RecoverError::Changed)?;
    let mut executed = summary.before.clone();
    if let Some(executed) = &mut executed {
        executed.extend(&cut.gtids_before);
    }
    Ok((cut.groups_before, executed))
}

async fn assemble(
    reader: &Reader,
    listed: &ListedBackup,
    chain: &ReadChain,
    end: End,
) -> Result<BinlogPlan, RecoverError> {
    let notes = &chain.chain;
    let changed = || RecoverError::Changed("the log of the base backup is empty".to_owned());
    let first = chain.files.first().ok_or_else(changed)?;
    let used = &chain.files[..=end.file];
    let in_store = |key: &str| {
        reader.place().prefix.join(key).map_or_else(|_| key.to_owned(), |key| key.to_string())
    };
    let (transactions, at_start) = match notes.start_offset {
        None => (None, None),
        Some(start) => {
            let (before, executed) = before_start(reader, &notes.objects[0], first, start).await?;
            let whole: u64 = used[..end.file].iter().map(|summary| summary.groups).sum();
            (Some((whole + end.groups).saturating_sub(before)), executed)
        }
    };
    let anonymous = used.iter().any(|summary| summary.anonymous > 0);
    let at_start = at_start.as_ref().or(notes.executed.as_ref());
    let executed = expected(notes.flavour, executed_at(&end, used), at_start);
    let last = used[..end.file].iter().rev().find_map(|summary| summary.last_commit);
    let last = end.last_commit.or(last);
    let objects = notes.objects[..=end.file].iter().zip(used);
    Ok(BinlogPlan {
        backup_name: listed.label.clone(),
        backup_finished_at: listed.finished_at,
        restored_bytes: listed.size_bytes,
        flavour: notes.flavour,
        server_version: first.server_version.clone(),
        base: BaseImage {
            parts: notes.base.parts.iter().map(|(key, size)| (in_store(key), *size)).collect(),
            ..notes.base.clone()
        },
        log: objects
            .map(|(object, summary)| BinlogObject {
                name: object.name.clone(),
                key: in_store(&object.key),
                size_bytes: object.size_bytes,
                file_bytes: object.file_bytes.unwrap_or(summary.bytes),
                codec: object.codec,
                key_id: object.key_id.clone(),
            })
            .collect(),
        start_offset: notes.start_offset,
        stop_offset: end.offset,
        executed,
        anonymous,
        transactions,
        recovered_to: last.map_or(listed.finished_at, |last| last.max(listed.finished_at)),
    })
}

/// What the files say that has been executed where the replay ends. All of them together: the log of a server
/// that was itself restored, or that took over, does not say what ran before it.
fn executed_at(end: &End, used: &[Arc<Summary>]) -> Option<GtidSet> {
    let mut executed: Option<GtidSet> = None;
    let files = used[..end.file].iter().filter_map(|summary| summary.after.as_ref());
    for set in files.chain(&end.executed) {
        match &mut executed {
            Some(executed) => executed.extend(set),
            None => executed = Some(set.clone()),
        }
    }
    executed
}

/// What the server must have executed in the end: of MySQL everything; of MariaDB, whose base backup
/// keeps no list, the last transaction of every domain that the replay brings forward.
fn expected(
    flavour: Flavour,
    executed: Option<GtidSet>,
    at_start: Option<&GtidSet>,
) -> Option<GtidSet> {
    match (flavour, executed?, at_start) {
        (Flavour::MySql, executed, _) => (!executed.is_empty()).then_some(executed),
        (Flavour::MariaDb, GtidSet::MariaDb(domains), Some(GtidSet::MariaDb(before))) => {
            let forward =
                domains.into_iter().filter(|(domain, last)| before.get(domain) != Some(last));
            Some(GtidSet::MariaDb(forward.collect()))
        }
        (Flavour::MariaDb, _, _) => None,
    }
}
