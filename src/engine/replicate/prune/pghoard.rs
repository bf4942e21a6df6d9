//! What may be removed from the copy of a site of PGHoard, whose catalogue is its index objects: base
//! backups whose index the primary has removed, what only they refer to, and the log before all others.
//!
//! What the primary still has is never removed, since the next pass would copy it again. An index that
//! cannot be read may refer to any shared file and any part of the log, and keeps them all.

use crate::{
    engine::{
        catalog::{RegionCatalog, observe::Look, segment::Place},
        replicate::prune::{Expired, PrunePlan, Retention},
    },
    layout::pghoard::{
        keys::{self, LOG, Role},
        needs::Listing,
        removal::{self, KeptReferences, removal},
    },
};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// The objects of a site that have to do with base backups.
struct Site {
    /// Base backups with an index.
    indexes: BTreeSet<String>,
    /// Base backups with chunks.
    data: BTreeSet<String>,
    /// Digests of the shared files.
    shared: BTreeSet<String>,
}

impl Site {
    fn of(look: &Look) -> Self {
        let mut site =
            Self { indexes: BTreeSet::new(), data: BTreeSet::new(), shared: BTreeSet::new() };
        for (key, _) in look.repository.others() {
            match keys::role(key) {
                Role::Index { backup } => drop(site.indexes.insert(backup)),
                Role::Chunk { backup, .. } | Role::DeltaChunk { backup, .. } => {
                    site.data.insert(backup);
                }
                Role::DeltaFile { digest } => drop(site.shared.insert(digest)),
                Role::Segment { .. }
                | Role::History { .. }
                | Role::PreservationRequest
                | Role::Other => {}
            }
        }
        site
    }
}

/// What the primary does not have any more: names of base backups whose index is gone there, or of which
/// nothing is left but chunks here, and keys of shared files that no base backup on either side refers to.
#[must_use]
pub fn gone(source: &Look, target: &Look) -> BTreeSet<String> {
    let (there, here) = (Site::of(source), Site::of(target));
    // Chunks without an index are on their way as long as the primary has any of them.
    let left = here.data.difference(&there.data);
    let labels = here.indexes.iter().chain(left);
    let mut gone: BTreeSet<String> =
        labels.filter(|label| !there.indexes.contains(*label)).cloned().collect();
    if let KeptReferences::Known(kept) = references(&[source, target], &BTreeSet::new()) {
        let unused = here.shared.difference(&there.shared).filter(|digest| !kept.contains(*digest));
        gone.extend(unused.map(|digest| keys::delta_file(digest)));
    }
    gone
}

/// Plans what to remove. `expired` is everything of [`gone`].
#[must_use]
pub fn plan(
    source: &Look,
    target: &Look,
    catalog: &RegionCatalog,
    expired: &[Expired],
    retention: &Retention,
    now: DateTime<Utc>,
) -> PrunePlan {
    let over = expired.iter().filter(|gone| {
        now - gone.since >= retention.keep_expired_for && !retention.held.contains(&gone.label)
    });
    let mut over: BTreeSet<&str> = over.map(|gone| gone.label.as_str()).collect();
    let restorable = catalog.backups.iter().filter(|backup| backup.range.is_some());
    let restorable: Vec<&str> =
        restorable.map(|backup| backup.name.as_str()).filter(|name| !over.contains(name)).collect();
    let wanted = retention.keep_restorable.max(1);
    if restorable.len() < wanted {
        if over.is_empty() {
            return PrunePlan::default();
        }
        let count = restorable.len();
        let why = format!(
            "nothing is removed: {count} of the backups that stay are restorable, {wanted} are to be \
             kept"
        );
        return PrunePlan { held: Some(why), ..PrunePlan::default() };
    }
    // Names begin with the time. What is newer than all that can be restored is not given up.
    let newest = restorable.iter().max().copied().unwrap_or_default();
    over.retain(|label| target.backup(label).is_none() || *label < newest);
    let (there, here) = (Site::of(source), Site::of(target));
    let mut plan = removals(source, target, &here, &over);
    plan.log = unneeded_log(&[(source, &there), (target, &here)], target, &over);
    plan
}

/// Indexes, then what only these base backups have.
fn removals(source: &Look, target: &Look, here: &Site, over: &BTreeSet<&str>) -> PrunePlan {
    let kept = references(&[source, target], over);
    let listing: Listing = target
        .repository
        .others()
        // Otherwise the next pass would copy it again.
        .filter(|(key, _)| !source.repository.contains(key))
        .map(|(key, found)| (key.clone(), found.size_bytes))
        .collect();
    let (mut indexes, mut data, mut shared) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::<String>::new());
    for label in here.indexes.union(&here.data).filter(|label| over.contains(label.as_str())) {
        let own = digests(target, label);
        let gone = removal(label, &listing, own.as_ref(), &kept);
        indexes.extend(gone.index);
        data.extend(gone.data);
        shared.extend(gone.shared);
    }
    let unused = here.shared.iter().filter(|d| over.contains(keys::delta_file(d).as_str()));
    shared.extend(removal::shared_files(unused, &listing, &kept).0);
    PrunePlan {
        markers: indexes.into_iter().collect(),
        files: data.into_iter().chain(shared).collect(),
        ..PrunePlan::default()
    }
}

/// The shared files that the base backups of `looks` refer to, but for those that are over.
fn references(looks: &[&Look], over: &BTreeSet<&str>) -> KeptReferences {
    let mut known = BTreeSet::new();
    for look in looks {
        for label in Site::of(look).indexes.iter().filter(|label| !over.contains(label.as_str())) {
            let Some(own) = digests(look, label) else { return KeptReferences::Unknown };
            known.extend(own);
        }
    }
    KeptReferences::Known(known)
}

/// The shared files that a base backup refers to; `None` when its index has not been read.
fn digests(look: &Look, label: &str) -> Option<BTreeSet<String>> {
    look.backup(label).filter(|backup| backup.lacks_key.is_none())?;
    let needs = look.needs.get(label)?.as_ref().ok()?;
    let digest = |key: &String| match keys::role(key) {
        Role::DeltaFile { digest } => Some(digest),
        Role::Index { .. }
        | Role::Chunk { .. }
        | Role::DeltaChunk { .. }
        | Role::Segment { .. }
        | Role::History { .. }
        | Role::PreservationRequest
        | Role::Other => None,
    };
    Some(needs.objects.keys().filter_map(digest).collect())
}

/// Segments before the start of every base backup that stays, on whichever timeline, the oldest first.
/// None where a start is not known.
fn unneeded_log(sides: &[(&Look, &Site)], target: &Look, over: &BTreeSet<&str>) -> Vec<String> {
    let mut first = None;
    for (look, site) in sides {
        for label in site.indexes.iter().filter(|label| !over.contains(label.as_str())) {
            let start = look.backup(label).and_then(|backup| Place::parse(&backup.archive_start));
            let Some(start) = start else { return Vec::new() };
            first = Some(first.map_or(start.position, |first: u64| first.min(start.position)));
        }
    }
    let Some(first) = first else { return Vec::new() };
    let mut unneeded = BTreeSet::new();
    if let Some(log) = target.repository.archives.get(LOG) {
        let before = log.iter().filter(|(place, _)| place.position < first);
        unneeded.extend(
            before
                .map(|(place, segment)| (place.position, place.timeline, log.key(place, segment))),
        );
    }
    // A segment that was being removed when the engine died may have lost its metadata already.
    let below = format!("{LOG}/");
    for (key, _) in target.repository.others_below(&below) {
        let name = key.strip_prefix(&below).unwrap_or_default();
        if let Some(place) = Place::parse(name).filter(|place| place.position < first) {
            unneeded.insert((place.position, place.timeline, key.clone()));
        }
    }
    unneeded.into_iter().map(|(_, _, key)| key).collect()
}

#[cfg(test)]
mod tests {
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
            config::{Hold, RetentionSettings, ServiceSettings},
            replicate::{
                copying::Budget,
                pass::{Replicator, Shared},
            },
            state::State,
        },
        layout::{BackupFormat, BackupPlace},
        store::{
            BlobStore, Condition, Contents, UserMetadata,
            key::Key,
            memory::MemoryStore,
            wrap::{
                faulty::{Call, Fault, FaultyStore},
                metrics::Operation,
            },
        },
        sys::clock::SystemClock,
        wal::{
            decode::sha1_hex,
            fake::{Log, SIZE},
        },
    };
    use serde_json::{Value, json};
    use std::{
        collections::BTreeSet,
        sync::{
            Arc, LazyLock,
            atomic::{AtomicBool, AtomicI64, Ordering},
        },
        time::Duration,
    };
    use tokio_util::sync::CancellationToken;

    /// The base backups of the site: name, number of its segment among those of the log, shared files.
    const BACKUPS: [(&str, usize, [&str; 2]); 3] = [
        ("2026-12-01_10-00_0", 1, ["aa", "bb"]),
        ("2026-12-02_10-00_0", 4, ["bb", "cc"]),
        ("2026-12-03_10-00_0", 6, ["cc", "dd"]),
    ];
    const FIRST: &str = BACKUPS[0].0;
    const SEGMENTS: usize = 9;

    /// Names and contents of the log: each has a commit, and the end of the base backup in it.
    static LOG: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
        let mut log = Log::new();
        for n in 0..SEGMENTS {
            if BACKUPS.iter().any(|(_, segment, _)| *segment == n) {
                log.record(0, 0x50, &log.position().to_le_bytes());
            }
            let since_2000 =
                (1_795_000_000 + 10 * i64::try_from(n).unwrap() - 946_684_800) * 1_000_000;
            log.record(1, 0, &since_2000.to_le_bytes());
            log.record(0, 0x40, &[]); // A switch.
        }
        let size = SegmentSize::new(SIZE as u64).unwrap();
        let part =
            |(segment, bytes): (crate::domain::lsn::Segment, _)| (segment.file_name(size), bytes);
        log.segments().into_iter().take(SEGMENTS).map(part).collect()
    });

    async fn put(store: &MemoryStore, key: &str, bytes: impl Into<bytes::Bytes>, said: Value) {
        let mut user_metadata = UserMetadata::new();
        for (name, value) in said.as_object().unwrap() {
            user_metadata.insert(name.clone(), value.as_str().unwrap().to_owned());
        }
        let contents = Contents { user_metadata, ..Contents::of(bytes.into()) };
        let key = Key::parse(key).unwrap();
        store.write(&key, contents, &Condition::None).await.unwrap();
    }

    fn digest(two: &str) -> String {
        two.repeat(32)
    }

    fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, contents) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            tar.append_data(&mut header, name, contents.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    async fn base_backup(store: &MemoryStore, (label, segment, shared): (&str, usize, [&str; 2])) {
        let file = format!("{label}/{label}.00000001.pghoard");
        let said = || json!({"original-file-size": "5"});
        put(store, &format!("orders/basebackup_delta_chunk/{file}"), "chunk", said()).await;
        let mut files = Vec::new();
        for two in shared {
            put(store, &format!("orders/basebackup_delta/{}", digest(two)), "pages", said()).await;
            files.push(
                json!({"relative_path": format!("base/{two}"), "file_size": 5, "mtime_ns": 1,
                "hexdigest": digest(two), "stored_file_size": 5, "content_b64": null}),
            );
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
    async fn site() -> MemoryStore {
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
    fn of_the_first() -> BTreeSet<String> {
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

    async fn same(store: &MemoryStore) -> MemoryStore {
        let other = MemoryStore::new();
        for key in store.keys() {
            let (_, bytes) = crate::store::read_all(store, &key, 1 << 30).await.unwrap();
            let user_metadata = store.user_metadata(&key).await.unwrap();
            let contents = Contents { user_metadata, ..Contents::of(bytes) };
            other.write(&key, contents, &Condition::None).await.unwrap();
        }
        other
    }

    fn region() -> CloudName {
        CloudName::parse("aws-eu-central-1").unwrap()
    }

    fn reader(store: Arc<dyn BlobStore>) -> Reader {
        let place =
            BackupPlace { format: BackupFormat::PgHoard, prefix: Key::parse("orders").unwrap() };
        Reader::new(store, place, String::new(), Arc::new(NoMemory))
    }

    async fn observe(store: &MemoryStore) -> Observed {
        reader(Arc::new(store.clone())).observe(Extent::Everything).await.unwrap()
    }

    fn retention() -> RetentionSettings {
        RetentionSettings {
            keep_expired_for: Duration::ZERO,
            keep_restorable: 2,
            hold: Vec::new(),
            remove_percent_max: 100,
            confirm_after: Duration::ZERO,
        }
    }

    fn engine(
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

    async fn passes(engine: &Replicator, count: usize) {
        for _ in 0..count {
            engine.pass(&[region()]).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn objects(store: &MemoryStore) -> BTreeSet<String> {
        let keys = store.keys().into_iter().map(String::from);
        keys.filter(|key| !key.contains(".btar")).collect()
    }

    /// The copy of the site, whose primary has expired its first base backup since.
    async fn expired() -> (MemoryStore, MemoryStore) {
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
    async fn removed(
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

    #[tokio::test]
    async fn a_base_backup_goes_with_what_only_it_needs_when_its_index_is_gone_and_its_time_is_over()
     {
        let (source, target) = expired().await;
        let mut expect = of_the_first();
        expect.remove(&format!("orders/xlog/{}", LOG[0].0)); // Never copied.
        assert_eq!(removed(&source, &target, retention(), false).await, expect);

        let none = BTreeSet::new();
        assert_eq!(removed(&source, &target, retention(), true).await, none, "a fork is made");
        let later = RetentionSettings { keep_expired_for: Duration::from_secs(60), ..retention() };
        assert_eq!(removed(&source, &target, later, false).await, none);
        let more = RetentionSettings { keep_restorable: 3, ..retention() };
        assert_eq!(removed(&source, &target, more, false).await, none);
        let hold = vec![Hold { label: FIRST.to_owned(), until: None }];
        let held = RetentionSettings { hold, ..retention() };
        assert_eq!(removed(&source, &target, held, false).await, none);
        let share = RetentionSettings {
            remove_percent_max: 20,
            confirm_after: Duration::from_secs(60),
            ..retention()
        };
        assert_eq!(removed(&source, &target, share, false).await, none);

        // What the primary still has stays for as long as it has it, and is not copied to and fro.
        let chunk = format!("orders/basebackup_delta_chunk/{FIRST}/{FIRST}.00000001.pghoard");
        put(&source, &chunk, "chunk", json!({"original-file-size": "5"})).await;
        let but_it = expect.iter().filter(|key| **key != chunk).cloned().collect();
        assert_eq!(removed(&source, &target, retention(), false).await, but_it);
    }

    #[tokio::test]
    async fn an_index_that_cannot_be_read_keeps_shared_files_and_log() {
        let (source, target) = expired().await;
        let index = format!("orders/basebackup/{}.00000000.pghoard", BACKUPS[2].0);
        for store in [&source, &target] {
            put(store, &index, "no tar file", json!({"format": "pghoard-delta-v2"})).await;
        }
        let one = RetentionSettings { keep_restorable: 1, ..retention() };
        let gone = removed(&source, &target, one, false).await;
        let kinds: BTreeSet<&str> = gone.iter().map(|key| key.split('/').nth(1).unwrap()).collect();
        assert_eq!(kinds, BTreeSet::from(["basebackup", "basebackup_delta_chunk"]));
    }

    #[tokio::test]
    async fn an_emptied_primary_removes_nothing() {
        let (source, target) = expired().await;
        for key in source.keys() {
            source.delete(&key).await.unwrap();
        }
        assert_eq!(removed(&source, &target, retention(), false).await, BTreeSet::new());
    }

    /// The engine dies at a call that changes the copy, which was done or not.
    async fn killed_at(
        (source, target): (&MemoryStore, &MemoryStore),
        calls: i64,
        fault: Fault,
    ) -> bool {
        let copy = same(target).await;
        let (dead, left) = (Arc::new(AtomicBool::new(false)), AtomicI64::new(calls));
        let died = dead.clone();
        let decide = move |call: &Call| {
            if dead.load(Ordering::SeqCst) {
                return Fault::Before;
            }
            let changes = matches!(call.operation, Operation::Write | Operation::Delete);
            if changes && left.fetch_sub(1, Ordering::SeqCst) == 0 {
                dead.store(true, Ordering::SeqCst);
                return fault;
            }
            Fault::None
        };
        let faulty = FaultyStore::new(Arc::new(copy.clone()), Arc::new(SystemClock::new()), decide);
        let dir = tempfile::tempdir().unwrap();
        let dying = engine(source, Arc::new(faulty), dir.path(), Some(retention()), false);
        passes(&dying, 3).await;
        drop(dying);
        let when = format!("died at change {calls}, {fault:?}");
        let seen = observe(&copy).await;
        assert_eq!(seen.catalog.problems, Vec::<String>::new(), "{when}");
        assert!(seen.catalog.backups.len() >= 2, "{when}");
        for backup in &seen.catalog.backups {
            assert!(backup.missing.is_empty() && backup.range.is_some(), "{when}: {backup:?}");
        }
        let next = engine(source, Arc::new(copy.clone()), dir.path(), Some(retention()), false);
        passes(&next, 4).await;
        let mut expect = objects(source);
        expect.retain(|key| *key != format!("orders/xlog/{}", LOG[0].0));
        assert_eq!(objects(&copy), expect, "{when}");
        died.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn killed_at_every_removal_what_is_published_stays_restorable() {
        let (source, target) = expired().await;
        for fault in [Fault::Before, Fault::After] {
            let mut calls = 0;
            while killed_at((&source, &target), calls, fault).await {
                calls += 1;
            }
            assert!(calls >= 6, "{calls} changes were made");
        }
    }
}
