//! Walks the records of consecutive segments, and sums up each segment.
//!
//! 1. A segment's first page must name the expected cluster, position and size.
//! 2. On each page, the rest of an unfinished record comes first; it must be as long as expected.
//! 3. Then record after record: length, checksum, link to the record before.
//! 4. A switch ends the segment; zeros in place of a record end the valid log.
//! 5. A record that does not fit is carried over to the next segment.

use crate::{
    domain::lsn::{Lsn, Segment, SegmentSize},
    wal::{
        page::{PAGE_SIZE, PageHeader, u32_at},
        record::{self, Damage, Event, HEADER, LENGTH_MAX, Record},
    },
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Largest unfinished record that [`Scanner::carry`] gives, in bytes. For a larger one the caller
/// reads again from the segment where it began.
pub const CARRY_BYTES_MAX: usize = 1 << 20;

/// What one segment holds, as far as recovery is concerned. Records count where they end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentIndex {
    /// The segment.
    pub segment: Segment,
    /// The database cluster.
    pub system_identifier: u64,
    /// Size of the segments.
    pub segment_size: SegmentSize,
    /// Major version of PostgreSQL.
    pub postgres_major: u32,
    /// Number of records that end here.
    pub records: u64,
    /// Start of the last record that ends here.
    pub last_record: Option<Lsn>,
    /// End of it.
    pub last_end: Option<Lsn>,
    /// Commits and aborts.
    pub xacts: Option<Xacts>,
    /// Latest time in any record: commits, aborts, checkpoints, restore points.
    pub latest_time: Option<DateTime<Utc>>,
    /// Where base backups ended.
    pub backup_ends: Vec<Lsn>,
    /// Largest settings that a hot standby needs.
    pub parameter_floor: Option<[u32; 5]>,
    /// Whether the valid log ends before the segment does.
    pub ends_early: bool,
}

/// The commits and aborts of a segment. Their times need not rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xacts {
    /// How many.
    pub count: u64,
    /// Largest time.
    pub max_time: DateTime<Utc>,
    /// Time of the last in log order.
    pub last_time: DateTime<Utc>,
}

/// What is needed to go on with the next segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry {
    next_number: u64,
    prev: Option<Lsn>,
    system_identifier: u64,
    unfinished: Option<Unfinished>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unfinished {
    lsn: Lsn,
    length: usize,
    bytes: Vec<u8>,
}

/// The log is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The bytes are no segment of this place in the log.
    #[error("WAL segment {segment} is damaged: {what}")]
    Segment {
        /// File name of the segment.
        segment: String,
        /// What is wrong.
        what: String,
    },
    /// A record is damaged.
    #[error("WAL segment {segment} is damaged: {what} at {lsn}")]
    Record {
        /// File name of the segment.
        segment: String,
        /// Where the record begins.
        lsn: Lsn,
        /// What is wrong.
        what: &'static str,
    },
}

/// Reads segments one after the other.
#[derive(Debug, Default)]
pub struct Scanner {
    carry: Option<Carry>,
}

impl Scanner {
    /// A scanner that may begin with any segment: the rest of a record at its start is passed over.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A scanner that goes on where another one stopped.
    #[must_use]
    pub fn resume(carry: Carry) -> Self {
        Self { carry: Some(carry) }
    }

    /// What a later scanner needs to go on here. `None` at the very beginning, and when the
    /// unfinished record is larger than [`CARRY_BYTES_MAX`].
    #[must_use]
    pub fn carry(&self) -> Option<Carry> {
        let carry = self.carry.as_ref()?;
        let large =
            carry.unfinished.as_ref().is_some_and(|record| record.bytes.len() > CARRY_BYTES_MAX);
        (!large).then(|| carry.clone())
    }

    /// Reads one whole segment and shows every record that ends in it to `sink`.
    ///
    /// # Errors
    /// [`WalError`] when the bytes are damaged, of another cluster, or not the next segment. The
    /// records before the damage have been shown.
    pub fn segment(
        &mut self,
        segment: Segment,
        bytes: &[u8],
        sink: &mut dyn FnMut(&Record),
    ) -> Result<SegmentIndex, WalError> {
        let walk = Walk::begin(segment, bytes, self.carry.take())?;
        let (index, carry) = walk.run(sink)?;
        self.carry = Some(carry);
        Ok(index)
    }
}

/// The walk through one segment.
struct Walk<'a> {
    segment: Segment,
    size: SegmentSize,
    bytes: &'a [u8],
    first: PageHeader,
    prev: Option<Lsn>,
    unfinished: Option<Unfinished>,
    /// Bytes of a record's rest that are passed over, as its beginning was not seen.
    skip: usize,
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
    fn begin(segment: Segment, bytes: &'a [u8], carry: Option<Carry>) -> Result<Self, WalError> {
        let size = u64::try_from(bytes.len()).ok().and_then(SegmentSize::new);
        let name = segment.file_name(size.unwrap_or(SegmentSize::DEFAULT));
        let damaged = |what: String| WalError::Segment { segment: name.clone(), what };
        let Some(size) = size else {
            return Err(damaged(format!("{} bytes are no size of a segment", bytes.len())));
        };
        let Some(first) = PageHeader::read(bytes) else {
            return Err(damaged(
                "it does not begin with a page header of PostgreSQL 13 to 18".into(),
            ));
        };
        let Some(long) = first.long else {
            return Err(damaged("its first page has no long header".into()));
        };
        if long.segment_bytes != size.bytes() {
            return Err(damaged(format!(
                "it has {} bytes, its header says {}",
                size.bytes(),
                long.segment_bytes
            )));
        }
        if usize::try_from(long.page_bytes).ok() != Some(PAGE_SIZE) {
            return Err(damaged(format!("pages of {} bytes are not supported", long.page_bytes)));
        }
        let start = segment.start(size);
        if first.address != start {
            return Err(damaged(format!("it holds the log from {}, not {start}", first.address)));
        }
        if first.timeline > segment.timeline.0 {
            return Err(damaged(format!("it was written by timeline {}", first.timeline)));
        }
        if let Some(carry) = &carry {
            if carry.next_number != segment.number {
                return Err(damaged("it is not the next one".into()));
            }
            if carry.system_identifier != long.system_identifier {
                return Err(damaged(format!(
                    "it belongs to the cluster {}, the one before it to {}",
                    long.system_identifier, carry.system_identifier
                )));
            }
        }
        let index = SegmentIndex {
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
        };
        let (prev, unfinished) = carry.map_or((None, None), |carry| (carry.prev, carry.unfinished));
        Ok(Self { segment, size, bytes, first, prev, unfinished, skip: 0, index })
    }

    fn run(mut self, sink: &mut dyn FnMut(&Record)) -> Result<(SegmentIndex, Carry), WalError> {
        let bytes = self.bytes;
        for (number, page) in bytes.chunks_exact(PAGE_SIZE).enumerate() {
            match self.page(number * PAGE_SIZE, page, sink)? {
                PageEnd::Next => {}
                PageEnd::Switch => break,
                PageEnd::EndOfLog => {
                    self.index.ends_early = true;
                    self.unfinished = None;
                    break;
                }
            }
        }
        let carry = Carry {
            next_number: self.segment.number + 1,
            prev: self.prev,
            system_identifier: self.index.system_identifier,
            unfinished: self.unfinished,
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
        let Some(header) = PageHeader::read(page).filter(|header| header.address == address) else {
            // A page that was never written, or holds what a recycled file held before.
            return Ok(PageEnd::EndOfLog);
        };
        if header.timeline > self.segment.timeline.0 || header.timeline < self.first.timeline {
            return Err(self.damaged(address, "a page of another timeline"));
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
                let bytes = page[at..].to_vec();
                self.unfinished = Some(Unfinished { lsn, length, bytes });
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
        let room = PAGE_SIZE - *at;
        if !header.continues {
            if let Some(record) = self.unfinished.take_if(|_| !header.overwrites) {
                return Err(self.damaged(record.lsn, "a record without its rest"));
            }
            self.unfinished = None;
            self.skip = 0;
            return Ok(None);
        }
        let Some(mut record) = self.unfinished.take() else {
            // The first segment of a scan begins in the middle of a record, or the scan is
            // still inside of it.
            if self.prev.is_some() && self.skip == 0 {
                return Err(self.damaged(header.address, "the rest of a record that did not begin"));
            }
            self.skip = header.rest_length.saturating_sub(room);
            *at = aligned(*at + header.rest_length.min(room));
            return Ok((header.rest_length >= room).then_some(PageEnd::Next));
        };
        if record.bytes.len() + header.rest_length != record.length {
            return Err(self.damaged(record.lsn, "a record whose rest has another length"));
        }
        let take = header.rest_length.min(room);
        record.bytes.extend_from_slice(&page[*at..*at + take]);
        *at = aligned(*at + take);
        if take < header.rest_length {
            self.unfinished = Some(record);
            return Ok(Some(PageEnd::Next));
        }
        let end = Lsn(header.address.0 + *at as u64);
        let switched = self.record(&record.bytes, record.lsn, end, sink)?;
        Ok(switched.then_some(PageEnd::Switch))
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
        if self.prev.is_some_and(|prev| prev != record.prev) {
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

impl SegmentIndex {
    fn take(&mut self, record: &Record) {
        self.records += 1;
        self.last_record = Some(record.lsn);
        self.last_end = Some(record.end);
        let mut seen = |time: DateTime<Utc>| {
            self.latest_time = Some(self.latest_time.map_or(time, |latest| latest.max(time)));
        };
        match &record.event {
            Event::Xact { time, .. } => {
                seen(*time);
                let before = self.xacts;
                self.xacts = Some(Xacts {
                    count: before.map_or(1, |xacts| xacts.count + 1),
                    max_time: before.map_or(*time, |xacts| xacts.max_time.max(*time)),
                    last_time: *time,
                });
            }
            Event::Checkpoint { time }
            | Event::RestorePoint { time }
            | Event::EndOfRecovery { time } => seen(*time),
            Event::BackupEnd { .. } => self.backup_ends.push(record.lsn),
            Event::Parameters(values) => {
                let floor = self.parameter_floor.get_or_insert([0; 5]);
                for (floor, value) in floor.iter_mut().zip(values) {
                    *floor = (*floor).max(*value);
                }
            }
            Event::Switch | Event::Other => {}
        }
    }
}

/// Records begin at multiples of eight bytes (`MAXALIGN`).
fn aligned(at: usize) -> usize {
    (at + 7) & !7
}
