//! What exactly a recovery restores: one base backup, the log after it, and where to stop.

use crate::domain::{
    binlog::{BinlogPosition, Flavour, GtidSet},
    lsn::{Lsn, Segment, SegmentSize, Timeline},
};
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

/// One recovery, worked out before anything is touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Recovery {
    /// Of PostgreSQL.
    Postgres(RecoveryPlan),
    /// Of MySQL or MariaDB.
    MySql(BinlogPlan),
}

impl Recovery {
    /// Name of the base backup.
    #[must_use]
    pub fn backup_name(&self) -> &str {
        match self {
            Self::Postgres(plan) => &plan.backup_name,
            Self::MySql(plan) => &plan.backup_name,
        }
    }

    /// When the base backup ended.
    #[must_use]
    pub fn backup_finished_at(&self) -> DateTime<Utc> {
        match self {
            Self::Postgres(plan) => plan.backup_finished_at,
            Self::MySql(plan) => plan.backup_finished_at,
        }
    }

    /// The moment whose contents the result has.
    #[must_use]
    pub fn recovered_to(&self) -> DateTime<Utc> {
        match self {
            Self::Postgres(plan) => plan.recovered_to,
            Self::MySql(plan) => plan.recovered_to,
        }
    }

    /// Where the replay ends, in the database's own terms.
    #[must_use]
    pub fn position(&self) -> String {
        match self {
            Self::Postgres(plan) => plan.stop.replayed_to.to_string(),
            Self::MySql(plan) => plan.stop().to_string(),
        }
    }
}

/// How the base backup of a MySQL or MariaDB server was made, and so how it is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseTool {
    /// `mariadb-backup --backup --stream=xbstream`.
    MariaDbBackup,
    /// `xtrabackup --backup --stream=xbstream`.
    XtraBackup,
    /// A data directory that MySQL's plugin CLONE has made, as a tar archive.
    Clone,
}

/// A base backup of a MySQL or MariaDB server: one stream in one or more objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// What made it.
    pub tool: BaseTool,
    /// The objects that joined are the stream, in this order: key in the store and size in bytes.
    pub parts: Vec<(String, u64)>,
    /// Compression of the joined stream.
    pub codec: Codec,
    /// The key that xtrabackup has encrypted with, itself encrypted with RSA-OAEP for the key pair
    /// of the configuration; `None` when the stream is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped_key: Option<WrappedKey>,
}

/// A symmetric key that only the owner of a private key can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// Name of the key pair.
    pub key_id: String,
    /// The encrypted key in lower-case hexadecimal digits.
    pub hex: String,
}

/// A binary log in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinlogObject {
    /// The server's name of the file, such as `bin.000003`. Other servers of one chain may have
    /// used the same.
    pub name: String,
    /// Its key in the store.
    pub key: String,
    /// Size of the object, in bytes.
    pub size_bytes: u64,
    /// Size of the file, in bytes.
    pub file_bytes: u64,
    /// Compression of the object.
    pub codec: Codec,
    /// Name of the key pair that the object is encrypted for, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

/// One recovery of a MySQL or MariaDB server. It names everything that is needed and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinlogPlan {
    /// Name of the base backup.
    pub backup_name: String,
    /// When the base backup ended.
    pub backup_finished_at: DateTime<Utc>,
    /// Size of the restored base backup, in bytes.
    pub restored_bytes: u64,
    /// Whose server it was.
    pub flavour: Flavour,
    /// Its version, as `SELECT VERSION()` gives it.
    pub server_version: String,
    /// The base backup.
    pub base: BaseImage,
    /// The binary logs that this recovery needs, in order, gapless. The first one holds the end of
    /// the base backup.
    pub log: Vec<BinlogObject>,
    /// Where in the first file the replay begins. `None` when only the restored server itself can
    /// tell, as one that CLONE has made: then it is in one of the first files.
    pub start_offset: Option<u64>,
    /// Where in the last file the replay ends: the first byte that is not replayed any more. Where
    /// there is nothing to replay it is where it begins.
    pub stop_offset: u64,
    /// What the server must have executed then. `None` when its log has no transaction ids.
    pub executed: Option<GtidSet>,
    /// Whether transactions without an id are replayed, which a server of MySQL must be told to accept.
    #[serde(default)]
    pub anonymous: bool,
    /// Transactions that are replayed, where the log tells before the base backup is restored.
    pub transactions: Option<u64>,
    /// The moment whose contents the result has: the last transaction that is replayed, or the end
    /// of the base backup when there is none after it.
    pub recovered_to: DateTime<Utc>,
}

impl BinlogPlan {
    /// Where the replay ends.
    #[must_use]
    pub fn stop(&self) -> BinlogPosition {
        let file = self.log.last().map_or_else(String::new, |last| last.name.clone());
        BinlogPosition { file, offset: self.stop_offset }
    }
}

/// One recovery of PostgreSQL. It names everything that is needed and nothing else.
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
