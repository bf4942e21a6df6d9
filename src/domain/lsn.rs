//! PostgreSQL's log positions, timelines and segment names.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A position in the write-ahead log, in bytes since its beginning.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no LSN, timeline or segment name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a {1}")]
pub struct NotALogName(String, &'static str);

impl FromStr for Lsn {
    type Err = NotALogName;

    /// Reads PostgreSQL's spelling, two hexadecimal numbers with a slash: `16/B374D848`.
    fn from_str(text: &str) -> Result<Self, NotALogName> {
        let bad = || NotALogName(text.to_owned(), "log position such as 16/B374D848");
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let half = |part: &str| {
            if part.is_empty() || part.len() > 8 {
                return Err(bad());
            }
            u32::from_str_radix(part, 16).map_err(|_| bad())
        };
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

impl TryFrom<String> for Lsn {
    type Error = NotALogName;
    fn try_from(text: String) -> Result<Self, NotALogName> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

/// A timeline: one history of the log. A promotion begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Timeline {
    /// The name of the file that tells where this timeline came from: `00000002.history`.
    #[must_use]
    pub fn history_file(self) -> String {
        format!("{:08X}.history", self.0)
    }
}

/// Size of a WAL segment, in bytes: a power of two from 1 MiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentSize(u64);

impl SegmentSize {
    /// PostgreSQL's default, 16 MiB.
    pub const DEFAULT: Self = Self(16 << 20);

    /// `None` unless `bytes` is a size that PostgreSQL allows.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(Self(bytes))
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// A WAL segment: a timeline and a number counted in segments from the log's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// The timeline in the segment's name.
    pub timeline: Timeline,
    /// Start position divided by the segment size.
    pub number: u64,
}

impl Segment {
    /// The segment that holds the byte at `lsn`.
    #[must_use]
    pub fn holding(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> Self {
        Self { timeline, number: lsn.0 / size.0 }
    }

    /// The position of the segment's first byte.
    #[must_use]
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.number * size.0)
    }

    /// The position after the segment's last byte.
    #[must_use]
    pub fn end(self, size: SegmentSize) -> Lsn {
        Lsn((self.number + 1) * size.0)
    }

    /// The segment that follows on the same timeline.
    #[must_use]
    pub fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }

    /// PostgreSQL's file name: 24 hexadecimal digits.
    ///
    /// Source: `XLogFileName` in `src/include/access/xlog_internal.h`.
    #[must_use]
    pub fn file_name(self, size: SegmentSize) -> String {
        let per_id = 0x1_0000_0000 / size.0;
        format!("{:08X}{:08X}{:08X}", self.timeline.0, self.number / per_id, self.number % per_id)
    }

    /// Reads a file name.
    ///
    /// # Errors
    /// [`NotALogName`] unless `name` is 24 upper-case hexadecimal digits that fit `size`.
    pub fn parse(name: &str, size: SegmentSize) -> Result<Self, NotALogName> {
        let bad = || NotALogName(name.to_owned(), "WAL segment name of 24 hexadecimal digits");
        let digits = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        if name.len() != 24 || !name.bytes().all(digits) {
            return Err(bad());
        }
        let part = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).map_err(|_| bad());
        let (timeline, high, low) = (part(0)?, u64::from(part(8)?), u64::from(part(16)?));
        let per_id = 0x1_0000_0000 / size.0;
        if low >= per_id {
            return Err(bad());
        }
        Ok(Self { timeline: Timeline(timeline), number: high * per_id + low })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_what_postgresql_prints() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for bad in ["", "1", "1/", "/1", "G/1", "1/123456789"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn segment_names_round_trip_over_the_id_border() {
        let size = SegmentSize::DEFAULT;
        let last = Segment::parse("0000000100000000000000FF", size).unwrap();
        assert_eq!(last.next().file_name(size), "000000010000000100000000");
        assert_eq!(last.end(size).to_string(), "1/0");
        assert!(Segment::parse("000000010000000000000100", size).is_err());
        assert!(Segment::parse("00000001000000000000000a", size).is_err());
    }
}
