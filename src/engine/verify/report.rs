//! The report of a verification: in words, as JSON, and as an exit code.

use crate::{
    engine::{
        error::chain,
        verify::{Copy, CopyReport, Depth},
    },
    store::StoreError,
};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Notes and faults of one kind that are told one by one.
pub(super) const TOLD_MAX: usize = 20;

/// The report of a copy in words.
#[must_use]
pub fn text(copy: &Copy, depth: Depth, found: &Result<CopyReport, StoreError>) -> String {
    let head = format!("{} in {}", copy.service, copy.region);
    let report = match found {
        Err(error) => return format!("{head}: cannot be read: {}\n", chain(error)),
        Ok(report) => report,
    };
    let verdict = if report.faults.is_empty() { "good" } else { "NOT GOOD" };
    let mut text =
        format!("{head}: {verdict} ({} backups, {} objects", report.backups, report.objects);
    if let Depth::Deep { .. } = depth {
        write!(text, ", {} bytes proven", report.proven_bytes).expect("a string takes it");
    }
    if report.recorded > 0 {
        write!(text, ", {} recorded", report.recorded).expect("a string takes it");
    }
    if report.without_sum > 0 {
        let files = report.without_sum;
        write!(text, ", {files} files have no checksum").expect("a string takes it");
    }
    text += ")\n";
    if let Some(window) = report.window.as_ref().filter(|window| !window.ranges().is_empty()) {
        writeln!(text, "  restorable: {window}").expect("a string takes it");
    }
    for fault in &report.faults {
        writeln!(text, "  ! {fault}").expect("a string takes it");
    }
    for note in &report.notes {
        writeln!(text, "  - {note}").expect("a string takes it");
    }
    text
}

/// The report of a copy for programs.
#[must_use]
pub fn json(copy: &Copy, found: &Result<CopyReport, StoreError>) -> Value {
    let head = |verdict: &str| {
        json!({
            "project": copy.service.project, "service": copy.service.service,
            "region": copy.region, "verdict": verdict,
        })
    };
    let report = match found {
        Ok(report) => report,
        Err(error) => {
            let mut value = head("unreadable");
            value["error"] = chain(error).into();
            return value;
        }
    };
    let mut value = head(if report.faults.is_empty() { "good" } else { "not_good" });
    let ranges = report.window.as_ref().map(|window| window.ranges());
    for (name, figure) in [
        ("backups", json!(report.backups)),
        ("objects", json!(report.objects)),
        ("recorded", json!(report.recorded)),
        ("unrecorded", json!(report.unrecorded)),
        ("proven_bytes", json!(report.proven_bytes)),
        ("without_sum", json!(report.without_sum)),
        ("restorable", json!(ranges)),
        ("faults", json!(report.faults)),
        ("notes", json!(report.notes)),
    ] {
        value[name] = figure;
    }
    value
}

/// What a program ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every copy is good.
    Good,
    /// A copy could not be read, and no other has faults.
    Unreadable,
    /// A copy has faults.
    Faults,
}

impl Outcome {
    /// The outcome of one copy.
    #[must_use]
    pub fn of(found: &Result<CopyReport, StoreError>) -> Self {
        match found {
            Ok(report) if report.faults.is_empty() => Self::Good,
            Ok(_) => Self::Faults,
            Err(_) => Self::Unreadable,
        }
    }

    /// 0, 1 for faults, 2 for what could not be read.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Faults => 1,
            Self::Unreadable => 2,
        }
    }
}
