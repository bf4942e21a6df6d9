//! How fast logs are read, against the servers' own tools over the same files: `cargo bench --bench logs`.
//!
//! Real servers make the logs: some 20 WAL segments of PostgreSQL, and a binary log of more than 200 MB
//! of MySQL and of MariaDB, with small and large transactions. Everything is read from memory that
//! the system has cached, by one thread, in turns; medians count. Limits are checked.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../../tests/wal_oracle/cluster.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod cluster;
mod servers;

use btar::{
    binlog::summary::{Summary, summarize},
    domain::{
        lsn::{Segment, SegmentSize},
        recovery::Codec,
    },
    sys::clock::{Clock, SystemClock},
    wal::{decode, scan::Scanner},
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// After one that does not count.
const ROUNDS: usize = 5;
/// By one core.
const RAW_BYTES_PER_SECOND_MIN: f64 = 1.0e9;
const ZSTD_BYTES_PER_SECOND_MIN: f64 = 350.0e6;
/// What PGHoard and pgBackRest use.
const ZSTD_LEVEL: i32 = 3;

fn main() {
    let clock = SystemClock::new();
    let mut missed = vec![];
    println!("log                            GB/s   tool GB/s   ratio   limit GB/s");
    wal(&clock, &mut missed);
    for kind in [servers::Kind::MySql, servers::Kind::MariaDb] {
        binlog(kind, &clock, &mut missed);
    }
    assert!(missed.is_empty(), "too slow: {}", missed.join(", "));
}

/// One way to read a log, and how long each round took.
struct Contestant<'a> {
    run: Box<dyn FnMut() + 'a>,
    seconds: Vec<f64>,
}

impl<'a> Contestant<'a> {
    fn new(run: impl FnMut() + 'a) -> Self {
        Self { run: Box::new(run), seconds: vec![] }
    }

    fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// In turns, so that other work on the machine meets all of them.
fn race(clock: &SystemClock, contestants: &mut [Contestant<'_>]) {
    for round in 0..=ROUNDS {
        for contestant in &mut *contestants {
            let begun = clock.monotonic();
            (contestant.run)();
            if round > 0 {
                contestant.seconds.push((clock.monotonic() - begun).as_secs_f64());
            }
        }
    }
}

/// Prints one line, and remembers a limit that is missed.
fn report(what: &str, bytes: u64, ours: f64, tool: f64, limit: f64, missed: &mut Vec<String>) {
    #[allow(clippy::cast_precision_loss, reason = "these are not that large")]
    let bytes = bytes as f64;
    let (speed, theirs) = (bytes / ours, bytes / tool);
    println!(
        "{what:<28} {:>6.2} {:>11.2} {:>7.1} {:>12.2}",
        speed / 1e9,
        theirs / 1e9,
        speed / theirs,
        limit / 1e9
    );
    if speed < limit {
        missed.push(format!("{what} with {:.2} GB/s", speed / 1e9));
    }
}

fn wal(clock: &SystemClock, missed: &mut Vec<String>) {
    let (cluster, segments) = servers::wal();
    let folder = cluster.wal();
    let size = SegmentSize::DEFAULT;
    let path = |segment: &Segment| folder.join(segment.file_name(size));
    let packed: Vec<Vec<u8>> = segments
        .iter()
        .map(|segment| zstd::encode_all(File::open(path(segment)).unwrap(), ZSTD_LEVEL).unwrap())
        .collect();
    let raw = || {
        let (mut scanner, mut records) = (Scanner::new(), 0_u64);
        for segment in &segments {
            let bytes = fs::read(path(segment)).unwrap();
            scanner.segment(*segment, &bytes, &mut |_| records += 1).unwrap();
        }
        records
    };
    let from_zstd = || {
        let (mut scanner, mut records, mut bytes) = (Scanner::new(), 0_u64, vec![]);
        for (segment, object) in segments.iter().zip(&packed) {
            decode::decode_into(Codec::Zst, object, &mut bytes).unwrap();
            scanner.segment(*segment, &bytes, &mut |_| records += 1).unwrap();
        }
        records
    };
    let records = raw();
    let bytes = segments.len() as u64 * size.bytes();
    println!("# {} WAL segments, {bytes} bytes, {records} records", segments.len());
    let tool = || {
        let names = [segments.first().unwrap(), segments.last().unwrap()];
        let mut dump = Command::new(cluster.bin.join("pg_waldump"));
        dump.arg("-q").arg("-p").arg(&folder).args(names.map(|segment| segment.file_name(size)));
        quiet(&mut dump);
    };
    let mut contestants = [
        Contestant::new(|| assert_eq!(raw(), records)),
        Contestant::new(|| assert_eq!(from_zstd(), records)),
        Contestant::new(tool),
    ];
    race(clock, &mut contestants);
    let [raw, from_zstd, tool] = contestants.map(|contestant| contestant.median());
    report("WAL, raw", bytes, raw, tool, RAW_BYTES_PER_SECOND_MIN, missed);
    report("WAL, zstd (of plain bytes)", bytes, from_zstd, tool, ZSTD_BYTES_PER_SECOND_MIN, missed);
}

fn binlog(kind: servers::Kind, clock: &SystemClock, missed: &mut Vec<String>) {
    let log = servers::binlog(kind);
    let expected = summary(&log.file);
    let Summary { bytes, groups, .. } = expected;
    println!("# {}, {bytes} bytes, {groups} groups", expected.server_version);
    assert_eq!(groups, log.groups, "the server says that it has committed {}", log.groups);
    assert!(bytes > servers::BINLOG_BYTES_MIN, "only {bytes} bytes");
    // Rows are neither decoded nor printed: the least that the tool can do.
    let tool = || {
        let mut dump = Command::new(&log.tool);
        dump.args(["--no-defaults", "--verify-binlog-checksum", "--base64-output=decode-rows"]);
        quiet(dump.arg(&log.file));
    };
    let mut contestants =
        [Contestant::new(|| assert_eq!(summary(&log.file), expected)), Contestant::new(tool)];
    race(clock, &mut contestants);
    let [ours, tool] = contestants.map(|contestant| contestant.median());
    let what = format!("binary log of {}", expected.flavour.product());
    report(&what, bytes, ours, tool, RAW_BYTES_PER_SECOND_MIN, missed);
}

fn summary(file: &Path) -> Summary {
    summarize(File::open(file).unwrap()).unwrap()
}

fn quiet(tool: &mut Command) {
    let status = tool.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{tool:?} gave {status}");
}

/// Where `.ci/mysql` has put MySQL.
fn mysql() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/mysql");
    PathBuf::from(cluster::run(&mut Command::new(script))).join("bin")
}
