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
            // Times do not run backwards: parents rise, and are left one after the other.
            let older = stretches.last().map_or(0, |stretch: &Stretch| stretch.timeline.0);
            if end < begin || parent <= older || parent >= timeline.0 {
                return Err(bad());
            }
            stretches.push(Stretch { timeline: Timeline(parent), begin, end: Some(end) });
            begin = end;
        }
        stretches.push(Stretch { timeline, begin, end: None });
        Ok(Self { stretches })
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
            let mut ends = ends;
            ends.sort_unstable();
            let lines = ends.iter().enumerate().map(|(n, end)| format!("{}\t{}\tx\n", n + 1, Lsn(*end)));
            let lines: String = lines.collect();
            let path = TimelinePath::parse(Timeline(timeline), &lines).unwrap();
            let size = SegmentSize::new(1 << 20).unwrap();
            for number in 0..8 {
                let of = path.preferred(size).filter(|(_, numbers)| numbers.contains(&number));
                let found: Vec<_> = of.map(|(timeline, _)| Segment { timeline, number }).collect();
                prop_assert_eq!(&found[..], &path.candidates(number, size)[..1]);
            }
        }
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        for text in ["x", "1", "1\tnowhere", "3\t0/0", "1\t0/9\n2\t0/8", "2\t0/8\n1\t0/9"] {
            assert!(TimelinePath::parse(Timeline(3), text).is_err(), "{text}");
        }
    }
}
