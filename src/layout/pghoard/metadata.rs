//! The user metadata of objects, without which none of them can be read: coding, sizes, positions.

use crate::{
    domain::recovery::Codec,
    layout::pghoard::{keys, time},
};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// User metadata as a store gives it: names and values.
pub type Raw = BTreeMap<String, String>;

/// An object's metadata cannot be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Something that a restore needs is not there.
    #[error(
        "its metadata lack `{0}`: was it copied without its user metadata? copy it again with them"
    )]
    Missing(&'static str),
    /// A value makes no sense.
    #[error("its metadata say `{name}` = `{value}`, which is no {what}")]
    Unreadable {
        /// Name of the value.
        name: &'static str,
        /// The value.
        value: String,
        /// What it should be.
        what: &'static str,
    },
}

/// How the plain bytes of an object are compressed, before they are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Zstandard frames.
    Zstd,
    /// Snappy's framing format.
    Snappy,
    /// An `.xz` stream.
    Lzma,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Zstd => Self::Zst,
            Compression::Snappy => Self::Snappy,
            Compression::Lzma => Self::Xz,
        }
    }
}

/// What stands between an object's bytes and its plain contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coding {
    /// Compression of the plain contents.
    pub compression: Compression,
    /// Name of the key pair that the object is encrypted for.
    pub key_id: Option<String>,
    /// Size of the plain contents, in bytes.
    pub plain_bytes: Option<u64>,
    /// Size of the object, in bytes, where the store recorded it.
    pub stored_bytes: Option<u64>,
    /// SHA-256 of the object in lower-case hexadecimal digits, where the store recorded it.
    pub stored_sha256: Option<String>,
}

/// A checksum of plain contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainHash {
    /// Its algorithm, by Python's name.
    pub algorithm: String,
    /// The checksum in lower-case hexadecimal digits.
    pub digest: String,
}

/// What is known of a WAL segment or a history file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCoding {
    /// What stands between the object and the segment.
    pub coding: Coding,
    /// Checksum of the segment. History files have none.
    pub plain_hash: Option<PlainHash>,
    /// Major version of PostgreSQL. Segments that were archived between a restart of PGHoard and
    /// the next base backup do not tell it.
    pub postgres_major: Option<u32>,
}

/// How a base backup is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupFormat {
    /// One tar file of `pg_basebackup` (modes `basic` and `pipe`).
    Raw,
    /// One tar file of PGHoard's own (`pghoard-bb-v1`).
    WholeTar,
    /// An index and chunks (`pghoard-bb-v2`, modes `local-tar` and `local-tar-delta-stats`).
    Chunks,
    /// An index, shared files and bundles of small ones (`pghoard-delta-v1`, `-v2`).
    Delta,
}

/// A tablespace that the metadata of a base backup name, in the format `pghoard-bb-v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// Its name in the database.
    pub name: String,
    /// Its number, which names the link in `pg_tblspc`.
    pub oid: u32,
}

/// What the metadata of a base backup's index say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupMetadata {
    /// How the backup is laid out.
    pub format: BackupFormat,
    /// PGHoard's name of the mode, such as `local-tar`.
    pub mode: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it had ended. One-file formats do not know.
    pub finished_at: Option<DateTime<Utc>>,
    /// The first segment that a restore needs.
    pub start_segment: String,
    /// The last segment that a restore needs to be consistent. One-file formats do not know.
    pub end_segment: Option<String>,
    /// Major version of PostgreSQL, such as 15.
    pub postgres_major: Option<u32>,
    /// Size of all plain contents, in bytes.
    pub total_plain_bytes: Option<u64>,
    /// With [`BackupFormat::Chunks`]: size of all chunks together, in bytes. In delta mode it
    /// counts shared files once per use and embedded ones too, and proves nothing.
    pub total_stored_bytes: Option<u64>,
    /// Why it was made: `scheduled`, `requested`.
    pub reason: Option<String>,
    /// PGHoard's name of the site.
    pub site: Option<String>,
    /// Tablespaces, where the metadata and not the index name them.
    pub tablespaces: Vec<Tablespace>,
    /// What stands between the index object and its contents.
    pub coding: Coding,
}

impl Coding {
    /// Reads what every object says of itself.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn of(raw: &Raw) -> Result<Self, MetadataError> {
        let compression = match value(raw, "compression-algorithm") {
            None => Compression::None,
            Some("zstd") => Compression::Zstd,
            Some("snappy") => Compression::Snappy,
            Some("lzma") => Compression::Lzma,
            Some(other) => {
                return Err(unreadable("compression-algorithm", other, "known compression"));
            }
        };
        Ok(Self {
            compression,
            key_id: value(raw, "encryption-key-id").map(str::to_owned),
            plain_bytes: number(raw, "original-file-size")?,
            stored_bytes: number(raw, "Content-Length")?,
            stored_sha256: value(raw, "_hash").map(str::to_owned),
        })
    }
}

impl SegmentCoding {
    /// Of an object that is known to be encrypted, by what a catalogue keeps of it.
    #[must_use]
    pub fn sealed(codec: Codec, key_id: &str, sha1: Option<&str>) -> Self {
        let compression = match codec {
            Codec::Zst => Compression::Zstd,
            Codec::Snappy => Compression::Snappy,
            Codec::Xz => Compression::Lzma,
            // PGHoard has none of the others.
            Codec::None | Codec::Gz | Codec::Lz4 | Codec::Bz2 => Compression::None,
        };
        let coding = Coding { compression, key_id: Some(key_id.to_owned()), ..Coding::default() };
        let plain_hash =
            sha1.map(|sha1| PlainHash { algorithm: "sha1".to_owned(), digest: sha1.to_owned() });
        Self { coding, plain_hash, postgres_major: None }
    }

    /// Reads what a segment or a history file says of itself.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn of(raw: &Raw) -> Result<Self, MetadataError> {
        let plain_hash = value(raw, "hash").map(|digest| PlainHash {
            algorithm: value(raw, "hash-algorithm").unwrap_or("sha1").to_owned(),
            digest: digest.to_ascii_lowercase(),
        });
        let postgres_major = major(raw)?;
        let coding = Coding::of(raw)?;
        if coding == Coding::default() && plain_hash.is_none() {
            // Every object of the log says its size. Without it the metadata were lost on the way,
            // and what is compressed would be taken for the log itself.
            return Err(MetadataError::Missing("original-file-size"));
        }
        Ok(Self { coding, plain_hash, postgres_major })
    }
}

impl Default for Coding {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            key_id: None,
            plain_bytes: None,
            stored_bytes: None,
            stored_sha256: None,
        }
    }
}

impl BackupMetadata {
    /// Reads what the index of a base backup says of itself.
    ///
    /// # Errors
    /// [`MetadataError`] when it lacks what a restore of its format needs.
    pub fn of(raw: &Raw) -> Result<Self, MetadataError> {
        let format = format(raw)?;
        let started_at = moment(raw, "start-time")?.ok_or(MetadataError::Missing("start-time"))?;
        let finished_at = moment(raw, "end-time")?;
        let start_segment = segment(raw, "start-wal-segment")?
            .ok_or(MetadataError::Missing("start-wal-segment"))?;
        let end_segment = segment(raw, "end-wal-segment")?;
        if matches!(format, BackupFormat::Chunks | BackupFormat::Delta) {
            // The earliest moment that may be restored is the end: without it nothing is offered.
            finished_at.ok_or(MetadataError::Missing("end-time"))?;
            end_segment.as_ref().ok_or(MetadataError::Missing("end-wal-segment"))?;
        }
        Ok(Self {
            format,
            mode: value(raw, "basebackup-mode").map(str::to_owned),
            started_at,
            finished_at,
            start_segment,
            end_segment,
            postgres_major: major(raw)?,
            total_plain_bytes: number(raw, "total-size-plain")?,
            total_stored_bytes: number(raw, "total-size-enc")?,
            reason: value(raw, "backup-reason").map(str::to_owned),
            site: value(raw, "site").map(str::to_owned),
            tablespaces: tablespaces(raw)?,
            coding: Coding::of(raw)?,
        })
    }
}

fn format(raw: &Raw) -> Result<BackupFormat, MetadataError> {
    match value(raw, "format") {
        None => Ok(BackupFormat::Raw),
        Some("pghoard-bb-v1") => Ok(BackupFormat::WholeTar),
        Some("pghoard-bb-v2") => Ok(BackupFormat::Chunks),
        Some("pghoard-delta-v1" | "pghoard-delta-v2") => Ok(BackupFormat::Delta),
        Some(other) => Err(unreadable("format", other, "format that this version knows")),
    }
}

/// `tablespace-name-<oid>` for each.
fn tablespaces(raw: &Raw) -> Result<Vec<Tablespace>, MetadataError> {
    let mut found = Vec::new();
    for (key, name) in raw {
        let key = key.replace('_', "-");
        let Some(digits) = key.strip_prefix("tablespace-name-") else { continue };
        let oid = digits
            .parse()
            .map_err(|_| unreadable("tablespace-name-", digits, "number of a tablespace"))?;
        found.push(Tablespace { name: name.clone(), oid });
    }
    Ok(found)
}

/// A value by its name. Azure's store knows no hyphens in names: PGHoard writes underscores there.
fn value<'a>(raw: &'a Raw, name: &str) -> Option<&'a str> {
    let found = raw.get(name).or_else(|| raw.get(&name.replace('-', "_")))?;
    let found = found.trim();
    (!found.is_empty()).then_some(found)
}

fn unreadable(name: &'static str, value: &str, what: &'static str) -> MetadataError {
    MetadataError::Unreadable { name, value: value.to_owned(), what }
}

fn number(raw: &Raw, name: &'static str) -> Result<Option<u64>, MetadataError> {
    let parse = |text: &str| text.parse().map_err(|_| unreadable(name, text, "number of bytes"));
    value(raw, name).map(parse).transpose()
}

fn moment(raw: &Raw, name: &'static str) -> Result<Option<DateTime<Utc>>, MetadataError> {
    let parse = |text: &str| time::parse(text).ok_or_else(|| unreadable(name, text, "moment"));
    value(raw, name).map(parse).transpose()
}

fn segment(raw: &Raw, name: &'static str) -> Result<Option<String>, MetadataError> {
    let parse = |text: &str| {
        let upper = text.to_ascii_uppercase();
        let is_name = keys::is_segment_name(&upper);
        is_name.then_some(upper).ok_or_else(|| unreadable(name, text, "segment name"))
    };
    value(raw, name).map(parse).transpose()
}

/// `150018` is 15, `90624` is 9.
fn major(raw: &Raw) -> Result<Option<u32>, MetadataError> {
    let what = "version number of PostgreSQL";
    let parse = |text: &str| match text.parse::<u32>() {
        Ok(number) if number >= 10_000 => Ok(number / 10_000),
        Ok(_) | Err(_) => Err(unreadable("pg-version", text, what)),
    };
    value(raw, "pg-version").map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(pairs: &[(&str, &str)]) -> Raw {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const INDEX: &[(&str, &str)] = &[
        ("compression-algorithm", "zstd"),
        ("encryption-key-id", "k1"),
        ("format", "pghoard-delta-v2"),
        ("original-file-size", "225280"),
        ("host", "vm"),
        ("backup-reason", "requested"),
        ("site", "orders"),
        ("end-time", "2026-11-23 09:01:28.422384+00:00"),
        ("end-wal-segment", "000000010000000000000011"),
        ("pg-version", "150018"),
        ("basebackup-mode", "delta"),
        ("start-time", "2026-11-23T09:01:26+00:00"),
        ("start-wal-segment", "000000010000000000000010"),
        ("total-size-plain", "40581228"),
        ("total-size-enc", "3246716"),
        ("Content-Length", "11042"),
        ("_hash", "33fda5ce339eae33af2cee3f583eb7f0ee2bf9d37a5085bc3f90a59e6c9ef42c"),
    ];

    #[test]
    fn a_real_index() {
        let found = BackupMetadata::of(&raw(INDEX)).unwrap();
        assert_eq!(found.format, BackupFormat::Delta);
        assert_eq!(found.finished_at.unwrap().timestamp_micros(), 1_795_424_488_422_384);
        assert_eq!(found.end_segment.as_deref(), Some("000000010000000000000011"));
        assert_eq!(found.postgres_major, Some(15));
        assert_eq!(found.coding.key_id.as_deref(), Some("k1"));
        assert_eq!(found.coding.plain_bytes, Some(225_280));
        assert_eq!(found.coding.stored_bytes, Some(11_042));
    }

    #[test]
    fn azure_has_underscores() {
        let there: Raw = raw(INDEX).into_iter().map(|(n, v)| (n.replace('-', "_"), v)).collect();
        let mut expect = BackupMetadata::of(&raw(INDEX)).unwrap();
        expect.coding.stored_bytes = None; // The store's own name is looked for with its capitals.
        let mut found = BackupMetadata::of(&there).unwrap();
        found.coding.stored_bytes = None;
        assert_eq!(found, expect);
    }

    #[test]
    fn what_is_needed_is_asked_for() {
        for name in ["start-time", "start-wal-segment", "end-time", "end-wal-segment"] {
            let mut without = raw(INDEX);
            without.remove(name);
            assert_eq!(BackupMetadata::of(&without), Err(MetadataError::Missing(name)));
        }
        for name in ["format", "compression-algorithm", "total-size-enc", "pg-version", "end-time"]
        {
            let mut wrong = raw(INDEX);
            wrong.insert(name.into(), "-1".into());
            let error = BackupMetadata::of(&wrong).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let mut basic = raw(INDEX);
        for name in ["format", "end-time", "end-wal-segment", "total-size-enc"] {
            basic.remove(name);
        }
        assert_eq!(BackupMetadata::of(&basic).unwrap().format, BackupFormat::Raw);
    }

    #[test]
    fn a_segment_may_lack_its_version_but_not_everything() {
        let segment = raw(&[
            ("compression-algorithm", "snappy"),
            ("original-file-size", "16777216"),
            ("hash", "C59C50005df62c5782628ea91637f02040e11f7b"),
            ("hash-algorithm", "sha1"),
        ]);
        let found = SegmentCoding::of(&segment).unwrap();
        assert_eq!(found.postgres_major, None);
        assert_eq!(found.coding.compression, Compression::Snappy);
        assert_eq!(found.plain_hash.unwrap().digest, "c59c50005df62c5782628ea91637f02040e11f7b");
        assert!(SegmentCoding::of(&raw(&[("host", "vm")])).is_err());
    }
}
