//! `backup.json`: what there is to know of a base backup, and what it needs.

use crate::{
    domain::{
        binlog::{Flavour, GtidSet},
        lsn::Lsn,
        recovery::{BaseTool, Codec},
    },
    layout::{
        backup::{ExpectedSize, ListedBackup, Needs, PartSum},
        stream::{document, keys},
    },
};
use chrono::{DateTime, Utc};

/// The version that is written.
pub(super) const VERSION: u32 = 1;

/// A manifest cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON, or lacks something.
    #[error("reading backup.json failed")]
    Json(#[source] serde_json::Error),
    /// It was written by a newer program.
    #[error("backup.json has version {0}; this program reads version {VERSION}: use a newer one")]
    Version(u32),
    /// A value makes no sense.
    #[error("backup.json says `{field}` = `{value}`, which cannot be")]
    Value {
        /// Its name.
        field: &'static str,
        /// The value.
        value: String,
    },
}

/// What there is to know of a base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its name, made of the moment when it began.
    pub label: String,
    /// What made it.
    pub tool: BaseTool,
    /// Whose server it is of.
    pub flavour: Flavour,
    /// The server's version, as `SELECT VERSION()` gives it.
    pub server_version: String,
    /// The server's UUID. MariaDB has none.
    pub server_uuid: Option<String>,
    /// The server's id.
    pub server_id: u32,
    /// When it began, by the server's clock.
    pub started_at: DateTime<Utc>,
    /// When it had ended, by the server's clock, rounded up to a full second: the first moment that
    /// can be restored.
    pub finished_at: DateTime<Utc>,
    /// Compression of the stream, which was cut into parts afterwards.
    pub codec: Codec,
    /// The parts in their order.
    pub parts: Vec<Part>,
    /// Size of the stream before it was compressed, in bytes: about that of the restored files.
    pub restored_bytes: u64,
    /// Transactions that the backup contains, where its tool tells.
    pub executed: Option<GtidSet>,
    /// Where in the binary log it stands.
    pub log: LogStart,
    /// How far the binary log must be replayed for it to be consistent at `finished_at`.
    pub log_end: LogEnd,
}

/// A part of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Size of the object, in bytes.
    pub size_bytes: u64,
    /// SHA-1 of the object.
    pub sha1: [u8; 20],
}

/// Where in the binary log a base backup stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// The series.
    pub series: String,
    /// The place of the file in it.
    pub sequence: u64,
    /// The server's name of the file.
    pub name: String,
    /// Bytes from the beginning of the file where the replay begins. `None` when only the restored
    /// server can tell, as one that CLONE has made: in this file or in one up to `log_end`.
    pub start_offset: Option<u64>,
}

/// Where the server's binary log was when a base backup had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The place of the file in the series of [`LogStart`].
    pub sequence: u64,
    /// The server's name of the file.
    pub name: String,
    /// Bytes from the beginning of the file.
    pub offset: u64,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        document::read(bytes)
    }

    /// The manifest as it is stored.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        document::to_json(self)
    }

    /// Size of all parts, in bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size_bytes).sum()
    }

    /// The keys of the parts in their order, with their sizes in bytes.
    pub fn part_keys(&self) -> impl Iterator<Item = (String, u64)> {
        let numbered = (1..).zip(&self.parts);
        numbered.map(|(number, part)| (keys::part(&self.label, number), part.size_bytes))
    }

    /// The objects that it needs, and their checksums. The binary logs that it needs are found by
    /// [`chain`](crate::layout::stream::chain::chain).
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = Needs { said_by: Some(keys::manifest(&self.label)), ..Needs::default() };
        for ((key, size_bytes), part) in self.part_keys().zip(&self.parts) {
            let sum = PartSum { offset: 0, size_bytes, sha1: part.sha1 };
            needs.sums.insert(key.clone(), [sum].into());
            needs.objects.insert(key, ExpectedSize::Exactly(size_bytes));
        }
        needs
    }

    /// It as a list of backups shows it.
    #[must_use]
    pub fn listed(&self) -> ListedBackup {
        ListedBackup {
            label: self.label.clone(),
            archive: None,
            archive_start: String::new(),
            archive_stop: String::new(),
            lsn_stop: Lsn(0),
            ends_in_log: false,
            started_at: self.started_at,
            finished_at: self.finished_at,
            size_bytes: self.restored_bytes,
            stored_bytes: self.stored_bytes(),
            references: Vec::new(),
            lacks_key: None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::layout::stream) fn sample() -> Manifest {
        let finished_at = keys::label_time("20261126-043009").unwrap();
        Manifest {
            label: "20261126-043000".to_owned(),
            tool: BaseTool::MariaDbBackup,
            flavour: Flavour::MariaDb,
            server_version: "10.11.19-MariaDB-log".to_owned(),
            server_uuid: None,
            server_id: 16,
            started_at: keys::label_time("20261126-043000").unwrap(),
            finished_at,
            codec: Codec::Zst,
            parts: vec![
                Part { size_bytes: 64 << 20, sha1: [1; 20] },
                Part { size_bytes: 12, sha1: [2; 20] },
            ],
            restored_bytes: 345_678,
            executed: Some(GtidSet::parse(Flavour::MariaDb, "0-16-15").unwrap()),
            log: LogStart {
                series: "16-20261126T041500".to_owned(),
                sequence: 2,
                name: "bin.000002".to_owned(),
                start_offset: Some(700_601),
            },
            log_end: LogEnd { sequence: 3, name: "bin.000003".to_owned(), offset: 342 },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut manifest = sample();
        insta::assert_snapshot!(String::from_utf8(manifest.to_json()).unwrap());
        assert_eq!(Manifest::read(&manifest.to_json()).unwrap(), manifest);
        manifest.tool = BaseTool::Clone;
        manifest.flavour = Flavour::MySql;
        manifest.server_uuid = Some("b7260106-e714-11f1-a86a-02fc00000001".to_owned());
        manifest.executed = None;
        manifest.log.start_offset = None;
        manifest.codec = Codec::None;
        assert_eq!(Manifest::read(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn what_it_needs_is_every_part_with_its_sum() {
        let manifest = sample();
        let needs = manifest.needs();
        let (first, last) = ("backups/20261126-043000/base/000001", manifest.part_keys().last());
        assert_eq!(needs.objects.len(), 2);
        assert_eq!(needs.objects[first], ExpectedSize::Exactly(64 << 20));
        let sum = PartSum { offset: 0, size_bytes: 12, sha1: [2; 20] };
        assert_eq!(*needs.sums[&last.unwrap().0], [sum]);
        assert_eq!(needs.said_by.as_deref(), Some("backups/20261126-043000/backup.json"));
        assert_eq!(manifest.listed().stored_bytes, (64 << 20) + 12);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let text = String::from_utf8(sample().to_json()).unwrap();
        for (from, to, expect) in [
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("20261126-043000", "../../etc", "`label` = `../../etc`"),
            ("16-20261126T041500", "a/b", "`log.series` = `a/b`"),
            ("\"bin.000003\"", "\"../x\"", "`log_end.name`"),
            ("\"sequence\": 3", "\"sequence\": 1", "`log_end.sequence` = `1`"),
            ("mariadb-backup", "cp", "`tool` = `cp`"),
            ("\"codec\": \"zst\"", "\"codec\": \"rar\"", "`codec` = `rar`"),
            ("\"size_bytes\": 12", "\"size_bytes\": 13", "`stored_bytes`"),
            ("04:30:09", "04:29:59", "`finished_at`"),
            ("0-16-15", "0-16", "`gtid_executed` = `0-16`"),
            (&"01".repeat(20), "zz", "`parts.sha1` = `zz`"),
            ("\"server_id\"", "\"server\"", "reading backup.json failed"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let error = Manifest::read(changed.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{from}: {error}");
        }
    }
}
