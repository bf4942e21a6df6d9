//! What the keys of a repository are.

use crate::{
    domain::{lsn::Timeline, recovery::Codec},
    layout,
};

/// What a key of a repository is, by its name below the repository's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `archive.info` or its copy: which clusters the archive knows. Replaced on an upgrade.
    ArchiveInfo,
    /// A timeline history file.
    History {
        /// Directory of the cluster, such as `15-1`.
        archive: String,
        /// The timeline whose origin it tells.
        timeline: Timeline,
    },
    /// A WAL segment.
    Segment {
        /// Directory of the cluster, such as `15-1`.
        archive: String,
        /// PostgreSQL's name of it.
        name: String,
        /// SHA-1 of the uncompressed contents.
        sha1: String,
        /// Compression.
        codec: Codec,
    },
    /// A backup label in the archive: information for people, kept with the log.
    BackupLabel,
    /// A file of a backup.
    Data {
        /// Label of the backup whose directory holds it.
        label: String,
    },
    /// A backup's manifest or its copy.
    Manifest {
        /// Label of the backup.
        label: String,
        /// Whether it is `backup.manifest.copy`.
        copy: bool,
    },
    /// A manifest kept for history.
    BackupHistory,
    /// `backup.info` or its copy: the catalogue, replaced on every backup and expiry.
    BackupInfo {
        /// Whether it is `backup.info.copy`.
        copy: bool,
    },
    /// Of another stanza, or nothing that pgBackRest keeps.
    Other,
}

impl From<Role> for layout::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::History { archive, timeline } => Self::History { archive, timeline },
            Role::Segment { archive, name, sha1, codec } => {
                Self::Segment { archive, name, sha1, codec }
            }
            Role::Manifest { label, .. } => Self::Marker { label },
            Role::Data { label } => Self::Data { label },
            Role::ArchiveInfo
            | Role::BackupLabel
            | Role::BackupHistory
            | Role::BackupInfo { .. }
            | Role::Other => Self::Other,
        }
    }
}

/// Key of the catalogue.
#[must_use]
pub fn backup_info(stanza: &str) -> String {
    format!("backup/{stanza}/backup.info")
}

/// Key of the list of clusters.
#[must_use]
pub fn archive_info(stanza: &str) -> String {
    format!("archive/{stanza}/archive.info")
}

/// Key below which the log of one cluster, such as `15-1`, is kept.
#[must_use]
pub fn archive_directory(stanza: &str, archive: &str) -> String {
    format!("archive/{stanza}/{archive}")
}

/// Key of a segment below the directory of its log.
#[must_use]
pub fn segment_key(directory: &str, name: &str, sha1: &str, codec: Codec) -> String {
    let high = name.get(..16).unwrap_or(name);
    format!("{directory}/{high}/{name}-{sha1}{}", extension(codec))
}

/// Key of a backup's manifest.
#[must_use]
pub fn manifest(stanza: &str, label: &str) -> String {
    format!("backup/{stanza}/{label}/backup.manifest")
}

/// Says what `key`, which is relative to the repository's prefix, is.
#[must_use]
pub fn role(stanza: &str, key: &str) -> Role {
    let parts: Vec<&str> = key.split('/').collect();
    match parts.as_slice() {
        ["archive", of, "archive.info" | "archive.info.copy"] if *of == stanza => Role::ArchiveInfo,
        ["archive", of, archive, file] if *of == stanza => history(archive, file),
        ["archive", of, archive, high, file] if *of == stanza => segment(archive, high, file),
        ["backup", of, "backup.info"] if *of == stanza => Role::BackupInfo { copy: false },
        ["backup", of, "backup.info.copy"] if *of == stanza => Role::BackupInfo { copy: true },
        ["backup", of, "backup.history", ..] if *of == stanza => Role::BackupHistory,
        ["backup", of, label, rest @ ..] if *of == stanza && is_label(label) => match rest {
            ["backup.manifest"] => Role::Manifest { label: (*label).to_owned(), copy: false },
            ["backup.manifest.copy"] => Role::Manifest { label: (*label).to_owned(), copy: true },
            ["pg_data" | "pg_tblspc" | "bundle", _, ..] => {
                Role::Data { label: (*label).to_owned() }
            }
            _ => Role::Other,
        },
        _ => Role::Other,
    }
}

fn history(archive: &str, file: &str) -> Role {
    let timeline = file
        .strip_suffix(".history")
        .filter(|digits| is_hex(digits, 8))
        .and_then(|digits| u32::from_str_radix(digits, 16).ok());
    timeline.map_or(Role::Other, |timeline| Role::History {
        archive: archive.to_owned(),
        timeline: Timeline(timeline),
    })
}

/// `<24 hex>-<40 hex sha1>[.ext]` below the first 16 digits of its name.
fn segment(archive: &str, high: &str, file: &str) -> Role {
    let Some((name, rest)) = file.split_at_checked(24) else { return Role::Other };
    if !is_hex(name, 24) || !name.starts_with(high) || high.len() != 16 {
        return Role::Other;
    }
    if rest.starts_with('.') && rest.ends_with(".backup") {
        return Role::BackupLabel;
    }
    let Some((sha1, extension)) = rest.strip_prefix('-').and_then(|rest| rest.split_at_checked(40))
    else {
        return Role::Other; // Such as `.partial`, which no recovery of ours reads.
    };
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match codec(extension) {
        Some(codec) if sha1.bytes().all(lower) => Role::Segment {
            archive: archive.to_owned(),
            name: name.to_owned(),
            sha1: sha1.to_owned(),
            codec,
        },
        _ => Role::Other,
    }
}

/// The compression that a file extension of pgBackRest names.
#[must_use]
pub fn codec(extension: &str) -> Option<Codec> {
    match extension {
        "" => Some(Codec::None),
        ".gz" => Some(Codec::Gz),
        ".lz4" => Some(Codec::Lz4),
        ".zst" => Some(Codec::Zst),
        ".bz2" => Some(Codec::Bz2),
        _ => None,
    }
}

/// The file extension of a compression.
#[must_use]
pub fn extension(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "",
        Codec::Gz => ".gz",
        Codec::Lz4 => ".lz4",
        Codec::Zst => ".zst",
        Codec::Bz2 => ".bz2",
    }
}

/// `20261123-075157F`, or with `_20261123-075238I` or `D` behind it.
fn is_label(text: &str) -> bool {
    let stamp = |part: &str, kinds: &[u8]| {
        let bytes = part.as_bytes();
        bytes.len() == 16
            && bytes[8] == b'-'
            && kinds.contains(&bytes[15])
            && bytes[..15].iter().enumerate().all(|(at, b)| at == 8 || b.is_ascii_digit())
    };
    match text.split_once('_') {
        None => stamp(text, b"F"),
        Some((full, other)) => stamp(full, b"F") && stamp(other, b"ID"),
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
}

/// The place of a segment in the log, whatever its timeline: names compare as their places do.
#[must_use]
pub fn position(name: &str) -> &str {
    name.get(8..).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_real_repository() {
        let sha1 = "f45daa509ea610a5f4749214e5a5a44c169c49a9";
        let wal = format!("archive/main/15-1/0000000100000000/000000010000000000000001-{sha1}.zst");
        assert_eq!(
            role("main", &wal),
            Role::Segment {
                archive: "15-1".into(),
                name: "000000010000000000000001".into(),
                sha1: sha1.into(),
                codec: Codec::Zst
            }
        );
        assert_eq!(role("other", &wal), Role::Other);
        let directory = archive_directory("main", "15-1");
        let name = "000000010000000000000001";
        assert_eq!(segment_key(&directory, name, sha1, Codec::Zst), wal);
        for known in [Codec::None, Codec::Gz, Codec::Lz4, Codec::Zst, Codec::Bz2] {
            assert_eq!(codec(extension(known)), Some(known));
        }
        let label = "20261123-075157F_20261123-075238I";
        for (key, expect) in [
            ("archive/main/archive.info.copy".to_owned(), Role::ArchiveInfo),
            (
                "archive/main/15-1/0000000100000000/000000010000000000000006.00000028.backup"
                    .into(),
                Role::BackupLabel,
            ),
            (
                "archive/main/15-1/00000002.history".into(),
                Role::History { archive: "15-1".into(), timeline: Timeline(2) },
            ),
            (format!("backup/main/{label}/bundle/1"), Role::Data { label: label.into() }),
            (
                format!("backup/main/{label}/backup.manifest.copy"),
                Role::Manifest { label: label.into(), copy: true },
            ),
            (
                "backup/main/backup.history/2026/20261123-075157F.manifest.gz".into(),
                Role::BackupHistory,
            ),
            ("backup/main/backup.info".into(), Role::BackupInfo { copy: false }),
            ("backup/main/not-a-label/pg_data/x".into(), Role::Other),
            (format!("{wal}.pgbackrest.tmp"), Role::Other),
        ] {
            assert_eq!(role("main", &key), expect, "{key}");
        }
    }
}
