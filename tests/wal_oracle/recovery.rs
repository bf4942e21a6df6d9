//! Real recoveries to moments, and the stops that the reader finds for them.

use crate::{
    cluster::{Cluster, give, run, wait_for},
    dump::Run,
};
use btar::{
    domain::{
        lsn::{Lsn, Segment, Timeline},
        recovery::StopPoint,
    },
    wal::{
        page::PAGE_SIZE,
        record::{Event, Record},
        scan::Scanner,
        stop::{StopFinder, Sum},
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{fs, path::Path, process::Command};

/// Recovers to a moment and to the position that the reader finds for it; gives the second.
pub(crate) fn stops(base: &Cluster, wal: &Path, log: &Run, target: DateTime<Utc>) -> Fork {
    let (stop, last) = find(log, target);
    let moment = target.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string();
    let by_time = Fork::recover(base, wal, &format!("recovery_target_time = '{moment}'"));
    assert_eq!(by_time.replayed_to, stop.replayed_to, "{moment} should stop at {stop:?}");
    assert_eq!(Some(by_time.last_xact), last, "{moment}");
    let by_lsn = Fork::recover(
        base,
        wal,
        &format!(
            "recovery_target_lsn = '{}'\nrecovery_target_inclusive = {}",
            stop.lsn, stop.inclusive
        ),
    );
    assert_eq!(by_lsn.replayed_to, stop.replayed_to, "{stop:?}");
    assert_eq!(by_lsn.rows, by_time.rows, "{moment} by time and by position");
    by_lsn
}

/// Moments to try: the very time of a commit in the middle, just before an abort, and between two
/// transactions late in the log.
pub(crate) fn targets(log: &Run) -> Vec<DateTime<Utc>> {
    let xacts: Vec<(DateTime<Utc>, bool)> = log
        .records
        .iter()
        .filter_map(|record| {
            let Event::Xact { time, committed, .. } = record.event else { return None };
            Some((time, committed))
        })
        .collect();
    let (middle, late) = (xacts.len() / 3, xacts.len() - 3);
    let abort = xacts.iter().skip(xacts.len() / 2).find(|(_, committed)| !committed).unwrap();
    vec![
        xacts[middle].0,
        abort.0 - TimeDelta::microseconds(1),
        xacts[late].0 + (xacts[late + 1].0 - xacts[late].0) / 2,
    ]
}

/// The same log with a commit in its middle an hour late, so that earlier times lie behind it, and
/// the time of one of those. PostgreSQL writes such logs where many commit at once, but not on demand.
pub(crate) fn times_that_run_backwards(
    source: &Cluster,
    log: Run,
) -> (tempfile::TempDir, Run, DateTime<Utc>) {
    let size = log.size();
    let offset = |record: &Record| usize::try_from(record.lsn.0 % size.bytes()).unwrap();
    let plain = |record: &&Record| {
        let number = Segment::holding(Timeline(1), record.lsn, size).number;
        let (_, bytes) = log.segments.iter().find(|(s, _)| s.number == number).unwrap();
        let at = offset(record);
        // Nothing but a short main part before the time, and all of it on one page.
        record.event.xact_time().is_some()
            && at % PAGE_SIZE + record.length <= PAGE_SIZE
            && bytes[at + 24] == 255
    };
    let middle = &log.records[log.records.len() / 3..];
    let late = middle.iter().find(plain).unwrap().clone();
    let behind = middle.iter().filter(|record| record.lsn > late.lsn);
    let early = behind.filter_map(|record| record.event.xact_time()).nth(20).unwrap();
    let wal = tempfile::tempdir().unwrap();
    run(Command::new("cp").arg("-rT").arg(source.wal()).arg(wal.path()));
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(wal.path()));
    let segments = log.segments.into_iter().map(|(segment, mut bytes)| {
        if segment == Segment::holding(Timeline(1), late.lsn, size) {
            let record = &mut bytes[offset(&late)..][..late.length];
            let time = i64::from_le_bytes(record[26..34].try_into().unwrap()) + 3_600_000_000;
            record[26..34].copy_from_slice(&time.to_le_bytes());
            let sum = crc32c::crc32c_append(crc32c::crc32c(&record[24..]), &record[..20]);
            record[20..24].copy_from_slice(&sum.to_le_bytes());
            fs::write(wal.path().join(segment.file_name(size)), &bytes).unwrap();
        }
        (segment, bytes)
    });
    let changed = Run::of(segments);
    (wal, changed, early)
}

/// The stop by the way that the engine goes: sums first, then one segment's records.
fn find(log: &Run, target: DateTime<Utc>) -> (StopPoint, Option<DateTime<Utc>>) {
    assert!(Sum::of(&log.indexes).covered_until().unwrap() >= target);
    let stops = |index| Sum::from(index).stops(target);
    let place = log.indexes.iter().position(stops).unwrap();
    let mut scanner = Scanner::new();
    for (segment, bytes) in &log.segments[..place] {
        scanner.segment(*segment, bytes, &mut |_| {}).unwrap();
    }
    let mut finder = StopFinder::new(target, &Sum::of(&log.indexes[..place]));
    let (segment, bytes) = &log.segments[place];
    scanner.segment(*segment, bytes, &mut |record| finder.see(record)).unwrap();
    (finder.found().unwrap(), finder.last_xact_time())
}

/// A real recovery that paused at its target.
pub(crate) struct Fork {
    pub(crate) cluster: Cluster,
    pub(crate) replayed_to: Lsn,
    last_xact: DateTime<Utc>,
    pub(crate) rows: u64,
}

impl Fork {
    pub(crate) fn recover(base: &Cluster, wal: &Path, target: &str) -> Self {
        let cluster = base.copy();
        cluster.configure(&format!(
            "{target}\nrecovery_target_action = pause\nhot_standby = on\n\
             recovery_target_timeline = current\n\
             restore_command = 'cp {}/%f %p'\n",
            wal.display()
        ));
        let signal = cluster.data().join("recovery.signal");
        fs::write(&signal, "").unwrap();
        give(&signal);
        cluster.start();
        wait_for("the pause", || cluster.psql("select pg_is_wal_replay_paused()") == "t");
        let said = cluster.psql(
            "select pg_last_wal_replay_lsn(), \
             (extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::bigint, \
             (select count(*) from t)",
        );
        let said: Vec<&str> = said.split('|').collect();
        Self {
            replayed_to: said[0].parse().unwrap(),
            last_xact: DateTime::from_timestamp_micros(said[1].parse().unwrap()).unwrap(),
            rows: said[2].parse().unwrap(),
            cluster,
        }
    }
}
