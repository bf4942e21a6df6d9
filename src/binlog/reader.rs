//! Goes through the events of a file one after the other, and proves each.
//!
//! 1. The magic, then the format description, which says whether events have checksums.
//! 2. Per event: its header; its length and its place must fit; then its body is passed over while
//!    its checksum is computed, and the checksum must be right before anybody sees the event.
//! 3. A body is shown whole where it fits into the buffer, or where its kind is needed whole; of any
//!    other only the beginning is kept, so that memory does not follow from what the file says.

use crate::{
    binlog::{
        event::{CHECKSUM, Format, HEADER, Header, IN_USE, Kind},
        fault::Damage,
    },
    domain::binlog::Flavour,
};
use crc_fast::{CrcAlgorithm, Digest};
use std::io::{ErrorKind, Read};

const MAGIC: [u8; 4] = [0xFE, b'b', b'i', b'n'];
const MAGIC_ENCRYPTED: [u8; 4] = [0xFD, b'b', b'i', b'n'];

/// Fits into the second-level caches of processors.
const BUFFER_BYTES: usize = 256 << 10;
/// What is kept of a larger event: enough for all that may stand before a query's text, which is
/// 64 KiB of variables and a name.
const BEGINNING_BYTES: u64 = 128 << 10;
/// What is kept of a list of earlier transactions, which is needed whole.
const WHOLE_BYTES: u64 = 64 << 20;
/// A format description has about 100 bytes, and MariaDB's about 250.
const FORMAT_BYTES_MAX: usize = 4096;

/// An event whose checksum is right.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) header: Header,
    pub(super) kind: Kind,
    /// Where it begins.
    pub(super) start: u64,
    /// Where it ends.
    pub(super) end: u64,
    /// Its body without the checksum, or the beginning of it.
    pub(super) body: &'a [u8],
    /// Length of its whole body, in bytes.
    pub(super) body_bytes: u64,
}

/// The events of one file behind its format description.
pub(super) struct Events<R> {
    input: Buffered<R>,
    flavour: Flavour,
    checksums: bool,
    /// The body of an event that does not fit into the buffer.
    large: Vec<u8>,
}

impl<R: Read> Events<R> {
    /// Reads the beginning of a file.
    pub(super) fn begin(input: R) -> Result<(Self, Header, Format), (u64, Damage)> {
        let mut input =
            Buffered { input, buffer: vec![0; BUFFER_BYTES], from: 0, to: 0, offset: 0 };
        let magic = input.peek(MAGIC.len()).map_err(|damage| (0, damage))?;
        match magic.try_into() {
            Ok(MAGIC) => {}
            Ok(MAGIC_ENCRYPTED) => return Err((0, Damage::Encrypted)),
            // A file that was just created may have nothing yet.
            Err(_) if MAGIC.starts_with(magic) => return Err((0, Damage::Truncated)),
            Ok(_) | Err(_) => return Err((0, Damage::NotABinlog)),
        }
        input.pass(MAGIC.len());
        let begun = format(&mut input).map_err(|damage| (MAGIC.len() as u64, damage))?;
        let (header, format) = begun;
        let (flavour, checksums) = (format.flavour, format.checksums);
        Ok((Self { input, flavour, checksums, large: vec![] }, header, format))
    }

    /// Where the next event begins.
    pub(super) fn offset(&self) -> u64 {
        self.input.offset
    }

    /// The next event; `None` where the file ends. After a failure there is no next one.
    pub(super) fn next(&mut self) -> Result<Option<Event<'_>>, Damage> {
        let start = self.input.offset;
        let head = self.input.peek(HEADER)?;
        if head.is_empty() {
            return Ok(None);
        }
        let Ok(head) = <[u8; HEADER]>::try_from(head) else { return Err(Damage::Truncated) };
        let header = Header::read(&head);
        let checksum = if self.checksums { CHECKSUM } else { 0 };
        let end = place(&header, start, checksum)?;
        let kind = header.kind(self.flavour);
        let body_bytes = u64::from(header.length) - (HEADER + checksum) as u64;
        let length = usize::try_from(header.length).map_err(|_| Damage::Length(header.length))?;
        let body = if length <= BUFFER_BYTES {
            let whole = self.input.peek(length)?;
            if whole.len() < length {
                return Err(Damage::Truncated);
            }
            if self.checksums {
                check(
                    crc_fast::crc32_iso_hdlc(&whole[..length - CHECKSUM]).into(),
                    &whole[length - CHECKSUM..],
                )?;
            }
            self.input.pass(length);
            let from = self.input.from - length;
            &self.input.buffer[from + HEADER..from + length - checksum]
        } else {
            self.large(&head, kind, body_bytes)?;
            &self.large
        };
        Ok(Some(Event { header, kind, start, end, body, body_bytes }))
    }

    /// Passes over an event that is larger than the buffer, and keeps what is needed of it.
    fn large(&mut self, head: &[u8; HEADER], kind: Kind, body_bytes: u64) -> Result<(), Damage> {
        let keep = match kind {
            Kind::PreviousGtids | Kind::GtidList if body_bytes > WHOLE_BYTES => {
                return Err(Damage::Content("the list of earlier transactions is too long"));
            }
            Kind::PreviousGtids | Kind::GtidList => WHOLE_BYTES,
            Kind::FormatDescription
            | Kind::StartEncryption
            | Kind::Gtid(_)
            | Kind::Part(_)
            | Kind::Rotate
            | Kind::Stop
            | Kind::PassOver
            | Kind::Unknown => BEGINNING_BYTES,
        };
        let mut crc = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
        if self.checksums {
            crc.update(head);
        }
        self.input.pass(HEADER);
        self.large.clear();
        let mut left = body_bytes;
        while left > 0 {
            let piece = self.input.some()?;
            let piece = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            if piece.is_empty() {
                return Err(Damage::Truncated);
            }
            if self.checksums {
                crc.update(piece);
            }
            let wanted = keep.saturating_sub(self.large.len() as u64);
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(piece.len());
            self.large.extend_from_slice(&piece[..wanted]);
            let length = piece.len();
            left -= length as u64;
            self.input.pass(length);
        }
        if self.checksums {
            let says = self.input.peek(CHECKSUM)?;
            if says.len() < CHECKSUM {
                return Err(Damage::Truncated);
            }
            check(crc.finalize(), &says[..CHECKSUM])?;
            self.input.pass(CHECKSUM);
        }
        Ok(())
    }
}

/// Reads the format description, with which every file begins.
fn format<R: Read>(input: &mut Buffered<R>) -> Result<(Header, Format), Damage> {
    let start = input.offset;
    let head = input.peek(HEADER)?;
    let Ok(mut head) = <[u8; HEADER]>::try_from(head) else { return Err(Damage::Truncated) };
    let header = Header::read(&head);
    if header.number != 15 {
        return Err(Damage::Order("a binary log begins with another event than its format"));
    }
    place(&header, start, CHECKSUM)?;
    let length = usize::try_from(header.length).ok().filter(|length| *length <= FORMAT_BYTES_MAX);
    let length = length.ok_or(Damage::Length(header.length))?;
    let whole = input.peek(length)?;
    if whole.len() < length {
        return Err(Damage::Truncated);
    }
    let format = Format::read(&whole[HEADER..])?;
    // It has a checksum even where the other events have none. The flag is taken off in place when
    // the file is closed, so it does not count.
    let [low, high] = (header.flags & !IN_USE).to_le_bytes();
    (head[17], head[18]) = (low, high);
    let mut crc = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
    crc.update(&head);
    crc.update(&whole[HEADER..length - CHECKSUM]);
    check(crc.finalize(), &whole[length - CHECKSUM..])?;
    input.pass(length);
    Ok((header, format))
}

/// Checks length and place of an event; where it ends.
fn place(header: &Header, start: u64, checksum: usize) -> Result<u64, Damage> {
    if u64::from(header.length) < (HEADER + checksum) as u64 {
        return Err(Damage::Length(header.length));
    }
    let is = start + u64::from(header.length);
    // The header has only 32 bits for it, and files may be larger.
    if header.ends_at != 0 && u64::from(header.ends_at) != is & u64::from(u32::MAX) {
        return Err(Damage::Position { says: header.ends_at, is });
    }
    Ok(is)
}

fn check(crc: u64, says: &[u8]) -> Result<(), Damage> {
    let says = says.try_into().map(u32::from_le_bytes).map_err(|_| Damage::Truncated)?;
    if crc == u64::from(says) { Ok(()) } else { Err(Damage::Checksum) }
}

/// The bytes of a file as they come, counted.
struct Buffered<R> {
    input: R,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// Where in the file `from` is.
    offset: u64,
}

impl<R: Read> Buffered<R> {
    /// The next `length` bytes, which fit into the buffer; fewer only where the file ends.
    fn peek(&mut self, length: usize) -> Result<&[u8], Damage> {
        if self.to - self.from < length {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            while self.to < length && self.more()? > 0 {}
        }
        Ok(&self.buffer[self.from..self.to.min(self.from + length)])
    }

    /// The next bytes, as many as there are; none where the file ends.
    fn some(&mut self) -> Result<&[u8], Damage> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            self.more()?;
        }
        Ok(&self.buffer[self.from..self.to])
    }

    fn more(&mut self) -> Result<usize, Damage> {
        loop {
            match self.input.read(&mut self.buffer[self.to..]) {
                Ok(length) => {
                    self.to += length;
                    return Ok(length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Damage::Read(error)),
            }
        }
    }

    fn pass(&mut self, length: usize) {
        self.from += length;
        self.offset += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::{fake::Log, summary::summarize};

    /// A group whose statement and rows are larger than the buffer.
    fn large() -> (Vec<u8>, usize) {
        let mut log = Log::mysql();
        log.gtid(1, 5);
        log.query("BEGIN");
        let rows = log.event(30, 0, &vec![7; 3 * BUFFER_BYTES + 11]);
        log.query(&format!("insert into t values ('{}')", "x".repeat(2 * BUFFER_BYTES)));
        log.xid();
        log.gtid(2, 6);
        log.query(&format!("create table t (id int) /* {} */", "x".repeat(BUFFER_BYTES)));
        (log.bytes, usize::try_from(rows).unwrap())
    }

    #[test]
    fn events_may_be_larger_than_the_buffer() {
        let (bytes, rows) = large();
        let summary = summarize(&bytes[..]).unwrap();
        assert_eq!((summary.groups, summary.groups_end), (2, bytes.len() as u64));
        for at in [rows + 30, rows + BUFFER_BYTES, rows + 3 * BUFFER_BYTES + 30] {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            let fault = summarize(&broken[..]).unwrap_err();
            assert!(matches!(fault.damage, Damage::Checksum), "{fault:?}");
            assert_eq!(fault.offset, rows as u64);
            let fault = summarize(&bytes[..at]).unwrap_err();
            assert!(matches!(fault.damage, Damage::Truncated), "{fault:?}");
        }
    }

    #[test]
    fn what_a_file_says_of_its_size_is_not_believed() {
        let mut log = Log::new("8.0.36", 41, false);
        let start = log.event(35, 0, &[0; 8]);
        let at = usize::try_from(start).unwrap();
        // It says to have 4 GiB, and has 8 bytes.
        log.bytes[at + 9..at + 17].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
        let fault = summarize(&log.bytes[..]).unwrap_err();
        assert!(matches!(fault.damage, Damage::Content(_)), "{fault:?}");
        log.bytes[at + 4] = 30;
        let fault = summarize(&log.bytes[..]).unwrap_err();
        assert!(matches!(fault.damage, Damage::Truncated), "{fault:?}");
        log.bytes[at + 9..at + 13].copy_from_slice(&[18, 0, 0, 0]);
        let fault = summarize(&log.bytes[..]).unwrap_err();
        assert!(matches!(fault.damage, Damage::Length(18)), "{fault:?}");
    }

    #[test]
    fn places_wrap_at_4_gib_and_must_fit() {
        let header = |ends_at| {
            let mut bytes = [0; HEADER];
            bytes[9] = 100;
            bytes[13..17].copy_from_slice(&u32::to_le_bytes(ends_at));
            Header::read(&bytes)
        };
        let start = (5 << 32) - 50;
        assert_eq!(place(&header(50), start, CHECKSUM).unwrap(), start + 100);
        assert_eq!(place(&header(0), start, CHECKSUM).unwrap(), start + 100);
        assert!(matches!(
            place(&header(51), start, CHECKSUM),
            Err(Damage::Position { says: 51, .. })
        ));
    }

    #[test]
    fn an_error_of_the_source_is_told_from_damage() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(ErrorKind::ConnectionReset.into())
            }
        }
        let fault = summarize(Failing).unwrap_err();
        assert!(matches!(fault.damage, Damage::Read(_)));
    }
}
