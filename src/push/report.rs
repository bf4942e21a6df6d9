//! What a push has done, for people and for programs.

use serde::Serialize;
use std::fmt::Write as _;

/// What was stored of the binary logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BinlogsReport {
    /// Whether nothing was done because the server is read-only.
    pub skipped: bool,
    /// The series that is written to; `None` when the server has no closed binary log.
    pub series: Option<String>,
    /// What was stored, in order.
    pub stored: Vec<StoredBinlog>,
    /// Why new series had to be begun that follow no other: between them something is missing.
    pub holes: Vec<String>,
    /// What else somebody should know.
    pub warnings: Vec<String>,
}

/// A binary log that was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredBinlog {
    /// The series.
    pub series: String,
    /// Its place in it.
    pub sequence: u64,
    /// The server's name of it.
    pub name: String,
    /// Size of the object, in bytes.
    pub size_bytes: u64,
}

/// What was stored as a base backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BaseReport {
    /// Its name; `None` when nothing was done because the server is read-only.
    pub label: Option<String>,
    /// From when on it can restore, as RFC 3339.
    pub finished_at: Option<String>,
    /// Its parts.
    pub parts: usize,
    /// Size of the parts, in bytes.
    pub stored_bytes: u64,
    /// Size before compression, in bytes.
    pub restored_bytes: u64,
    /// Base backups that were never finished and whose parts were removed.
    pub removed: Vec<String>,
    /// What was stored of the binary logs.
    pub binlogs: BinlogsReport,
}

/// How a push ended, as the program's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is stored and can be restored from.
    Good,
    /// Everything is stored, but something is missing before it: a new base backup is needed.
    Hole,
}

impl Outcome {
    /// 0, or 2.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Hole => 2,
        }
    }
}

const SKIPPED: &str = "the server is read-only: nothing is pushed (when_read_only = \"skip\")\n";

impl BinlogsReport {
    /// How the push ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.holes.is_empty() { Outcome::Good } else { Outcome::Hole }
    }

    /// A few lines.
    #[must_use]
    pub fn text(&self) -> String {
        if self.skipped {
            return SKIPPED.to_owned();
        }
        let mut text = match (self.stored.as_slice(), &self.series) {
            ([], None) => "the server has no closed binary log\n".to_owned(),
            ([], Some(series)) => format!("no new binary log; series {series}\n"),
            ([first, .., last], Some(series)) => format!(
                "{} binary logs stored, {} to {}; series {series}\n",
                self.stored.len(),
                first.name,
                last.name
            ),
            ([one], Some(series)) => format!("{} stored; series {series}\n", one.name),
            (_, None) => String::new(),
        };
        for hole in &self.holes {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "HOLE: {hole}. A new series begins; it can be restored after the next base backup: \
                 run `btar push base`"
            );
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }
}

impl BaseReport {
    /// A few lines.
    #[must_use]
    pub fn text(&self) -> String {
        let (Some(label), Some(finished_at)) = (&self.label, &self.finished_at) else {
            return SKIPPED.to_owned();
        };
        let Self { parts, stored_bytes, restored_bytes, .. } = self;
        let mut text = format!(
            "base backup {label} stored: {parts} parts, {stored_bytes} bytes of {restored_bytes}; \
             restorable from {finished_at} on\n"
        );
        for removed in &self.removed {
            let _ = writeln!(text, "the parts of {removed}, which was never finished, are removed");
        }
        // It begins behind every hole.
        let binlogs = BinlogsReport { holes: Vec::new(), ..self.binlogs.clone() };
        text.push_str(&binlogs.text());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_told_until_a_base_backup_ends_it() {
        let stored = |sequence: u64| StoredBinlog {
            series: "16-20261126T043000".to_owned(),
            sequence,
            name: format!("bin.{sequence:06}"),
            size_bytes: 400,
        };
        let binlogs = BinlogsReport {
            series: Some("16-20261126T043000".to_owned()),
            stored: vec![stored(1), stored(2)],
            holes: vec!["bin.000003 is followed by bin.000004, and bin.000006 is given".to_owned()],
            warnings: vec!["bin.000001 is damaged".to_owned()],
            ..BinlogsReport::default()
        };
        assert_eq!(binlogs.outcome().exit_code(), 2);
        let base = BaseReport {
            label: Some("20261126-043000".to_owned()),
            finished_at: Some("2026-11-26T04:30:09Z".to_owned()),
            parts: 2,
            stored_bytes: 12,
            restored_bytes: 345,
            removed: vec!["20261125-043000".to_owned()],
            binlogs: binlogs.clone(),
        };
        insta::assert_snapshot!(format!("{}---\n{}", binlogs.text(), base.text()));
    }
}
