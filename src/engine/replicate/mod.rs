//! Keeps the copies of a service's backups in step with the primary.
//!
//! A pass looks at the targets and then at the source, plans, and executes. A later stage is planned
//! only when the listing shows that the one before is complete in the target: a crash at any point
//! leaves nothing that the next pass does not see. The log has a lane of its own, so that a large
//! base backup does not hold it up.

pub mod guard;
mod needed_log;
pub mod plan;
pub mod prove;
pub mod prune;

pub mod record;

mod carry;
pub mod copying;
mod describe;
mod examine;
pub mod execute;
pub(super) mod keep;
pub mod lag;
pub mod pass;
mod repair;
mod retain;
mod scan;
mod schedule;
mod scrub;

#[cfg(test)]
mod proof_tests;

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod site_tests;

#[cfg(test)]
mod tests {
    use crate::{
        domain::{
            cloud::CloudName,
            ids::{ProjectName, ServiceId, ServiceName},
        },
        engine::{
            catalog::{
                build::is_complete,
                learned::NoMemory,
                listing::Extent,
                observe::{Look, Reader},
            },
            config::ServiceSettings,
            replicate::{
                copying::Budget,
                execute::{Progress, Sides, execute},
                pass::{Replicator, Shared},
                plan::{self, Step},
                prune,
            },
            state::State,
        },
        layout::{
            BackupFormat, BackupPlace,
            pgbackrest::{info_file::tests::sealed, manifest},
        },
        store::{
            BlobStore, PutMode, body_of,
            key::Key,
            memory::MemoryStore,
            wrap::{
                faulty::{Call, Fault, FaultyStore},
                metrics::Operation,
            },
        },
        sys::clock::{Clock, SystemClock},
        wal::decode::sha1_hex,
    };
    use bytes::Bytes;
    use futures_util::{FutureExt, future::BoxFuture};
    use std::{
        collections::{BTreeMap, BTreeSet},
        fmt::Write as _,
        sync::Arc,
        time::Duration,
    };
    use tokio_util::sync::CancellationToken;

    pub(super) const FULL: &str = "20261123-075157F";
    const INCREMENTAL: &str = "20261123-075157F_20261123-075238I";

    pub(super) struct Pair {
        pub(super) source: MemoryStore,
        pub(super) target: MemoryStore,
        sides: Sides,
    }

    impl Pair {
        pub(super) fn new() -> Self {
            let (source, target) = (MemoryStore::new(), MemoryStore::new());
            let sides = Sides {
                source: Arc::new(source.clone()),
                source_prefix: Key::parse("repo").unwrap(),
                target: Arc::new(target.clone()),
                target_prefix: Key::parse("p/s").unwrap(),
            };
            Self { source, target, sides }
        }

        pub(super) async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
            let bytes: Bytes = bytes.into();
            let key = Key::parse(&format!("repo/{key}")).unwrap();
            let size = bytes.len() as u64;
            let body = body_of(bytes);
            let none = BTreeMap::new();
            self.source.put(&key, size, &none, body, PutMode::Replace).await.unwrap();
        }

        async fn segment(&self, number: u32) {
            let name = format!("0000000100000000{number:08X}");
            let bytes = format!("contents of {number}");
            let sum = sha1_hex(bytes.as_bytes());
            self.put(&format!("archive/m/15-1/{}/{name}-{sum}", &name[..16]), bytes).await;
        }

        /// A full backup, and an incremental one when `both`, with their log.
        pub(super) async fn write(&self, both: bool) {
            let archive = "[backrest]\nbackrest-format=5\n\n[db:history]\n\
                           1={\"db-id\":77,\"db-version\":\"15\"}\n";
            self.put("archive/m/archive.info", sealed(archive)).await;
            self.put("archive/m/15-1/00000002.history", "1\t0/9000000\tx\n").await;
            for number in 1..=4 {
                self.segment(number).await;
            }
            self.put(&format!("backup/m/{FULL}/pg_data/a"), "aaaa").await;
            self.put(&format!("backup/m/{FULL}/pg_data/empty"), "").await;
            self.manifest(FULL, "pg_data/a={\"size\":4}\npg_data/empty={\"size\":0}\n").await;
            let mut listed = listed_line(FULL, 2, 1000);
            if both {
                self.put(&format!("backup/m/{INCREMENTAL}/pg_data/b"), "bb").await;
                let files = format!(
                    "pg_data/a={{\"reference\":\"{FULL}\",\"size\":4}}\npg_data/b={{\"size\":2}}\n"
                );
                self.manifest(INCREMENTAL, &files).await;
                listed += &listed_line(INCREMENTAL, 4, 2000);
            }
            self.catalogue(&listed).await;
        }

        async fn manifest(&self, label: &str, files: &str) {
            let text = format!("[backrest]\nbackrest-format=5\n\n[target:file]\n{files}");
            let text = sealed(&text);
            self.put(&format!("backup/m/{label}/backup.manifest.copy"), text.clone()).await;
            self.put(&format!("backup/m/{label}/backup.manifest"), text).await;
        }

        async fn catalogue(&self, listed: &str) {
            let text = format!(
                "[backrest]\nbackrest-format=5\n\n[backup:current]\n{listed}\n[db:history]\n\
                 1={{\"db-system-id\":77,\"db-version\":\"15\"}}\n"
            );
            let text = sealed(&text);
            self.put("backup/m/backup.info.copy", text.clone()).await;
            self.put("backup/m/backup.info", text).await;
        }

        async fn look(&self, store: &MemoryStore, prefix: &str) -> Look {
            let place = BackupPlace {
                format: BackupFormat::PgBackRest { stanza: "m".to_owned() },
                prefix: Key::parse(prefix).unwrap(),
            };
            let store = Arc::new(store.clone());
            Reader::new(store, place, String::new(), Arc::new(NoMemory))
                .look(Extent::Everything)
                .await
                .unwrap()
        }

        async fn plan(&self) -> plan::CopyPlan {
            let target = self.look(&self.target, "p/s").await;
            let source = self.look(&self.source, "repo").await;
            let format = BackupFormat::PgBackRest { stanza: "m".to_owned() };
            plan::plan(&format, &source, &target, &BTreeSet::new())
        }

        /// One pass; says whether there was anything to do.
        async fn pass(&self) -> bool {
            let plan = self.plan().await;
            let (progress, stop) = (Progress::default(), CancellationToken::new());
            let mut idle = true;
            for stages in [&plan.log, &plan.data] {
                idle &= stages.is_empty();
                // A failed step is what the test asks for.
                drop(execute(&self.sides, stages, 1, &progress, &stop).await);
            }
            !idle
        }

        /// What the copy's catalogue lists must be there.
        async fn nothing_is_promised_that_is_not_there(&self, when: &str) {
            let target = self.look(&self.target, "p/s").await;
            assert_eq!(target.problems, Vec::<String>::new(), "{when}");
            for backup in &target.backups {
                let needs = target.needs[&backup.label].as_ref().unwrap();
                assert!(is_complete(&target.repository, needs), "{when}: {}", backup.label);
                let log = &target.repository.archives["15-1"];
                assert!(log.contains(&backup.archive_stop), "{when}: {}", backup.label);
                let parents = backup.references.iter();
                assert!(parents.into_iter().all(|p| target.backup(p).is_some()), "{when}");
            }
        }
    }

    fn listed_line(label: &str, segment: u32, at: u64) -> String {
        let name = format!("0000000100000000{segment:08X}");
        let reference = if label == FULL {
            String::new()
        } else {
            format!("\"backup-reference\":[\"{FULL}\"],")
        };
        format!(
            "{label}={{\"backup-archive-start\":\"{name}\",\"backup-archive-stop\":\"{name}\",\
             \"backup-info-size\":4,\"backup-lsn-start\":\"0/{segment}000028\",\
             \"backup-lsn-stop\":\"0/{segment}000100\",{reference}\"backup-timestamp-start\":{at},\
             \"backup-timestamp-stop\":{},\"db-id\":1}}\n",
            at + 5
        )
    }

    #[tokio::test]
    async fn the_stages_come_in_the_order_of_dependence() {
        let pair = Pair::new();
        pair.write(true).await;
        let mut said = String::new();
        for pass in 1.. {
            let plan = pair.plan().await;
            for (lane, stages) in [("log", &plan.log), ("data", &plan.data)] {
                for stage in stages {
                    let keys: Vec<&str> = stage.steps.iter().map(Step::key).collect();
                    let keys: Vec<&str> =
                        keys.iter().map(|k| k.rsplit('/').next().unwrap()).collect();
                    let keys = keys.join(" ").replace('-', "~");
                    let keys: Vec<&str> =
                        keys.split(' ').map(|k| k.split('~').next().unwrap()).collect();
                    writeln!(said, "{pass} {lane} {}: {}", stage.name, keys.join(" ")).unwrap();
                }
            }
            if !pair.pass().await {
                break;
            }
        }
        let expect = "1 log timeline histories: archive.info.copy archive.info 00000002.history\n\
            1 log log: 000000010000000000000002 000000010000000000000003 \
            000000010000000000000004\n\
            1 data files: a empty b\n\
            2 data manifest copies: backup.manifest.copy backup.manifest.copy\n\
            2 data manifests: backup.manifest backup.manifest\n\
            3 data catalogue copy: backup.info.copy\n\
            3 data catalogue: backup.info\n";
        assert_eq!(said, expect);
        // Besides archive.info.copy, and without the segment that no backup needs.
        assert_eq!(pair.target.keys().len(), pair.source.keys().len());
    }

    #[tokio::test]
    async fn killed_at_every_write_the_copy_never_promises_what_it_lacks() {
        for calls in 0..80 {
            let pair = Pair::new();
            pair.write(false).await;
            while pair.pass().await {}
            pair.write(true).await;
            pair.target.fail_from(None);
            pair.segment(5).await;
            // The engine dies after so many calls of the target's store, in whatever it does.
            let plan = pair.plan().await;
            pair.target.fail_from(Some(calls));
            let (progress, stop) = (Progress::default(), CancellationToken::new());
            for stages in [&plan.data, &plan.log] {
                drop(execute(&pair.sides, stages, 1, &progress, &stop).await);
            }
            pair.target.fail_from(None);
            pair.nothing_is_promised_that_is_not_there(&format!("killed after {calls}")).await;
            while pair.pass().await {
                pair.nothing_is_promised_that_is_not_there("on the way").await;
            }
            let copy = pair.look(&pair.target, "p/s").await;
            assert_eq!(copy.backups.len(), 2);
        }
    }

    #[tokio::test]
    async fn a_primary_that_was_emptied_or_made_anew_changes_nothing() {
        let pair = Pair::new();
        pair.write(true).await;
        while pair.pass().await {}
        let before = pair.target.keys();
        for key in pair.source.keys() {
            pair.source.delete(&key).await.unwrap();
        }
        assert!(!pair.pass().await);
        assert!(pair.plan().await.problems[0].contains("holds no pgBackRest repository"));
        // Made anew: the same names, another cluster.
        let archive = "[backrest]\nbackrest-format=5\n\n[db:history]\n\
                       1={\"db-id\":78,\"db-version\":\"15\"}\n";
        pair.put("archive/m/archive.info", sealed(archive)).await;
        pair.segment(9).await;
        assert!(!pair.pass().await);
        assert!(pair.plan().await.problems[0].contains("was made anew"));
        assert_eq!(pair.target.keys(), before);
    }

    #[tokio::test]
    async fn base_backups_are_behind_until_the_copy_lists_them_whole() {
        let pair = Pair::new();
        pair.write(true).await;
        let mut behind = Vec::new();
        loop {
            let source = pair.look(&pair.source, "repo").await;
            let target = pair.look(&pair.target, "p/s").await;
            behind.push(super::lag::backups_behind_since(&source, &target));
            if !pair.pass().await {
                break;
            }
        }
        let first = chrono::DateTime::from_timestamp(1006, 0);
        assert_eq!((behind.first(), behind.last()), (Some(&first), Some(&None)), "{behind:?}");
    }

    #[tokio::test]
    async fn a_shrunken_catalogue_is_not_taken_over() {
        let pair = Pair::new();
        pair.write(true).await;
        while pair.pass().await {}
        pair.catalogue(&listed_line(FULL, 2, 1000)).await;
        assert!(!pair.pass().await);
        let problems = pair.plan().await.problems;
        assert!(problems.iter().any(|p| p.contains("as new as")), "{problems:?}");
        assert_eq!(pair.look(&pair.target, "p/s").await.backups.len(), 2);
    }

    #[tokio::test]
    async fn a_catalogue_newer_than_what_was_copied_waits() {
        let pair = Pair::new();
        pair.write(true).await;
        // A file that the catalogue's newest backup needs is not there yet.
        let late = Key::parse(&format!("repo/backup/m/{INCREMENTAL}/pg_data/b")).unwrap();
        pair.source.delete(&late).await.unwrap();
        while pair.pass().await {
            pair.nothing_is_promised_that_is_not_there("while one is broken").await;
        }
        let problems = pair.plan().await.problems;
        assert!(problems.iter().any(|p| p.contains("not complete in the primary")), "{problems:?}");
        pair.put(&format!("backup/m/{INCREMENTAL}/pg_data/b"), "bb").await;
        while pair.pass().await {}
        pair.nothing_is_promised_that_is_not_there("in the end").await;
        assert_eq!(pair.look(&pair.target, "p/s").await.backups.len(), 2);
    }

    #[tokio::test]
    async fn a_damaged_side_never_replaces_a_good_one() {
        let pair = Pair::new();
        pair.write(true).await;
        while pair.pass().await {}
        // The primary's file is truncated: the copy's fits the manifest.
        pair.put(&format!("backup/m/{FULL}/pg_data/a"), "aa").await;
        assert!(!pair.pass().await);
        // The primary's segment is truncated: it does not have the sum of its name.
        let segment = pair.source.keys().into_iter().find(|k| k.as_str().contains("000003-"));
        let name = segment.unwrap().to_string();
        pair.put(name.strip_prefix("repo/").unwrap(), "cont").await;
        let before = pair.look(&pair.target, "p/s").await.repository;
        pair.pass().await;
        assert_eq!(pair.look(&pair.target, "p/s").await.repository, before);
    }

    /// The copy as retention sees it, every listed backup being restorable.
    async fn retained(pair: &Pair, since: i64, now: i64, keep: usize) -> prune::PrunePlan {
        retained_but(pair, since, now, keep, &[]).await
    }

    async fn retained_but(
        pair: &Pair,
        since: i64,
        now: i64,
        keep: usize,
        held: &[&str],
    ) -> prune::PrunePlan {
        let source = pair.look(&pair.source, "repo").await;
        let target = pair.look(&pair.target, "p/s").await;
        let at = |day| chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(day);
        let backups = target.backups.iter().map(|listed| crate::engine::catalog::CatalogBackup {
            name: listed.label.clone(),
            started_at: listed.started_at,
            finished_at: listed.finished_at,
            size_bytes: 0,
            stored_bytes: 0,
            log_segments: 0,
            log_bytes: 0,
            incremental: false,
            missing: Vec::new(),
            range: Some(crate::domain::window::RestoreRange {
                earliest: listed.finished_at,
                latest: listed.finished_at,
                exact: true,
            }),
        });
        let catalog = crate::engine::catalog::RegionCatalog {
            backups: backups.collect(),
            ..Default::default()
        };
        let format = BackupFormat::PgBackRest { stanza: "m".to_owned() };
        let mut expired = Vec::new();
        for label in prune::unlisted(&format, &source, &target) {
            let key = Key::parse(&format!("p/s/backup/m/{label}/backup.manifest")).unwrap();
            let needs = match crate::store::read_all(&pair.target, &key, 1 << 20).await {
                Ok((_, bytes)) => Some(Arc::new(manifest::needs("m", &label, &bytes).unwrap())),
                Err(_) => None,
            };
            expired.push(prune::Expired { label, since: at(since), needs });
        }
        let retention = prune::Retention {
            keep_expired_for: chrono::TimeDelta::days(7),
            keep_restorable: keep,
            held: held.iter().map(|label| (*label).to_owned()).collect(),
        };
        prune::plan(&format, &target, &catalog, &expired, &retention, at(now))
    }

    #[tokio::test]
    async fn expired_backups_go_after_their_time_marker_first_and_shared_files_stay() {
        const NEWER: &str = "20261124-075157F";
        let pair = Pair::new();
        pair.write(true).await;
        while pair.pass().await {}
        // A newer full backup; the primary expires the full one, while the incremental one that
        // refers to its file stays listed.
        pair.segment(5).await;
        pair.put(&format!("backup/m/{NEWER}/pg_data/c"), "ccc").await;
        pair.manifest(NEWER, "pg_data/c={\"size\":3}\n").await;
        let both = listed_line(INCREMENTAL, 4, 2000) + &listed_line(NEWER, 5, 3000);
        pair.catalogue(&both).await;
        while pair.pass().await {}
        assert!(retained(&pair, 0, 6, 2).await.is_empty(), "within the grace time");
        let plan = retained(&pair, 0, 7, 2).await;
        let names = |keys: &[String]| -> Vec<String> {
            keys.iter().map(|key| key.rsplit('/').next().unwrap()[..3].to_owned()).collect()
        };
        assert!(plan.markers.iter().all(|key| key.contains(&format!("{FULL}/backup.manifest"))));
        assert_eq!(plan.markers.len(), 2);
        assert_eq!(names(&plan.files), ["emp"], "pg_data/a is needed by the incremental backup");
        let numbers: Vec<&str> = plan.log.iter().map(|k| &k[k.len() - 42..k.len() - 41]).collect();
        assert_eq!(numbers, ["2", "3"], "the log before the incremental backup");

        let held = retained_but(&pair, 0, 700, 2, &[FULL]).await;
        assert!(held.is_empty() && held.held.is_none(), "the held backup stays, and its log");

        let held = retained(&pair, 0, 7, 3).await;
        assert!(held.is_empty() && held.held.unwrap().contains("3 are to be kept"));
        // A manifest that cannot be read: nobody knows what is needed.
        let manifest = Key::parse(&format!("p/s/backup/m/{NEWER}/backup.manifest")).unwrap();
        pair.target.delete(&manifest).await.unwrap();
        let held = retained(&pair, 0, 7, 2).await;
        assert!(held.is_empty() && held.held.unwrap().contains("cannot be read"));
    }

    /// A clock of a second in five milliseconds, or one whose sleeps never end.
    #[derive(Debug)]
    struct TestClock {
        is_stopped: bool,
        real: SystemClock,
    }

    impl Clock for TestClock {
        fn now(&self) -> chrono::DateTime<chrono::Utc> {
            self.real.now()
        }
        fn monotonic(&self) -> Duration {
            self.real.monotonic()
        }
        fn sleep(&self, period: Duration) -> BoxFuture<'static, ()> {
            match self.is_stopped {
                true => futures_util::future::pending().boxed(),
                false => self.real.sleep(period / 200),
            }
        }
    }

    fn clock(is_stopped: bool) -> Arc<TestClock> {
        Arc::new(TestClock { is_stopped, real: SystemClock::new() })
    }

    fn reader(store: Arc<dyn BlobStore>, prefix: &str) -> Reader {
        let place = BackupPlace {
            format: BackupFormat::PgBackRest { stanza: "m".to_owned() },
            prefix: Key::parse(prefix).unwrap(),
        };
        Reader::new(store, place, String::new(), Arc::new(NoMemory))
    }

    /// A replicator from the pair's source to these targets, and where its state lies.
    fn replicator(
        pair: &Pair,
        targets: [(&str, Arc<dyn BlobStore>); 2],
    ) -> (Replicator, Vec<CloudName>, tempfile::TempDir) {
        let cloud = |name: &str| CloudName::parse(name).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let service = ServiceSettings {
            id: ServiceId {
                project: ProjectName::parse("p").unwrap(),
                service: ServiceName::parse("s").unwrap(),
            },
            service_type: "pg".to_owned(),
            cloud: cloud("aws-eu-west-1"),
            plan: "startup-4".to_owned(),
            backup: None,
            copy_retention: None,
        };
        let shared = Shared {
            clock: clock(false),
            state: Arc::new(State::open(dir.path()).unwrap()),
            views: Arc::default(),
            stop: CancellationToken::new(),
            full_scan_interval: Duration::from_secs(3600),
            lag_warning: Duration::MAX,
            is_forking: Arc::new(|_, _| false),
            budget: Budget::default(),
            scrub: None,
        };
        let source = reader(Arc::new(pair.source.clone()), "repo");
        let clouds = targets.iter().map(|(name, _)| cloud(name)).collect();
        let targets = targets.map(|(name, store)| (cloud(name), reader(store, "p/s")));
        let targets = targets.into_iter().collect();
        (Replicator::new(service, Some(source), targets, shared), clouds, dir)
    }

    #[tokio::test]
    async fn a_target_that_hangs_or_is_down_does_not_hold_up_the_others() {
        for (operation, fault) in [
            (Operation::Write, Fault::Stall(Duration::from_secs(1))),
            (Operation::List, Fault::Stall(Duration::from_secs(1))),
            (Operation::Write, Fault::Before),
            (Operation::List, Fault::Before),
        ] {
            let pair = Pair::new();
            pair.write(true).await;
            let other: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
            let decide = move |call: &Call| match call.operation == operation {
                true => fault,
                false => Fault::None,
            };
            let other = Arc::new(FaultyStore::new(other, clock(true), decide));
            let healthy = Arc::new(pair.target.clone());
            let targets: [(&str, Arc<dyn BlobStore>); 2] =
                [("aws-eu-central-1", other), ("aws-eu-north-1", healthy)];
            let (replicator, clouds, _dir) = replicator(&pair, targets);
            // Every pass ends, and the healthy region gets all in the end, and what is new.
            for number in 5..12 {
                pair.segment(number).await;
                replicator.pass(&clouds).await;
                tokio::task::yield_now().await;
                let copy = pair.look(&pair.target, "p/s").await;
                let name = format!("0000000100000000{number:08X}");
                let log = &copy.repository.archives["15-1"];
                assert!(log.contains(&name), "{operation:?} {fault:?} {name}");
                pair.nothing_is_promised_that_is_not_there("while another region fails").await;
            }
            for _ in 0..200 {
                replicator.pass(&clouds).await;
                replicator.shared.clock.sleep(Duration::from_secs(1)).await;
                if pair.look(&pair.target, "p/s").await.backups.len() == 2 {
                    break;
                }
            }
            assert_eq!(pair.look(&pair.target, "p/s").await.backups.len(), 2);
        }
    }
}
