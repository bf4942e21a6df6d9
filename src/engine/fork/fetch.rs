//! `btar wal-fetch`: the `restore_command` of a fork, which hands PostgreSQL its log.
//!
//! The exit status decides what PostgreSQL does (`RestoreArchivedFile` in `xlogarchive.c`): 0, the
//! file is there; 1, the log ends here; above 125, stop. So 1 is given only for what this recovery
//! does not need, and 200 for every error within it.

use crate::{
    domain::lsn::Segment,
    engine::fork::{
        ahead,
        fetch_plan::{Absent, Answer, FetchPlan},
        opening,
    },
    sys::clock::Clock,
};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::sync::oneshot;

/// The file is there.
const SENT: u8 = 0;
/// The log ends before this file, or it is to be sought elsewhere.
const ABSENT: u8 = 1;
/// The recovery must stop.
const BROKEN: u8 = 200;
/// How messages begin, by which they are found again in the server's log.
pub(super) const MESSAGE: &str = "btar wal-fetch: ";

/// Opens segments of the plan in `plan_file` ahead of the replay, as the engine does beside a fork. For
/// measuring: it ends when it is killed.
///
/// # Errors
/// A text for people, when the plan cannot be read.
pub async fn open_ahead(plan_file: &Path, clock: &dyn Clock) -> Result<(), String> {
    let text = fs::read_to_string(plan_file).map_err(|error| error.to_string())?;
    let (ended, _has_ended) = oneshot::channel();
    ahead::keep(plan_file, FetchPlan::parse(&text)?, clock, ended).await;
    Ok(())
}

/// Fetches the file `name` to `destination`, as the plan in `plan_file` says. What is wrong is told
/// on standard error, which is the server's log.
#[must_use]
pub fn run(plan_file: &Path, name: &str, destination: &Path) -> ExitCode {
    let status = match fetch(plan_file, name, destination) {
        Ok(status) => status,
        Err(what) => {
            let kind = if name.ends_with(".history") { "timeline history" } else { "WAL segment" };
            // Without standard error the status still says that it failed.
            let _ = writeln!(io::stderr(), "{MESSAGE}{kind} {name}: {what}");
            BROKEN
        }
    };
    ExitCode::from(status)
}

/// How far the fetching is, as the last call left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// This segment was handed over.
    Sent(Segment),
    /// PostgreSQL asked for a segment behind the last one of the plan.
    Beyond,
}

/// Reads what the last call left beside the plan.
pub(super) fn trace(plan_file: &Path, plan: &FetchPlan) -> Option<Trace> {
    let text = fs::read_to_string(trace_file(plan_file)).ok()?;
    match text.trim_end() {
        "beyond" => Some(Trace::Beyond),
        name => Segment::parse(name, plan.segment_size()).ok().map(Trace::Sent),
    }
}

/// The file in which calls leave their trace.
pub(super) fn trace_file(plan_file: &Path) -> PathBuf {
    plan_file.with_extension("trace")
}

/// Leaves a trace. It only shows progress: no recovery fails for the lack of it.
fn leave_trace(plan_file: &Path, text: &str) {
    let staged = plan_file.with_extension("trace-new");
    if fs::write(&staged, text).is_ok() {
        let _ = fs::rename(staged, trace_file(plan_file));
    }
}

fn fetch(plan_file: &Path, name: &str, destination: &Path) -> Result<u8, String> {
    if ahead::give(plan_file, name, destination) {
        leave_trace(plan_file, name);
        return Ok(SENT);
    }
    let read = fs::read_to_string(plan_file).map_err(|error| error.to_string());
    let plan = read.and_then(|text| FetchPlan::parse(&text));
    let plan = plan.map_err(|why| format!("cannot read {}: {why}", plan_file.display()))?;
    match plan.answer(name) {
        Answer::Segment(object, _) => {
            deliver(destination, |staged| opening::segment(&plan, object, staged).map(drop))?;
            leave_trace(plan_file, name);
            Ok(SENT)
        }
        Answer::History(object) => {
            deliver(destination, |staged| opening::history(&plan, object, staged))?;
            Ok(SENT)
        }
        Answer::Absent(Absent::BeyondPlan) => {
            leave_trace(plan_file, "beyond");
            Ok(ABSENT)
        }
        Answer::Absent(Absent::OtherTimeline | Absent::UnknownTimeline | Absent::NotNeeded) => {
            Ok(ABSENT)
        }
        Answer::Refused(why) => Err(why.to_owned()),
    }
}

/// Puts a file into place in one step, as soon as `write` has made it: PostgreSQL never sees a part of
/// it. PostgreSQL syncs it itself before it relies on it (`KeepFileRestoredFromArchive` in
/// `xlogarchive.c`), and asks for it anew when the machine dies before that.
fn deliver(
    destination: &Path,
    write: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let mut staged = destination.as_os_str().to_owned();
    staged.push(".btar-new");
    let staged = PathBuf::from(staged);
    let placed = write(&staged).and_then(|()| {
        let placed = fs::rename(&staged, destination);
        placed.map_err(|error| format!("writing {} failed: {error}", destination.display()))
    });
    if placed.is_err() {
        // Half a file helps nobody, and its space may be what is missing.
        let _ = fs::remove_file(&staged);
    }
    placed
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        domain::{
            lsn::{Lsn, SegmentSize, Timeline},
            recovery::{Codec, HistoryObject, LogObject, RecoveryPlan},
        },
        engine::fork::site::tests::plan,
        wal::decode,
    };

    pub(in crate::engine::fork) const FIRST: &str = "000000010000000000000006";
    const SIZE: usize = 1 << 20;

    /// A store with one segment that begins as PostgreSQL 15's do, and its plan.
    pub(in crate::engine::fork) fn world(dir: &Path, address: u64) -> (RecoveryPlan, PathBuf) {
        let mut plan = plan();
        plan.segment_size = SegmentSize::new(SIZE as u64).unwrap();
        let mut bytes = vec![7_u8; SIZE];
        bytes[..2].copy_from_slice(&0xD110_u16.to_le_bytes());
        bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
        bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&address.to_le_bytes());
        bytes[24..32].copy_from_slice(&plan.system_identifier.to_le_bytes());
        bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        let packed = zstd::encode_all(&bytes[..], 1).unwrap();
        fs::write(dir.join("six"), &packed).unwrap();
        fs::write(dir.join("two"), "1\t0/600000\tno reason\n").unwrap();
        plan.log = vec![LogObject {
            segment: Segment { timeline: Timeline(1), number: 6 },
            key: "six".to_owned(),
            size_bytes: packed.len() as u64,
            sha1: Some(decode::sha1_hex(&bytes)),
            codec: Codec::Zst,
            key_id: None,
        }];
        plan.histories = vec![HistoryObject {
            timeline: Timeline(2),
            key: "two".to_owned(),
            size_bytes: 21,
            codec: Codec::None,
            key_id: None,
        }];
        let file = dir.join("wal-fetch.json");
        fs::write(&file, FetchPlan::of(&plan, dir).to_text()).unwrap();
        (plan, file)
    }

    #[track_caller]
    fn check(dir: &Path, file: &Path, name: &str, expect: Result<u8, &str>) {
        let destination = dir.join("RECOVERYXLOG");
        let _ = fs::remove_file(&destination);
        let found = fetch(file, name, &destination);
        match (&found, expect) {
            (Ok(status), Ok(expected)) => assert_eq!(*status, expected, "{name}"),
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (_, _) => panic!("{name}: {found:?}, expected {expect:?}"),
        }
        assert_eq!(destination.exists(), found == Ok(SENT), "{name}");
    }

    #[test]
    fn what_the_plan_names_is_sent_and_the_rest_is_absent() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let (plan, file) = world(dir, Lsn(6 << 20).0);
        check(dir, &file, FIRST, Ok(SENT));
        let fetch_plan = FetchPlan::of(&plan, dir);
        assert_eq!(trace(&file, &fetch_plan), Some(Trace::Sent(plan.log[0].segment)));
        check(dir, &file, "00000002.history", Ok(SENT));
        check(dir, &file, "00000003.history", Ok(ABSENT));
        check(dir, &file, "000000010000000000000007", Ok(ABSENT));
        assert_eq!(trace(&file, &fetch_plan), Some(Trace::Beyond));
        check(dir, &file, "000000010000000000000005", Err("before the first segment"));
    }

    #[test]
    fn what_is_missing_or_damaged_within_the_plan_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let (plan, file) = world(dir, 6 << 20);
        let good = fs::read(dir.join("six")).unwrap();
        fs::write(dir.join("six"), &good[..good.len() / 2]).unwrap();
        check(dir, &file, FIRST, Err("truncated or damaged"));
        let mut flipped = zstd::decode_all(&good[..]).unwrap();
        flipped[5000] ^= 1;
        let flipped = zstd::encode_all(&flipped[..], 1).unwrap();
        let mut other = plan;
        other.log[0].size_bytes = flipped.len() as u64;
        fs::write(dir.join("six"), flipped).unwrap();
        fs::write(&file, FetchPlan::of(&other, dir).to_text()).unwrap();
        check(dir, &file, FIRST, Err("SHA-1"));
        fs::remove_file(dir.join("six")).unwrap();
        check(dir, &file, FIRST, Err("does not exist"));
        fs::remove_file(dir.join("two")).unwrap();
        check(dir, &file, "00000002.history", Err("does not exist"));
        fs::remove_file(&file).unwrap();
        check(dir, &file, "000000010000000000000099", Err("cannot read"));
    }

    #[test]
    fn a_segment_of_another_place_or_cluster_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let (mut plan, file) = world(dir, 7 << 20);
        check(dir, &file, FIRST, Err("not from 0/600000"));
        let (_, file) = world(dir, 6 << 20);
        plan.log[0].sha1 = None;
        plan.system_identifier = 1;
        plan.log[0].size_bytes = fs::metadata(dir.join("six")).unwrap().len();
        fs::write(&file, FetchPlan::of(&plan, dir).to_text()).unwrap();
        check(dir, &file, FIRST, Err("of database cluster"));
    }
}
