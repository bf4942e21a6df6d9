//! `backup.json` as it is written, and what of it is checked when it is read.

use crate::{
    domain::{
        binlog::{Flavour, GtidSet},
        hex,
        recovery::{BaseTool, Codec},
    },
    layout::stream::{
        keys,
        manifest::{LogEnd, LogStart, Manifest, ManifestError, Part, VERSION},
    },
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Reads a manifest.
pub(super) fn read(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    // The version first: another one may have other fields.
    let Versioned { version } = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    if version != VERSION {
        return Err(ManifestError::Version(version));
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    stored.try_into()
}

/// A manifest as it is stored.
pub(super) fn to_json(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec_pretty(&Stored::from(manifest)).expect("a manifest has string keys only")
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// A manifest as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    label: String,
    tool: String,
    flavour: String,
    server_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server_uuid: Option<String>,
    server_id: u32,
    started_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    codec: String,
    restored_bytes: u64,
    stored_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gtid_executed: Option<String>,
    log: StoredStart,
    log_end: StoredEnd,
    parts: Vec<StoredPart>,
}

#[derive(Serialize, Deserialize)]
struct StoredStart {
    series: String,
    sequence: u64,
    name: String,
    start_offset: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredEnd {
    sequence: u64,
    name: String,
    offset: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredPart {
    size_bytes: u64,
    sha1: String,
}

impl From<&Manifest> for Stored {
    fn from(manifest: &Manifest) -> Self {
        let Manifest { log, log_end, .. } = manifest.clone();
        Self {
            version: VERSION,
            label: manifest.label.clone(),
            tool: tool_name(manifest.tool).to_owned(),
            flavour: flavour_name(manifest.flavour).to_owned(),
            server_version: manifest.server_version.clone(),
            server_uuid: manifest.server_uuid.clone(),
            server_id: manifest.server_id,
            started_at: manifest.started_at,
            finished_at: manifest.finished_at,
            codec: if manifest.codec == Codec::Zst { "zst" } else { "none" }.to_owned(),
            restored_bytes: manifest.restored_bytes,
            stored_bytes: manifest.stored_bytes(),
            gtid_executed: manifest.executed.as_ref().map(ToString::to_string),
            log: StoredStart {
                series: log.series,
                sequence: log.sequence,
                name: log.name,
                start_offset: log.start_offset,
            },
            log_end: StoredEnd {
                sequence: log_end.sequence,
                name: log_end.name,
                offset: log_end.offset,
            },
            parts: manifest
                .parts
                .iter()
                .map(|part| StoredPart {
                    size_bytes: part.size_bytes,
                    sha1: hex::lower(&part.sha1),
                })
                .collect(),
        }
    }
}

impl TryFrom<Stored> for Manifest {
    type Error = ManifestError;

    fn try_from(stored: Stored) -> Result<Self, ManifestError> {
        let Stored { log, log_end, .. } = stored;
        check("label", &stored.label, keys::label_time(&stored.label).is_some())?;
        check("log.series", &log.series, keys::is_series(&log.series))?;
        check("log.name", &log.name, keys::is_binlog_name(&log.name))?;
        check("log.sequence", &log.sequence, log.sequence > 0)?;
        check("log_end.name", &log_end.name, keys::is_binlog_name(&log_end.name))?;
        check("log_end.sequence", &log_end.sequence, log_end.sequence >= log.sequence)?;
        check("finished_at", &stored.finished_at, stored.finished_at >= stored.started_at)?;
        check("parts", &stored.parts.len(), !stored.parts.is_empty())?;
        let sum = stored.parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.size_bytes));
        check("stored_bytes", &stored.stored_bytes, sum == Some(stored.stored_bytes))?;
        let part = |part: StoredPart| {
            let sha1 = hex::bytes(&part.sha1).ok_or_else(|| value("parts.sha1", &part.sha1))?;
            Ok(Part { size_bytes: part.size_bytes, sha1 })
        };
        let flavour = flavour(&stored.flavour)?;
        let set = |text: String| {
            GtidSet::parse(flavour, &text).map_err(|_| value("gtid_executed", &text))
        };
        Ok(Self {
            label: stored.label,
            tool: tool(&stored.tool)?,
            flavour,
            server_version: stored.server_version,
            server_uuid: stored.server_uuid,
            server_id: stored.server_id,
            started_at: stored.started_at,
            finished_at: stored.finished_at,
            codec: codec(&stored.codec)?,
            parts: stored.parts.into_iter().map(part).collect::<Result<_, _>>()?,
            restored_bytes: stored.restored_bytes,
            executed: stored.gtid_executed.map(set).transpose()?,
            log: LogStart {
                series: log.series,
                sequence: log.sequence,
                name: log.name,
                start_offset: log.start_offset,
            },
            log_end: LogEnd {
                sequence: log_end.sequence,
                name: log_end.name,
                offset: log_end.offset,
            },
        })
    }
}

fn value(field: &'static str, value: &impl ToString) -> ManifestError {
    ManifestError::Value { field, value: value.to_string() }
}

fn check(field: &'static str, text: &impl ToString, is_sound: bool) -> Result<(), ManifestError> {
    if is_sound { Ok(()) } else { Err(value(field, text)) }
}

fn tool_name(tool: BaseTool) -> &'static str {
    match tool {
        BaseTool::MariaDbBackup => "mariadb-backup",
        BaseTool::XtraBackup => "xtrabackup",
        BaseTool::Clone => "clone",
    }
}

fn tool(text: &str) -> Result<BaseTool, ManifestError> {
    match text {
        "mariadb-backup" => Ok(BaseTool::MariaDbBackup),
        "xtrabackup" => Ok(BaseTool::XtraBackup),
        "clone" => Ok(BaseTool::Clone),
        other => Err(value("tool", &other)),
    }
}

/// How a flavour is stored.
fn flavour_name(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MySql => "mysql",
        Flavour::MariaDb => "mariadb",
    }
}

fn flavour(text: &str) -> Result<Flavour, ManifestError> {
    match text {
        "mysql" => Ok(Flavour::MySql),
        "mariadb" => Ok(Flavour::MariaDb),
        other => Err(value("flavour", &other)),
    }
}

fn codec(text: &str) -> Result<Codec, ManifestError> {
    match text {
        "zst" => Ok(Codec::Zst),
        "none" => Ok(Codec::None),
        other => Err(value("codec", &other)),
    }
}
