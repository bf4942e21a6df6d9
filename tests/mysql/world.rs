//! A store with a base backup and binary logs, orders for forks from it, and questions to them.

use crate::{
    history::{DIGEST, History, Mark},
    mysql_server::{self, Product},
    support::{self, Place, command, give},
};
use btar::{
    binlog::summary::each_group,
    domain::{
        binlog::{Flavour, GtidSet},
        fork::ForkPhase,
        ids::{ProjectName, ServiceId, ServiceName},
        recovery::{BaseImage, BaseTool, BinlogObject, BinlogPlan, Codec},
    },
    engine::fork::{
        ForkSite, Progress, Secret, Watch,
        error::ForkError,
        mysql::{MySqlOrder, runner},
    },
    sealed::keys::Keys,
    store::local::LocalStore,
    sys::clock::SystemClock,
};
use chrono::DateTime;
use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

pub(crate) const PASSWORD: &str = "hunter2-is-long-Enough-\"'\\";

/// Whether this process may run a server. As root it runs the test once more, unprivileged.
#[allow(clippy::print_stdout, reason = "hands on the figures of the other process")]
pub(crate) fn unprivileged(product: Product, test: &str) -> bool {
    if support::postgres_user().is_none() {
        return true;
    }
    product.prepare();
    let mut again = command(std::env::current_exe().unwrap());
    let out = again.args([test, "--exact", "--nocapture", "--include-ignored"]);
    let out = out.env("HOME", "/").output().unwrap();
    let text = support::both(&out);
    assert!(out.status.success() && text.contains("1 passed"), "unprivileged:\n{text}");
    for line in text.lines().filter(|line| line.starts_with("figure: ")) {
        println!("{line}");
    }
    false
}

/// A store with the backups of a killed source, and a place for a fork.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) store: PathBuf,
    pub(crate) history: History,
    pub(crate) clock: SystemClock,
    base_parts: Vec<(String, u64)>,
}

impl World {
    pub(crate) fn new(product: Product, settings: &[&str]) -> Self {
        let place = Place::new();
        let history = History::make(product, &place, settings);
        Self::of(place, history)
    }

    /// With a replay that takes a while.
    pub(crate) fn busy(product: Product, transactions: usize) -> Self {
        let place = Place::new();
        let history = History::busy(product, &place, transactions);
        Self::of(place, history)
    }

    fn of(place: Place, history: History) -> Self {
        let store = place.dir("store");
        // Two objects, and cut where no piece ends.
        let packed = zstd::encode_all(fs::File::open(&history.base).unwrap(), 3).unwrap();
        let (one, two) = packed.split_at(packed.len() / 3 + 1);
        let mut base_parts = Vec::new();
        for (name, bytes) in [("base/image.001", one), ("base/image.002", two)] {
            put(&store, name, bytes);
            base_parts.push((name.to_owned(), bytes.len() as u64));
        }
        Self { place, store, history, clock: SystemClock::new(), base_parts }
    }

    pub(crate) fn flavour(&self) -> Flavour {
        match self.history.product {
            Product::MariaDb => Flavour::MariaDb,
            Product::MySql => Flavour::MySql,
        }
    }

    /// The plan that leads to a mark.
    pub(crate) fn plan(&self, mark: &Mark) -> BinlogPlan {
        let history = &self.history;
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let needed: Vec<&PathBuf> = history
            .logs
            .iter()
            .filter(|log| name(log) >= history.base_end.file && name(log) <= mark.at.file)
            .collect();
        let log = needed.iter().enumerate().map(|(at, path)| self.upload(at, path)).collect();
        let tool = match history.product {
            Product::MariaDb => BaseTool::MariaDbBackup,
            Product::MySql => BaseTool::Clone,
        };
        BinlogPlan {
            backup_name: "base-1".to_owned(),
            backup_finished_at: DateTime::UNIX_EPOCH,
            restored_bytes: 100 << 20,
            flavour: self.flavour(),
            server_version: history.version.clone(),
            base: BaseImage {
                tool,
                parts: self.base_parts.clone(),
                codec: Codec::Zst,
                wrapped_key: None,
            },
            log,
            start_offset: match tool {
                BaseTool::Clone => None,
                BaseTool::MariaDbBackup | BaseTool::XtraBackup => Some(history.base_end.offset),
            },
            stop_offset: mark.at.offset,
            executed: Some(GtidSet::parse(self.flavour(), &mark.at.gtids).unwrap()),
            anonymous: false,
            transactions: Some(self.groups(&needed, mark)),
            recovered_to: DateTime::UNIX_EPOCH,
        }
    }

    /// Puts a binary log into the store, each in another coding.
    fn upload(&self, at: usize, path: &Path) -> BinlogObject {
        let plain = fs::read(path).unwrap();
        let (codec, bytes) = match at % 3 {
            0 => (Codec::Zst, zstd::encode_all(&plain[..], 1).unwrap()),
            1 => {
                let mut packed = Vec::new();
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(&mut packed, level);
                std::io::Write::write_all(&mut encoder, &plain).unwrap();
                encoder.finish().unwrap();
                (Codec::Gz, packed)
            }
            _ => (Codec::None, plain.clone()),
        };
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let key = format!("log/{at}_{name}");
        put(&self.store, &key, &bytes);
        BinlogObject {
            name,
            key,
            size_bytes: bytes.len() as u64,
            file_bytes: plain.len() as u64,
            codec,
            key_id: None,
        }
    }

    /// Transactions from the end of the base backup to a mark, by the reader of the log.
    fn groups(&self, logs: &[&PathBuf], mark: &Mark) -> u64 {
        let mut groups = 0;
        for (at, log) in logs.iter().enumerate() {
            let from = if at == 0 { self.history.base_end.offset } else { 0 };
            let to = if at == logs.len() - 1 { mark.at.offset } else { u64::MAX };
            let mut sink = |group: btar::binlog::groups::Group| {
                groups += u64::from(group.start >= from && group.end <= to);
            };
            each_group(fs::File::open(log).unwrap(), &mut sink).unwrap();
        }
        groups
    }

    pub(crate) fn order(&self, plan: BinlogPlan) -> MySqlOrder {
        MySqlOrder {
            service: ServiceId {
                project: ProjectName::parse("demo").unwrap(),
                service: ServiceName::parse("orders-dr").unwrap(),
            },
            plan,
            store: Arc::new(LocalStore::new(self.store.clone())),
            keys: Arc::new(Keys::none()),
            site: ForkSite {
                dir: self.place.path().join("fork's"),
                socket_dir: self.place.path().join("s"),
                host: "127.0.0.1".to_owned(),
                port: support::ten_free_ports(),
            },
            admin_user: "avnadmin".to_owned(),
            admin_password: Secret::new(PASSWORD.to_owned()),
            settings: BTreeMap::from([("max_connections".to_owned(), "77".to_owned())]),
            programs: self.history.product.programs(),
        }
    }

    pub(crate) async fn run(&self, order: &MySqlOrder, from: ForkPhase) -> Result<(), ForkError> {
        runner::run(order, from, &notes(), &self.clock, &CancellationToken::new()).await
    }

    pub(crate) async fn remove(&self, order: &MySqlOrder) {
        runner::remove(&order.site, &self.clock).await.unwrap();
        assert!(!order.site.dir.exists() && !order.site.socket_dir.exists());
        assert!(!is_open(order), "a removed fork still listens");
    }

    /// Asks the open fork as its administrator.
    pub(crate) fn ask(&self, order: &MySqlOrder, sql: &str) -> String {
        let password = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"");
        let port = order.site.port;
        let file = mysql_server::option_file(&self.place, port, "avnadmin", &password);
        mysql_server::ask(self.history.product, &file, sql)
    }

    #[track_caller]
    pub(crate) fn check(&self, order: &MySqlOrder, mark: &Mark) {
        assert_eq!(self.ask(order, DIGEST), mark.digest, "at {:?}", mark.at);
    }

    /// The number of the fork's server.
    pub(crate) fn server(&self, order: &MySqlOrder) -> Option<u32> {
        let data = fs::canonicalize(order.site.dir.join("data")).ok()?;
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
            (cwd == data).then(|| entry.file_name().to_str()?.parse().ok())?
        })
    }

    /// Waits until a running replay is in the middle of its work.
    pub(crate) fn replaying(&self, order: &MySqlOrder) {
        let log = order.site.dir.join("log");
        support::wait_for("the replay", Duration::from_secs(30), || {
            let logs = fs::read_dir(&log).ok()?.flatten();
            let bytes: u64 = logs.filter_map(|log| Some(log.metadata().ok()?.len())).sum();
            (bytes > 200_000).then_some(())
        });
    }

    /// Nothing of a refused fork is open or runs.
    #[track_caller]
    pub(crate) fn refused(&self, order: &MySqlOrder) {
        assert!(!is_open(order), "it is open");
        assert_eq!(self.server(order), None, "its server runs");
        assert!(!order.site.dir.join("verified").exists(), "it counts as verified");
    }
}

impl Drop for World {
    /// A test that fails leaves no server behind.
    fn drop(&mut self) {
        let dirs = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            fs::read_link(entry.path().join("cwd"))
                .is_ok_and(|cwd| cwd.starts_with(self.place.path()))
        });
        for entry in dirs {
            let _ = command("kill").arg("-9").arg(entry.file_name()).output();
        }
    }
}

pub(crate) fn put(store: &Path, key: &str, bytes: &[u8]) {
    let path = store.join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    give(path.parent().unwrap());
    fs::write(&path, bytes).unwrap();
    give(&path);
}

pub(crate) fn is_open(order: &MySqlOrder) -> bool {
    TcpStream::connect(("127.0.0.1", order.site.port)).is_ok()
}

/// Notes the phases, and calls the run off when one begins.
pub(crate) struct Notes<'a> {
    pub(crate) seen: Mutex<Vec<ForkPhase>>,
    pub(crate) progress: Mutex<Vec<Progress>>,
    pub(crate) cancel: Option<(ForkPhase, &'a CancellationToken)>,
}

impl Watch for Notes<'_> {
    fn phase(&self, phase: ForkPhase) {
        self.seen.lock().unwrap().push(phase);
        if let Some((when, cancel)) = self.cancel
            && when == phase
        {
            cancel.cancel();
        }
    }

    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
    }
}

pub(crate) fn notes<'a>() -> Notes<'a> {
    Notes { seen: Mutex::default(), progress: Mutex::default(), cancel: None }
}
