//! Listings and backups for tests.

use crate::{
    domain::lsn::Lsn,
    engine::catalog::{merge::Merge, repository::Repository, segment::Found},
    layout::{BackupFormat, backup::ListedBackup},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{collections::BTreeMap, sync::Arc};

pub(crate) fn format() -> BackupFormat {
    BackupFormat::PgBackRest { stanza: "m".to_owned() }
}

pub(crate) fn found(size_bytes: u64) -> Found {
    Found::new(size_bytes, DateTime::UNIX_EPOCH, Some("1"))
}

pub(crate) fn segment_key(name: &str, sha1: char) -> String {
    let sum = sha1.to_string().repeat(40);
    format!("archive/m/15-1/{}/{name}-{sum}.zst", &name[..16])
}

/// What a first listing makes of these objects.
pub(crate) fn sorted(listing: impl IntoIterator<Item = (String, Found)>) -> Arc<Repository> {
    let listing: BTreeMap<String, Found> = listing.into_iter().collect();
    merged(Arc::default(), "", &listing)
}

/// What a listing behind `after`, or of everything when that is empty, makes of what was known.
pub(crate) fn merged(
    known: Arc<Repository>,
    after: &str,
    listing: &BTreeMap<String, Found>,
) -> Arc<Repository> {
    let mut merge = Merge::new(&format(), known);
    for part in ["archive/m", "backup/m"] {
        if part != "archive/m" && !after.is_empty() {
            continue;
        }
        merge.begin(part, after);
        for (key, found) in listing.iter().filter(|(key, _)| key.starts_with(part)) {
            if **key > *after {
                merge.take(key, *found);
            }
        }
    }
    merge.finish()
}

pub(crate) fn backup(start: &str, stop: &str, lsn_stop: u64) -> ListedBackup {
    ListedBackup {
        label: "20261123-075157F".into(),
        archive: Some("15-1".into()),
        archive_start: start.into(),
        archive_stop: stop.into(),
        ends_in_log: false,
        lacks_key: None,
        lsn_stop: Lsn(lsn_stop),
        started_at: DateTime::UNIX_EPOCH,
        finished_at: DateTime::UNIX_EPOCH,
        size_bytes: 1,
        stored_bytes: 1,
        references: vec![],
    }
}

/// Segments of the logs of [`wal`].
pub(crate) const WAL_SIZE: u64 = 1 << 20;

/// When the commit in a segment was made.
pub(crate) fn commit_time(number: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(14_000) + TimeDelta::minutes(number.cast_signed())
}

/// A segment that PostgreSQL 15 could have written behind the one of the number before: a commit, and
/// the switch to the next segment.
pub(crate) fn wal(number: u64) -> Vec<u8> {
    let start = number * WAL_SIZE;
    let mut bytes = Vec::new();
    bytes.extend(0xD110_u16.to_le_bytes());
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(77_u64.to_le_bytes());
    bytes.extend(u32::try_from(WAL_SIZE).unwrap().to_le_bytes());
    bytes.extend(8192_u32.to_le_bytes());
    // PostgreSQL counts from the year 2000.
    let micros = commit_time(number).timestamp_micros() - 946_684_800_000_000;
    let switch_before = start - WAL_SIZE + 80;
    for (previous, manager, info, main) in
        [(switch_before, 1, 0, &micros.to_le_bytes()[..]), (start + 40, 0, 0x40, &[])]
    {
        let mut record = vec![0; 24];
        if !main.is_empty() {
            record.extend([255, u8::try_from(main.len()).unwrap()]);
            record.extend(main);
        }
        let length = u32::try_from(record.len()).unwrap();
        record[..4].copy_from_slice(&length.to_le_bytes());
        record[8..16].copy_from_slice(&previous.to_le_bytes());
        (record[16], record[17]) = (info, manager);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&record[24..]), &record[..20]);
        record[20..24].copy_from_slice(&sum.to_le_bytes());
        bytes.extend(record);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes.resize(usize::try_from(WAL_SIZE).unwrap(), 0);
    bytes
}
