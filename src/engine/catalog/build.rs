//! Says what is complete and what can be restored, from what has been read.

use crate::{
    domain::{
        lsn::{Segment, SegmentSize, Timeline},
        window::{RestoreRange, RestoreWindow},
    },
    engine::catalog::{
        CatalogBackup, Frontier, RegionCatalog,
        binlogs::{ReadChain, judge as binlogs},
        index::IndexedRun,
        repository::Repository,
    },
    layout::backup::{ListedBackup, Needs},
    wal::timeline::TimelinePath,
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How many missing objects of a backup are named.
const MISSING_NAMED_MAX: usize = 5;

/// Everything that a verdict is computed from.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The listing.
    pub repository: &'a Repository,
    /// The backups that the tool's catalogue lists, oldest first.
    pub backups: &'a [ListedBackup],
    /// What each of them needs, or why that cannot be read.
    pub needs: &'a BTreeMap<String, Result<Arc<Needs>, String>>,
    /// The log behind each listed backup, by label.
    pub runs: &'a BTreeMap<String, Arc<IndexedRun>>,
    /// The ways to all timelines, by archive.
    pub paths: &'a BTreeMap<String, Vec<TimelinePath>>,
    /// The binary logs behind each listed backup of MySQL or MariaDB, by label.
    pub chains: &'a BTreeMap<String, Arc<ReadChain>>,
    /// Keys of objects whose contents are known to be wrong: they count as missing.
    pub damaged: &'a BTreeSet<String>,
    /// What was wrong with the small files.
    pub problems: Vec<String>,
}

/// Computes the catalogue.
#[must_use]
pub fn build(evidence: Evidence<'_>) -> RegionCatalog {
    let mut problems = evidence.problems.clone();
    let mut backups = Vec::with_capacity(evidence.backups.len());
    for listed in evidence.backups {
        let backup = judge(&evidence, listed, &mut problems);
        backups.push(backup);
    }
    give_up_what_newer_timelines_have(&evidence, &mut backups);
    for (archive, log) in &evidence.repository.archives {
        for name in log.ambiguous() {
            problems.push(format!("two different WAL segments {name} are stored in {archive}"));
        }
    }
    problems.dedup();
    let window = RestoreWindow::new(backups.iter().filter_map(|b| b.range.clone()).collect());
    // The one from which a fork at the latest transaction is made.
    let newest = backups
        .iter()
        .filter(|backup| backup.range.is_some())
        .max_by_key(|backup| evidence.runs.get(&backup.name).map(|run| run.run.timeline));
    let frontier = newest.and_then(|backup| match evidence.chains.get(&backup.name) {
        Some(chain) => binlogs::frontier(chain, evidence.repository),
        None => frontier(evidence.runs.get(&backup.name)?),
    });
    let (object_count, stored_bytes) = evidence.repository.extent();
    let flavour = evidence.chains.values().next_back().map(|chain| chain.chain.flavour);
    RegionCatalog { backups, flavour, window, frontier, problems, object_count, stored_bytes }
}

/// Leaves each moment to the newest timeline that reaches it.
///
/// After the database was set back, the same moment lies in several of its lives, with other contents
/// in each. PostgreSQL's `latest` means the newest one. Base backups of an older one must not answer for
/// it, not even where the newer one's are damaged: the answer would depend on what is left. They stand
/// for what is later than all that is known of newer timelines, as when a standby was promoted by
/// mistake, and the old primary goes on.
fn give_up_what_newer_timelines_have(evidence: &Evidence<'_>, backups: &mut [CatalogBackup]) {
    let mut reached: BTreeMap<(Option<&str>, Timeline), DateTime<Utc>> = BTreeMap::new();
    for (listed, backup) in evidence.backups.iter().zip(&*backups) {
        let Some(run) = evidence.runs.get(&listed.label) else { continue };
        let (archive, timeline) = (listed.archive.as_deref(), run.run.timeline);
        let ways = archive.and_then(|archive| evidence.paths.get(archive));
        // Where it began is known only of those with a history file.
        if !ways.into_iter().flatten().any(|path| path.target() == timeline) {
            continue;
        }
        let latest = backup.range.as_ref().map(|range| range.latest).max(run.sum().covered_until());
        if let Some(latest) = latest {
            let known = reached.entry((archive, timeline)).or_insert(latest);
            *known = latest.max(*known);
        }
    }
    for (listed, backup) in evidence.backups.iter().zip(backups) {
        let Some(run) = evidence.runs.get(&listed.label) else { continue };
        let archive = listed.archive.as_deref();
        let newer = reached
            .iter()
            .filter(|((of, timeline), _)| *of == archive && *timeline > run.run.timeline);
        let Some(claimed) = newer.map(|(_, latest)| *latest).max() else { continue };
        backup.range = backup.range.take().filter(|range| range.latest > claimed).map(|range| {
            let after = claimed + TimeDelta::microseconds(1);
            RestoreRange { earliest: range.earliest.max(after), ..range }
        });
    }
}

fn judge(
    evidence: &Evidence<'_>,
    listed: &ListedBackup,
    problems: &mut Vec<String>,
) -> CatalogBackup {
    let missing = missing_objects(evidence, &listed.label);
    if !missing.is_empty() {
        problems.push(format!("backup {} is not complete: {}", listed.label, missing.join(", ")));
    }
    if let Some(chain) = evidence.chains.get(&listed.label) {
        let range = binlogs::range(listed, chain, problems).filter(|_| missing.is_empty());
        return described(listed, missing, range, binlogs::extent(chain));
    }
    let run = evidence.runs.get(&listed.label);
    let consistent = match run {
        None => {
            problems.push(format!("the log of backup {} cannot be followed", listed.label));
            false
        }
        Some(run) => follow(listed, run, problems),
    };
    let range =
        (missing.is_empty() && consistent).then(|| run.map(|run| range(listed, run))).flatten();
    let range = range.map(|range| estimated(range, evidence, listed, problems));
    described(listed, missing, range, run.map_or((0, 0), |run| run.extent()))
}

/// A backup with the number and the size in bytes of the files of its log.
fn described(
    listed: &ListedBackup,
    missing: Vec<String>,
    range: Option<RestoreRange>,
    log: (u64, u64),
) -> CatalogBackup {
    CatalogBackup {
        name: listed.label.clone(),
        started_at: listed.started_at,
        finished_at: listed.finished_at,
        size_bytes: listed.size_bytes,
        stored_bytes: listed.stored_bytes,
        log_segments: log.0,
        log_bytes: log.1,
        incremental: !listed.references.is_empty(),
        missing,
        range,
    }
}

/// The first few objects of a backup that are missing or of a wrong size.
fn missing_objects(evidence: &Evidence<'_>, label: &str) -> Vec<String> {
    let needs = match evidence.needs.get(label) {
        Some(Ok(needs)) => needs,
        Some(Err(problem)) => return vec![problem.clone()],
        None => return vec![format!("the manifest of {label} is missing")],
    };
    let said_by = needs.said_by.iter().filter(|key| evidence.damaged.contains(*key));
    let mut faults: Vec<String> = said_by.map(|key| format!("{key} is damaged")).collect();
    faults.extend(objects_at_fault(evidence, needs));
    let mut named: Vec<String> = faults.iter().take(MISSING_NAMED_MAX).cloned().collect();
    if faults.len() > MISSING_NAMED_MAX {
        named.push(format!("and {} more", faults.len() - MISSING_NAMED_MAX));
    }
    named
}

/// Every needed object that a listing lacks or has with a wrong size, or that is damaged.
fn objects_at_fault(evidence: &Evidence<'_>, needs: &Needs) -> Vec<String> {
    let expected = needs.objects.iter();
    expected
        .filter_map(|(key, size)| match evidence.repository.get(key) {
            None => Some(format!("{key} is missing")),
            Some(found) if !size.fits(found.size_bytes) => {
                Some(format!("{key} has {} bytes, which is wrong", found.size_bytes))
            }
            Some(_) if evidence.damaged.contains(key) => Some(format!("{key} is damaged")),
            Some(_) => None,
        })
        .collect()
}

/// Whether every needed object is in a listing with the right size.
#[must_use]
pub fn is_complete(repository: &Repository, needs: &Needs) -> bool {
    let mut expected = needs.objects.iter();
    expected.all(|(key, size)| repository.get(key).is_some_and(|found| size.fits(found.size_bytes)))
}

/// Whether the log makes the backup consistent; says what ends it.
fn follow(listed: &ListedBackup, indexed: &IndexedRun, problems: &mut Vec<String>) -> bool {
    let run = &indexed.run;
    let consistent = match indexed.is_read() {
        true => indexed.consistent_at(listed).is_some(),
        false => run.reaches_backup_end,
    };
    if let Some(damage) = &indexed.damage {
        problems.push(damage.what.clone());
        return consistent;
    }
    let size = indexed.facts().map_or(SegmentSize::DEFAULT, |facts| facts.segment_size);
    let name = run.next.file_name(size);
    if !run.reaches_backup_end {
        problems.push(format!(
            "the log that makes backup {} consistent is not complete: WAL segment {name} is missing",
            listed.label
        ));
    } else if run.behind_gap > 0 {
        problems.push(format!(
            "WAL segment {name} is missing: {} later segments cannot be used",
            run.behind_gap
        ));
    }
    consistent
}

fn range(listed: &ListedBackup, indexed: &IndexedRun) -> RestoreRange {
    // What ended is known to the second only. A log that does not reach that far still has the
    // whole backup: its end is restorable, and whether something was committed in the rest of that
    // second is not known.
    let covered = indexed.sum().covered_until();
    let exact = covered.is_some_and(|until| until >= listed.finished_at);
    let latest = covered.map_or(listed.finished_at, |until| until.max(listed.finished_at));
    RestoreRange { earliest: listed.finished_at, latest, exact }
}

/// What cannot be read for the lack of a key can only be estimated: the log reaches at least to the
/// end of every later backup that it makes consistent.
fn estimated(
    range: RestoreRange,
    evidence: &Evidence<'_>,
    listed: &ListedBackup,
    problems: &mut Vec<String>,
) -> RestoreRange {
    let unread = evidence.runs.get(&listed.label).filter(|run| !run.is_read());
    let sealed = unread.and_then(|run| run.lacks_key());
    let Some(key_id) = sealed.or_else(|| listed.lacks_key.clone()) else { return range };
    problems.push(format!(
        "what backup {} covers is an estimate: it is encrypted for the key `{key_id}`, whose private \
         key is not configured",
        listed.label
    ));
    // On this very way: what another timeline holds says nothing of this one.
    let reached = evidence.backups.iter().filter(|backup| {
        backup.archive == listed.archive
            && unread.is_some_and(|run| {
                let stop = Segment::parse(&backup.archive_stop, run.run.size());
                stop.is_ok_and(|stop| run.run.holds(stop))
            })
    });
    let latest = reached.map(|backup| backup.finished_at).fold(range.latest, Ord::max);
    RestoreRange { latest, exact: false, ..range }
}

fn frontier(indexed: &IndexedRun) -> Option<Frontier> {
    let (_, stored) = indexed.last()?;
    Some(Frontier {
        position: indexed.sum().end()?.to_string(),
        segment: stored.place.name(),
        last_commit_at: last_commit(indexed),
        stored_at: stored.found.modified_at,
    })
}

fn last_commit(indexed: &IndexedRun) -> Option<DateTime<Utc>> {
    indexed.sum().last_xact_time
}
