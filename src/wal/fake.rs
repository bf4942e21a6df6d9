//! A log as PostgreSQL writes it, for tests.

use crate::{
    domain::lsn::{Lsn, Segment, Timeline},
    wal::page::{PAGE_SIZE, SHORT_HEADER},
};

/// Segments and their contents.
pub(crate) type Files = Vec<(Segment, Vec<u8>)>;

/// Size of its segments, in bytes.
pub(crate) const SIZE: usize = 1 << 20;
/// Number of its first segment.
pub(crate) const FIRST: u64 = 3;

/// Writes a log as PostgreSQL does, in segments of 1 MiB from number [`FIRST`] on.
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    pub(crate) timeline: u32,
    pub(crate) prev: u64,
    pub(crate) overwrite: bool,
    /// What a reader must find: start, end, kind.
    pub(crate) records: Vec<(Lsn, Lsn, u8)>,
}

impl Log {
    pub(crate) fn new() -> Self {
        let prev = FIRST * SIZE as u64 - 64;
        Self { bytes: vec![], timeline: 1, prev, overwrite: false, records: vec![] }
    }

    pub(crate) fn position(&self) -> u64 {
        FIRST * SIZE as u64 + self.bytes.len() as u64
    }

    fn page_header(&mut self, rest: usize) {
        let long = self.bytes.len().is_multiple_of(SIZE);
        let overwrite = std::mem::take(&mut self.overwrite);
        let flags = u16::from(rest > 0) | u16::from(long) << 1 | u16::from(overwrite) << 3;
        let address = self.position();
        for part in [&0xD110_u16.to_le_bytes()[..], &flags.to_le_bytes()] {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.extend_from_slice(&self.timeline.to_le_bytes());
        self.bytes.extend_from_slice(&address.to_le_bytes());
        self.bytes.extend_from_slice(&u32::try_from(rest).unwrap().to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        if long {
            self.bytes.extend_from_slice(&7_u64.to_le_bytes());
            self.bytes.extend_from_slice(&u32::try_from(SIZE).unwrap().to_le_bytes());
            self.bytes.extend_from_slice(&u32::try_from(PAGE_SIZE).unwrap().to_le_bytes());
        }
    }

    /// Writes a record with so many bytes of main data.
    pub(crate) fn record(&mut self, manager: u8, info: u8, main: &[u8]) -> Lsn {
        if self.bytes.len().is_multiple_of(PAGE_SIZE) {
            self.page_header(0);
        }
        let start = self.position();
        let mut record = vec![0; 24];
        if !main.is_empty() {
            record.push(254);
            record.extend_from_slice(&u32::try_from(main.len()).unwrap().to_le_bytes());
            record.extend_from_slice(main);
        }
        let length = u32::try_from(record.len()).unwrap();
        record[..4].copy_from_slice(&length.to_le_bytes());
        record[8..16].copy_from_slice(&self.prev.to_le_bytes());
        (record[16], record[17]) = (info, manager);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&record[24..]), &record[..20]);
        record[20..24].copy_from_slice(&sum.to_le_bytes());
        let mut rest = &record[..];
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(PAGE_SIZE) {
                self.page_header(rest.len());
            }
            let room = PAGE_SIZE - self.bytes.len() % PAGE_SIZE;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(now);
            rest = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        if (manager, info) == (0, 0x40) {
            self.bytes.resize(self.bytes.len().next_multiple_of(SIZE), 0);
        }
        self.prev = start;
        self.records.push((Lsn(start), Lsn(self.position()), manager));
        Lsn(start)
    }

    /// Fills up until so many bytes are left of the page.
    pub(crate) fn leave(&mut self, bytes: usize) {
        let used = self.bytes.len() % PAGE_SIZE;
        let used = if used == 0 { SHORT_HEADER } else { used };
        assert!(used + 29 + bytes <= PAGE_SIZE, "{used}");
        self.record(10, 0, &vec![1; PAGE_SIZE - used - 29 - bytes]);
    }

    pub(crate) fn fill(&mut self) {
        while self.bytes.len() % SIZE < SIZE - PAGE_SIZE || self.bytes.len().is_multiple_of(SIZE) {
            self.record(10, 0, &[1; 5000]);
        }
    }

    /// The segments, the last one filled up with zeros.
    pub(crate) fn segments(&self) -> Files {
        let timeline = Timeline(self.timeline);
        let segment = |(n, bytes): (usize, &[u8])| {
            let mut bytes = bytes.to_vec();
            bytes.resize(SIZE, 0);
            (Segment { timeline, number: FIRST + n as u64 }, bytes)
        };
        self.bytes.chunks(SIZE).enumerate().map(segment).collect()
    }
}
