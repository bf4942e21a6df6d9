//! A primary, a copy whose store has weather, and engines between them.

use crate::{
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceId, ServiceName},
    },
    engine::{
        catalog::{learned::NoMemory, observe::Reader},
        config::{BackupSettings, ScrubSettings, ServiceSettings},
        replicate::{
            copying::Budget,
            pass::{Replicator, Shared},
            record::Ledger,
            tests::{FULL, Pair},
        },
        state::State,
        verify::{self, Copy, CopyReport, Depth, resume::Resume},
        views::Views,
    },
    layout::{BackupFormat, BackupPlace},
    store::{
        BlobStore, Condition, Contents,
        key::Key,
        memory::MemoryStore,
        wrap::{
            faulty::{Fault, FaultyStore},
            metrics::Operation,
        },
    },
    sys::clock::Clock,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A clock that goes on when it is told to, and while somebody sleeps.
#[derive(Debug, Default)]
pub(super) struct Hands(Arc<AtomicI64>);

impl Hands {
    pub(super) fn advance(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> DateTime<Utc> {
        let since = TimeDelta::milliseconds(self.0.load(Ordering::Relaxed));
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + since
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).unsigned_abs())
    }
    fn sleep(&self, period: Duration) -> BoxFuture<'static, ()> {
        let hands = self.0.clone();
        Box::pin(async move {
            hands.fetch_add(i64::try_from(period.as_millis()).unwrap(), Ordering::Relaxed);
        })
    }
}

/// What reads of the copy's store suffer: a flipped bit in these objects until they are written, or a
/// break in this one. Counts the reads.
#[derive(Debug, Default)]
pub(super) struct Weather {
    pub(super) rotten: BTreeSet<String>,
    pub(super) broken: Option<String>,
    pub(super) reads: BTreeMap<String, u32>,
}

pub(super) struct World {
    pub(super) pair: Pair,
    pub(super) clock: Arc<Hands>,
    pub(super) weather: Arc<Mutex<Weather>>,
    store: Arc<dyn BlobStore>,
    pub(super) dir: tempfile::TempDir,
}

pub(super) const A: &str = "backup/m/20261123-075157F/pg_data/a";
pub(super) const HISTORY: &str = "archive/m/15-1/00000002.history";
pub(super) const WEEK: ScrubSettings =
    ScrubSettings { every: Duration::from_secs(7 * 86_400), rate_bytes: 1 << 30 };

pub(super) fn region() -> CloudName {
    CloudName::parse("aws-eu-central-1").unwrap()
}

pub(super) fn place(prefix: &str) -> BackupPlace {
    let format = BackupFormat::PgBackRest { stanza: "m".to_owned() };
    BackupPlace { format, prefix: Key::parse(prefix).unwrap() }
}

pub(super) fn service() -> ServiceSettings {
    ServiceSettings {
        id: ServiceId {
            project: ProjectName::parse("p").unwrap(),
            service: ServiceName::parse("s").unwrap(),
        },
        service_type: "pg".to_owned(),
        cloud: CloudName::parse("aws-eu-west-1").unwrap(),
        plan: "startup-4".to_owned(),
        backup: Some(BackupSettings { primary: place("repo"), copy: place("p/s") }),
        copy_retention: None,
    }
}

impl World {
    /// A primary with one backup; nothing is copied yet.
    pub(super) async fn new() -> Self {
        let (pair, clock) = (Pair::new(), Arc::new(Hands::default()));
        pair.write(false).await;
        let weather = Arc::new(Mutex::new(Weather::default()));
        let of_reads = weather.clone();
        let decide = move |call: &crate::store::wrap::faulty::Call| {
            let mut weather = of_reads.lock().unwrap();
            let key = call.key.as_str().strip_prefix("p/s/").unwrap_or_default().to_owned();
            match call.operation {
                Operation::Get => {
                    *weather.reads.entry(key.clone()).or_default() += 1;
                    match (weather.rotten.contains(&key), weather.broken.as_ref() == Some(&key)) {
                        (true, _) => Fault::Flip(1),
                        (false, true) => Fault::BreakOff(1),
                        (false, false) => Fault::None,
                    }
                }
                Operation::Write | Operation::TakeOver => {
                    weather.rotten.remove(&key);
                    weather.broken = weather.broken.take().filter(|broken| *broken != key);
                    Fault::None
                }
                Operation::List | Operation::Head | Operation::GetRange | Operation::Delete => {
                    Fault::None
                }
            }
        };
        let inner = Arc::new(pair.target.clone());
        let store = Arc::new(FaultyStore::new(inner, clock.clone(), decide));
        Self { pair, clock, weather, store, dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn engine(
        &self,
        dir: &Path,
        scrub: Option<ScrubSettings>,
        adopted: bool,
    ) -> Replicator {
        let shared = Shared {
            clock: self.clock.clone(),
            state: Arc::new(State::open(dir).unwrap()),
            views: Arc::new(Views::default()),
            stop: CancellationToken::new(),
            full_scan_interval: Duration::ZERO,
            lag_warning: Duration::MAX,
            is_forking: Arc::new(|_, _| false),
            scrub,
            budget: Budget::default(),
        };
        let reader = |store: Arc<dyn BlobStore>, prefix: &str| {
            Reader::new(store, place(prefix), prefix.to_owned(), Arc::new(NoMemory))
        };
        let source = (!adopted).then(|| reader(Arc::new(self.pair.source.clone()), "repo"));
        let targets = [(region(), reader(self.store.clone(), "p/s"))].into();
        Replicator::new(service(), source, targets, shared)
    }

    /// Passes until everything has been copied, and a manifest is due.
    pub(super) async fn copied(&self, engine: &Replicator) {
        for _ in 0..12 {
            self.pass(engine).await;
        }
        let backup_info = Key::parse("p/s/backup/m/backup.info").unwrap();
        self.pair.target.head(&backup_info).await.expect("everything was copied");
        self.clock.advance(TimeDelta::seconds(120));
        self.pass(engine).await;
    }

    pub(super) async fn pass(&self, engine: &Replicator) {
        engine.pass(&[region()]).await;
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn prove(&self, engine: &Replicator) {
        while engine.prove(&[region()]).await {}
    }

    pub(super) async fn replace(store: &MemoryStore, key: &str, bytes: &'static str) {
        let key = Key::parse(key).unwrap();
        store.write(&key, Contents::of(bytes.into()), &Condition::None).await.unwrap();
    }

    pub(super) async fn bytes(&self, key: &str) -> bytes::Bytes {
        let key = Key::parse(&format!("p/s/{key}")).unwrap();
        crate::store::read_all(&self.pair.target, &key, 1 << 20).await.unwrap().1
    }

    pub(super) async fn verify(
        &self,
        depth: Depth,
        resume: Option<&Resume>,
    ) -> Result<CopyReport, String> {
        let copy = Copy {
            keys: Arc::default(),
            service: service().id,
            region: region(),
            store: self.store.clone(),
            place: place("p/s"),
        };
        let clock: Arc<dyn Clock> = self.clock.clone();
        verify::verify(&copy, depth, resume, &clock).await.map_err(|error| error.to_string())
    }
}

pub(super) fn ledger(engine: &Replicator) -> &Ledger {
    &engine.ledgers.0[&region()]
}

/// What the full backup lacks, and the problems of the copy.
pub(super) fn seen(engine: &Replicator) -> (Vec<String>, String) {
    let view = engine.shared.views.service(&service().id);
    let view = &view.regions[&region()];
    let backup = view.catalog.backups.iter().find(|backup| backup.name == FULL).unwrap();
    (backup.missing.clone(), view.problems.join("\n"))
}
