//! What the keys of this layout are, and how they are made.

use crate::{
    domain::{hex, recovery::Codec},
    layout,
};
use chrono::{DateTime, NaiveDateTime, Utc};

/// Below this the base backups lie.
pub const BACKUPS: &str = "backups";
/// Below this the binary logs lie.
pub const BINLOGS: &str = "binlogs";

/// How a label is made of a moment.
const LABEL: &str = "%Y%m%d-%H%M%S";
/// Digits of a sequence number. Keys sort as the numbers do.
const SEQUENCE_DIGITS: usize = 10;
/// Digits of a part's number, at least.
const PART_DIGITS: usize = 6;
/// The longest name of a binary log and of a series, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// How the name of an object that is compressed ends.
const COMPRESSED: &str = ".zst";

/// What a key is, by its name below the prefix of the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A part of the stream that a base backup is.
    Part {
        /// The base backup.
        label: String,
        /// Counted from 1.
        number: u32,
    },
    /// What there is to know of a base backup. Written last.
    Manifest {
        /// The base backup.
        label: String,
    },
    /// What there is to know of a series of binary logs. Written first.
    Series {
        /// The series.
        series: String,
    },
    /// A binary log.
    Binlog(BinlogKey),
    /// Nothing of this layout.
    Other,
}

/// What the key of a binary log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinlogKey {
    /// The series that it belongs to.
    pub series: String,
    /// Its place in the series, counted from 1 without gaps.
    pub sequence: u64,
    /// The server's name of the file.
    pub name: String,
    /// SHA-1 of the object in lower-case hexadecimal digits.
    pub sha1: String,
    /// Compression of the object.
    pub codec: Codec,
}

impl From<Role> for layout::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Part { label, .. } => Self::Data { label },
            Role::Manifest { label } => Self::Marker { label },
            Role::Binlog(BinlogKey { series, sequence, name, .. }) => {
                Self::Binlog { series, sequence, name }
            }
            // Written once and never changed, but no recovery can do without it.
            Role::Series { .. } => Self::Shared,
            Role::Other => Self::Other,
        }
    }
}

impl BinlogKey {
    /// The key.
    #[must_use]
    pub fn key(&self) -> String {
        let Self { series, sequence, name, sha1, .. } = self;
        let ending = if self.codec == Codec::Zst { COMPRESSED } else { "" };
        format!("{BINLOGS}/{series}/{sequence:0SEQUENCE_DIGITS$}-{name}-{sha1}{ending}")
    }
}

/// The label of a base backup that began at this moment.
#[must_use]
pub fn label(started_at: DateTime<Utc>) -> String {
    started_at.format(LABEL).to_string()
}

/// The moment that a label names; `None` when it is none.
#[must_use]
pub fn label_time(label: &str) -> Option<DateTime<Utc>> {
    let time = NaiveDateTime::parse_from_str(label, LABEL).ok()?.and_utc();
    // Only the text that is written for it, such as one with all its zeros.
    (self::label(time) == label).then_some(time)
}

/// Key of a base backup's manifest.
#[must_use]
pub fn manifest(label: &str) -> String {
    format!("{BACKUPS}/{label}/backup.json")
}

/// Key of a part of a base backup, counted from 1.
#[must_use]
pub fn part(label: &str, number: u32) -> String {
    format!("{BACKUPS}/{label}/base/{number:0PART_DIGITS$}")
}

/// Key of what there is to know of a series.
#[must_use]
pub fn series(series: &str) -> String {
    format!("{BINLOGS}/{series}/series.json")
}

/// Whether a text may name a series.
#[must_use]
pub fn is_series(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(plain)
}

/// Whether a text may name a binary log here: nothing that a key or a shell takes for something else.
#[must_use]
pub fn is_binlog_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let hidden = text.starts_with(['.', '-']);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !hidden && text.bytes().all(plain)
}

/// Says what `key` is.
#[must_use]
pub fn role(key: &str) -> Role {
    let parts: Vec<&str> = key.split('/').collect();
    let found = match parts.as_slice() {
        ["backups", label, "backup.json"] => {
            label_time(label).map(|_| Role::Manifest { label: (*label).to_owned() })
        }
        ["backups", label, "base", number] => label_time(label)
            .and(part_number(number))
            .map(|number| Role::Part { label: (*label).to_owned(), number }),
        ["binlogs", series, "series.json"] => {
            is_series(series).then(|| Role::Series { series: (*series).to_owned() })
        }
        ["binlogs", series, file] => binlog(series, file).map(Role::Binlog),
        _ => None,
    };
    found.unwrap_or(Role::Other)
}

fn part_number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok().filter(|number| *number > 0)?;
    (format!("{number:0PART_DIGITS$}") == text).then_some(number)
}

/// `<10 digits>-<name>-<40 hex>[.zst]`.
fn binlog(series: &str, file: &str) -> Option<BinlogKey> {
    let (stem, codec) = match file.strip_suffix(COMPRESSED) {
        Some(stem) => (stem, Codec::Zst),
        None => (file, Codec::None),
    };
    let (digits, rest) = stem.split_at_checked(SEQUENCE_DIGITS)?;
    let sequence = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    let (name, sha1) = rest.strip_prefix('-')?.rsplit_once('-')?;
    hex::bytes::<20>(sha1)?;
    let sound = sequence > 0 && is_series(series) && is_binlog_name(name);
    sound.then(|| BinlogKey {
        series: series.to_owned(),
        sequence,
        name: name.to_owned(),
        sha1: sha1.to_owned(),
        codec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &str = "f45daa509ea610a5f4749214e5a5a44c169c49a9";

    #[test]
    fn keys_are_what_they_were_made_for() {
        let label = "20261126-043000";
        assert_eq!(self::label(label_time(label).unwrap()), label);
        let label = || label.to_owned();
        assert_eq!(role(&part(&label(), 12)), Role::Part { label: label(), number: 12 });
        assert_eq!(part(&label(), 12), "backups/20261126-043000/base/000012");
        let many = part(&label(), 1_234_567);
        assert_eq!(role(&many), Role::Part { label: label(), number: 1_234_567 });
        assert_eq!(role(&manifest(&label())), Role::Manifest { label: label() });
        let one = "b7260106-e714-11f1-a86a-02fc00000001-20261126T043000";
        assert_eq!(role(&series(one)), Role::Series { series: one.to_owned() });
        for (codec, name) in [(Codec::Zst, "mysql-bin.000003"), (Codec::None, "bin.000003")] {
            let binlog = BinlogKey {
                series: one.to_owned(),
                sequence: 7,
                name: name.to_owned(),
                sha1: SHA1.to_owned(),
                codec,
            };
            assert_eq!(role(&binlog.key()), Role::Binlog(binlog.clone()), "{}", binlog.key());
            assert_eq!(
                layout::Role::from(role(&binlog.key())),
                layout::Role::Binlog { series: one.to_owned(), sequence: 7, name: name.to_owned() }
            );
        }
    }

    #[test]
    fn whatever_else_is_nothing() {
        for key in [
            "",
            "backups/20261126-043000/base/0",
            "backups/20261126-043000/base/000000",
            "backups/20261126-043000/base/0000001",
            "backups/20261126-043000/base/+00001",
            "backups/20261126-043000/backup.json.tmp",
            "backups/20261326-043000/backup.json",
            "backups/2026126-043000/backup.json",
            "binlogs/1-2/series.json/x",
            "binlogs/1_2/series.json",
            &format!("binlogs/1-2/0000000000-bin.1-{SHA1}"),
            &format!("binlogs/1-2/00000001-bin.1-{SHA1}"),
            &format!("binlogs/1-2/+000000001-bin.1-{SHA1}"),
            &format!("binlogs/1-2/0000000001-{SHA1}"),
            &format!("binlogs/1-2/0000000001-.hidden-{SHA1}"),
            &format!("binlogs/1-2/0000000001-a b-{SHA1}"),
            &format!("binlogs/1-2/0000000001-bin.1-{SHA1}.gz"),
            &format!("binlogs/1-2/0000000001-bin.1-{}", SHA1.to_uppercase()),
        ] {
            assert_eq!(role(key), Role::Other, "{key}");
        }
    }
}
