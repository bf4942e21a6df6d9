//! Timeline history files, and which segments a recovery along a timeline reads.

use crate::domain::lsn::{Lsn, Segment, SegmentSize, Timeline};

/// A stretch of the log on one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The timeline.
    pub timeline: Timeline,
    /// Where it begins.
    pub begin: Lsn,
    /// Where the next timeline left it; `None` for the last.
    pub end: Option<Lsn>,
}

/// The way through the log to a timeline: its ancestors, oldest first, and itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelinePath {
    stretches: Vec<Stretch>,
}

/// A history file is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of {file} is not `timeline, log position, reason`")]
pub struct NotAHistory {
    file: String,
    line: usize,
}

impl TimelinePath {
    /// The way to a timeline that has no history file: the first one.
    #[must_use]
    pub fn first(timeline: Timeline) -> Self {
        Self { stretches: vec![Stretch { timeline, begin: Lsn(0), end: None }] }
    }

    /// Reads the history file of `timeline`: a line for each ancestor with its number and the
    /// position where the next one left it (`readTimeLineHistory` in `timeline.c`).
    ///
    /// The positions may fall. Who recovers towards timeline 2 and stops before that begins is on
    /// timeline 1, and begins timeline 3 there; PostgreSQL writes that 3 left 2, all the same
    /// (`writeTimeLineHistory` is given the timeline that was aimed at), at a position that 2 never
    /// had. Such a timeline is not on the way.
    ///
    /// # Errors
    /// [`NotAHistory`] with the line.
    pub fn parse(timeline: Timeline, text: &str) -> Result<Self, NotAHistory> {
        let mut stretches = Vec::new();
        let mut begin = Lsn(0);
        for (number, line) in text.lines().enumerate() {
            let bad = || NotAHistory { file: timeline.history_file(), line: number + 1 };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split_whitespace();
            let parent = fields.next().and_then(|field| field.parse().ok()).ok_or_else(bad)?;
            let end: Lsn = fields.next().and_then(|field| field.parse().ok()).ok_or_else(bad)?;
            let older = stretches.last().map_or(0, |stretch: &Stretch| stretch.timeline.0);
            if parent <= older || parent >= timeline.0 {
                return Err(bad());
            }
            stretches.push(Stretch { timeline: Timeline(parent), begin, end: Some(end) });
            begin = end;
        }
        stretches.push(Stretch { timeline, begin, end: None });
        Ok(Self { stretches: taken(stretches) })
    }

    /// The timeline that this way leads to.
    #[must_use]
    pub fn target(&self) -> Timeline {
        self.stretches.last().map_or(Timeline(1), |last| last.timeline)
    }

    /// Whether a base backup that ended on `timeline` at `position` lies on this way.
    #[must_use]
    pub fn passes(&self, timeline: Timeline, position: Lsn) -> bool {
        self.stretches.iter().any(|stretch| {
            stretch.timeline == timeline && stretch.end.is_none_or(|end| position <= end)
        })
    }

    /// The files that may hold segment `number`, the one to prefer first.
    ///
    /// PostgreSQL tries the newest timeline first and does not go back to an older one
    /// (`XLogFileReadAnyTLI` in `xlogrecovery.c`). The segment in which a timeline was left
    /// exists on both; the newer one's begins with a copy of the older one's. The older one's goes
    /// on with what was abandoned, so from it only records up to [`Self::end_on`] belong to this way.
    /// PostgreSQL would also try an older timeline where it holds nothing but what was abandoned;
    /// this does not.
    #[must_use]
    pub fn candidates(&self, number: u64, size: SegmentSize) -> Vec<Segment> {
        let holds = |stretch: &&Stretch| {
            stretch.begin.0 / size.bytes() <= number
                && stretch.end.is_none_or(|end| end.0 > number * size.bytes())
        };
        self.stretches
            .iter()
            .rev()
            .filter(holds)
            .map(|stretch| Segment { timeline: stretch.timeline, number })
            .collect()
    }

    /// Of each timeline, oldest first, the numbers of the segments for which its file is the one to
    /// prefer: the first of [`Self::candidates`]. Together they are all numbers, in order.
    pub fn preferred(
        &self,
        size: SegmentSize,
    ) -> impl Iterator<Item = (Timeline, std::ops::Range<u64>)> + '_ {
        // A timeline that was left in the very segment in which it began is preferred for none.
        let first = move |stretch: &Stretch| stretch.begin.0 / size.bytes();
        let later = self.stretches.iter().skip(1).map(first).chain([u64::MAX]);
        self.stretches
            .iter()
            .zip(later)
            .map(move |(stretch, end)| (stretch.timeline, first(stretch)..end))
            .filter(|(_, numbers)| !numbers.is_empty())
    }

    /// Where this way leaves `timeline`; `None` for its last one, and for one that it never takes.
    #[must_use]
    pub fn end_on(&self, timeline: Timeline) -> Option<Lsn> {
        self.stretches.iter().find(|stretch| stretch.timeline == timeline)?.end
    }
}

/// The stretches that the way takes: of each position the newest timeline that holds it, as
/// `tliOfPointInHistory` in `timeline.c` finds it.
fn taken(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let mut taken: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for stretch in stretches.into_iter().rev() {
        let Some(newer) = taken.last() else {
            taken.push(stretch);
            continue;
        };
        let end = stretch.end.map_or(newer.begin, |end| end.min(newer.begin));
        if stretch.begin <= end {
            taken.push(Stretch { end: Some(end), ..stretch });
        }
    }
    taken.reverse();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_segment_of_the_switch_is_sought_on_the_newer_timeline_first() {
        let text = "1\t0/3001A28\tno recovery target specified\n\n2\t0/5000000\tbefore x\n";
        let path = TimelinePath::parse(Timeline(3), text).unwrap();
        let names = |number| -> Vec<u32> {
            let found = path.candidates(number, SegmentSize::DEFAULT);
            found.iter().map(|segment| segment.timeline.0).collect()
        };
        assert_eq!(names(2), [1]);
        assert_eq!(names(3), [2, 1]);
        assert_eq!(names(4), [2]);
        // Timeline 2 was left exactly between two segments: its own fifth was abandoned.
        assert_eq!(names(5), [3]);
        assert_eq!(names(6), [3]);
        let preferred: Vec<_> = path.preferred(SegmentSize::DEFAULT).collect();
        let expect = [(Timeline(1), 0..3), (Timeline(2), 3..5), (Timeline(3), 5..u64::MAX)];
        assert_eq!(preferred, expect);
        assert_eq!(path.end_on(Timeline(1)), Some(Lsn(0x0300_1A28)));
        assert_eq!(path.end_on(Timeline(3)), None);
        assert_eq!(path.target(), Timeline(3));
        assert!(path.passes(Timeline(1), Lsn(0x0300_0000)));
        assert!(!path.passes(Timeline(1), Lsn(0x0400_0000)));
    }

    proptest! {
        #[test]
        fn the_preferred_file_is_the_first_candidate(
            ends in proptest::collection::vec(0_u64..6 << 20, 0..6),
            timeline in 7_u32..9,
        ) {
            let lines = ends.iter().enumerate().map(|(n, end)| format!("{}\t{}\tx\n", n + 1, Lsn(*end)));
            let lines: String = lines.collect();
            let path = TimelinePath::parse(Timeline(timeline), &lines).unwrap();
            let size = SegmentSize::new(1 << 20).unwrap();
            for number in 0..8 {
                let of = path.preferred(size).filter(|(_, numbers)| numbers.contains(&number));
                let found: Vec<_> = of.map(|(timeline, _)| Segment { timeline, number }).collect();
                prop_assert_eq!(&found[..], &path.candidates(number, size)[..1]);
                // PostgreSQL takes the newest timeline that has begun, whether it is on the way or not.
                let begun = (0..ends.len()).rev().find(|at| ends[*at] / size.bytes() <= number);
                let names: Vec<u32> = (1..).take(ends.len()).chain([timeline]).collect();
                prop_assert_eq!(found[0].timeline.0, names[begun.map_or(0, |at| at + 1)]);
            }
        }
    }

    #[test]
    fn a_timeline_that_was_left_before_it_began_is_not_on_the_way() {
        // What PostgreSQL 15 wrote: twice back, the second time to before the first time.
        let text = "1\t0/14000438\tbefore 2026-11-26 13:32:58.575419+05:30\n\n\n\
                    2\t0/E000438\tbefore 2026-11-26 13:32:53.792394+05:30\n\n\n\
                    3\t0/13000438\tbefore 2026-11-26 13:33:15.414906+05:30\n\n";
        let path = TimelinePath::parse(Timeline(4), text).unwrap();
        let preferred: Vec<_> = path.preferred(SegmentSize::DEFAULT).collect();
        let expect =
            [(Timeline(1), 0..0x0E), (Timeline(3), 0x0E..0x13), (Timeline(4), 0x13..u64::MAX)];
        assert_eq!(preferred, expect);
        assert_eq!(path.end_on(Timeline(1)), Some(Lsn(0x0E00_0438)));
        assert_eq!(path.end_on(Timeline(2)), None);
        // What timeline 1 had up to where it was first left is behind where it was left in the end.
        assert!(path.passes(Timeline(1), Lsn(0x0E00_0400)));
        assert!(!path.passes(Timeline(1), Lsn(0x1000_0000)));
        assert!(!path.passes(Timeline(2), Lsn(0x1600_0000)));
        assert!(path.passes(Timeline(3), Lsn(0x1000_0000)));
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        for text in ["x", "1", "1\tnowhere", "3\t0/0", "2\t0/8\n1\t0/9", "1\t0/8\n1\t0/9"] {
            assert!(TimelinePath::parse(Timeline(3), text).is_err(), "{text}");
        }
    }
}
