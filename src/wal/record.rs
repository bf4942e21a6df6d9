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

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with these bytes behind its header.
    fn record(manager: u8, info: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(body);
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        (bytes[16], bytes[17]) = (info, manager);
        let sum = crc32c::crc32c_append(crc32c::crc32c(body), &bytes[..20]);
        bytes[20..24].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn main_only(manager: u8, info: u8, main: &[u8]) -> Event {
        let body = [&[255, u8::try_from(main.len()).unwrap()], main].concat();
        read(&record(manager, info, &body), Lsn(0), 15).unwrap().event
    }

    #[test]
    fn every_version_has_its_bits_for_page_images() {
        let image = |info: u8, hole: bool| {
            // Block 0 with 3 bytes of data and an image of 7; then the block, the data, the main data.
            let mut body = vec![0, 0x10 | 0x20, 3, 0, 7, 0, 0, 0, info];
            if hole {
                body.extend_from_slice(&[100, 0]);
            }
            body.extend_from_slice(&[9; 12 + 4]);
            // Block 1 of the same relation, without an image.
            body.extend_from_slice(&[1, 0x80 | 0x20, 2, 0, 9, 9, 9, 9]);
            body.extend_from_slice(&[255, 4]);
            body.extend_from_slice(&[5; 7 + 3 + 2 + 4]);
            record(0, 0xB0, &body)
        };
        // Bit 0x01 is a hole's, and a hole's length is only there when the rest is compressed.
        for (majors, compressed, not) in [
            ([13, 14].as_slice(), [0x02].as_slice(), 0x04),
            (&[15, 16, 17, 18], &[0x04, 0x08, 0x10], 0x02),
        ] {
            for major in majors {
                let sound = |info, hole| read(&image(info, hole), Lsn(0), *major).is_ok();
                for bit in compressed {
                    assert!(sound(0x01 | bit | not, true) && !sound(0x01 | bit | not, false));
                    assert!(sound(*bit, false) && !sound(*bit, true), "{major} {bit}");
                }
                assert!(sound(0x01 | not, false) && !sound(0x01 | not, true), "{major}");
            }
        }
    }

    #[test]
    fn only_ends_of_transactions_have_their_time() {
        let at = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap();
        let main = 1_000_000_i64.to_le_bytes();
        let xact = |committed, prepared| Event::Xact { committed, prepared, time: at(946_684_801) };
        // The bit above the kind says that the record has more parts, and changes nothing here.
        for more in [0, 0x80] {
            assert_eq!(main_only(RM_XACT, more, &main), xact(true, false));
            assert_eq!(main_only(RM_XACT, 0x20 | more, &main), xact(false, false));
            assert_eq!(main_only(RM_XACT, 0x30 | more, &main), xact(true, true));
            assert_eq!(main_only(RM_XACT, 0x40 | more, &main), xact(false, true));
            for kind in [0x10, 0x50, 0x60] {
                assert_eq!(main_only(RM_XACT, kind | more, &main), Event::Other);
            }
        }
        let mut checkpoint = [0; 88];
        checkpoint[64..72].copy_from_slice(&1_800_000_000_i64.to_le_bytes());
        for kind in [0x00, 0x10] {
            let found = main_only(RM_XLOG, kind, &checkpoint);
            assert_eq!(found, Event::Checkpoint { time: at(1_800_000_000) });
        }
        for other in [0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0] {
            assert_eq!(main_only(RM_XLOG, other, &checkpoint), Event::Other);
        }
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let check = |bytes: &[u8], expected: Damage| {
            assert_eq!(read(bytes, Lsn(0), 15).unwrap_err(), expected, "{bytes:?}");
        };
        check(&[], Damage::Length);
        check(&record(10, 0, &[])[..23], Damage::Length);
        for body in [
            [255, 1].as_slice(),
            &[255, 0, 0],
            &[255],
            &[254, 1, 0],
            &[40],
            &[0, 0],
            &[0, 0x20, 200, 0, 1],
            &[253, 1],
        ] {
            check(&record(10, 0, body), Damage::Parts);
        }
        // Shorter than the fields that are read of it.
        check(&record(RM_XACT, 0, &[255, 4, 1, 2, 3, 4]), Damage::Parts);
        check(&record(RM_XLOG, 0x10, &[255, 4, 1, 2, 3, 4]), Damage::Parts);
        let mut bytes = record(10, 0, &[255, 1, 7]);
        for at in [4, 8, 16, 17, 18, 19, 20, 26] {
            bytes[at] ^= 1;
            check(&bytes, Damage::Checksum);
            bytes[at] ^= 1;
        }
        assert!(read(&bytes, Lsn(0), 15).is_ok());
    }
}
