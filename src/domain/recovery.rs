//! What exactly a recovery restores: one base backup, the log after it, and where to stop.

use crate::domain::lsn::{Lsn, Segment, SegmentSize, Timeline};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// Everything that the gapless log holds.
    LatestTransaction,
    /// The contents at a moment.
    PointInTime(DateTime<Utc>),
}

/// Where replay stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPoint {
    /// Start of the record that stops the replay (`recovery_target_lsn`).
    pub lsn: Lsn,
    /// Whether that record itself is still replayed (`recovery_target_inclusive`).
    ///
    /// A moment stops *before* the first commit or abort in log order that is later, as
    /// PostgreSQL does (`recoveryStopsBefore` in `xlogrecovery.c`); the latest transaction stops
    /// *after* the last complete record of the gapless log.
    pub inclusive: bool,
    /// What `pg_last_wal_replay_lsn()` must say when replay has stopped there: the end of the last
    /// replayed record.
    pub replayed_to: Lsn,
}

/// How an object of the log is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// As it is.
    None,
    /// gzip.
    Gz,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zst,
    /// bzip2.
    Bz2,
    /// Snappy's framing format.
    Snappy,
    /// `.xz` streams.
    Xz,
}

/// A WAL segment in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogObject {
    /// The segment.
    pub segment: Segment,
    /// Its key in the store.
    pub key: String,
    /// Size of the object, in bytes.
    pub size_bytes: u64,
    /// SHA-1 of the uncompressed contents in lower-case hexadecimal digits, where known.
    pub sha1: Option<String>,
    /// Compression of the object.
    pub codec: Codec,
    /// Name of the key pair that the object is encrypted for, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

/// A timeline history file in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryObject {
    /// The timeline whose origin it tells.
    pub timeline: Timeline,
    /// Its key in the store.
    pub key: String,
    /// Size of the object, in bytes.
    pub size_bytes: u64,
    /// Compression of the object. pgBackRest compresses none.
    #[serde(default = "uncompressed")]
    pub codec: Codec,
    /// Name of the key pair that the object is encrypted for, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

fn uncompressed() -> Codec {
    Codec::None
}

/// One recovery, worked out before anything is touched. It names everything that is needed and
/// nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPlan {
    /// Name of the base backup.
    pub backup_name: String,
    /// When the base backup ended.
    pub backup_finished_at: DateTime<Utc>,
    /// Size of the restored base backup, in bytes.
    pub restored_bytes: u64,
    /// The database cluster, from the log's headers; must equal `pg_control`'s.
    pub system_identifier: u64,
    /// Major version of PostgreSQL, such as 15.
    pub postgres_major: u32,
    /// The timeline that is recovered along, named outright (never `latest`).
    pub timeline: Timeline,
    /// Size of the segments.
    pub segment_size: SegmentSize,
    /// Where replay stops.
    pub stop: StopPoint,
    /// The moment whose contents the result has: the last commit that is replayed, or the end of
    /// the base backup when there is none after it.
    pub recovered_to: DateTime<Utc>,
    /// The segments that this recovery needs, in log order, gapless.
    pub log: Vec<LogObject>,
    /// The history files of every timeline in the store, so that promotion picks a free one.
    pub histories: Vec<HistoryObject>,
    /// Largest `max_connections`, `max_worker_processes`, `max_wal_senders`,
    /// `max_prepared_transactions`, `max_locks_per_transaction` that the log announces, in that
    /// order; hot standby refuses to start below them. `None` when the log says nothing.
    pub parameter_floor: Option<[u32; 5]>,
}
