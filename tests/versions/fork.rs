//! One whole run of the driver: a base backup and a log as PGHoard stores them, a fork to a moment, and
//! what must be refused.

use crate::{
    postgres,
    site::{Backed, SITE},
    support::{Place, both, command, free_port, run, source::Mark, wait_for},
};
use btar::{
    domain::{
        fork::ForkPhase,
        ids::{ProjectName, ServiceId, ServiceName},
        recovery::{RecoveryPlan, RecoveryTarget},
        target_time,
    },
    engine::{
        catalog::{learned::NoMemory, listing::Extent, observe::Reader, recover},
        fork::{ForkOrder, ForkSite, Progress, Secret, SiteStore, Watch, error::ForkError, runner},
    },
    layout::{BackupFormat, BackupPlace},
    sealed::keys::Keys,
    store::{
        key::Key,
        local::{LocalStore, Sidecars},
    },
    sys::clock::SystemClock,
};
use chrono::Utc;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "hunter2-is-long-enough";
/// Names of base backups.
const FULL: &str = "2026-12-01_10-00_0";
const INCREMENTAL: &str = "2026-12-02_10-00_0";
/// Where the process that makes the fork finds this version's programs.
const PROGRAMS: &str = "BTAR_TEST_VERSIONS_PROGRAMS";

/// Forks from a server of this version, in a process of its own: as the unprivileged user, and with
/// this version's programs in its search path, where the driver looks for what Debian has not.
pub(crate) fn check(test: &str, major: u32) {
    if let Some(bin) = std::env::var_os(PROGRAMS) {
        return forks(Path::new(&bin), major);
    }
    let bin = postgres::bin(major);
    let path = std::env::var_os("PATH").unwrap();
    let dirs = std::iter::once(bin.clone()).chain(std::env::split_paths(&path));
    let out = command(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env("HOME", "/")
        .env("PATH", std::env::join_paths(dirs).unwrap())
        .env(PROGRAMS, &bin)
        .output()
        .unwrap();
    let text = both(&out);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
    let report = text.lines().find_map(|line| Some(&line[line.find("versions: ")?..]));
    println!("{}", report.expect("a report"));
}

struct Unwatched;

impl Watch for Unwatched {
    fn phase(&self, _: ForkPhase) {}
    fn progress(&self, _: Progress) {}
}

/// The store of a site, and what forks are made with.
struct World {
    store: PathBuf,
    place: Place,
    clock: SystemClock,
    runtime: tokio::runtime::Runtime,
    bin: PathBuf,
}

impl World {
    fn new(backed: &Backed) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (store, bin) = (backed.store(), backed.source.bin.clone());
        Self { store, place: Place::new(), clock: SystemClock::new(), runtime, bin }
    }

    fn local(&self) -> Arc<LocalStore> {
        Arc::new(LocalStore::with_sidecars(self.store.clone(), Sidecars::Json))
    }

    /// What the catalogue works out.
    fn plan(&self, target: RecoveryTarget) -> RecoveryPlan {
        let mut reader = Reader::new(self.local(), place(), String::new(), Arc::new(NoMemory))
            .with_keys(Arc::new(Keys::none()));
        // The second look knows where the base backup ended, which is in the log.
        self.runtime.block_on(reader.observe(Extent::Everything)).unwrap();
        let seen = self.runtime.block_on(reader.observe(Extent::Everything)).unwrap();
        let plan = self.runtime.block_on(recover::plan(&reader, &seen, target, Utc::now()));
        plan.unwrap_or_else(|error| panic!("{error}: {:?}", seen.catalog.problems))
    }

    fn at(&self, mark: &Mark) -> RecoveryPlan {
        self.plan(RecoveryTarget::PointInTime(target_time::parse(&mark.time).unwrap()))
    }

    fn order(&self, plan: RecoveryPlan) -> ForkOrder {
        let site_store = SiteStore { store: self.local(), keys: Arc::new(Keys::none()) };
        ForkOrder {
            service: ServiceId {
                project: ProjectName::parse("demo").unwrap(),
                service: ServiceName::parse("orders-dr").unwrap(),
            },
            plan,
            place: place(),
            site_store: Some(site_store),
            store_root: self.store.clone(),
            site: ForkSite {
                dir: self.place.path().join("fork"),
                socket_dir: self.place.path().join("s"),
                host: "127.0.0.1".to_owned(),
                port: free_port(),
            },
            admin_user: "avnadmin".to_owned(),
            admin_password: Secret::new(PASSWORD.to_owned()),
            settings: BTreeMap::from([("work_mem".to_owned(), "7MB".to_owned())]),
            wal_fetch: PathBuf::from(env!("CARGO_BIN_EXE_btar")),
        }
    }

    fn run(&self, order: &ForkOrder, from: ForkPhase) -> Result<(), ForkError> {
        let cancel = CancellationToken::new();
        self.runtime.block_on(runner::run(order, from, &Unwatched, &self.clock, &cancel))
    }

    fn remove(&self, order: &ForkOrder) {
        let removing = runner::remove(&order.site, order.plan.postgres_major, &self.clock);
        self.runtime.block_on(removing).unwrap();
        assert!(!order.site.dir.exists() && !is_open(order), "a removed fork is still there");
    }

    /// Asks the open fork as its administrator.
    fn psql(&self, order: &ForkOrder, sql: &str) -> String {
        run(command(self.bin.join("psql"))
            .env("PGPASSWORD", PASSWORD)
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", "postgres"])
            .args(["-h", "127.0.0.1", "-U", "avnadmin", "-p", &order.site.port.to_string()])
            .args(["-c", sql]))
    }

    fn check_rows(&self, order: &ForkOrder, mark: &Mark) {
        let found = self.psql(order, "select count(*), coalesce(sum(id), 0) from orders");
        assert_eq!(found, format!("{}|{}", mark.rows, mark.sum), "at {}", mark.time);
    }
}

impl Drop for World {
    /// A test that fails leaves no server behind.
    fn drop(&mut self) {
        let data = self.place.path().join("fork/data");
        if data.join("postmaster.pid").exists() {
            let pg_ctl = self.bin.join("pg_ctl");
            let _ = command(pg_ctl).args(["-m", "immediate", "stop", "-D"]).arg(data).output();
        }
    }
}

fn place() -> BackupPlace {
    BackupPlace { format: BackupFormat::PgHoard, prefix: Key::parse(SITE).unwrap() }
}

fn is_open(order: &ForkOrder) -> bool {
    TcpStream::connect(("127.0.0.1", order.site.port)).is_ok()
}

fn forks(bin: &Path, major: u32) {
    let mut backed = Backed::start(bin, if major >= 17 { "summarize_wal = on" } else { "" });
    refuse_logins(&backed, major);
    backed.insert(50);
    // What this machine may not have. The source goes on without it.
    let conf = backed.source.data().join("postgresql.conf");
    let text = fs::read_to_string(&conf).unwrap();
    if major >= 18 {
        let foreign = "io_method = io_uring\nfile_copy_method = clone\n";
        fs::write(&conf, format!("{text}\n{foreign}")).unwrap();
    }
    backed.base_backup(FULL);
    fs::write(&conf, text).unwrap();
    for _ in 0..3 {
        backed.insert(50);
        backed.archive();
    }
    backed.source.psql("begin; insert into orders values (1000000); prepare transaction 'p'");
    raise_floors(&backed);
    backed.insert(50);
    backed.archive();
    backed.insert(50);
    let mark = in_no_time(&backed, major);
    backed.source.psql("commit prepared 'p';; delete from orders where id % 3 = 0");
    backed.insert(10);
    let last = backed.mark();
    backed.archive();
    let world = World::new(&backed);

    let order = world.order(world.at(&mark));
    assert_eq!(order.plan.postgres_major, major);
    refuses_a_hole(&world, &backed, &order);
    world.check_rows(&order, &mark);
    let state = "select pg_is_in_recovery(), current_setting('archive_mode'), \
                 current_setting('work_mem'), current_setting('restore_command'), \
                 (select count(*) from pg_prepared_xacts)";
    assert_eq!(world.psql(&order, state), "f|off|7MB||1");
    if major >= 18 {
        assert_eq!(world.psql(&order, "show io_method"), "worker");
        assert_eq!(world.psql(&order, "show file_copy_method"), "copy");
    }
    world.remove(&order);

    let order = world.order(world.plan(RecoveryTarget::LatestTransaction));
    world.run(&order, ForkPhase::Planned).unwrap();
    world.check_rows(&order, &last);
    world.psql(&order, "insert into orders values (-1); checkpoint");
    let version = world.psql(&order, "show server_version");
    world.remove(&order);
    let incremental = refuses_an_incremental_backup(&world, &mut backed, major);
    println!(
        "versions: {version}: fork: {} rows at a moment and {} at the latest transaction, exact; a \
         hole refused{incremental}",
        mark.rows, last.rows
    );
}

/// Without a segment in the middle nothing is opened; with it the same fork goes on.
fn refuses_a_hole(world: &World, backed: &Backed, order: &ForkOrder) {
    assert!(order.plan.log.len() > 3, "the hole must lie within the log");
    let hole = &order.plan.log[order.plan.log.len() - 2];
    let name = hole.segment.file_name(order.plan.segment_size);
    let (object, away) = (backed.segment(&name), backed.place.path().join("away"));
    fs::rename(&object, &away).unwrap();
    let error = world.run(order, ForkPhase::Planned).unwrap_err();
    assert!(matches!(error, ForkError::Wal(_)) && error.to_string().contains(&name), "{error}");
    assert!(!is_open(order) && order.site.dir.join("data/standby.signal").exists());
    fs::rename(&away, &object).unwrap();
    world.run(order, ForkPhase::Replaying).unwrap();
}

/// A trigger of the source that lets none of our sessions in.
fn refuse_logins(backed: &Backed, major: u32) {
    if major >= 17 {
        backed.source.psql(
            "create function refuse() returns event_trigger language plpgsql as $$ begin
               if current_setting('application_name') = 'btar' then raise 'not you'; end if;
             end $$;;
             create event trigger refuse on login execute function refuse();;
             alter event trigger refuse enable always",
        );
    }
}

/// A moment at which the superuser has no time for a transaction: our sessions need it all the same.
fn in_no_time(backed: &Backed, major: u32) -> Mark {
    if major < 17 {
        return backed.mark();
    }
    backed.mark_between(
        "alter role postgres set transaction_timeout = '1ms'",
        "alter role postgres reset transaction_timeout",
    )
}

/// The source gets higher limits after its base backup, which a standby must follow.
fn raise_floors(backed: &Backed) {
    backed.source.psql(
        "alter system set max_connections = 137;; alter system set max_worker_processes = 11;;
         alter system set max_wal_senders = 13;; alter system set max_locks_per_transaction = 99;;
         alter system set max_prepared_transactions = 7",
    );
    backed.source.stop("fast");
    backed.source.start();
}

/// From 17 on there are base backups that are parts.
fn refuses_an_incremental_backup(world: &World, backed: &mut Backed, major: u32) -> &'static str {
    if major < 17 {
        return "";
    }
    let manifest = backed.manifest(FULL);
    let incremental = OsStr::new("--incremental");
    wait_for("an incremental base backup", Duration::from_secs(60), || {
        let arguments = [incremental, manifest.as_os_str()];
        backed.try_base_backup(INCREMENTAL, &arguments).ok()
    });
    backed.insert(10);
    backed.archive();
    let order = world.order(world.plan(RecoveryTarget::LatestTransaction));
    assert_eq!(order.plan.backup_name, INCREMENTAL);
    let error = world.run(&order, ForkPhase::Planned).unwrap_err();
    assert!(matches!(error, ForkError::Incremental { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("{INCREMENTAL} is an incremental one")), "{text}");
    world.remove(&order);
    ", and an incremental base backup"
}
