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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::lsn::Timeline,
        wal::{
            fake::{FIRST, Files, Log, SIZE},
            page::{LONG_HEADER, PAGE_SIZE},
        },
    };
    use proptest::prelude::*;

    type Seen = Vec<(Lsn, Lsn, u8)>;

    fn scan(
        scanner: &mut Scanner,
        segments: &[(Segment, Vec<u8>)],
    ) -> (Seen, Result<Vec<SegmentIndex>, WalError>) {
        let mut seen = vec![];
        let mut see = |record: &Record| seen.push((record.lsn, record.end, record.manager));
        let indexes = segments
            .iter()
            .map(|(segment, bytes)| scanner.segment(*segment, bytes, &mut see))
            .collect();
        (seen, indexes)
    }

    fn check(log: &Log) -> Vec<SegmentIndex> {
        let (seen, indexes) = scan(&mut Scanner::new(), &log.segments());
        let indexes = indexes.unwrap();
        assert_eq!(seen, log.records);
        // Segment by segment, with what is carried over written down in between.
        let mut carry: Option<Carry> = None;
        let mut pieces = vec![];
        for part in log.segments() {
            let mut scanner = carry.map_or_else(Scanner::new, Scanner::resume);
            pieces.extend(scan(&mut scanner, &[part]).0);
            let text = serde_json::to_string(&scanner.carry().unwrap()).unwrap();
            carry = Some(serde_json::from_str(&text).unwrap());
        }
        assert_eq!(pieces, log.records);
        indexes
    }

    fn fault(segments: &[(Segment, Vec<u8>)]) -> String {
        scan(&mut Scanner::new(), segments).1.unwrap_err().to_string()
    }

    #[test]
    fn records_are_cut_anywhere() {
        // 8 bytes hold a record's length and no more of its header.
        for left in [8, 16, 24, 32, 40] {
            let mut log = Log::new();
            log.record(10, 0, &[1; 100]);
            log.leave(left);
            log.record(10, 0, &[2; 100]);
            log.leave(0);
            log.record(10, 0, &[3; 3 * PAGE_SIZE]);
            log.fill();
            log.leave(left);
            log.record(10, 0, &[4; 20_000]);
            assert_eq!(check(&log).len(), 2, "{left}");
        }
    }

    #[test]
    fn a_record_spans_segments() {
        let mut log = Log::new();
        log.record(10, 0, &[1; 100]);
        log.record(10, 0, &vec![2; 5 * SIZE / 2]);
        log.record(10, 0, &[3; 100]);
        log.fill();
        let (seen, _) = scan(&mut Scanner::new(), &log.segments()[..2]);
        assert_eq!(seen.len(), 1);
        // A scan may begin in the middle of it; its rest is then passed over to its very end.
        let (seen, indexes) = scan(&mut Scanner::new(), &log.segments()[1..]);
        assert_eq!(seen, log.records[2..]);
        assert_eq!(indexes.unwrap()[0].last_record, None);
        let mut broken = log.segments();
        let rest = &mut broken[2].1[16..20];
        rest[0] ^= 8;
        assert!(fault(&broken[1..]).contains("the rest of a record"), "{}", fault(&broken[1..]));
        assert!(fault(&broken).contains("whose rest has another length"));
    }

    #[test]
    fn a_large_record_is_not_carried_but_read_again() {
        let mut log = Log::new();
        log.record(10, 0, &[1; 100]);
        log.record(10, 0, &vec![2; 3 * SIZE]);
        let mut scanner = Scanner::new();
        scan(&mut scanner, &log.segments()[..1]).1.unwrap();
        assert!(scanner.carry().is_some());
        scan(&mut scanner, &log.segments()[1..2]).1.unwrap();
        assert!(scanner.carry().is_none());
    }

    #[test]
    fn a_switch_ends_the_segment_even_when_it_is_cut() {
        for left in [8, 16, 24, 32] {
            let mut log = Log::new();
            log.leave(PAGE_SIZE - 200);
            log.leave(left);
            log.record(0, 0x40, &[]);
            log.record(10, 0, &[1; 100]);
            log.fill();
            // Cut between two segments, it uses up the second one.
            log.leave(left);
            log.record(0, 0x40, &[]);
            log.record(10, 0, &[1; 100]);
            let indexes = check(&log);
            assert_eq!(indexes.len(), if left < 24 { 4 } else { 3 }, "{left}");
            assert!(!indexes[0].ends_early, "{left}");
            assert_eq!(
                indexes[0].last_end,
                Some(indexes[1].segment.start(indexes[1].segment_size))
            );
        }
    }

    #[test]
    fn a_record_that_was_given_up_is_passed_over() {
        for cut in [PAGE_SIZE, SIZE] {
            let mut log = Log::new();
            log.record(10, 0, &[1; 100]);
            let (prev, kept) = (log.prev, log.records.clone());
            log.record(10, 0, &vec![2; 2 * SIZE]);
            log.bytes.truncate(cut);
            (log.prev, log.records, log.overwrite) = (prev, kept, true);
            log.record(0, 0xD0, &[0; 16]);
            log.fill();
            check(&log);
            // Without the mark it is damage.
            let mut broken = log.segments();
            broken[cut / SIZE].1[cut % SIZE + 2] &= !8;
            assert!(fault(&broken).contains("a record without its rest"), "{}", fault(&broken));
        }
    }

    #[test]
    fn nothing_follows_an_early_end() {
        let mut log = Log::new();
        log.record(10, 0, &[1; 100]);
        log.fill();
        log.leave(8);
        log.record(10, 0, &[1; 100]);
        log.fill();
        let mut segments = log.segments();
        let whole = scan(&mut Scanner::new(), &segments[..1]).1.unwrap().remove(0);
        assert!(!whole.ends_early);
        // Half of it was written, the rest is what a recycled file held before.
        let old = segments[1].1.clone();
        segments[0].1[SIZE / 2..].copy_from_slice(&old[SIZE / 2..]);
        let mut scanner = Scanner::new();
        let (seen, indexes) = scan(&mut scanner, &segments[..1]);
        let index = indexes.unwrap().remove(0);
        assert!(index.ends_early);
        assert!(index.last_end.unwrap() <= Lsn((FIRST * SIZE as u64) + SIZE as u64 / 2));
        assert_eq!(seen, log.records[..seen.len()]);
        let carry = scanner.carry().unwrap();
        let next = scan(&mut Scanner::resume(carry), &segments[1..]).1.unwrap_err();
        assert!(next.to_string().contains("the log ended early"), "{next}");
        // A scanner that failed does not begin anew.
        scan(&mut scanner, &segments[1..]).1.unwrap_err();
        let next = scan(&mut scanner, &segments[1..]).1.unwrap_err();
        assert!(next.to_string().contains("the log before it could not be read"), "{next}");
        assert_eq!(scanner.carry(), None);
    }

    #[test]
    fn a_newer_timeline_goes_on_inside_a_segment() {
        let mut old = Log::new();
        old.record(10, 0, &[1; 100]);
        old.fill();
        old.leave(8);
        old.record(10, 0, &[1; 100]);
        old.record(10, 0, &[1; 9000]);
        let mut new = Log { bytes: old.bytes.clone(), records: old.records.clone(), ..old };
        new.timeline = 2;
        new.record(10, 0, &[2; 30_000]);
        // The old one's first segment, then the new one's second, which begins with a copy.
        let path = |log: &Log| {
            let mut segments = log.segments();
            segments[0].0.timeline = Timeline(1);
            segments
        };
        let (seen, indexes) = scan(&mut Scanner::new(), &path(&new));
        assert!(indexes.unwrap()[1].ends_early);
        assert_eq!(seen, new.records);
        // Timelines never run backwards, and no file holds a newer one's pages.
        let mut back = path(&new);
        let last = PAGE_SIZE * 3;
        assert_eq!(back[1].1[last + 4], 2);
        back[1].1[last + 4] = 1;
        assert!(fault(&back).contains("another timeline"), "{}", fault(&back));
        back[1].1[last + 4] = 3;
        assert!(fault(&back).contains("another timeline"), "{}", fault(&back));
    }

    #[test]
    fn a_segment_must_be_of_its_place() {
        let mut log = Log::new();
        log.fill();
        log.leave(8);
        log.record(10, 0, &[1; 5000]);
        let good = log.segments();
        let check = |change: &dyn Fn(&mut Files), expected: &str| {
            let mut segments = good.clone();
            change(&mut segments);
            let found = fault(&segments);
            assert!(found.contains(expected), "{found}");
        };
        check(&|s| s[0].1.truncate(SIZE - 1), "1048575 bytes are no size of a segment");
        check(&|s| s[0].1 = vec![], "0 bytes are no size");
        check(&|s| s[0].1 = vec![0; SIZE], "does not begin with a page header");
        check(&|s| s[0].1[2] = 0, "no long header");
        check(&|s| s[0].1[2] |= 0x10, "does not begin with a page header");
        check(&|s| s[0].1[35] = 1, "its header says");
        check(&|s| s[0].1[38] = 1, "pages of");
        check(&|s| s[0].0.number += 1, "it holds the log from 0/300000, not 0/400000");
        check(&|s| s[0].1[4] = 2, "written by timeline 2");
        check(&|s| s.swap(0, 1), "it is not the next one");
        check(&|s| s[1].1[24] = 8, "it belongs to the cluster 8, the one before it to 7");
        check(&|s| s[1].1[0] = 0x13, "it is of PostgreSQL 16, the one before it of 15");
        check(&|s| s[1].1[4] = 0, "timeline 0 wrote it, and 1 the one before it");
        check(&|s| s[0].1[0] = 0x20, "page magic D120 is that of a newer PostgreSQL than 18");
        check(&|s| s[0].1[0] = 0x01, "an older PostgreSQL than 13");
        check(&|s| s[0].1[..2].copy_from_slice(&[0xD1, 0x10]), "a big-endian machine");
    }

    #[test]
    fn a_sound_record_of_another_log_does_not_follow() {
        let mut log = Log::new();
        log.record(10, 0, &[1; 100]);
        log.prev -= 8;
        log.record(10, 0, &[1; 100]);
        assert!(fault(&log.segments()).contains("does not follow the one before it"));
        // Even a scan's first record points back.
        let mut log = Log::new();
        log.prev = log.position() + 8192;
        log.record(10, 0, &[1; 100]);
        assert!(fault(&log.segments()).contains("does not follow the one before it"));
    }

    #[test]
    fn only_a_scans_first_page_begins_with_an_unknown_rest() {
        let border = |last: usize| {
            let mut log = Log::new();
            log.record(10, 0, &[1; 100]);
            log.fill();
            log.leave(last);
            if last > 0 {
                log.record(10, 0, &[1; 500]);
            }
            log.fill();
            log.segments()
        };
        let (whole, cut) = (border(0), border(8));
        assert!(fault(&[whole[0].clone(), cut[1].clone()]).contains("did not begin"));
        assert!(fault(&[cut[0].clone(), whole[1].clone()]).contains("without its rest"));
        scan(&mut Scanner::new(), &cut[1..]).1.unwrap();
    }

    #[test]
    fn times_beyond_the_calendar_are_refused() {
        for time in [i64::MIN, i64::MAX, i64::MIN + 1] {
            let mut log = Log::new();
            log.record(1, 0, &time.to_le_bytes());
            assert!(fault(&log.segments()).contains("do not add up"), "{time}");
        }
    }

    /// Whether everything seen of changed bytes is what was written, and no more.
    fn check_prefix(original: &Seen, segments: &[(Segment, Vec<u8>)]) {
        let (seen, _) = scan(&mut Scanner::new(), segments);
        assert!(seen.len() <= original.len() && seen[..] == original[..seen.len()]);
    }

    proptest! {
        #[test]
        fn any_bytes_behind_good_headers_are_read_without_a_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..3 * PAGE_SIZE),
            at in 0..SIZE,
            cut in 0..200_usize,
        ) {
            let mut log = Log::new();
            log.record(10, 0, &vec![1; PAGE_SIZE * 2 + cut]);
            log.record(1, 0, &1_i64.to_le_bytes());
            log.fill();
            let mut segments = log.segments();
            let end = SIZE.min(at + noise.len());
            segments[0].1[at..end].copy_from_slice(&noise[..end - at]);
            if at > LONG_HEADER + PAGE_SIZE * 3 {
                check_prefix(&log.records, &segments);
            } else {
                let _ = scan(&mut Scanner::new(), &segments);
            }
            let mut bytes = noise;
            bytes.resize(SIZE, 0xD1);
            let _ = scan(&mut Scanner::new(), &[(segments[0].0, bytes)]);
        }

        #[test]
        fn a_flipped_bit_never_makes_the_log_longer(bit in 0..25 * PAGE_SIZE * 8) {
            let mut log = Log::new(); // It ends on its seventeenth page.
            for n in 0..20 {
                log.record(1, 0, &i64::from(n).to_le_bytes());
                log.record(10, 0, &vec![1; 700 * usize::try_from(n).unwrap()]);
            }
            let mut segments = log.segments();
            segments[0].1[bit / 8] ^= 1 << (bit % 8);
            check_prefix(&log.records, &segments);
        }
    }
}
