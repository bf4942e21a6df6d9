//! What `pg_waldump` and the reader say of the same log, in the same words.

use crate::cluster::command;
use btar::{
    domain::lsn::{Lsn, Segment, SegmentSize, Timeline},
    wal::{
        record::{Event, Record},
        scan::{Scanner, SegmentIndex},
    },
};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

/// The names of PostgreSQL's own resource managers (`rmgrlist.h`).
pub(crate) const MANAGERS: &[&str] = &[
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) lsn: Lsn,
    pub(crate) prev: Lsn,
    pub(crate) xid: u32,
    pub(crate) length: usize,
    pub(crate) manager: String,
    /// What this project reads of it; empty for everything else.
    pub(crate) what: String,
}

/// What `pg_waldump` says of the segments from `first` to `last` in `dir`.
pub(crate) fn waldump(bin: &Path, dir: &Path, first: &str, last: &str) -> Vec<Line> {
    let mut child = command(bin.join("pg_waldump"))
        .arg("-p")
        .arg(dir)
        .args([first, last])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    let mut reader = BufReader::with_capacity(1 << 20, child.stdout.take().unwrap());
    let mut text = Vec::new();
    while reader.read_until(b'\n', &mut text).unwrap() > 0 {
        // A large message's line has three characters for each of its bytes.
        text.truncate(600);
        lines.push(parse(&String::from_utf8_lossy(&text)));
        text.clear();
    }
    child.wait().unwrap(); // It fails at the end of the log, which is no news.
    lines
}

fn parse(text: &str) -> Line {
    let between = |from: &str, to: &str| {
        let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from:?} in {text:?}")).1;
        rest.split_once(to).unwrap_or((rest, "")).0.trim().to_owned()
    };
    let manager = between("rmgr: ", " ");
    let desc = text.split_once("desc: ").map_or("", |(_, desc)| desc.trim_end());
    Line {
        lsn: between("lsn: ", ",").parse().unwrap(),
        prev: between("prev ", ",").parse().unwrap(),
        xid: between("tx:", ",").parse().unwrap(),
        length: between("len (rec/tot):", ",").split('/').nth(1).unwrap().trim().parse().unwrap(),
        what: known(&manager, desc),
        manager,
    }
}

/// The part of a description that this project reads too.
fn known(manager: &str, desc: &str) -> String {
    let (kind, rest) = desc.split_once(' ').unwrap_or((desc, ""));
    let number = |name: &str| {
        let found = rest.split_once(&format!("{name}=")).unwrap().1;
        found.split(' ').next().unwrap().to_owned()
    };
    match (manager, kind) {
        ("Transaction", "COMMIT" | "ABORT") => format!("{kind} {}", &rest[..26]),
        ("Transaction", "COMMIT_PREPARED" | "ABORT_PREPARED") => {
            format!("{kind} {}", &rest.split_once(": ").unwrap().1[..26])
        }
        ("XLOG", "CHECKPOINT_SHUTDOWN" | "CHECKPOINT_ONLINE") => "CHECKPOINT".to_owned(),
        ("XLOG", "RESTORE_POINT" | "SWITCH") => kind.to_owned(),
        ("XLOG", "BACKUP_END") => format!("{kind} {rest}"),
        ("XLOG", "PARAMETER_CHANGE") => format!(
            "{kind} {} {} {} {} {}",
            number("max_connections"),
            number("max_worker_processes"),
            number("max_wal_senders"),
            number("max_prepared_xacts"),
            number("max_locks_per_xact")
        ),
        ("XLOG", "END_OF_RECOVERY") => {
            format!("{kind} {}", &rest.split_once("time ").unwrap().1[..26])
        }
        _ => String::new(),
    }
}

/// What the reader says of a record.
pub(crate) fn line(record: &Record) -> Line {
    let what = match &record.event {
        Event::Xact { committed, prepared, time } => format!(
            "{}{} {}",
            if *committed { "COMMIT" } else { "ABORT" },
            if *prepared { "_PREPARED" } else { "" },
            time.format("%Y-%m-%d %H:%M:%S%.6f")
        ),
        Event::Checkpoint { .. } => "CHECKPOINT".to_owned(),
        Event::RestorePoint { .. } => "RESTORE_POINT".to_owned(),
        Event::BackupEnd { start } => format!("BACKUP_END {start}"),
        Event::Parameters([a, b, c, d, e]) => format!("PARAMETER_CHANGE {a} {b} {c} {d} {e}"),
        Event::EndOfRecovery { time } => {
            format!("END_OF_RECOVERY {}", time.format("%Y-%m-%d %H:%M:%S%.6f"))
        }
        Event::Switch => "SWITCH".to_owned(),
        Event::Other => String::new(),
    };
    Line {
        lsn: record.lsn,
        prev: record.prev,
        xid: record.xid,
        length: record.length,
        manager: MANAGERS[usize::from(record.manager)].to_owned(),
        what,
    }
}

/// A run of segments with everything that was read of it.
pub(crate) struct Run {
    pub(crate) segments: Vec<(Segment, Vec<u8>)>,
    pub(crate) records: Vec<Record>,
    pub(crate) indexes: Vec<SegmentIndex>,
}

impl Run {
    /// Reads the segments of `timeline` in `dir` to the end of the log.
    pub(crate) fn read(dir: &Path, timeline: Timeline, size: SegmentSize) -> Self {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.len() == 24 && name.starts_with(&format!("{:08X}", timeline.0)))
            .collect();
        names.sort();
        let segments = names
            .iter()
            .map(|name| (Segment::parse(name, size).unwrap(), fs::read(dir.join(name)).unwrap()));
        Self::of(segments)
    }

    /// Reads segments to the end of the log.
    pub(crate) fn of(segments: impl Iterator<Item = (Segment, Vec<u8>)>) -> Self {
        let mut run = Self { segments: vec![], records: vec![], indexes: vec![] };
        let mut scanner = Scanner::new();
        for (segment, bytes) in segments {
            let index = scanner.segment(segment, &bytes, &mut |r| run.records.push(r.clone()));
            let index = index.unwrap();
            let last = index.ends_early;
            run.indexes.push(index);
            run.segments.push((segment, bytes));
            if last {
                break;
            }
            // As if every segment were read by another process.
            if let Some(carry) = scanner.carry() {
                scanner = Scanner::resume(carry);
            }
        }
        run
    }

    pub(crate) fn size(&self) -> SegmentSize {
        self.indexes[0].segment_size
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.records.iter().map(line).collect()
    }

    /// Names of the first and last segment.
    pub(crate) fn names(&self) -> (String, String) {
        let name = |n: usize| self.segments[n].0.file_name(self.size());
        (name(0), name(self.segments.len() - 1))
    }
}

/// Fails with the first differences.
pub(crate) fn compare(ours: &[Line], theirs: &[Line]) {
    let differences: Vec<String> = ours
        .iter()
        .zip(theirs)
        .filter(|(ours, theirs)| ours != theirs)
        .take(5)
        .map(|(ours, theirs)| format!("reader     {ours:?}\npg_waldump {theirs:?}\n"))
        .collect();
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    assert_eq!(ours.len(), theirs.len(), "last {:?} and {:?}", ours.last(), theirs.last());
}
