//! One record of the log: its checksum, and what it says about time.

use crate::{
    domain::lsn::Lsn,
    wal::page::{i64_at, u16_at, u32_at, u64_at},
};
use chrono::{DateTime, TimeDelta, Utc};

/// Size of a record's header, in bytes.
pub const HEADER: usize = 24;
/// Longest record, in bytes: `MaxAllocSize`, which bounds what a reader can put together. Since 16
/// PostgreSQL writes none above 1020 MiB (`XLogRecordMaxSize`); before, nothing else held it back.
pub const LENGTH_MAX: usize = (1 << 30) - 1;

/// Resource manager of the log itself.
pub const RM_XLOG: u8 = 0;
/// Resource manager of transactions.
pub const RM_XACT: u8 = 1;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where it ends: PostgreSQL's `EndRecPtr`, aligned, and for a switch the segment's end.
    pub end: Lsn,
    /// Where the record before it begins.
    pub prev: Lsn,
    /// Transaction, or 0.
    pub xid: u32,
    /// Length without padding, in bytes.
    pub length: usize,
    /// Resource manager.
    pub manager: u8,
    /// Flags and kind, as the resource manager defines them.
    pub info: u8,
    /// What this project reads of it.
    pub event: Event,
}

/// What this project reads of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction ended.
    Xact {
        /// Whether it was committed.
        committed: bool,
        /// Whether it had been prepared before.
        prepared: bool,
        /// When.
        time: DateTime<Utc>,
    },
    /// A checkpoint began at this time (whole seconds).
    Checkpoint {
        /// When.
        time: DateTime<Utc>,
    },
    /// A named restore point.
    RestorePoint {
        /// When.
        time: DateTime<Utc>,
    },
    /// A base backup ended that began at this position.
    BackupEnd {
        /// Where it began.
        start: Lsn,
    },
    /// Settings that a hot standby must not be below: `max_connections`, `max_worker_processes`,
    /// `max_wal_senders`, `max_prepared_transactions`, `max_locks_per_transaction`.
    Parameters([u32; 5]),
    /// A recovery ended and a new timeline began.
    EndOfRecovery {
        /// When.
        time: DateTime<Utc>,
    },
    /// The rest of the segment is empty.
    Switch,
    /// Anything else.
    Other,
}

impl Event {
    /// The time of a commit or abort, which alone decides where a moment stops.
    #[must_use]
    pub fn xact_time(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Xact { time, .. } => Some(*time),
            Self::Checkpoint { .. }
            | Self::RestorePoint { .. }
            | Self::BackupEnd { .. }
            | Self::Parameters(_)
            | Self::EndOfRecovery { .. }
            | Self::Switch
            | Self::Other => None,
        }
    }
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Shorter than its header, or than it says.
    Length,
    /// The checksum does not match.
    Checksum,
    /// Its parts do not add up.
    Parts,
}

/// Reads a whole record that begins at `lsn`. `end` is filled in by the caller.
pub(crate) fn read(bytes: &[u8], lsn: Lsn, postgres_major: u32) -> Result<Record, Damage> {
    let length = u32_at(bytes, 0).and_then(|n| usize::try_from(n).ok()).ok_or(Damage::Length)?;
    if length < HEADER || bytes.len() != length {
        return Err(Damage::Length);
    }
    // CRC-32C over the data first and the header up to the checksum last.
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[HEADER..]), &bytes[..20]);
    if u32_at(bytes, 20) != Some(sum) {
        return Err(Damage::Checksum);
    }
    let (info, manager) = (bytes[16], bytes[17]);
    let main = main_data(bytes, postgres_major)?;
    let event = match manager {
        RM_XLOG => log_event(info, main),
        RM_XACT => transaction_event(info, main),
        _ => Some(Event::Other),
    };
    Ok(Record {
        lsn,
        end: lsn,
        prev: Lsn(u64_at(bytes, 8).ok_or(Damage::Length)?),
        xid: u32_at(bytes, 4).ok_or(Damage::Length)?,
        length,
        manager,
        info,
        event: event.ok_or(Damage::Parts)?,
    })
}

/// The main data: the last part of a record, whose length is in the last of the part headers.
///
/// Source: `DecodeXLogRecord` in `xlogreader.c`.
fn main_data(bytes: &[u8], postgres_major: u32) -> Result<&[u8], Damage> {
    let mut at = HEADER;
    let mut blocks_length = 0_usize;
    let mut main_length = 0_usize;
    while at + blocks_length < bytes.len() {
        let id = bytes[at];
        match id {
            255 => {
                main_length = usize::from(*bytes.get(at + 1).ok_or(Damage::Parts)?);
                at += 2;
                break;
            }
            254 => {
                let length = u32_at(bytes, at + 1).ok_or(Damage::Parts)?;
                main_length = usize::try_from(length).map_err(|_| Damage::Parts)?;
                at += 5;
                break;
            }
            253 => at += 3,
            252 => at += 5,
            0..=32 => {
                let (header, data) = block(bytes, at, postgres_major).ok_or(Damage::Parts)?;
                at += header;
                blocks_length += data;
            }
            33..=251 => return Err(Damage::Parts),
        }
    }
    if at + blocks_length + main_length != bytes.len() {
        return Err(Damage::Parts);
    }
    Ok(&bytes[bytes.len() - main_length..])
}

/// Sizes of a block reference's header and of its data and image.
fn block(bytes: &[u8], at: usize, postgres_major: u32) -> Option<(usize, usize)> {
    let flags = *bytes.get(at + 1)?;
    let mut header = 4;
    let mut data = usize::from(u16_at(bytes, at + 2)?);
    if flags & 0x10 != 0 {
        let image_info = *bytes.get(at + header + 4)?;
        data += usize::from(u16_at(bytes, at + header)?);
        header += 5;
        // Bits of `bimg_info`: 15 gave the compression methods bits of their own.
        let compressed = if postgres_major >= 15 { 0x04 | 0x08 | 0x10 } else { 0x02 };
        if image_info & 0x01 != 0 && image_info & compressed != 0 {
            header += 2;
        }
    }
    if flags & 0x80 == 0 {
        header += 12;
    }
    Some((header + 4, data))
}

/// What a transaction's record says. Source: `xact.h`; the time is the first field of both
/// `xl_xact_commit` and `xl_xact_abort`, prepared or not.
fn transaction_event(info: u8, main: &[u8]) -> Option<Event> {
    let (committed, prepared) = match info & 0x70 {
        0x00 => (true, false),
        0x20 => (false, false),
        0x30 => (true, true),
        0x40 => (false, true),
        // To prepare, to assign subtransactions and to invalidate caches ends no transaction.
        _ => return Some(Event::Other),
    };
    Some(Event::Xact { committed, prepared, time: postgres_time(i64_at(main, 0)?)? })
}

/// What a record of the log about itself says. Sources: `pg_control.h` (`CheckPoint`, whose `time`
/// lies at 64 in 13 to 18: `wal_level` of 18 fills what was padding) and `xlog_internal.h`.
fn log_event(info: u8, main: &[u8]) -> Option<Event> {
    Some(match info & 0xF0 {
        0x00 | 0x10 => Event::Checkpoint { time: DateTime::from_timestamp(i64_at(main, 64)?, 0)? },
        0x40 => Event::Switch,
        0x50 => Event::BackupEnd { start: Lsn(u64_at(main, 0)?) },
        0x60 => {
            let mut values = [0; 5];
            for (index, value) in values.iter_mut().enumerate() {
                *value = u32_at(main, index * 4)?;
            }
            Event::Parameters(values)
        }
        0x70 => Event::RestorePoint { time: postgres_time(i64_at(main, 0)?)? },
        0x90 => Event::EndOfRecovery { time: postgres_time(i64_at(main, 0)?)? },
        _ => Event::Other,
    })
}

/// PostgreSQL counts microseconds since 2000-01-01 (`TimestampTz`). `None` for its infinities and
/// what else no calendar holds: no record has such a time.
fn postgres_time(microseconds: i64) -> Option<DateTime<Utc>> {
    let epoch = DateTime::from_timestamp(946_684_800, 0)?;
    epoch.checked_add_signed(TimeDelta::microseconds(microseconds))
}
