//! Walks the records of consecutive segments, and sums up each segment.
//!
//! 1. The caller gives the segments of one way through the log, in order and without a hole.
//! 2. Each is checked against the one before it: place, cluster, version, size, timeline.
//! 3. `walk.rs` goes through its pages and records; what was not finished is carried over.
//! 4. Where the valid log ends inside a segment, the run ends: no later segment is taken.

use crate::{
    domain::lsn::{Lsn, Segment, SegmentSize},
    wal::{
        record::{Event, Record},
        walk::Walk,
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
    /// Whether the valid log ends before the segment does: zeros, a page that a recycled file held
    /// before, or half a record. So it is with a `.partial` file, with the file that is being
    /// written, and with the last one of a timeline that was left.
    ///
    /// Nothing on the same timeline is contiguous with this segment, so a run must end here, and
    /// the [`Scanner`] refuses the next segment. The way goes on only on a newer timeline that left
    /// this one inside of this segment: its file of the *same* number begins with a copy of this
    /// one, so it is scanned in place of this one, from the [`Carry`] of the segment before.
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
    pub(super) next_number: u64,
    pub(super) system_identifier: u64,
    pub(super) segment_size: SegmentSize,
    pub(super) postgres_major: u32,
    /// Timeline that wrote the last page.
    pub(super) page_timeline: u32,
    /// Start of the last record.
    pub(super) prev: Option<Lsn>,
    pub(super) open: Open,
}

/// Where the walk stands between two pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Open {
    /// Between two records.
    Border,
    /// In a record.
    Record(Unfinished),
    /// In a record whose beginning was not seen: so many bytes of it are left.
    Tail { left: usize },
    /// Behind the end of the valid log.
    Ended,
}

/// A record whose rest is on the pages that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unfinished {
    pub(super) lsn: Lsn,
    pub(super) length: usize,
    pub(super) bytes: Vec<u8>,
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
    /// The segment may be sound, but this program cannot read it.
    #[error("WAL segment {segment} cannot be read: {what}")]
    Unsupported {
        /// File name of the segment.
        segment: String,
        /// Why not.
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
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Fresh,
    Going(Carry),
    Failed,
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
        Self { state: State::Going(carry) }
    }

    /// What a later scanner needs to go on here. `None` at the very beginning, after an error, and
    /// when the unfinished record is larger than [`CARRY_BYTES_MAX`].
    #[must_use]
    pub fn carry(&self) -> Option<Carry> {
        let State::Going(carry) = &self.state else { return None };
        let large = match &carry.open {
            Open::Record(record) => record.bytes.len() > CARRY_BYTES_MAX,
            Open::Border | Open::Tail { .. } | Open::Ended => false,
        };
        (!large).then(|| carry.clone())
    }

    /// Reads one whole segment and shows every record that ends in it to `sink`.
    ///
    /// # Errors
    /// [`WalError`] when the bytes are damaged, of another cluster, or not the next segment. The
    /// records before the damage have been shown. A scanner that failed stays failed, so that
    /// nothing behind the damage is taken for a continuation: to try other bytes for the same
    /// place, [`Scanner::resume`] from the carry taken before.
    pub fn segment(
        &mut self,
        segment: Segment,
        bytes: &[u8],
        sink: &mut dyn FnMut(&Record),
    ) -> Result<SegmentIndex, WalError> {
        let carry = match std::mem::replace(&mut self.state, State::Failed) {
            State::Fresh => None,
            State::Going(carry) => Some(carry),
            State::Failed => {
                let segment = segment.file_name(SegmentSize::DEFAULT);
                let what = "the log before it could not be read".to_owned();
                return Err(WalError::Unsupported { segment, what });
            }
        };
        let (index, carry) = Walk::begin(segment, bytes, carry)?.run(sink)?;
        self.state = State::Going(carry);
        Ok(index)
    }
}

impl SegmentIndex {
    /// Takes a record into the sums.
    pub(super) fn take(&mut self, record: &Record) {
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
