//! The world around the replicator: time that nobody waits for, and a primary that a backup tool
//! writes to.

use crate::{
    domain::lsn::{Segment, SegmentSize, Timeline},
    layout::pgbackrest::info_file::tests::sealed,
    store::{BlobStore, Condition, Contents, key::Key, memory::MemoryStore},
    sys::clock::Clock,
    wal::{
        decode::sha1_hex,
        fake::{FIRST, Log, SIZE},
    },
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use rand::{Rng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Turns that everybody else gets before time moves on.
const TURNS: usize = 16;
/// Segments that a run can use.
pub(super) const SEGMENTS: usize = 24;

/// Time that moves on to the next sleeper as soon as everybody sleeps. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct SimClock(Arc<Mutex<Time>>);

#[derive(Debug, Default)]
struct Time {
    monotonic: Duration,
    /// How far the wall clock was set.
    set: TimeDelta,
    sleepers: BTreeSet<(Duration, u64)>,
    names: u64,
}

impl SimClock {
    fn time(&self) -> MutexGuard<'_, Time> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the wall clock forward or back.
    pub(super) fn jump(&self, by: TimeDelta) {
        self.time().set += by;
    }
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        let time = self.time();
        let gone = TimeDelta::from_std(time.monotonic).unwrap();
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + gone + time.set
    }

    fn monotonic(&self) -> Duration {
        self.time().monotonic
    }

    fn sleep(&self, period: Duration) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            let me = {
                let mut time = clock.time();
                time.names += 1;
                let me = (time.monotonic + period, time.names);
                time.sleepers.insert(me);
                me
            };
            let asleep = Asleep { clock, me };
            loop {
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
                let mut time = asleep.clock.time();
                if time.sleepers.first() == Some(&me) || time.monotonic >= me.0 {
                    time.monotonic = time.monotonic.max(me.0);
                    break;
                }
            }
        })
    }
}

/// One who sleeps no more leaves the line, also when it is given up.
struct Asleep {
    clock: SimClock,
    me: (Duration, u64),
}

impl Drop for Asleep {
    fn drop(&mut self) {
        self.clock.time().sleepers.remove(&self.me);
    }
}

/// One segment of the log that every run uses.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) bytes: Bytes,
    /// Time of its last commit.
    pub(super) commit: DateTime<Utc>,
}

/// The log that every run uses.
pub(super) static LOG: LazyLock<Vec<Part>> = LazyLock::new(|| {
    let mut log = Log::new();
    let second = |n: usize| 1_799_990_000 + 10 * i64::try_from(n).unwrap();
    for n in 0..SEGMENTS {
        let since_2000 = (second(n) - 946_684_800) * 1_000_000;
        log.record(1, 0, &since_2000.to_le_bytes());
        log.fill();
        log.record(0, 0x40, &[]); // A switch.
    }
    let size = SegmentSize::new(SIZE as u64).unwrap();
    let part = |(n, (segment, plain)): (usize, (Segment, Vec<u8>))| {
        let name = segment.file_name(size);
        let key = format!("archive/m/15-1/{}/{name}-{}.zst", &name[..16], sha1_hex(&plain));
        let bytes = zstd::encode_all(&plain[..], 1).unwrap().into();
        Part { name, key, bytes, commit: DateTime::from_timestamp(second(n), 0).unwrap() }
    };
    log.segments().into_iter().take(SEGMENTS).enumerate().map(part).collect()
});

/// A base backup of the primary.
#[derive(Clone, Debug)]
pub(super) struct Backup {
    label: String,
    /// Place in [`LOG`] of the segment that makes it consistent.
    segment: usize,
}

/// The primary as a backup tool writes it, and every version of everything that it ever wrote.
pub(super) struct Primary {
    pub(super) store: MemoryStore,
    pub(super) written: Arc<Mutex<BTreeMap<String, BTreeSet<Bytes>>>>,
    pub(super) backups: Vec<Backup>,
    pub(super) archived: usize,
    pub(super) wiped: bool,
    made: usize,
}

impl Primary {
    pub(super) fn new() -> Self {
        let (store, written) = (MemoryStore::new(), Arc::default());
        Self { store, written, backups: Vec::new(), archived: 0, wiped: false, made: 0 }
    }

    async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.entry(key.to_owned()).or_default().insert(bytes.clone());
        }
        let key = Key::parse(&format!("repo/{key}")).unwrap();
        self.store.write(&key, Contents::of(bytes), &Condition::None).await.unwrap();
    }

    async fn remove_below(&self, part: &str) {
        for key in self.store.keys() {
            if key.as_str().starts_with(&format!("repo/{part}")) {
                self.store.delete(&key).await.unwrap();
            }
        }
    }

    /// Something happens in the primary. `clock` lets others have their turn in between.
    pub(super) async fn act(&mut self, chance: &mut StdRng, clock: &SimClock) {
        if self.wiped {
            return;
        }
        match chance.random_range(0..20) {
            0 if chance.random_bool(0.1) => {
                self.wiped = true;
                self.remove_below("").await;
            }
            0..=3 if self.archived + 2 < SEGMENTS => self.back_up(chance, clock).await,
            4 if self.backups.len() > 1 => self.expire(clock).await,
            _ if self.archived < SEGMENTS => self.archive().await,
            _ => {}
        }
    }

    pub(super) async fn archive(&mut self) {
        if self.archived == 0 {
            let text = "[backrest]\nbackrest-format=5\n\n[db:history]\n\
                        1={\"db-id\":7,\"db-version\":\"15\"}\n";
            self.put("archive/m/archive.info", sealed(text)).await;
        }
        let part = &LOG[self.archived];
        self.put(&part.key, part.bytes.clone()).await;
        self.archived += 1;
    }

    /// Files, the segment that makes it consistent, the manifests, the catalogue.
    pub(super) async fn back_up(&mut self, chance: &mut StdRng, clock: &SimClock) {
        self.made += 1;
        let at = DateTime::from_timestamp(1_799_990_000, 0).unwrap();
        let at = at + TimeDelta::seconds(i64::try_from(self.archived).unwrap() * 10 + 5);
        let stamp = at.format("%Y%m%d-%H%M%S");
        let parent = self.backups.last().filter(|_| chance.random_bool(0.5)).cloned();
        let label = match &parent {
            Some(parent) => format!("{}_{stamp}I", &parent.label[..16]),
            None => format!("{stamp}F"),
        };
        if self.backups.iter().any(|backup| backup.label == label) {
            return;
        }
        let mut files = String::new();
        for file in 0..chance.random_range(1..5) {
            let name = format!("pg_data/{file}");
            let contents = format!("{label} {file} {}", "x".repeat(file * 10));
            let sum = sha1_hex(contents.as_bytes());
            let size = contents.len();
            self.put(&format!("backup/m/{label}/{name}"), contents).await;
            clock.sleep(Duration::from_millis(20)).await;
            writeln!(files, "{name}={{\"rck\":\"{sum}\",\"repo-size\":{size},\"size\":{size}}}")
                .unwrap();
        }
        if let Some(parent) = parent {
            let from = &parent.label;
            let contents = format!("{from} 0 ");
            let (sum, size) = (sha1_hex(contents.as_bytes()), contents.len());
            writeln!(
                files,
                "pg_data/0={{\"rck\":\"{sum}\",\"reference\":\"{from}\",\"repo-size\":{size},\
                 \"size\":{size}}}"
            )
            .unwrap();
        }
        let segment = self.archived;
        self.archive().await;
        clock.sleep(Duration::from_millis(50)).await;
        let name = &LOG[segment].name;
        let text = sealed(&format!(
            "[backrest]\nbackrest-format=5\n\n[backup]\nbackup-archive-start=\"{name}\"\n\n\
             [backup:db]\ndb-id=1\ndb-version=\"15\"\n\n[target:file]\n{files}"
        ));
        self.put(&format!("backup/m/{label}/backup.manifest.copy"), text.clone()).await;
        self.put(&format!("backup/m/{label}/backup.manifest"), text).await;
        self.backups.push(Backup { label, segment });
        clock.sleep(Duration::from_millis(50)).await;
        self.catalogue().await;
    }

    async fn catalogue(&self) {
        let mut listed = String::new();
        for backup in &self.backups {
            let part = &LOG[backup.segment];
            let size = SegmentSize::new(SIZE as u64).unwrap();
            let number = FIRST + backup.segment as u64;
            let start = Segment { timeline: Timeline(1), number }.start(size);
            let (name, at) = (&part.name, part.commit.timestamp());
            writeln!(
                listed,
                "{}={{\"backup-archive-start\":\"{name}\",\"backup-archive-stop\":\"{name}\",\
                 \"backup-info-size\":4,\"backup-lsn-start\":\"{start}\",\
                 \"backup-lsn-stop\":\"{start}\",\"backup-timestamp-start\":{at},\
                 \"backup-timestamp-stop\":{},\"db-id\":1}}",
                backup.label,
                at - 1
            )
            .unwrap();
        }
        let text = sealed(&format!(
            "[backrest]\nbackrest-format=5\n\n[backup:current]\n{listed}\n[db:history]\n\
             1={{\"db-system-id\":7,\"db-version\":\"15\"}}\n"
        ));
        self.put("backup/m/backup.info.copy", text.clone()).await;
        self.put("backup/m/backup.info", text).await;
    }

    /// The oldest chain of backups: markers, catalogue, files, then the log before what is left.
    async fn expire(&mut self, clock: &SimClock) {
        let chain = self.backups[0].label[..16].to_owned();
        let (gone, kept): (Vec<Backup>, Vec<Backup>) =
            self.backups.iter().cloned().partition(|backup| backup.label.starts_with(&chain));
        let Some(oldest) = kept.first() else { return };
        let first = oldest.segment;
        for backup in &gone {
            self.remove_below(&format!("backup/m/{}/backup.manifest", backup.label)).await;
        }
        clock.sleep(Duration::from_millis(30)).await;
        self.backups = kept;
        self.catalogue().await;
        for backup in &gone {
            clock.sleep(Duration::from_millis(30)).await;
            self.remove_below(&format!("backup/m/{}/", backup.label)).await;
        }
        for part in &LOG[..first] {
            self.remove_below(&part.key).await;
        }
    }

    /// Labels of its backups.
    pub(super) fn labels(&self) -> BTreeSet<String> {
        self.backups.iter().map(|backup| backup.label.clone()).collect()
    }
}
