//! A log that PostgreSQL could have written: a commit in each segment, and the switch to the next one.

use btar::{
    domain::{
        hex,
        lsn::{Lsn, Segment, SegmentSize, Timeline},
    },
    engine::catalog::{hash, segment::Place},
    wal::scan::{Carry, Scanner, SegmentIndex, Xacts},
};
use chrono::{DateTime, TimeDelta, Utc};
use sha1::{Digest, Sha1};
use std::io::Write as _;

pub(crate) const SIZE: SegmentSize = SegmentSize::DEFAULT;
pub(crate) const SYSTEM: u64 = 77;
/// Start and end of the switch from the segment's start.
const SWITCH: u64 = 80;

pub(crate) fn segment(number: u64) -> Segment {
    Segment { timeline: Timeline(1), number }
}

pub(crate) fn place(number: u64) -> Place {
    Place::of(segment(number), SIZE)
}

/// When the commit of a segment was made.
pub(crate) fn time(number: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(14_000) + TimeDelta::minutes(number.cast_signed())
}

/// The SHA-1 in the name of a segment that nobody reads.
pub(crate) fn promised_sha1(number: u64) -> String {
    let word = |salt| hash::mix(number, salt).to_le_bytes();
    hex::lower(&[word(1), word(2), word(3)].concat()[..20])
}

/// What an engine has learned of such a segment.
pub(crate) fn summary(number: u64) -> SegmentIndex {
    let start = segment(number).start(SIZE).0;
    SegmentIndex {
        segment: segment(number),
        system_identifier: SYSTEM,
        segment_size: SIZE,
        postgres_major: 15,
        records: 2,
        last_record: Some(Lsn(start + SWITCH)),
        last_end: Some(Lsn(start + SIZE.bytes())),
        xacts: Some(Xacts { count: 1, max_time: time(number), last_time: time(number) }),
        latest_time: Some(time(number)),
        backup_ends: Vec::new(),
        parameter_floor: None,
        ends_early: false,
    }
}

/// What the scanner knows behind a segment.
pub(crate) fn carry(number: u64) -> Carry {
    let mut scanner = Scanner::new();
    let index = scanner.segment(segment(number), &contents(number), &mut |_| {}).unwrap();
    assert_eq!(index, summary(number));
    scanner.carry().unwrap()
}

/// A compressed segment and the SHA-1 of its contents, which are never held as a whole: the memory that
/// is measured is the engine's.
pub(crate) fn object(number: u64) -> (Vec<u8>, String) {
    let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut hash = Sha1::new();
    let (mut piece, mut left) = (head(number), usize::try_from(SIZE.bytes()).unwrap());
    while left > 0 {
        out.write_all(&piece).unwrap();
        hash.update(&piece);
        left -= piece.len();
        piece = vec![0; left.min(64 << 10)];
    }
    (out.finish().unwrap(), hex::lower(&hash.finalize()))
}

fn contents(number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize::try_from(SIZE.bytes()).unwrap());
    bytes.extend(head(number));
    bytes.resize(usize::try_from(SIZE.bytes()).unwrap(), 0);
    bytes
}

/// What is not zero of a segment.
fn head(number: u64) -> Vec<u8> {
    let start = segment(number).start(SIZE).0;
    let mut bytes = Vec::new();
    bytes.extend(0xD110_u16.to_le_bytes());
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(SYSTEM.to_le_bytes());
    bytes.extend(u32::try_from(SIZE.bytes()).unwrap().to_le_bytes());
    bytes.extend(8192_u32.to_le_bytes());
    // PostgreSQL counts from the year 2000.
    let micros = time(number).timestamp_micros() - 946_684_800_000_000;
    let before = start - SIZE.bytes() + SWITCH;
    record(&mut bytes, before, 1, 0, &micros.to_le_bytes());
    record(&mut bytes, start + 40, 0, 0x40, &[]);
    bytes
}

fn record(bytes: &mut Vec<u8>, previous: u64, manager: u8, info: u8, main: &[u8]) {
    let mut record = vec![0; 24];
    if !main.is_empty() {
        record.extend([255, u8::try_from(main.len()).unwrap()]);
        record.extend(main);
    }
    let length = u32::try_from(record.len()).unwrap();
    record[..4].copy_from_slice(&length.to_le_bytes());
    record[8..16].copy_from_slice(&previous.to_le_bytes());
    (record[16], record[17]) = (info, manager);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&record[24..]), &record[..20]);
    record[20..24].copy_from_slice(&sum.to_le_bytes());
    bytes.extend(record);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}
