//! Runs the replicator against a primary that lives, stores that fail and a death at any call, from
//! one seed after the other.
//!
//! After every change of a copy: whatever its catalogue lists has all of its objects, as the primary
//! wrote them. After every pass: what is published can be restored from what the copy holds. In the
//! end, with all well: the copy is in step.

mod examined;
mod slow_scan;
mod world;

use crate::{
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceId, ServiceName},
    },
    engine::{
        catalog::{observe::Reader, paged::Paged},
        config::{RetentionSettings, ServiceSettings},
        replicate::{
            copying::Budget,
            pass::{Replicator, Shared},
        },
        state::State,
        views::Views,
    },
    layout::{BackupFormat, BackupPlace, pgbackrest::backup_info::BackupInfo},
    store::{
        BlobStore,
        key::Key,
        memory::MemoryStore,
        wrap::{
            faulty::{Call, Fault, FaultyStore},
            metrics::Operation,
        },
    },
    sys::clock::Clock,
};
use chrono::TimeDelta;
use examined::{Examined, Findings};
use futures_util::FutureExt;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use world::{LOG, Primary, SimClock};

/// Seeds of the usual run of the tests. `BTAR_SIMULATION_SEEDS` gives more, `_FIRST` the first one.
const SEEDS: u64 = 150;
/// Passes within which a copy is in step when nothing fails any more.
const PASSES_MAX: usize = 60;
/// Keys of a page of a listing.
const PAGE: usize = 5;
/// Segments before the newest one that are listed again: a run has few.
const TAIL: usize = 3;
const REGIONS: [&str; 2] = ["aws-eu-west-1", "aws-eu-west-3"];

/// What fails, and when the engine dies.
#[derive(Debug)]
struct Fate {
    seed: u64,
    calls_left: AtomicU64,
    dead: AtomicBool,
    calm: AtomicBool,
}

impl Fate {
    fn decide(&self, call: &Call, is_source: bool) -> Fault {
        if self.dead.load(Ordering::SeqCst) {
            return Fault::Before;
        }
        if self.calm.load(Ordering::SeqCst) {
            return Fault::None;
        }
        let mut chance = StdRng::seed_from_u64(self.seed ^ (call.number << 20));
        let left = self.calls_left.fetch_sub(1, Ordering::SeqCst);
        if left == 1 {
            self.dead.store(true, Ordering::SeqCst);
            // The last call may have been done or not.
            return if chance.random_bool(0.5) { Fault::After } else { Fault::Before };
        }
        // Nothing in a history file or a note tells that a bit of it is wrong.
        let key = call.key.as_str();
        let proven = !key.contains(".history") && !key.contains(".btar");
        match (chance.random_range(0..1000), call.operation) {
            (0..20, _) => Fault::Before,
            (20..40, Operation::Write | Operation::Delete) => Fault::After,
            (40..50, _) => Fault::Stall(Duration::from_millis(chance.random_range(1..30_000))),
            (50..65, Operation::Get | Operation::List) => {
                Fault::BreakOff(chance.random_range(0..40))
            }
            (65..75, Operation::Get) if proven => Fault::EndEarly(chance.random_range(0..40)),
            (75..85, Operation::Get) if proven && is_source => {
                Fault::Flip(chance.random_range(0..40))
            }
            (_, _) => Fault::None,
        }
    }
}

/// One run.
struct Run {
    chance: StdRng,
    seed: u64,
    clock: SimClock,
    primary: Primary,
    copies: Vec<Examined>,
    retention: Option<RetentionSettings>,
    findings: Arc<Mutex<Findings>>,
}

/// An engine that has been started and not died yet.
struct Engine {
    replicator: Replicator,
    shared: Shared,
    fate: Arc<Fate>,
}

fn service(retention: Option<RetentionSettings>) -> ServiceSettings {
    ServiceSettings {
        id: ServiceId {
            project: ProjectName::parse("p").unwrap(),
            service: ServiceName::parse("s").unwrap(),
        },
        service_type: "pg".to_owned(),
        cloud: CloudName::parse("aws-eu-north-1").unwrap(),
        plan: "startup-4".to_owned(),
        backup: None,
        copy_retention: retention,
    }
}

fn regions() -> Vec<CloudName> {
    REGIONS.iter().map(|name| CloudName::parse(name).unwrap()).collect()
}

fn shared(clock: &SimClock, dir: &Path) -> Shared {
    Shared {
        clock: Arc::new(clock.clone()),
        state: Arc::new(State::open(dir).unwrap()),
        views: Arc::new(Views::default()),
        stop: CancellationToken::new(),
        full_scan_interval: Duration::from_secs(20),
        lag_warning: Duration::MAX,
        budget: Budget::new(64, REGIONS.len()),
        scrub: None,
        is_forking: Arc::new(|_, _| false),
    }
}

fn reader_of(shared: &Shared, store: Arc<dyn BlobStore>, prefix: &str) -> Reader {
    let place = BackupPlace {
        format: BackupFormat::PgBackRest { stanza: "m".to_owned() },
        prefix: Key::parse(prefix).unwrap(),
    };
    let scope = format!("{prefix} {}", store.name());
    Reader::new(store, place, scope, shared.state.clone()).with_tail(TAIL)
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let (primary, findings) = (Primary::new(), Arc::<Mutex<Findings>>::default());
        let copy = |_: &str| Examined {
            inner: MemoryStore::new(),
            written: primary.written.clone(),
            findings: findings.clone(),
        };
        let copies = REGIONS.iter().map(|name| copy(name)).collect();
        let retention = chance.random_bool(0.5).then(|| RetentionSettings {
            keep_expired_for: Duration::from_secs(chance.random_range(0..60)),
            keep_restorable: chance.random_range(1..3),
            hold: Vec::new(),
            remove_percent_max: chance.random_range(30..=100),
            confirm_after: Duration::from_secs(chance.random_range(0..60)),
        });
        let clock = SimClock::default();
        Self { chance, seed, clock, primary, copies, retention, findings }
    }

    /// A store whose listings take their time, so that much happens while a scan goes by.
    fn slow(&self, store: Arc<dyn BlobStore>) -> Arc<dyn BlobStore> {
        let (clock, seed, pages) = (self.clock.clone(), self.seed, AtomicU64::new(0));
        let before = move |number| {
            let mut chance = StdRng::seed_from_u64(seed ^ pages.fetch_add(1, Ordering::SeqCst));
            let clock = clock.clone();
            async move {
                if number > 0 {
                    clock.sleep(Duration::from_millis(chance.random_range(0..2000))).await;
                }
                Ok(())
            }
            .boxed()
        };
        Arc::new(Paged::new(store, PAGE, before))
    }

    fn start(&mut self, dir: &Path, dies: bool) -> Engine {
        let calls = if dies { self.chance.random_range(1..250) } else { u64::MAX };
        let fate = Arc::new(Fate {
            seed: self.chance.random_range(0..u64::MAX),
            calls_left: calls.into(),
            dead: false.into(),
            calm: false.into(),
        });
        let shared = shared(&self.clock, dir);
        let reader = |store: Arc<dyn BlobStore>, prefix: &str, is_source: bool| {
            let fate = fate.clone();
            let decide = move |call: &Call| fate.decide(call, is_source);
            let store = FaultyStore::new(store, Arc::new(self.clock.clone()), decide);
            reader_of(&shared, self.slow(Arc::new(store)), prefix)
        };
        let source = reader(Arc::new(self.primary.store.clone()), "repo", true);
        let targets = regions().into_iter().zip(&self.copies);
        let targets =
            targets.map(|(cloud, copy)| (cloud, reader(Arc::new(copy.clone()), "p/s", false)));
        let service = service(self.retention.clone());
        let replicator = Replicator::new(service, Some(source), targets.collect(), shared.clone());
        Engine { replicator, shared, fate }
    }

    /// What is published must be in the copy.
    async fn examine_published(&self, engine: &Engine) {
        let view = engine.shared.views.service(&service(None).id);
        for (cloud, copy) in regions().iter().zip(&self.copies) {
            let Some(region) = view.regions.get(cloud).filter(|region| region.error.is_none())
            else {
                continue;
            };
            for backup in &region.catalog.backups {
                let Some(range) = &backup.range else { continue };
                let Some(info) = copy.bytes("backup/m/backup.info").await else { continue };
                let info = BackupInfo::read(&info).unwrap();
                // A later snapshot of the catalogue may not list it any more.
                let Some(listed) = info.backups.iter().find(|b| b.label == backup.name) else {
                    continue;
                };
                let within = LOG.iter().rev().find(|part| part.commit <= range.latest);
                let end = within.map_or(&listed.archive_stop, |part| &part.name);
                if let Some(what) = copy.lacks(&backup.name, &listed.archive_start, end).await {
                    copy.found(format!("{} is published and lacks {what}", backup.name));
                }
            }
            let frontier = region.catalog.frontier.as_ref().map(|end| &end.segment);
            let last = LOG.iter().find(|part| Some(&part.name) == frontier);
            let latest = region.catalog.window.latest();
            if let (Some(part), Some(latest)) = (last, latest)
                && latest > part.commit
            {
                copy.found(format!("{latest} is published, the log ends at {}", part.commit));
            }
        }
    }

    /// The engine runs for a while, or until it dies, while the primary lives on.
    async fn live(&mut self, engine: &Engine, passes: usize) {
        for _ in 0..passes {
            if engine.fate.dead.load(Ordering::SeqCst) {
                break;
            }
            let (primary, chance, clock) = (&mut self.primary, &mut self.chance, &self.clock);
            let meanwhile = async {
                for _ in 0..chance.random_range(0..4) {
                    clock.sleep(Duration::from_millis(chance.random_range(1..500))).await;
                    primary.act(chance, clock).await;
                }
            };
            let enabled = regions();
            tokio::join!(engine.replicator.pass(&enabled), meanwhile);
            self.clock.sleep(Duration::from_secs(2)).await;
            if self.chance.random_bool(0.05) {
                self.clock.jump(TimeDelta::seconds(self.chance.random_range(-100..100)));
            }
            self.examine_published(engine).await;
        }
    }

    /// Nothing fails any more: the copies must come into step.
    async fn settle(&mut self, engine: &Engine) {
        engine.fate.calm.store(true, Ordering::SeqCst);
        let enabled = regions();
        for _ in 0..PASSES_MAX {
            engine.replicator.pass(&enabled).await;
            self.clock.sleep(Duration::from_secs(2)).await;
            self.examine_published(engine).await;
        }
        let labels = self.primary.labels();
        if self.primary.wiped || labels.is_empty() {
            return;
        }
        let view = engine.shared.views.service(&service(None).id);
        for (cloud, copy) in enabled.iter().zip(&self.copies) {
            let region = &view.regions[cloud];
            let restorable = region.catalog.backups.iter().filter(|b| b.range.is_some());
            let restorable: BTreeSet<String> = restorable.map(|b| b.name.clone()).collect();
            let newest = &LOG[self.primary.archived - 1].name;
            let end = region.catalog.frontier.as_ref().map(|end| &end.segment);
            if !restorable.is_superset(&labels) || end != Some(newest) {
                let problems = &region.problems;
                copy.found(format!(
                    "not in step: {restorable:?} of {labels:?}, log to {end:?} of {newest}; \
                     {problems:?} {:?} {:?}",
                    region.catalog.problems, region.error
                ));
            }
        }
    }

    async fn run(mut self) -> Findings {
        // Nothing here outlives the process: a disk would only be waited for.
        let memory = Path::new("/dev/shm");
        let dir = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        for _ in 0..self.chance.random_range(1..5) {
            let engine = self.start(dir.path(), true);
            let passes = self.chance.random_range(5..25);
            self.live(&engine, passes).await;
            self.end(engine).await;
        }
        let engine = self.start(dir.path(), false);
        self.settle(&engine).await;
        self.end(engine).await;
        std::mem::take(&mut self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The engine is gone: whatever it still had running fails at its next call.
    async fn end(&self, engine: Engine) {
        engine.fate.dead.store(true, Ordering::SeqCst);
        engine.shared.stop.cancel();
        let state = Arc::downgrade(&engine.shared.state);
        drop(engine);
        while state.upgrade().is_some() {
            self.clock.sleep(Duration::from_secs(60)).await;
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var_os(name);
    given.map_or(otherwise, |text| text.to_str().unwrap().parse().unwrap())
}

#[test]
fn whatever_fails_the_copy_is_restorable_as_published_and_comes_into_step() {
    let first = number("BTAR_SIMULATION_FIRST", 1);
    let seeds = number("BTAR_SIMULATION_SEEDS", SEEDS);
    let (mut changes, mut failed) = (0, Vec::new());
    for seed in first..first + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let run = Run::new(seed);
        assert_eq!(run.seed, seed);
        let findings = runtime.block_on(run.run());
        changes += findings.changes;
        if let Some(violation) = findings.violations.first() {
            failed.push(format!("seed {seed}: {violation}"));
        }
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds: {failed:#?}", failed.len());
    assert!(changes > seeds * 20, "only {changes} changes of copies in {seeds} runs");
}
