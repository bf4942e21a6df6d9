//! Writes binary logs for the tests, where no server of today writes such.

use crate::binlog::event::HEADER;
use crc_fast::crc32_iso_hdlc;

/// A log in the making.
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    /// Time of the next events, in seconds.
    pub(crate) seconds: u32,
    checksums: bool,
}

impl Log {
    /// A log of a server with that version and number of event types.
    pub(crate) fn new(version: &str, types: usize, checksums: bool) -> Self {
        let mut log = Self { bytes: b"\xFEbin".to_vec(), seconds: 1_000, checksums: true };
        let mut body = vec![4, 0];
        body.extend(version.bytes().chain(std::iter::repeat(0)).take(50));
        body.extend([0, 0, 0, 0, 19]);
        let mut lengths = vec![0; types];
        (lengths[1], lengths[3]) = (13, 8);
        body.extend(lengths);
        body.push(checksums.into());
        log.event(15, 0, &body);
        log.checksums = checksums;
        log
    }

    /// MySQL 8.0.
    pub(crate) fn mysql() -> Self {
        Self::new("8.0.36", 41, true)
    }

    pub(crate) fn event(&mut self, number: u8, flags: u16, body: &[u8]) -> u64 {
        let start = self.bytes.len();
        let length = HEADER + body.len() + if self.checksums { 4 } else { 0 };
        self.bytes.extend(self.seconds.to_le_bytes());
        self.bytes.push(number);
        self.bytes.extend(7_u32.to_le_bytes());
        self.bytes.extend(u32::try_from(length).unwrap().to_le_bytes());
        self.bytes.extend(u32::try_from(start + length).unwrap().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(body);
        if self.checksums {
            let crc = crc32_iso_hdlc(&self.bytes[start..]);
            self.bytes.extend(crc.to_le_bytes());
        }
        start as u64
    }

    /// A GTID event as MySQL 5.6 (25 bytes) or 5.7 (42 bytes) writes it.
    pub(crate) fn old_gtid(&mut self, number: u64, bytes: usize) -> u64 {
        let mut body = vec![0];
        body.extend([0xAB; 16]);
        body.extend(number.to_le_bytes());
        body.push(2);
        body.resize(bytes, 0);
        self.event(33, 0, &body)
    }

    /// A GTID event with a commit time in microseconds.
    pub(crate) fn gtid(&mut self, number: u64, microseconds: u64) -> u64 {
        let mut body = vec![0];
        body.extend([0xAB; 16]);
        body.extend(number.to_le_bytes());
        body.push(2);
        body.resize(42, 0);
        body.extend(&microseconds.to_le_bytes()[..7]);
        self.event(33, 0, &body)
    }

    pub(crate) fn query(&mut self, text: &str) -> u64 {
        let mut body = vec![0; 13];
        (body[8], body[11]) = (1, 3);
        body.extend([9, 9, 9]);
        body.extend(b"d\0");
        body.extend(text.bytes());
        self.event(2, 0, &body)
    }

    pub(crate) fn xid(&mut self) -> u64 {
        self.event(16, 0, &[1, 0, 0, 0, 0, 0, 0, 0])
    }

    pub(crate) fn rotate(&mut self, name: &str) -> u64 {
        let body = [&[4, 0, 0, 0, 0, 0, 0, 0], name.as_bytes()].concat();
        self.event(4, 0, &body)
    }
}
