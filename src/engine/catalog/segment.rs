//! A WAL segment of a listing in few bytes, and its place in the order of names.

use crate::{
    domain::{
        hex,
        lsn::{Segment, SegmentSize, Timeline},
        recovery::Codec,
    },
    engine::catalog::hash,
};
use chrono::{DateTime, TimeDelta, Utc};

/// An object of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Size, in bytes.
    pub size_bytes: u64,
    /// When it was written, by the store's clock; to the millisecond for segments.
    pub modified_at: DateTime<Utc>,
    /// Changes whenever the contents change: a hash of the store's tag, or of what comes nearest.
    pub version: u64,
}

impl Found {
    /// An object with the store's tag of its version, where the store has one.
    #[must_use]
    pub fn new(size_bytes: u64, modified_at: DateTime<Utc>, etag: Option<&str>) -> Self {
        let version = match etag {
            Some(etag) => hash::bytes(etag.as_bytes()),
            None => hash::mix(size_bytes, modified_at.timestamp_micros().cast_unsigned()),
        };
        Self { size_bytes, modified_at, version }
    }
}

/// A WAL segment of a listing, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    /// Its place.
    pub place: Place,
    /// Key below the repository's prefix.
    pub key: String,
    /// SHA-1 of the uncompressed contents, from the name.
    pub sha1: String,
    /// Compression.
    pub codec: Codec,
    /// Name of the key pair that it is encrypted for, where it is.
    pub key_id: Option<String>,
    /// Size, time and version.
    pub found: Found,
}

/// A place in the log in the order of names: the timeline, and the two other numbers of the name as
/// one. Which number the segment has depends on the segment size, which names do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The timeline.
    pub timeline: Timeline,
    /// The second number of the name in the upper half, the third in the lower one.
    pub position: u64,
}

/// Places of a block are neighbours: they differ in the last two digits of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    timeline: Timeline,
    /// The position without its last two digits.
    high: u64,
}

/// Places of a block.
pub const SLOTS: u64 = 256;

impl Place {
    /// Before all others.
    pub const FIRST: Self = Self { timeline: Timeline(0), position: 0 };
    /// Behind all others.
    pub const LAST: Self = Self { timeline: Timeline(u32::MAX), position: u64::MAX };

    /// Reads a name: 24 upper-case hexadecimal digits.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let digit = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        if name.len() != 24 || !name.bytes().all(digit) {
            return None;
        }
        let timeline = Timeline(u32::from_str_radix(&name[..8], 16).ok()?);
        let position = u64::from_str_radix(&name[8..], 16).ok()?;
        Some(Self { timeline, position })
    }

    /// PostgreSQL's name of the segment here.
    #[must_use]
    pub fn name(self) -> String {
        format!("{:08X}{:016X}", self.timeline.0, self.position)
    }

    /// The place of a segment.
    #[must_use]
    pub fn of(segment: Segment, size: SegmentSize) -> Self {
        let per_id = per_id(size);
        let position = match segment.number / per_id {
            high if high <= u64::from(u32::MAX) => (high << 32) | (segment.number % per_id),
            _ => u64::MAX, // Behind the end of all logs: nothing is stored there.
        };
        Self { timeline: segment.timeline, position }
    }

    /// The segment here; `None` when names of this segment size do not have this place.
    #[must_use]
    pub fn segment(self, size: SegmentSize) -> Option<Segment> {
        let (high, low) = (self.position >> 32, self.position & 0xffff_ffff);
        let number = high * per_id(size) + low;
        (low < per_id(size)).then_some(Segment { timeline: self.timeline, number })
    }

    /// Its block.
    #[must_use]
    pub fn block(self) -> BlockId {
        BlockId { timeline: self.timeline, high: self.position / SLOTS }
    }

    /// Where in the block.
    #[must_use]
    pub fn slot(self) -> u8 {
        self.position.to_le_bytes()[0]
    }
}

impl BlockId {
    /// The place of a slot.
    #[must_use]
    pub fn place(self, slot: u8) -> Place {
        Place { timeline: self.timeline, position: self.high * SLOTS + u64::from(slot) }
    }

    /// How many slots have names of this segment size.
    #[must_use]
    pub fn slots(self, size: SegmentSize) -> u64 {
        let low = (self.high * SLOTS) & 0xffff_ffff;
        per_id(size).saturating_sub(low).min(SLOTS)
    }
}

/// Segments that share the first 16 digits of their names.
fn per_id(size: SegmentSize) -> u64 {
    0x1_0000_0000 / size.bytes()
}

/// A segment as it is kept in memory. Its place is that of its block and its slot, its key follows
/// from place, SHA-1 and codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    sha1: [u8; 20],
    version: [u32; 2],
    modified_seconds: u32,
    size_low: u32,
    modified_millis: u16,
    size_high: u8,
    slot: u8,
    codec: u8,
    encryption: u8,
}

const CODECS: [Codec; 7] =
    [Codec::None, Codec::Gz, Codec::Lz4, Codec::Zst, Codec::Bz2, Codec::Snappy, Codec::Xz];

impl Packed {
    /// A segment; `None` when it can be none: larger than a tebibyte, or with a sum that is no SHA-1.
    #[must_use]
    pub fn new(place: Place, sha1: &str, codec: Codec, found: &Found) -> Option<Self> {
        let size_high = u8::try_from(found.size_bytes >> 32).ok()?;
        let millis = u64::try_from(found.modified_at.timestamp_millis()).unwrap_or(0);
        Some(Self {
            sha1: hex::bytes(sha1)?,
            version: [upper(found.version), lower(found.version)],
            modified_seconds: u32::try_from(millis / 1000).unwrap_or(u32::MAX),
            modified_millis: u16::try_from(millis % 1000).unwrap_or(0),
            size_low: lower(found.size_bytes),
            size_high,
            slot: place.slot(),
            codec: u8::try_from(CODECS.iter().position(|known| *known == codec)?).ok()?,
            encryption: 0,
        })
    }

    /// The same, encrypted with a key of those that its archive names; 0 for none.
    #[must_use]
    pub fn encrypted_with(self, number: u8) -> Self {
        Self { encryption: number, ..self }
    }

    /// Number of the key that it is encrypted with, of those that its archive names; 0 for none.
    #[must_use]
    pub fn encryption(&self) -> u8 {
        self.encryption
    }

    /// Where in its block.
    #[must_use]
    pub fn slot(&self) -> u8 {
        self.slot
    }

    /// SHA-1 of the uncompressed contents.
    #[must_use]
    pub fn sha1(&self) -> String {
        hex::lower(&self.sha1)
    }

    /// Compression.
    #[must_use]
    pub fn codec(&self) -> Codec {
        CODECS.get(usize::from(self.codec)).copied().unwrap_or(Codec::None)
    }

    /// Size, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.size_high) << 32 | u64::from(self.size_low)
    }

    /// When it was written, by the store's clock.
    #[must_use]
    pub fn modified_at(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
            + TimeDelta::seconds(self.modified_seconds.into())
            + TimeDelta::milliseconds(self.modified_millis.into())
    }

    /// Size, time and version.
    #[must_use]
    pub fn found(&self) -> Found {
        let version = u64::from(self.version[0]) << 32 | u64::from(self.version[1]);
        Found { size_bytes: self.size_bytes(), modified_at: self.modified_at(), version }
    }

    /// Whether both are the same object by name: contents and compression.
    #[must_use]
    pub fn is_named_like(&self, other: &Self) -> bool {
        (self.slot, self.sha1, self.codec) == (other.slot, other.sha1, other.codec)
    }

    /// Whether both promise the same contents.
    #[must_use]
    pub fn has_contents_of(&self, other: &Self) -> bool {
        self.sha1 == other.sha1
    }

    /// What a block's digest has of it: two independent hashes of slot, name and size.
    pub(super) fn digest(&self) -> [u64; 2] {
        let part = |from: usize| {
            let bytes = self.sha1[from..from + 8].try_into().expect("eight of twenty bytes");
            u64::from_le_bytes(bytes)
        };
        let place = u64::from(self.slot) << 48 | u64::from(self.codec) << 40;
        [
            hash::mix(part(0) ^ place, self.size_bytes()),
            hash::mix(part(8), hash::mix(part(12) ^ place, !self.size_bytes())),
        ]
    }

    /// Contents and version in one number: what was proven of an object that had it stays proven.
    #[must_use]
    pub fn proof(&self) -> u64 {
        hash::mix(hash::bytes(&self.sha1), self.found().version)
    }

    /// A short hash of the contents, never 0, by which the next segment knows what it follows.
    #[must_use]
    pub fn link(&self) -> u32 {
        lower(hash::bytes(&self.sha1)).max(1)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
fn lower(bits: u64) -> u32 {
    bits as u32
}

fn upper(bits: u64) -> u32 {
    lower(bits >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_segment_takes_few_bytes() {
        assert_eq!(size_of::<Packed>(), 44);
    }

    #[test]
    fn names_that_are_none_have_no_place() {
        for bad in ["", "0000000100000000000000g0", "00000001000000000000000a", "+00000010000"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
        let size = SegmentSize::DEFAULT;
        let place = Place::parse("000000010000000000000100").unwrap();
        assert_eq!((place.segment(size), place.block().slots(size)), (None, 0));
        let large = SegmentSize::new(1 << 30).unwrap();
        assert_eq!(Place::FIRST.block().slots(large), 4);
        let small = SegmentSize::new(1 << 20).unwrap();
        assert_eq!(place.segment(small).unwrap().number, 256);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            (timeline, number, shift) in (any::<u32>(), 0_u64..1 << 34, 20_u32..=30),
            (sha1, codec) in (any::<[u8; 20]>(), 0_usize..5),
            (size_bytes, millis, version) in (0_u64..1 << 40, 0_i64..4_000_000_000_000, any::<u64>()),
        ) {
            let size = SegmentSize::new(1 << shift).unwrap();
            let segment = Segment { timeline: Timeline(timeline), number };
            let place = Place::of(segment, size);
            prop_assert_eq!(place.name(), segment.file_name(size));
            prop_assert_eq!(Place::parse(&place.name()), Some(place));
            prop_assert_eq!(place.segment(size), Some(segment));
            prop_assert_eq!(place.block().place(place.slot()), place);
            let modified_at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis);
            let found = Found { size_bytes, modified_at, version };
            let sum = hex::lower(&sha1);
            let packed = Packed::new(place, &sum, CODECS[codec], &found).unwrap();
            prop_assert_eq!((packed.encryption(), packed.encrypted_with(7).encryption()), (0, 7));
            prop_assert_eq!(packed.found(), found);
            prop_assert_eq!((packed.sha1(), packed.codec()), (sum, CODECS[codec]));
        }
    }
}
