//! `btar wal-fetch`: the `restore_command` of a fork, which hands PostgreSQL its log.
//!
//! The exit status decides what PostgreSQL does (`RestoreArchivedFile` in `xlogarchive.c`): 0, the
//! file is there; 1, the log ends here; above 125, stop. So 1 is given only for what this recovery
//! does not need, and 200 for every error within it.

use crate::{
    domain::{lsn::Segment, recovery::Codec},
    engine::{
        error::chain,
        fork::{
            ahead,
            fetch_plan::{Absent, Answer, FetchPlan, StoredObject},
        },
    },
    store::{key::Key, local::LocalStore, read_all},
    sys::clock::Clock,
    wal::{decode, page::PageHeader},
};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The file is there.
const SENT: u8 = 0;
/// The log ends before this file, or it is to be sought elsewhere.
const ABSENT: u8 = 1;
/// The recovery must stop.
const BROKEN: u8 = 200;
/// How messages begin, by which they are found again in the server's log.
pub(super) const MESSAGE: &str = "btar wal-fetch: ";
/// Largest object, in bytes: a segment that compression made a little larger.
const OBJECT_BYTES_MAX: u64 = (1 << 30) + (64 << 20);
/// Largest history file, in bytes.
const HISTORY_BYTES_MAX: u64 = 16 << 20;

/// Opens segments of the plan in `plan_file` ahead of the replay, as the engine does beside a fork. For
/// measuring: it ends when it is killed.
///
/// # Errors
/// A text for people, when the plan cannot be read.
pub async fn open_ahead(plan_file: &Path, clock: &dyn Clock) -> Result<(), String> {
    let text = fs::read_to_string(plan_file).map_err(|error| error.to_string())?;
    ahead::keep(plan_file, FetchPlan::parse(&text)?, clock).await;
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
            let bytes = segment_of(&plan, object)?;
            deliver(&bytes, destination, || prove(object, &bytes))?;
            leave_trace(plan_file, name);
            Ok(SENT)
        }
        Answer::History(object) => {
            deliver(&load(&plan, object, HISTORY_BYTES_MAX)?, destination, || Ok(()))?;
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

/// A segment's contents, checked against everything that is known of them but their SHA-1.
pub(super) fn segment_of(plan: &FetchPlan, object: &StoredObject) -> Result<Vec<u8>, String> {
    let segment = Segment::parse(&object.name, plan.segment_size());
    let segment = segment.map_err(|error| error.to_string())?;
    let packed = load(plan, object, OBJECT_BYTES_MAX)?;
    let bytes = decode::decode(Codec::from(object.codec), &packed).map_err(|e| chain(&e))?;
    check_header(plan, segment, &bytes)?;
    Ok(bytes)
}

/// Compares a segment's contents with their SHA-1, where that is known.
pub(super) fn prove(object: &StoredObject, bytes: &[u8]) -> Result<(), String> {
    match &object.sha1 {
        Some(expected) => decode::check_sha1(bytes, expected).map_err(|error| chain(&error)),
        None => Ok(()),
    }
}

/// Writes a new file, for this user alone.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(bytes)
}

fn check_header(plan: &FetchPlan, segment: Segment, bytes: &[u8]) -> Result<(), String> {
    let size = plan.segment_size();
    if bytes.len() as u64 != size.bytes() {
        return Err(format!("it has {} bytes, not {}", bytes.len(), size.bytes()));
    }
    let header = PageHeader::read(bytes).and_then(|header| Some((header, header.long?)));
    let Some((header, long)) = header else {
        return Err("it does not begin with a page header of PostgreSQL's log".to_owned());
    };
    let start = segment.start(size);
    if header.address != start {
        return Err(format!("it holds the log from {}, not from {start}", header.address));
    }
    // The segment in which a timeline began still carries the older one's number.
    if header.timeline > segment.timeline.0 {
        return Err(format!("it is of timeline {}", header.timeline));
    }
    if long.system_identifier != plan.system_identifier {
        return Err(format!(
            "it is of database cluster {}, not {}",
            long.system_identifier, plan.system_identifier
        ));
    }
    Ok(())
}

/// An object's bytes, of exactly the size that the plan says.
fn load(plan: &FetchPlan, object: &StoredObject, limit: u64) -> Result<Vec<u8>, String> {
    let key = Key::parse(&object.key).map_err(|error| error.to_string())?;
    let store = LocalStore::new(plan.store_root.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| format!("starting the runtime failed: {error}"))?;
    let (meta, bytes) =
        runtime.block_on(read_all(&store, &key, limit)).map_err(|error| chain(&error))?;
    if meta.size_bytes != object.size_bytes {
        return Err(format!(
            "object {key} has {} bytes, the plan says {}: it is truncated or damaged",
            meta.size_bytes, object.size_bytes
        ));
    }
    Ok(bytes.into())
}

/// Puts the file into place in one step when `prove` has nothing against it: PostgreSQL never sees a
/// part of it. It syncs the file itself before it relies on it (`KeepFileRestoredFromArchive` in
/// `xlogarchive.c`), and asks for it anew when the machine dies before that.
fn deliver(
    bytes: &[u8],
    destination: &Path,
    prove: impl FnOnce() -> Result<(), String> + Send,
) -> Result<(), String> {
    let mut staged = destination.as_os_str().to_owned();
    staged.push(".btar-new");
    let staged = PathBuf::from(staged);
    // At the same time: the replay waits for both.
    let (written, proven) = std::thread::scope(|scope| {
        let proving = scope.spawn(prove);
        (write_new(&staged, bytes), proving.join().expect("computing a checksum does not panic"))
    });
    let placed = proven.and_then(|()| {
        let placed = written.and_then(|()| fs::rename(&staged, destination));
        placed.map_err(|error| format!("writing {} failed: {error}", destination.display()))
    });
    if placed.is_err() {
        // Half a file helps nobody, and its space may be what is missing.
        let _ = fs::remove_file(&staged);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            lsn::{Lsn, SegmentSize, Timeline},
            recovery::{HistoryObject, LogObject, RecoveryPlan},
        },
        engine::fork::site::tests::plan,
    };

    const FIRST: &str = "000000010000000000000006";
    const SIZE: usize = 1 << 20;

    /// A store with one segment that begins as PostgreSQL 15's do, and its plan.
    fn world(dir: &Path, address: u64) -> (RecoveryPlan, PathBuf) {
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
