//! The file that tells `btar wal-fetch` what a recovery needs, and what to answer to each name.

use crate::domain::{
    lsn::{Segment, SegmentSize},
    recovery::{Codec, RecoveryPlan},
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the file.
const VERSION: u32 = 1;

/// What a recovery needs, as stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FetchPlan {
    version: u32,
    /// The directory of the store.
    pub(super) store_root: PathBuf,
    /// The database cluster.
    pub(super) system_identifier: u64,
    segment_bytes: u64,
    /// In log order.
    log: Vec<StoredObject>,
    histories: Vec<StoredObject>,
}

/// An object of the store, as stored.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredObject {
    /// PostgreSQL's name of the file.
    pub(super) name: String,
    /// Key of the object.
    pub(super) key: String,
    /// Size of the object, in bytes.
    pub(super) size_bytes: u64,
    /// SHA-1 of the contents in lower-case hexadecimal digits, where known.
    pub(super) sha1: Option<String>,
    /// Compression of the object.
    pub(super) codec: StoredCodec,
}

/// A compression, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StoredCodec {
    None,
    Gz,
    Lz4,
    Zst,
    Bz2,
    Snappy,
    Xz,
}

/// What to do when PostgreSQL asks for a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// Hand over this segment.
    Segment(&'a StoredObject, Segment),
    /// Hand over this history file.
    History(&'a StoredObject),
    /// It is not there, and need not be: the log ends before it, or it is sought elsewhere next.
    Absent(Absent),
    /// This recovery must stop.
    Refused(&'static str),
}

/// Why a file need not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// A segment behind the last one that this recovery needs.
    BeyondPlan,
    /// A segment whose contents the plan takes from another timeline, which is asked for next.
    OtherTimeline,
    /// The history of a timeline that the store does not know.
    UnknownTimeline,
    /// A partial segment or a backup's label, which no recovery needs.
    NotNeeded,
}

impl FetchPlan {
    /// What `plan` needs out of the store below `store_root`.
    pub(super) fn of(plan: &RecoveryPlan, store_root: &Path) -> Self {
        let segment = |object: &crate::domain::recovery::LogObject| StoredObject {
            name: object.segment.file_name(plan.segment_size),
            key: object.key.clone(),
            size_bytes: object.size_bytes,
            sha1: object.sha1.clone(),
            codec: object.codec.into(),
        };
        let history = |object: &crate::domain::recovery::HistoryObject| StoredObject {
            name: object.timeline.history_file(),
            key: object.key.clone(),
            size_bytes: object.size_bytes,
            sha1: None,
            codec: StoredCodec::None,
        };
        Self {
            version: VERSION,
            store_root: store_root.to_owned(),
            system_identifier: plan.system_identifier,
            segment_bytes: plan.segment_size.bytes(),
            log: plan.log.iter().map(segment).collect(),
            histories: plan.histories.iter().map(history).collect(),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// A text for people.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if plan.version != VERSION {
            return Err(format!("it has version {}, this program reads {VERSION}", plan.version));
        }
        if SegmentSize::new(plan.segment_bytes).is_none() {
            return Err(format!("{} bytes are no size of a segment", plan.segment_bytes));
        }
        Ok(plan)
    }

    /// The file's text.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a fetch plan has no maps")
    }

    /// The segments, in log order.
    pub(super) fn segments(&self) -> &[StoredObject] {
        &self.log
    }

    /// Size of the segments.
    pub(super) fn segment_size(&self) -> SegmentSize {
        SegmentSize::new(self.segment_bytes).unwrap_or(SegmentSize::DEFAULT)
    }

    /// What to do when PostgreSQL asks for `name`.
    ///
    /// A wrong "absent" loses data silently, as PostgreSQL takes it for the end of the log; a wrong
    /// "refused" only ends the recovery. So whatever is not understood is refused.
    pub(super) fn answer(&self, name: &str) -> Answer<'_> {
        if let Some(history) = self.histories.iter().find(|object| object.name == name) {
            return Answer::History(history);
        }
        let size = self.segment_size();
        if let Some(object) = self.log.iter().find(|object| object.name == name) {
            return match Segment::parse(name, size) {
                Ok(segment) => Answer::Segment(object, segment),
                Err(_) => Answer::Refused("the plan names it, but it is no segment"),
            };
        }
        match Segment::parse(name, size) {
            Ok(segment) => self.unplanned(segment),
            Err(_) => Self::no_segment(name, size),
        }
    }

    /// A segment that the plan does not name.
    fn unplanned(&self, asked: Segment) -> Answer<'_> {
        let planned =
            self.log.iter().filter_map(|o| Segment::parse(&o.name, self.segment_size()).ok());
        let (mut first, mut last, mut elsewhere) = (None, None, false);
        for segment in planned {
            first.get_or_insert(segment.number);
            last = Some(segment.number);
            elsewhere |= segment.number == asked.number;
        }
        let (Some(first), Some(last)) = (first, last) else {
            return Answer::Refused("the plan names no segments at all");
        };
        if asked.number > last {
            // PostgreSQL reads ahead, and looks for the log's end before it promotes.
            Answer::Absent(Absent::BeyondPlan)
        } else if asked.number < first {
            Answer::Refused("it lies before the first segment of the plan")
        } else if elsewhere {
            // The newest timeline is asked for first; then the one that the plan names.
            Answer::Absent(Absent::OtherTimeline)
        } else {
            Answer::Refused("the plan has a hole there")
        }
    }

    fn no_segment(name: &str, size: SegmentSize) -> Answer<'static> {
        let digits = |text: &str, length| {
            text.len() == length
                && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
        };
        let is_segment = |text: &str| Segment::parse(text, size).is_ok();
        match name.split_once('.') {
            Some((timeline, "history")) if digits(timeline, 8) => {
                Answer::Absent(Absent::UnknownTimeline)
            }
            Some((segment, "partial")) if is_segment(segment) => Answer::Absent(Absent::NotNeeded),
            Some((segment, rest)) if is_segment(segment) && rest.ends_with(".backup") => {
                Answer::Absent(Absent::NotNeeded)
            }
            Some(_) | None => Answer::Refused("it is no file of PostgreSQL's log"),
        }
    }
}

impl From<Codec> for StoredCodec {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gz => Self::Gz,
            Codec::Lz4 => Self::Lz4,
            Codec::Zst => Self::Zst,
            Codec::Bz2 => Self::Bz2,
            Codec::Snappy => Self::Snappy,
            Codec::Xz => Self::Xz,
        }
    }
}

impl From<StoredCodec> for Codec {
    fn from(codec: StoredCodec) -> Self {
        match codec {
            StoredCodec::None => Self::None,
            StoredCodec::Gz => Self::Gz,
            StoredCodec::Lz4 => Self::Lz4,
            StoredCodec::Zst => Self::Zst,
            StoredCodec::Bz2 => Self::Bz2,
            StoredCodec::Snappy => Self::Snappy,
            StoredCodec::Xz => Self::Xz,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            lsn::Timeline,
            recovery::{HistoryObject, LogObject},
        },
        engine::fork::site::tests::plan,
    };

    fn fetch_plan() -> FetchPlan {
        let mut plan = plan();
        plan.log = [(1, 6), (1, 7), (2, 8), (2, 9)]
            .map(|(timeline, number)| LogObject {
                segment: Segment { timeline: Timeline(timeline), number },
                key: format!("wal/{number}"),
                size_bytes: 10,
                sha1: None,
                codec: Codec::Zst,
                key_id: None,
            })
            .to_vec();
        plan.histories = vec![HistoryObject {
            timeline: Timeline(2),
            key: "2".to_owned(),
            size_bytes: 40,
            codec: Codec::None,
            key_id: None,
        }];
        FetchPlan::of(&plan, Path::new("/srv/store"))
    }

    fn check(name: &str, expect: &str) {
        let plan = FetchPlan::parse(&fetch_plan().to_text()).unwrap();
        let found = match plan.answer(name) {
            Answer::Segment(object, _) => format!("segment {}", object.key),
            Answer::History(object) => format!("history {}", object.key),
            Answer::Absent(why) => format!("{why:?}"),
            Answer::Refused(why) => why.to_owned(),
        };
        assert_eq!(found, expect, "{name}");
    }

    #[test]
    fn each_name_has_its_answer() {
        check("000000010000000000000006", "segment wal/6");
        check("000000020000000000000009", "segment wal/9");
        check("00000001000000000000000A", "BeyondPlan");
        check("00000002000000000000000A", "BeyondPlan");
        check("00000003000000010000000A", "BeyondPlan");
        // The newer timeline is asked for first, then the one of the plan.
        check("000000020000000000000007", "OtherTimeline");
        check("000000010000000000000008", "OtherTimeline");
        check("000000010000000000000005", "it lies before the first segment of the plan");
        check("00000002.history", "history 2");
        check("00000003.history", "UnknownTimeline");
        check("000000010000000000000007.partial", "NotNeeded");
        check("000000010000000000000006.00000028.backup", "NotNeeded");
        for odd in ["", "../../etc/passwd", "00000001000000000000000a", "2.history", "x.partial"] {
            check(odd, "it is no file of PostgreSQL's log");
        }
    }

    #[test]
    fn holes_and_empty_plans_stop_the_recovery() {
        let mut plan = fetch_plan();
        plan.log.remove(1);
        let holed = plan.answer("000000010000000000000007");
        assert_eq!(holed, Answer::Refused("the plan has a hole there"));
        plan.log.clear();
        assert!(matches!(plan.answer("000000010000000000000007"), Answer::Refused(_)));
    }

    #[test]
    fn another_version_is_refused() {
        let text = fetch_plan().to_text().replace("\"version\":1", "\"version\":2");
        assert!(FetchPlan::parse(&text).unwrap_err().contains("version 2"));
        assert!(FetchPlan::parse("{").is_err());
    }
}
