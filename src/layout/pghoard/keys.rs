//! What the keys of a site are, and in which order its objects are copied.

use crate::{
    domain::lsn::{Segment, SegmentSize, Timeline},
    layout,
};

/// Below this the log lies, of which a site has one.
pub const LOG: &str = "xlog";

/// How names of index objects and chunks end.
const ENDING: &str = ".pghoard";
/// What the number of an index object is, and of the chunks begins after.
const INDEX_NUMBER: &str = "00000000";

/// What an object of a site is, by its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The index of a base backup, or the base backup itself where it is one tar file.
    Index {
        /// The base backup.
        backup: String,
    },
    /// A tar file with a part of a base backup.
    Chunk {
        /// The base backup.
        backup: String,
        /// Counted from 1.
        number: u32,
    },
    /// A tar file with the small files of a base backup in delta mode.
    DeltaChunk {
        /// The base backup.
        backup: String,
        /// Counted from 1.
        number: u32,
    },
    /// A file that any number of base backups in delta mode share.
    DeltaFile {
        /// BLAKE2s of the file's contents, in lower-case hexadecimal digits.
        digest: String,
    },
    /// A WAL segment.
    Segment {
        /// PostgreSQL's name of it.
        name: String,
    },
    /// A timeline history file.
    History {
        /// The timeline whose origin it tells.
        timeline: Timeline,
    },
    /// Asks PGHoard to keep a base backup for a time. Comes and goes, and holds nothing.
    PreservationRequest,
    /// Nothing that PGHoard keeps for a restore.
    Other,
}

/// The order in which objects become visible: whoever sees a later one sees what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyStage {
    /// Without its history file the log of a newer timeline is lost without a word.
    History,
    /// The log.
    Segments,
    /// Chunks and shared files.
    Data,
    /// PGHoard and everybody else takes a base backup for whole when its index is there.
    Index,
}

impl Role {
    /// When the object is copied; `None` for what a secondary region does without.
    #[must_use]
    pub fn stage(&self) -> Option<CopyStage> {
        match self {
            Self::History { .. } => Some(CopyStage::History),
            Self::Segment { .. } => Some(CopyStage::Segments),
            Self::Chunk { .. } | Self::DeltaChunk { .. } | Self::DeltaFile { .. } => {
                Some(CopyStage::Data)
            }
            Self::Index { .. } => Some(CopyStage::Index),
            // A request is addressed to the PGHoard that expires the primary's backups.
            Self::PreservationRequest | Self::Other => None,
        }
    }
}

impl From<Role> for layout::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::History { timeline } => Self::History { archive: LOG.to_owned(), timeline },
            Role::Segment { name } => Self::NamedSegment { archive: LOG.to_owned(), name },
            Role::Index { backup } => Self::Marker { label: backup },
            Role::Chunk { backup, .. } | Role::DeltaChunk { backup, .. } => {
                Self::Data { label: backup }
            }
            Role::DeltaFile { .. } => Self::Shared,
            Role::PreservationRequest | Role::Other => Self::Other,
        }
    }
}

/// Says what `key` is.
#[must_use]
pub fn role(key: &str) -> Role {
    let parts: Vec<&str> = key.split('/').collect();
    let found = match parts.as_slice() {
        ["basebackup", name] => {
            backup_of_index(name).map(|id| Role::Index { backup: id.to_owned() })
        }
        ["basebackup_chunk", backup, file] => chunk_number(backup, file)
            .map(|number| Role::Chunk { backup: (*backup).to_owned(), number }),
        ["basebackup_delta_chunk", backup, file] => chunk_number(backup, file)
            .map(|number| Role::DeltaChunk { backup: (*backup).to_owned(), number }),
        ["basebackup_delta", digest] => {
            is_digest(digest).then(|| Role::DeltaFile { digest: (*digest).to_owned() })
        }
        ["xlog", name] => is_segment_name(name).then(|| Role::Segment { name: (*name).to_owned() }),
        ["timeline", file] => timeline(file).map(|timeline| Role::History { timeline }),
        ["preservation_request", _] => Some(Role::PreservationRequest),
        _ => None,
    };
    found.unwrap_or(Role::Other)
}

/// The base backup that an index object's name means: `2026-11-23_09-00_0.00000000.pghoard`, or
/// without the ending in the older formats.
#[must_use]
pub fn backup_of_index(name: &str) -> Option<&str> {
    let id = match name.strip_suffix(ENDING) {
        Some(rest) => rest.strip_suffix(INDEX_NUMBER)?.strip_suffix('.')?,
        None => name,
    };
    is_backup_id(id).then_some(id)
}

/// Whether an index object's key is that of a base backup in one file, which needs no other object.
#[must_use]
pub fn is_whole_backup(key: &str) -> bool {
    matches!(role(key), Role::Index { .. }) && !key.ends_with(ENDING)
}

/// Prefix below which the chunks of a base backup lie.
#[must_use]
pub fn chunks_of(backup: &str) -> String {
    format!("basebackup_chunk/{backup}")
}

/// Prefix below which the bundles of small files of a base backup in delta mode lie.
#[must_use]
pub fn delta_chunks_of(backup: &str) -> String {
    format!("basebackup_delta_chunk/{backup}")
}

/// Key of a file that base backups share.
#[must_use]
pub fn delta_file(digest: &str) -> String {
    format!("basebackup_delta/{digest}")
}

/// Key of a segment.
#[must_use]
pub fn segment(name: &str) -> String {
    format!("xlog/{name}")
}

/// Key of a history file.
#[must_use]
pub fn history(timeline: Timeline) -> String {
    format!("timeline/{}", timeline.history_file())
}

/// The keys that the index of a base backup may have, the one of today first.
#[must_use]
pub fn index_keys(backup: &str) -> [String; 2] {
    [format!("basebackup/{backup}.{INDEX_NUMBER}{ENDING}"), format!("basebackup/{backup}")]
}

/// `<backup>.0000000N.pghoard`, counted from 1: number 0 is the index.
#[must_use]
pub fn chunk_number(backup: &str, file: &str) -> Option<u32> {
    let digits = file.strip_prefix(backup)?.strip_prefix('.')?.strip_suffix(ENDING)?;
    let plain = digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| *number > 0 && plain)?;
    is_backup_id(backup).then_some(number)
}

/// Whether a text may be the name of a base backup: a date and more digits behind it.
fn is_backup_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let dated = digits(0..4) && digits(5..7) && digits(8..10);
    let dashes = bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    let rest = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'_');
    dated && dashes && bytes.get(10) == Some(&b'_') && bytes[10..].iter().all(rest)
}

/// Whether a text is a BLAKE2s digest as it names shared files.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a text is the name of a segment, of whatever size.
#[must_use]
pub fn is_segment_name(text: &str) -> bool {
    // The smallest segments allow the largest numbers in the last part of the name.
    SegmentSize::new(1 << 20).is_some_and(|size| Segment::parse(text, size).is_ok())
}

fn timeline(file: &str) -> Option<Timeline> {
    let digits = file.strip_suffix(".history").filter(|digits| digits.len() == 8)?;
    let upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    let number = u32::from_str_radix(digits, 16).ok()?;
    digits.bytes().all(upper).then_some(Timeline(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_real_site() {
        let id = || "2026-11-23_09-01_1".to_owned();
        let digest = "670b251295e8255d3abe2eab100b10f35d5b15d8dd1fbe8e7dbf86aedcc2d5ec";
        for (key, expect) in [
            ("basebackup/2026-11-23_09-01_1.00000000.pghoard".into(), Role::Index { backup: id() }),
            ("basebackup/2026-11-23_09-01_1".into(), Role::Index { backup: id() }),
            ("basebackup/2015-07-02_9".into(), Role::Index { backup: "2015-07-02_9".into() }),
            (
                "basebackup_chunk/2026-11-23_09-01_1/2026-11-23_09-01_1.00000012.pghoard".into(),
                Role::Chunk { backup: id(), number: 12 },
            ),
            (
                "basebackup_delta_chunk/2026-11-23_09-01_1/2026-11-23_09-01_1.00000001.pghoard"
                    .into(),
                Role::DeltaChunk { backup: id(), number: 1 },
            ),
            (format!("basebackup_delta/{digest}"), Role::DeltaFile { digest: digest.into() }),
            (
                "xlog/00000001000000000000000C".into(),
                Role::Segment { name: "00000001000000000000000C".into() },
            ),
            ("timeline/00000002.history".into(), Role::History { timeline: Timeline(2) }),
            (
                "preservation_request/2026-11-23_09-01_1.00000000.pghoard_2026-12-01".into(),
                Role::PreservationRequest,
            ),
        ] {
            assert_eq!(role(&key), expect, "{key}");
        }
    }

    #[test]
    fn whatever_else_is_nothing() {
        for key in [
            "",
            "basebackup",
            "basebackup/2026-11-23_09-01_1.00000001.pghoard",
            "basebackup/2026-11-23_09-01_1.00000000.pghoard.tmp",
            "basebackup/temp_6f1f",
            "basebackup_chunk/2026-11-23_09-01_1/2026-11-23_09-01_1.00000000.pghoard",
            "basebackup_chunk/2026-11-23_09-01_1/2026-11-23_09-01_0.00000001.pghoard",
            "basebackup_chunk/2026-11-23_09-01_1/2026-11-23_09-01_1.1.pghoard",
            "basebackup_delta/670B",
            "xlog/00000001000000000000000C.partial",
            "xlog/00000001000000000000000c",
            "timeline/2.history",
            "timeline/0000000a.history",
            "config/x",
        ] {
            assert_eq!(role(key), Role::Other, "{key}");
            assert_eq!(role(key).stage(), None, "{key}");
        }
    }

    #[test]
    fn keys_are_made_as_they_are_read() {
        let name = "00000001000000000000000C";
        assert_eq!(role(&segment(name)), Role::Segment { name: name.into() });
        assert_eq!(role(&history(Timeline(10))), Role::History { timeline: Timeline(10) });
        for key in index_keys("2026-11-23_09-01_1") {
            assert_eq!(role(&key), Role::Index { backup: "2026-11-23_09-01_1".into() });
        }
    }
}
