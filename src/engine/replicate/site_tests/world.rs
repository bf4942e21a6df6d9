//! A small site of PGHoard in memory, and engines that keep its copy.

use crate::{
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceId, ServiceName},
        lsn::SegmentSize,
    },
    engine::{
        catalog::{
            learned::NoMemory,
            listing::Extent,
            observe::{Observed, Reader},
        },
        config::{RetentionSettings, ServiceSettings},
        replicate::{
            copying::Budget,
            pass::{Replicator, Shared},
        },
        state::State,
    },
    layout::{BackupFormat, BackupPlace},
    store::{BlobStore, Condition, Contents, UserMetadata, key::Key, memory::MemoryStore},
    sys::clock::SystemClock,
    wal::{
        decode::sha1_hex,
        fake::{Log, SIZE},
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The base backups of the site: name, number of its segment among those of the log, shared files.
pub(super) const BACKUPS: [(&str, usize, [&str; 2]); 3] = [
    ("2026-12-01_10-00_0", 1, ["aa", "bb"]),
    ("2026-12-02_10-00_0", 4, ["bb", "cc"]),
    ("2026-12-03_10-00_0", 6, ["cc", "dd"]),
];
pub(super) const FIRST: &str = BACKUPS[0].0;
pub(super) const SEGMENTS: usize = 9;

/// Names and contents of the log: each has a commit, and the end of the base backup in it.
pub(super) static LOG: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let mut log = Log::new();
    for n in 0..SEGMENTS {
        if BACKUPS.iter().any(|(_, segment, _)| *segment == n) {
            log.record(0, 0x50, &log.position().to_le_bytes());
        }
        let since_2000 = (1_795_000_000 + 10 * i64::try_from(n).unwrap() - 946_684_800) * 1_000_000;
        log.record(1, 0, &since_2000.to_le_bytes());
        log.record(0, 0x40, &[]); // A switch.
    }
    let size = SegmentSize::new(SIZE as u64).unwrap();
    let part =
        |(segment, bytes): (crate::domain::lsn::Segment, _)| (segment.file_name(size), bytes);
    log.segments().into_iter().take(SEGMENTS).map(part).collect()
});

pub(super) async fn put(
    store: &MemoryStore,
    key: &str,
    bytes: impl Into<bytes::Bytes>,
    said: Value,
) {
    let mut user_metadata = UserMetadata::new();
    for (name, value) in said.as_object().unwrap() {
        user_metadata.insert(name.clone(), value.as_str().unwrap().to_owned());
    }
    let contents = Contents { user_metadata, ..Contents::of(bytes.into()) };
    let key = Key::parse(key).unwrap();
    store.write(&key, contents, &Condition::None).await.unwrap();
}

pub(super) fn digest(two: &str) -> String {
    two.repeat(32)
}

pub(super) fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, name, contents.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(super) async fn base_backup(
    store: &MemoryStore,
    (label, segment, shared): (&str, usize, [&str; 2]),
) {
    let file = format!("{label}/{label}.00000001.pghoard");
    let said = || json!({"original-file-size": "5"});
    put(store, &format!("orders/basebackup_delta_chunk/{file}"), "chunk", said()).await;
    let mut files = Vec::new();
    for two in shared {
        put(store, &format!("orders/basebackup_delta/{}", digest(two)), "pages", said()).await;
        files.push(json!({"relative_path": format!("base/{two}"), "file_size": 5, "mtime_ns": 1,
            "hexdigest": digest(two), "stored_file_size": 5, "content_b64": null}));
    }
    let chunk = json!({"chunk_filename": file, "input_size": 5, "result_size": 5});
    let state = json!({"root_globs": ["**/*"], "files": files, "empty_dirs": ["."]});
    let index = json!({"chunks": [chunk], "tablespaces": {},
        "manifest": {"snapshot_result": {"state": state}}});
    let tar = tar_of(&[
        (".pghoard_tar_metadata.json", &index.to_string()),
        ("pgdata/global/pg_control", "control"),
        ("pgdata/backup_label", "label"),
    ]);
    let at = chrono::DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    let at = at + chrono::TimeDelta::seconds(10 * i64::try_from(segment).unwrap());
    let name = &LOG[segment].0;
    let said = json!({"format": "pghoard-delta-v2", "original-file-size": tar.len().to_string(),
        "start-time": at.to_rfc3339(), "end-time": at.to_rfc3339(),
        "start-wal-segment": name, "end-wal-segment": name});
    put(store, &format!("orders/basebackup/{label}.00000000.pghoard"), tar, said).await;
}

/// The primary's site.
pub(super) async fn site() -> MemoryStore {
    let store = MemoryStore::new();
    for (name, plain) in &*LOG {
        let said = json!({"hash": sha1_hex(plain), "hash-algorithm": "sha1",
            "compression-algorithm": "zstd", "original-file-size": SIZE.to_string()});
        let packed = zstd::encode_all(&plain[..], 1).unwrap();
        put(&store, &format!("orders/xlog/{name}"), packed, said).await;
    }
    for backup in BACKUPS {
        base_backup(&store, backup).await;
    }
    store
}

/// The objects that PGHoard removes with the first base backup.
pub(super) fn of_the_first() -> BTreeSet<String> {
    let file = format!("{FIRST}/{FIRST}.00000001.pghoard");
    let mut keys: BTreeSet<String> = LOG[..BACKUPS[1].1]
        .iter()
        .map(|(name, _)| format!("orders/xlog/{name}"))
        // The primary's log before the first base backup was never copied.
        .collect();
    keys.insert(format!("orders/basebackup/{FIRST}.00000000.pghoard"));
    keys.insert(format!("orders/basebackup_delta_chunk/{file}"));
    keys.insert(format!("orders/basebackup_delta/{}", digest("aa")));
    keys
}

pub(super) async fn same(store: &MemoryStore) -> MemoryStore {
    let other = MemoryStore::new();
    for key in store.keys() {
        let (_, bytes) = crate::store::read_all(store, &key, 1 << 30).await.unwrap();
        let user_metadata = store.user_metadata(&key).await.unwrap();
        let contents = Contents { user_metadata, ..Contents::of(bytes) };
        other.write(&key, contents, &Condition::None).await.unwrap();
    }
    other
}

pub(super) fn region() -> CloudName {
    CloudName::parse("aws-eu-central-1").unwrap()
}

pub(super) fn reader(store: Arc<dyn BlobStore>) -> Reader {
    let place =
        BackupPlace { format: BackupFormat::PgHoard, prefix: Key::parse("orders").unwrap() };
    Reader::new(store, place, String::new(), Arc::new(NoMemory))
}

pub(super) async fn observe(store: &MemoryStore) -> Observed {
    reader(Arc::new(store.clone())).observe(Extent::Everything).await.unwrap()
}

pub(super) fn retention() -> RetentionSettings {
    RetentionSettings {
        keep_expired_for: Duration::ZERO,
        keep_restorable: 2,
        hold: Vec::new(),
        remove_percent_max: 100,
        confirm_after: Duration::ZERO,
    }
}

pub(super) fn engine(
    source: &MemoryStore,
    target: Arc<dyn BlobStore>,
    state: &std::path::Path,
    copy_retention: Option<RetentionSettings>,
    forks: bool,
) -> Replicator {
    let service = ServiceSettings {
        id: ServiceId {
            project: ProjectName::parse("p").unwrap(),
            service: ServiceName::parse("s").unwrap(),
        },
        service_type: "pg".to_owned(),
        cloud: CloudName::parse("aws-eu-west-1").unwrap(),
        plan: "startup-4".to_owned(),
        backup: None,
        copy_retention,
    };
    let shared = Shared {
        clock: Arc::new(SystemClock::new()),
        state: Arc::new(State::open(state).unwrap()),
        views: Arc::default(),
        stop: CancellationToken::new(),
        full_scan_interval: Duration::ZERO,
        lag_warning: Duration::MAX,
        is_forking: Arc::new(move |_, _| forks),
        budget: Budget::default(),
        scrub: None,
    };
    let source = reader(Arc::new(source.clone()));
    Replicator::new(service, Some(source), [(region(), reader(target))].into(), shared)
}

pub(super) async fn passes(engine: &Replicator, count: usize) {
    for _ in 0..count {
        engine.pass(&[region()]).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

pub(super) fn objects(store: &MemoryStore) -> BTreeSet<String> {
    let keys = store.keys().into_iter().map(String::from);
    keys.filter(|key| !key.contains(".btar")).collect()
}

/// The copy of the site, whose primary has expired its first base backup since.
pub(super) async fn expired() -> (MemoryStore, MemoryStore) {
    let (source, target) = (site().await, MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    passes(&engine(&source, Arc::new(target.clone()), dir.path(), None, false), 8).await;
    let restorable = observe(&target).await.catalog;
    assert!(restorable.backups.iter().all(|backup| backup.range.is_some()), "{restorable:?}");
    assert_eq!(restorable.backups.len(), BACKUPS.len());
    for key in of_the_first() {
        source.delete(&Key::parse(&key).unwrap()).await.unwrap();
    }
    (source, target)
}

/// What a few passes with a retention remove.
pub(super) async fn removed(
    source: &MemoryStore,
    target: &MemoryStore,
    retention: RetentionSettings,
    forks: bool,
) -> BTreeSet<String> {
    let (dir, copy) = (tempfile::tempdir().unwrap(), same(target).await);
    let engine = engine(source, Arc::new(copy.clone()), dir.path(), Some(retention), forks);
    passes(&engine, 4).await;
    objects(target).difference(&objects(&copy)).cloned().collect()
}
