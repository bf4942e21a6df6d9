//! How long a pass takes over a long log, and in how much memory: `cargo bench --bench tick`.
//!
//! A million segments in the primary and in each copy, of which ten are new in every tick. Stores and
//! memory are made up as they are asked, so that what is measured is the engine. Limits are checked.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

mod log;
mod store;

use btar::{
    domain::{cloud::CloudName, hex, ids::ServiceId, lsn::Lsn, recovery::Codec},
    engine::{
        catalog::observe::Reader,
        config::{BackupSettings, ServiceSettings},
        manifest,
        replicate::{
            copying::Budget,
            pass::{Replicator, Shared},
        },
        state::{State, records::Record},
        views::Views,
    },
    layout::{BackupFormat, BackupPlace, pgbackrest::keys},
    store::{BlobStore, PutMode, body_of, key::Key, memory::MemoryStore},
    sys::clock::{Clock, SystemClock},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use sha1::{Digest, Sha1};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use store::{DIRECTORY, LongLog, Remembered};
use tokio_util::sync::CancellationToken;

const SEGMENTS: u64 = 1_000_000;
const FIRST: u64 = 1000;
const BACKUPS: u64 = 30;
const FILES: u64 = 200;
const NEW: u64 = 10;
const TICKS: u64 = 10;
const RECORDED_AT_ONCE: usize = 1 << 14;
const FULL_SCAN: Duration = Duration::from_secs(3600);

/// With one target.
const TICK_SECONDS_MAX: f64 = 2.0;
const MEMORY_MIB_MAX: u64 = 200;

fn main() {
    let targets = std::env::args().nth(1).and_then(|arg| arg.parse::<u64>().ok());
    let Some(targets) = targets else {
        // Each in a process of its own, since memory is counted by processes.
        for targets in ["1", "2"] {
            let mut run = Command::new(std::env::current_exe().unwrap());
            assert!(run.arg(targets).status().unwrap().success());
        }
        return;
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(measure(targets));
}

/// The machine's clock, put forward when a full scan is to be due.
#[derive(Debug)]
struct Forward {
    clock: SystemClock,
    seconds: AtomicU64,
}

impl Clock for Forward {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
    fn monotonic(&self) -> Duration {
        self.clock.monotonic() + Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }
    fn sleep(&self, period: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(period)
    }
}

/// Stores, and the replicator between them.
struct Bench {
    clock: Arc<Forward>,
    state: Arc<State>,
    views: Arc<Views>,
    source: Arc<LongLog>,
    copies: BTreeMap<CloudName, Arc<LongLog>>,
    clouds: Vec<CloudName>,
    id: ServiceId,
    replicator: Replicator,
    newest: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(targets: u64) -> Self {
        let clock = Arc::new(Forward { clock: SystemClock::new(), seconds: AtomicU64::new(0) });
        let (dir, views) = (tempfile::tempdir().unwrap(), Arc::new(Views::default()));
        let state = Arc::new(State::open(dir.path()).unwrap());
        let shared = Shared {
            clock: clock.clone(),
            state: state.clone(),
            views: views.clone(),
            stop: CancellationToken::new(),
            full_scan_interval: FULL_SCAN,
            lag_warning: Duration::MAX,
            is_forking: Arc::new(|_, _| false),
            budget: Budget::new(64, 1),
            scrub: None,
        };
        let source = Arc::new(long_log("repo").await);
        let mut copies = BTreeMap::new();
        for target in 0..targets {
            let store = Arc::new(long_log("copy").await);
            copies.insert(cloud(&format!("aws-eu-west-{target}")), store);
        }
        let clouds = copies.keys().cloned().collect();
        let readers = copies.iter().map(|(cloud, store)| (cloud.clone(), reader(store))).collect();
        let service = service();
        let id = service.id.clone();
        let replicator = Replicator::new(service, Some(reader(&source)), readers, shared);
        let newest = FIRST + SEGMENTS - 1;
        Self { clock, state, views, source, copies, clouds, id, replicator, newest, _dir: dir }
    }

    /// Seconds of a pass.
    async fn pass(&self) -> f64 {
        let begun = self.clock.monotonic();
        self.replicator.pass(&self.clouds).await;
        (self.clock.monotonic() - begun).as_secs_f64()
    }

    /// Seconds of a pass that copies, proves and publishes new segments.
    async fn tick(&mut self) -> f64 {
        for _ in 0..NEW {
            self.newest += 1;
            let (bytes, sha1) = log::object(self.newest);
            let name = log::place(self.newest).name();
            let key = keys::segment_key(DIRECTORY, &name, &sha1, Codec::Zst);
            put(&self.source.written, "repo", &key, bytes).await;
        }
        let tick = self.pass().await;
        for cloud in &self.clouds {
            let region = self.views.service(&self.id).regions[cloud].clone();
            assert_eq!((region.error, region.problems), (None, Vec::new()));
            assert_eq!(region.catalog.problems, Vec::<String>::new());
            let frontier = region.catalog.frontier.clone().unwrap();
            assert_eq!(frontier.segment, log::place(self.newest).name());
            assert_eq!(region.lag.log_seconds, Some(0));
            let whole = &region.catalog.backups[0];
            assert_eq!(whole.log_segments, self.newest - FIRST);
        }
        tick
    }

    /// Seconds until what a full scan has found is taken over, and of the slowest of the ticks meanwhile.
    async fn full_scan(&mut self) -> (f64, f64) {
        self.clock.seconds.fetch_add(FULL_SCAN.as_secs(), Ordering::Relaxed);
        let (begun, mut slowest) = (self.clock.monotonic(), 0.0_f64);
        loop {
            slowest = slowest.max(self.tick().await);
            if !self.replicator.is_scanning().await {
                break;
            }
        }
        slowest = slowest.max(self.tick().await);
        ((self.clock.monotonic() - begun).as_secs_f64(), slowest)
    }
}

async fn measure(targets: u64) {
    let mut bench = Bench::new(targets).await;
    let start = peak_mib();
    println!("{targets} target(s), {SEGMENTS} segments, {BACKUPS} backups; start: {start} MiB");
    let first = bench.pass().await;
    println!("first scan, with what was learned read: {first:.3} s, peak {} MiB", peak_mib());
    let (mut slowest, mut sum) = (0.0_f64, 0.0);
    for _ in 0..TICKS {
        let tick = bench.tick().await;
        (slowest, sum) = (slowest.max(tick), sum + tick);
    }
    let mean = sum / TICKS as f64;
    println!(
        "tick with {NEW} new segments: mean {mean:.3} s, slowest {slowest:.3} s, peak {} MiB",
        peak_mib()
    );
    println!("tick with nothing new: {:.4} s", bench.pass().await);
    let (scan, beside) = bench.full_scan().await;
    println!(
        "full scan: {scan:.3} s, slowest tick beside it {beside:.3} s, peak {} MiB",
        peak_mib()
    );
    for (cloud, store) in &bench.copies {
        record(&bench.state, &bench.id, cloud, store);
    }
    let (scan, compared) = bench.full_scan().await;
    println!(
        "full scan with {SEGMENTS} records: {scan:.3} s, slowest tick beside it {compared:.3} s, \
         peak {} MiB",
        peak_mib()
    );
    println!("tick with nothing new then: {:.4} s", bench.pass().await);
    if targets == 1 {
        let slowest = slowest.max(beside).max(compared);
        assert!(slowest < TICK_SECONDS_MAX, "a tick took {slowest:.3} s");
        assert!(peak_mib() < MEMORY_MIB_MAX, "{} MiB were needed", peak_mib());
    }
}

/// Notes that every segment of the long log was written into the copy as it lies there.
fn record(state: &State, id: &ServiceId, cloud: &CloudName, store: &LongLog) {
    let place = backup_place(store.prefix);
    let copy = state.copy(id, cloud, place.prefix.as_str()).unwrap();
    for first in store.numbers.clone().step_by(RECORDED_AT_ONCE) {
        let last = (first + RECORDED_AT_ONCE as u64).min(store.numbers.end);
        let records = (first..last).map(|number| {
            let meta = store.meta(number);
            let key = meta.key.below(&place.prefix).unwrap().to_owned();
            Record {
                part: manifest::part_of(&place.format, &key),
                key,
                size_bytes: meta.size_bytes,
                crc64: number,
                etag: meta.etag,
                source_version: Some(format!("{number:016x}")),
                written_at: meta.modified_at,
            }
        });
        let records: Vec<Record> = records.collect();
        let part = records[0].part.clone();
        state.recall_part(copy, &part, 1, &records).unwrap();
    }
}

fn reader(store: &Arc<LongLog>) -> Reader {
    let memory = Arc::new(Remembered { of: store.clone(), carry: OnceLock::new() });
    Reader::new(store.clone(), backup_place(store.prefix), "bench".to_owned(), memory)
}

fn backup_place(prefix: &str) -> BackupPlace {
    let format = BackupFormat::PgBackRest { stanza: "m".to_owned() };
    BackupPlace { format, prefix: Key::parse(prefix).unwrap() }
}

fn cloud(name: &str) -> CloudName {
    CloudName::parse(name).unwrap()
}

fn service() -> ServiceSettings {
    let id = serde_json::json!({"project": "p", "service": "s"});
    let backup = BackupSettings { primary: backup_place("repo"), copy: backup_place("copy") };
    ServiceSettings {
        id: serde_json::from_value::<ServiceId>(id).unwrap(),
        service_type: "pg".to_owned(),
        cloud: cloud("aws-us-east-1"),
        plan: "business-4".to_owned(),
        backup: Some(backup),
        copy_retention: None,
    }
}

async fn put(store: &MemoryStore, prefix: &str, key: &str, bytes: impl Into<Bytes>) {
    let (key, bytes) = (Key::parse(&format!("{prefix}/{key}")).unwrap(), bytes.into());
    let (size, body) = (bytes.len() as u64, body_of(bytes));
    store.put(&key, size, &BTreeMap::new(), body, PutMode::Replace).await.unwrap();
}

/// A store with the long log, and backups whose logs begin all along it.
async fn long_log(prefix: &'static str) -> LongLog {
    let written = MemoryStore::new();
    let mut backups = Vec::new();
    for n in 0..BACKUPS {
        let start = FIRST + 1 + n * (SEGMENTS / BACKUPS);
        let time = log::time(start).timestamp();
        let label = log::time(start).format("%Y%m%d-%H%M%SF");
        let name = log::place(start).name();
        let end = Lsn(log::segment(start).start(log::SIZE).0 + 80);
        let listed = format!(
            "{{\"backup-archive-start\":\"{name}\",\"backup-archive-stop\":\"{name}\",\
             \"backup-info-size\":4,\"backup-lsn-start\":\"{end}\",\"backup-lsn-stop\":\"{end}\",\
             \"backup-timestamp-start\":{time},\"backup-timestamp-stop\":{},\"db-id\":1}}",
            time + 5
        );
        let files: Vec<String> = (0..FILES).map(|n| format!("pg_data/base/5/{n}")).collect();
        for file in &files {
            put(&written, prefix, &format!("backup/m/{label}/{file}"), "xxxx").await;
        }
        let files = files.into_iter().map(|file| (file, "{\"size\":4}".to_owned())).collect();
        let manifest = sealed(&[("backrest", vec![format()]), ("target:file", files)]);
        for end in ["", ".copy"] {
            let key = format!("backup/m/{label}/backup.manifest{end}");
            put(&written, prefix, &key, manifest.clone()).await;
        }
        backups.push((label.to_string(), listed));
    }
    let cluster = |id: &str| {
        vec![("1".to_owned(), format!("{{\"{id}\":{},\"db-version\":\"15\"}}", log::SYSTEM))]
    };
    let info = [
        ("backrest", vec![format()]),
        ("backup:current", backups),
        ("db:history", cluster("db-system-id")),
    ];
    let archive = [("backrest", vec![format()]), ("db:history", cluster("db-id"))];
    for (key, text) in
        [("backup/m/backup.info", sealed(&info)), ("archive/m/archive.info", sealed(&archive))]
    {
        put(&written, prefix, key, text.clone()).await;
        put(&written, prefix, &format!("{key}.copy"), text).await;
    }
    LongLog { prefix, numbers: FIRST..FIRST + SEGMENTS, written }
}

fn format() -> (String, String) {
    ("backrest-format".to_owned(), "5".to_owned())
}

/// A file of sections with its checksum: SHA-1 over it as one JSON object.
fn sealed(sections: &[(&str, Vec<(String, String)>)]) -> String {
    let mut text = String::new();
    let mut json = Vec::new();
    for (section, lines) in sections {
        writeln!(text, "[{section}]").unwrap();
        let lines = lines.iter().map(|(key, value)| {
            writeln!(text, "{key}={value}").unwrap();
            format!("\"{key}\":{value}")
        });
        json.push(format!("\"{section}\":{{{}}}", lines.collect::<Vec<_>>().join(",")));
    }
    let sum = hex::lower(&Sha1::digest(format!("{{{}}}", json.join(","))));
    text + &format!("\n[backrest]\nbackrest-checksum=\"{sum}\"\n")
}

/// The largest resident set so far.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
