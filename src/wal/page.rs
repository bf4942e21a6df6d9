//! Page headers of the log.

use crate::domain::lsn::Lsn;

/// Size of a log page, in bytes (`XLOG_BLCKSZ`; the only size that packages are built with).
pub const PAGE_SIZE: usize = 8192;
/// Size of a page's header.
pub const SHORT_HEADER: usize = 24;
/// Size of the header of a segment's first page.
pub const LONG_HEADER: usize = 40;

const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG: u16 = 0x0002;
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
const FLAGS: u16 = 0x000F;

/// Page magic and the major version that writes it (`XLOG_PAGE_MAGIC`).
const MAGICS: &[(u16, u32)] =
    &[(0xD106, 13), (0xD10D, 14), (0xD110, 15), (0xD113, 16), (0xD116, 17), (0xD118, 18)];

/// A page's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Major version of PostgreSQL, by the magic number.
    pub postgres_major: u32,
    /// Timeline that wrote the page.
    pub timeline: u32,
    /// Position of the page.
    pub address: Lsn,
    /// Whether the page begins with the rest of a record.
    pub continues: bool,
    /// Whether an unfinished record before this page was given up.
    pub overwrites: bool,
    /// Length of that rest, in bytes.
    pub rest_length: usize,
    /// What only a segment's first page says.
    pub long: Option<LongHeader>,
}

/// What only a segment's first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongHeader {
    /// The database cluster.
    pub system_identifier: u64,
    /// Size of a segment, in bytes.
    pub segment_bytes: u64,
    /// Size of a page, in bytes.
    pub page_bytes: u32,
}

impl PageHeader {
    /// Reads a header; `None` when the magic number is none that is known, or a flag has no meaning.
    #[must_use]
    pub fn read(page: &[u8]) -> Option<Self> {
        let magic = u16_at(page, 0)?;
        let (_, postgres_major) = *MAGICS.iter().find(|(known, _)| *known == magic)?;
        let info = u16_at(page, 2).filter(|info| info & !FLAGS == 0)?;
        let long = if info & LONG != 0 {
            Some(LongHeader {
                system_identifier: u64_at(page, 24)?,
                segment_bytes: u64::from(u32_at(page, 32)?),
                page_bytes: u32_at(page, 36)?,
            })
        } else {
            None
        };
        Some(Self {
            postgres_major,
            timeline: u32_at(page, 4)?,
            address: Lsn(u64_at(page, 8)?),
            continues: info & FIRST_IS_CONTRECORD != 0,
            overwrites: info & FIRST_IS_OVERWRITE_CONTRECORD != 0,
            rest_length: usize::try_from(u32_at(page, 16)?).ok()?,
            long,
        })
    }

    /// Size of this header, in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        if self.long.is_some() { LONG_HEADER } else { SHORT_HEADER }
    }
}

/// Says which other PostgreSQL wrote a page that [`PageHeader::read`] cannot read; `None` when none
/// did. Each major version counts the magic number up, so a larger one is a newer version.
#[must_use]
pub fn other_version(page: &[u8]) -> Option<String> {
    let magic = u16_at(page, 0)?;
    if MAGICS.iter().any(|(known, _)| *known == magic) {
        return None;
    }
    let (first, last) = (MAGICS.first()?.0, MAGICS.last()?.0);
    let by = if magic > last && magic & 0xFF00 == 0xD100 {
        "a newer PostgreSQL than 18"
    } else if magic < first && magic >= 0xD050 {
        "an older PostgreSQL than 13"
    } else if magic & 0xFF00 == 0xD100 {
        "a development version of PostgreSQL"
    } else if magic.to_be_bytes()[1] == 0xD1 {
        "a big-endian machine"
    } else {
        return None;
    };
    Some(format!("its page magic {magic:04X} is that of {by}; PostgreSQL 13 to 18 are supported"))
}

/// Little-endian number at `at`, or `None` beyond the end.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Little-endian number at `at`, or `None` beyond the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Little-endian number at `at`, or `None` beyond the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Little-endian number at `at`, or `None` beyond the end.
pub(crate) fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
