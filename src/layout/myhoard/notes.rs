//! The small JSON objects of a stream, and the user metadata of binary logs.

use chrono::{DateTime, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// A note cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{key} cannot be read: {source}")]
pub struct NoteError {
    /// Its key.
    pub key: String,
    /// Why.
    source: serde_json::Error,
}

/// `basebackup.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BaseBackup {
    /// Number of the server's binary log in which the base backup ends.
    pub binlog_index: u32,
    /// Its name.
    pub binlog_name: String,
    /// Where in it, in bytes.
    pub binlog_position: u64,
    /// Size of all parts together, in bytes.
    pub compressed_size: Option<u64>,
    /// The key that xtrabackup has encrypted with, encrypted for the site's key pair.
    pub encryption_key: Option<String>,
    /// When the base backup began, in seconds since 1970.
    pub start_ts: f64,
    /// When it ended.
    pub end_ts: f64,
    /// Size of the data when it ended, in bytes.
    pub end_size: Option<u64>,
    /// What it has executed, as `gtid_executed` prints it.
    pub gtid: Option<String>,
    /// Whether it needs earlier ones.
    #[serde(default)]
    pub incremental: bool,
    /// Those.
    pub required_streams: Option<Vec<String>>,
    /// Number of parts.
    pub number_of_splits: Option<u32>,
    /// Version of xtrabackup.
    pub tool_version: Option<String>,
}

/// A promotion.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Promotion {
    /// When, in seconds since 1970.
    pub promoted_at: f64,
    /// The server that writes binary logs since.
    pub server_id: u32,
    /// Number of its first one in the stream.
    pub start_index: u32,
}

/// `broken.json`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Broken {
    /// When MyHoard found so, in seconds since 1970.
    pub broken_at: Option<f64>,
}

/// What the metadata of a binary log say of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BinlogNote {
    /// Size of the file, in bytes.
    pub file_size: u64,
    /// The server's name of it.
    pub file_name: String,
    /// Its number on the server.
    pub local_index: u32,
    /// When MyHoard took it, in seconds since 1970.
    pub processed_at: f64,
    /// The server that wrote it.
    pub server_id: u32,
    /// `snappy`, `zstd`, `lzma`; absent when not compressed.
    pub compression_algorithm: Option<String>,
    /// Its transactions.
    #[serde(default)]
    pub gtid_ranges: Vec<GtidRange>,
}

/// Transactions that follow one another in a binary log.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct GtidRange {
    /// Second of the last one.
    pub end_ts: f64,
}

/// Reads a note.
///
/// # Errors
/// [`NoteError`].
pub fn read<T: DeserializeOwned>(key: &str, text: &[u8]) -> Result<T, NoteError> {
    serde_json::from_slice(text).map_err(|source| NoteError { key: key.to_owned(), source })
}

/// Reads what the user metadata of a binary log say; `None` when there are none.
///
/// # Errors
/// [`NoteError`].
pub fn of_binlog(
    key: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<Option<BinlogNote>, NoteError> {
    metadata.get("json").map(|text| read(key, text.as_bytes())).transpose()
}

/// Seconds since 1970 as a time, rounded up to microseconds; `None` when they are none.
#[must_use]
pub fn time(seconds: f64) -> Option<DateTime<Utc>> {
    let micros = (seconds * 1e6).ceil();
    #[expect(clippy::cast_possible_truncation, reason = "the bounds were looked at")]
    (0.0..=9e18).contains(&micros).then(|| DateTime::from_timestamp_micros(micros as i64))?
}
