//! The way through one segment: its pages, the records on them, and the rests of longer ones.
//!
//! 1. The first page must name the expected cluster, position and size.
//! 2. On each page, the rest of an unfinished record comes first; it must be as long as expected.
//! 3. Then record after record: length, checksum, link to the record before.
//! 4. A switch ends the segment; zeros in place of a record end the valid log.
//! 5. A record that does not fit is carried over to the next page or segment.
//!
//! Source: `XLogDecodeNextRecord` and `XLogReaderValidatePageHeader` in `xlogreader.c`. Where
//! PostgreSQL says "end of the log" for anything that it cannot read, this tells the end from damage
//! where that can be told: an archived segment is whole, so what is broken inside of it is damage.

use crate::{
    domain::lsn::{Lsn, Segment, SegmentSize},
    wal::{
        page::{self, PAGE_SIZE, PageHeader, u32_at},
        record::{self, Damage, Event, HEADER, LENGTH_MAX, Record},
        scan::{Carry, Open, SegmentIndex, Unfinished, WalError},
    },
};
use std::mem;

/// The walk through one segment.
pub(super) struct Walk<'a> {
    segment: Segment,
    size: SegmentSize,
    bytes: &'a [u8],
    /// Whether nothing is known of the log before this segment.
    fresh: bool,
    page_timeline: u32,
    prev: Option<Lsn>,
    open: Open,
    index: SegmentIndex,
}

/// How a page ended.
#[derive(PartialEq, Eq)]
enum PageEnd {
    Next,
    Switch,
    EndOfLog,
}

impl<'a> Walk<'a> {
    /// Checks the first page by itself and against the segment before.
    pub(super) fn begin(
        segment: Segment,
        bytes: &'a [u8],
        carry: Option<Carry>,
    ) -> Result<Self, WalError> {
        let size = u64::try_from(bytes.len()).ok().and_then(SegmentSize::new);
        let name = segment.file_name(size.unwrap_or(SegmentSize::DEFAULT));
        let Some(size) = size else {
            let what = format!("{} bytes are no size of a segment", bytes.len());
            return Err(WalError::Segment { segment: name, what });
        };
        let Some(first) = PageHeader::read(bytes) else {
            return Err(match page::other_version(bytes) {
                Some(what) => WalError::Unsupported { segment: name, what },
                None => {
                    let what = "it does not begin with a page header of PostgreSQL 13 to 18".into();
                    WalError::Segment { segment: name, what }
                }
            });
        };
        let index = first_page(segment, size, &first)
            .and_then(|index| follows(&index, &first, carry.as_ref()).map(|()| index))
            .map_err(|what| WalError::Segment { segment: name, what })?;
        let fresh = carry.is_none();
        let (prev, open) = carry.map_or((None, Open::Border), |carry| (carry.prev, carry.open));
        Ok(Self { segment, size, bytes, fresh, page_timeline: first.timeline, prev, open, index })
    }

    pub(super) fn run(
        mut self,
        sink: &mut dyn FnMut(&Record),
    ) -> Result<(SegmentIndex, Carry), WalError> {
        let bytes = self.bytes;
        for (number, page) in bytes.chunks_exact(PAGE_SIZE).enumerate() {
            match self.page(number * PAGE_SIZE, page, sink)? {
                PageEnd::Next => {}
                PageEnd::Switch => break,
                PageEnd::EndOfLog => {
                    self.index.ends_early = true;
                    self.open = Open::Ended;
                    break;
                }
            }
        }
        let carry = Carry {
            next_number: self.segment.number + 1,
            system_identifier: self.index.system_identifier,
            segment_size: self.size,
            postgres_major: self.index.postgres_major,
            page_timeline: self.page_timeline,
            prev: self.prev,
            open: self.open,
        };
        Ok((self.index, carry))
    }

    /// Walks one page that begins `offset` bytes into the segment.
    fn page(
        &mut self,
        offset: usize,
        page: &[u8],
        sink: &mut dyn FnMut(&Record),
    ) -> Result<PageEnd, WalError> {
        let address = Lsn(self.segment.start(self.size).0 + offset as u64);
        let Some(header) = PageHeader::read(page).filter(|header| {
            header.address == address && header.postgres_major == self.index.postgres_major
        }) else {
            // A page that was never written, or holds what a recycled file held before.
            return Ok(PageEnd::EndOfLog);
        };
        // Timelines only rise along the log. A new timeline's first segment begins with a copy of
        // the old one's pages, so older ones than the file's are right, newer ones never.
        if !(self.page_timeline..=self.segment.timeline.0).contains(&header.timeline) {
            return Err(self.damaged(address, "a page of another timeline"));
        }
        self.page_timeline = header.timeline;
        if header.long.is_some() != (offset == 0) || header.continues && header.overwrites {
            return Err(self.damaged(address, "a page with an impossible header"));
        }
        let mut at = header.length();
        if let Some(end) = self.rest(&header, page, &mut at, sink)? {
            return Ok(end);
        }
        while at + 4 <= PAGE_SIZE {
            let lsn = Lsn(address.0 + at as u64);
            let length = u32_at(page, at).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            if length == 0 {
                return Ok(PageEnd::EndOfLog);
            }
            if !(HEADER..=LENGTH_MAX).contains(&length) {
                return Err(self.damaged(lsn, "a record of an impossible length"));
            }
            let Some(whole) = page.get(at..at + length) else {
                // Even its header may be cut in two; only its length is always on this page.
                let bytes = page[at..].to_vec();
                self.open = Open::Record(Unfinished { lsn, length, bytes });
                return Ok(PageEnd::Next);
            };
            at = aligned(at + length);
            let end = Lsn(address.0 + at as u64);
            if self.record(whole, lsn, end, sink)? {
                return Ok(PageEnd::Switch);
            }
        }
        Ok(PageEnd::Next)
    }

    /// The rest of a record at the start of a page. `Some` when the page is used up by it.
    fn rest(
        &mut self,
        header: &PageHeader,
        page: &[u8],
        at: &mut usize,
        sink: &mut dyn FnMut(&Record),
    ) -> Result<Option<PageEnd>, WalError> {
        let open = mem::replace(&mut self.open, Open::Border);
        if !header.continues {
            // After a crash inside of a record PostgreSQL gives it up and says so on the page where
            // its rest would begin (`CreateOverwriteContrecordRecord` in `xlog.c`).
            return match open {
                Open::Record(record) if !header.overwrites => {
                    Err(self.damaged(record.lsn, "a record without its rest"))
                }
                Open::Tail { .. } if !header.overwrites => {
                    Err(self.damaged(header.address, "no rest of the record before"))
                }
                Open::Border | Open::Record(_) | Open::Tail { .. } | Open::Ended => Ok(None),
            };
        }
        let take = header.rest_length.min(PAGE_SIZE - *at);
        let left = header.rest_length - take;
        let rest = &page[*at..*at + take];
        *at = aligned(*at + take);
        let mut record = match open {
            Open::Record(record) => record,
            Open::Border | Open::Tail { .. } | Open::Ended => {
                self.pass_over(&open, header, left)?;
                return Ok((left > 0).then_some(PageEnd::Next));
            }
        };
        if rest.is_empty() || record.bytes.len() + header.rest_length != record.length {
            return Err(self.damaged(record.lsn, "a record whose rest has another length"));
        }
        record.bytes.extend_from_slice(rest);
        if left > 0 {
            self.open = Open::Record(record);
            return Ok(Some(PageEnd::Next));
        }
        let end = Lsn(header.address.0 + *at as u64);
        let switched = self.record(&record.bytes, record.lsn, end, sink)?;
        Ok(switched.then_some(PageEnd::Switch))
    }

    /// Passes over a page's share of a record whose beginning was not seen. Only a scan's very
    /// first page may begin in the middle of one that nobody announced.
    fn pass_over(&mut self, open: &Open, header: &PageHeader, left: usize) -> Result<(), WalError> {
        let announced = match open {
            Open::Tail { left } => *left == header.rest_length,
            Open::Border | Open::Record(_) | Open::Ended => {
                self.fresh && header.address == self.segment.start(self.size)
            }
        };
        if !announced || header.rest_length == 0 {
            return Err(self.damaged(header.address, "the rest of a record that did not begin"));
        }
        if left > 0 {
            self.open = Open::Tail { left };
        }
        Ok(())
    }

    /// Checks a whole record and takes it into the index. Says whether it ends the segment.
    fn record(
        &mut self,
        bytes: &[u8],
        lsn: Lsn,
        end: Lsn,
        sink: &mut dyn FnMut(&Record),
    ) -> Result<bool, WalError> {
        let mut record = record::read(bytes, lsn, self.index.postgres_major).map_err(|damage| {
            let what = match damage {
                Damage::Length => "a record of an impossible length",
                Damage::Checksum => "a record with a wrong checksum",
                Damage::Parts => "a record whose parts do not add up",
            };
            self.damaged(lsn, what)
        })?;
        let linked = self.prev.map_or(record.prev < lsn, |prev| prev == record.prev);
        if !linked {
            return Err(self.damaged(lsn, "a record that does not follow the one before it"));
        }
        let switch = record.event == Event::Switch;
        record.end = if switch { self.segment.end(self.size) } else { end };
        self.prev = Some(lsn);
        self.index.take(&record);
        sink(&record);
        Ok(switch)
    }

    fn damaged(&self, lsn: Lsn, what: &'static str) -> WalError {
        WalError::Record { segment: self.segment.file_name(self.size), lsn, what }
    }
}

/// Checks a segment's first page by itself; an empty index, or what is wrong.
fn first_page(
    segment: Segment,
    size: SegmentSize,
    first: &PageHeader,
) -> Result<SegmentIndex, String> {
    let Some(long) = first.long else {
        return Err("its first page has no long header".into());
    };
    if long.segment_bytes != size.bytes() {
        let header = long.segment_bytes;
        return Err(format!("it has {} bytes, its header says {header}", size.bytes()));
    }
    if usize::try_from(long.page_bytes).ok() != Some(PAGE_SIZE) {
        return Err(format!("pages of {} bytes are not supported", long.page_bytes));
    }
    let start = segment.start(size);
    if first.address != start {
        return Err(format!("it holds the log from {}, not {start}", first.address));
    }
    if first.timeline > segment.timeline.0 {
        return Err(format!("it was written by timeline {}", first.timeline));
    }
    Ok(SegmentIndex {
        segment,
        system_identifier: long.system_identifier,
        segment_size: size,
        postgres_major: first.postgres_major,
        records: 0,
        last_record: None,
        last_end: None,
        xacts: None,
        latest_time: None,
        backup_ends: Vec::new(),
        parameter_floor: None,
        ends_early: false,
    })
}

/// Checks that a segment continues the one before it; what is wrong otherwise.
fn follows(index: &SegmentIndex, first: &PageHeader, carry: Option<&Carry>) -> Result<(), String> {
    let Some(carry) = carry else { return Ok(()) };
    if carry.next_number != index.segment.number || carry.segment_size != index.segment_size {
        return Err("it is not the next one".into());
    }
    if carry.open == Open::Ended {
        return Err("the log ended early in the segment before it".into());
    }
    if carry.system_identifier != index.system_identifier {
        return Err(format!(
            "it belongs to the cluster {}, the one before it to {}",
            index.system_identifier, carry.system_identifier
        ));
    }
    if carry.postgres_major != index.postgres_major {
        return Err(format!(
            "it is of PostgreSQL {}, the one before it of {}",
            index.postgres_major, carry.postgres_major
        ));
    }
    if first.timeline < carry.page_timeline {
        return Err(format!(
            "timeline {} wrote it, and {} the one before it",
            first.timeline, carry.page_timeline
        ));
    }
    Ok(())
}

/// Records begin at multiples of eight bytes (`MAXALIGN`).
fn aligned(at: usize) -> usize {
    (at + 7) & !7
}
