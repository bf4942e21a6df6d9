//! Forks with real PostgreSQL and pgBackRest: exact contents, faults, interruptions, removal.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "it/support/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod support;

mod plans;

use btar::{
    domain::{
        fork::ForkPhase,
        ids::{ProjectName, ServiceId, ServiceName},
        lsn::Lsn,
        recovery::RecoveryPlan,
    },
    engine::fork::{ForkOrder, ForkSite, Progress, Secret, Watch, error::ForkError, runner},
    layout::{BackupFormat, BackupPlace},
    store::key::Key,
    sys::clock::{Clock, SystemClock},
};
use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};
use support::{
    Place, command,
    source::{Mark, Recorded, Source},
};
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "hunter2-is-long-enough";

/// Whether this process may run PostgreSQL. As root it runs the test once more, as `postgres`.
fn unprivileged(test: &str) -> bool {
    if support::postgres_user().is_none() {
        return true;
    }
    let mut again = command(std::env::current_exe().unwrap());
    let out = again.args([test, "--exact", "--nocapture"]).env("HOME", "/").output().unwrap();
    let text = support::both(&out);
    assert!(out.status.success() && text.contains("1 passed"), "as postgres:\n{text}");
    false
}

/// A store with a repository, and a place for a fork.
struct World {
    place: Place,
    store: PathBuf,
    clock: SystemClock,
    cancel: CancellationToken,
}

/// Notes the phases, and calls the run off when one begins.
struct Notes<'a> {
    seen: Mutex<Vec<ForkPhase>>,
    units: Mutex<Vec<&'static str>>,
    cancel: Option<(ForkPhase, &'a CancellationToken)>,
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
        self.units.lock().unwrap().push(progress.unit);
    }
}

fn notes<'a>() -> Notes<'a> {
    Notes { seen: Mutex::default(), units: Mutex::default(), cancel: None }
}

impl World {
    fn empty() -> Self {
        let place = Place::new();
        let store = place.dir("store");
        Self { place, store, clock: SystemClock::new(), cancel: CancellationToken::new() }
    }

    /// With the recorded history.
    fn recorded() -> (Self, Vec<Mark>) {
        let world = Self::empty();
        let recorded = Recorded::get();
        recorded.copy_to(&world.repository());
        (world, recorded.restorable().to_vec())
    }

    fn repository(&self) -> PathBuf {
        self.store.join("demo/orders")
    }

    fn order(&self, plan: RecoveryPlan) -> ForkOrder {
        ForkOrder {
            service: ServiceId {
                project: ProjectName::parse("demo").unwrap(),
                service: ServiceName::parse("orders-dr").unwrap(),
            },
            plan,
            place: BackupPlace {
                format: BackupFormat::PgBackRest { stanza: "orders".to_owned() },
                prefix: Key::parse("demo/orders").unwrap(),
            },
            site_store: None,
            store_root: self.store.clone(),
            site: ForkSite {
                dir: self.place.path().join("fork's"),
                socket_dir: self.place.path().join("s"),
                host: "127.0.0.1".to_owned(),
                port: support::free_port(),
            },
            admin_user: "avnadmin".to_owned(),
            admin_password: Secret::new(PASSWORD.to_owned()),
            settings: BTreeMap::from([("work_mem".to_owned(), "7MB".to_owned())]),
            wal_fetch: PathBuf::from(env!("CARGO_BIN_EXE_btar")),
        }
    }

    async fn run(&self, order: &ForkOrder, from: ForkPhase) -> Result<(), ForkError> {
        runner::run(order, from, &notes(), &self.clock, &self.cancel).await
    }

    async fn remove(&self, order: &ForkOrder) {
        runner::remove(&order.site, order.plan.postgres_major, &self.clock).await.unwrap();
        assert!(!order.site.dir.exists() && !order.site.socket_dir.exists());
        assert!(!is_open(order), "a removed fork still listens");
    }

    /// Every file of the store with its size and time: a fork changes none.
    fn files(&self) -> Vec<String> {
        let listing = support::run(
            command("/usr/bin/find").arg(&self.store).args(["-printf", "%p %s %T@\\n"]),
        );
        let mut lines: Vec<String> = listing.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The object of one segment, as a path and PostgreSQL's name of it.
    fn segment(&self, plan: &RecoveryPlan, at: usize) -> (PathBuf, String) {
        let object = &plan.log[at];
        (self.store.join(&object.key), object.segment.file_name(plan.segment_size))
    }
}

impl Drop for World {
    /// A test that fails leaves no server behind.
    fn drop(&mut self) {
        let data = self.place.path().join("fork's/data");
        if data.join("postmaster.pid").exists() {
            let pg_ctl = support::postgres_bin().join("pg_ctl");
            let _ = command(pg_ctl).args(["-m", "immediate", "stop", "-D"]).arg(data).output();
        }
    }
}

fn is_open(order: &ForkOrder) -> bool {
    TcpStream::connect(("127.0.0.1", order.site.port)).is_ok()
}

/// Asks the open fork as its administrator.
fn psql(order: &ForkOrder, sql: &str) -> String {
    support::run(
        command(support::postgres_bin().join("psql"))
            .env("PGPASSWORD", PASSWORD)
            .env("PGOPTIONS", "-c statement_timeout=60s")
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", "postgres"])
            .args(["-h", "127.0.0.1", "-U", "avnadmin", "-p", &order.site.port.to_string()])
            .args(["-c", sql]),
    )
}

#[track_caller]
fn check_rows(order: &ForkOrder, mark: &Mark) {
    let found = psql(order, "select count(*), coalesce(sum(id), 0) from orders");
    assert_eq!(found, format!("{}|{}", mark.rows, mark.sum), "at {}", mark.time);
}

/// Whether any file of the fork's own writing holds the password.
fn password_is_written(order: &ForkOrder) -> bool {
    let found = command("/usr/bin/grep").args(["-rlF", PASSWORD]).arg(&order.site.dir).output();
    found.unwrap().status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_has_exactly_the_rows_of_its_moment() {
    if !unprivileged("a_fork_has_exactly_the_rows_of_its_moment") {
        return;
    }
    let (world, marks) = World::recorded();
    let before = world.files();
    let labels = plans::labels(&world.repository());
    let last = marks.len() - 1;
    for (label, mark) in [(0, 3), (0, last), (1, last - 1)] {
        let plan = plans::at(&world.store, "demo/orders", &labels[label], &marks[mark].time);
        let order = world.order(plan);
        let seen = notes();
        runner::preflight(&order.site, &order.plan, 1 << 20).unwrap();
        let done =
            runner::run(&order, ForkPhase::Planned, &seen, &world.clock, &world.cancel).await;
        done.unwrap();
        check_rows(&order, &marks[mark]);
        let phases =
            [ForkPhase::Restoring, ForkPhase::Replaying, ForkPhase::Verifying, ForkPhase::Ready];
        assert_eq!(*seen.seen.lock().unwrap(), phases);
        assert!(seen.units.lock().unwrap().contains(&"wal_lsn"));
        let state = "select pg_is_in_recovery(), current_setting('archive_mode'), \
                     current_setting('work_mem'), current_setting('restore_command')";
        assert_eq!(psql(&order, state), "f|off|7MB|");
        assert!(!password_is_written(&order));
        runner::ensure_running(&order, &world.clock).await.unwrap();
        let taken = runner::preflight(&order.site, &order.plan, 0).unwrap_err();
        assert!(matches!(taken, ForkError::PortTaken { .. }), "{taken}");
        world.remove(&order).await;
    }
    assert_eq!(world.files(), before, "a fork changed its repository");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_transaction_is_the_end_of_the_log() {
    if !unprivileged("the_latest_transaction_is_the_end_of_the_log") {
        return;
    }
    let (world, marks) = World::recorded();
    let labels = plans::labels(&world.repository());
    let order = world.order(plans::latest(&world.store, "demo/orders", &labels[0]));
    world.run(&order, ForkPhase::Planned).await.unwrap();
    let last = marks.last().unwrap();
    assert_eq!(psql(&order, "select count(*) from orders"), (last.rows + 10).to_string());
    // A reboot: the server is gone, and comes back as it was.
    let bin = support::postgres_bin();
    let data = order.site.dir.join("data");
    support::run(command(bin.join("pg_ctl")).args(["-m", "immediate", "-D"]).arg(data).arg("stop"));
    fs::remove_dir_all(&order.site.socket_dir).unwrap();
    assert!(!is_open(&order));
    let blocker = std::net::TcpListener::bind(("127.0.0.1", order.site.port)).unwrap();
    let error = world.run(&order, ForkPhase::Ready).await.unwrap_err();
    assert!(matches!(error, ForkError::PortTaken { .. }), "{error}");
    drop(blocker);
    world.run(&order, ForkPhase::Ready).await.unwrap();
    assert_eq!(psql(&order, "select count(*) from orders"), (last.rows + 10).to_string());
    world.remove(&order).await;
    world.remove(&order).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_damaged_segment_fails_the_fork_and_opens_nothing() {
    if !unprivileged("a_missing_or_damaged_segment_fails_the_fork_and_opens_nothing") {
        return;
    }
    let (world, marks) = World::recorded();
    let labels = plans::labels(&world.repository());
    let order = world.order(plans::at(
        &world.store,
        "demo/orders",
        &labels[0],
        &marks.last().unwrap().time,
    ));
    assert!(order.plan.log.len() > 3, "the fault must lie within the range");
    for fault in ["missing", "truncated", "flipped"] {
        let (path, name) = world.segment(&order.plan, 2);
        let good = fs::read(&path).unwrap();
        match fault {
            "missing" => fs::remove_file(&path).unwrap(),
            "truncated" => fs::write(&path, &good[..good.len() / 2]).unwrap(),
            _ => {
                let mut bad = good.clone();
                let middle = bad.len() / 2;
                bad[middle] ^= 0x10;
                fs::write(&path, bad).unwrap();
            }
        }
        let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
        assert!(matches!(error, ForkError::Wal(_)), "{fault}: {error}");
        assert!(error.to_string().contains(&name), "{fault}: {error}");
        assert!(!is_open(&order) && server_is_down(&order), "{fault}");
        fs::write(&path, &good).unwrap();
    }
    // With the segment back, the same fork goes on.
    world.run(&order, ForkPhase::Replaying).await.unwrap();
    check_rows(&order, marks.last().unwrap());
    world.remove(&order).await;
}

fn server_is_down(order: &ForkOrder) -> bool {
    let status = command(support::postgres_bin().join("pg_ctl"))
        .arg("-D")
        .arg(order.site.dir.join("data"))
        .arg("status")
        .output();
    status.unwrap().status.code() == Some(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_differs_from_the_plan_is_never_promoted() {
    if !unprivileged("a_position_that_differs_from_the_plan_is_never_promoted") {
        return;
    }
    let (world, marks) = World::recorded();
    let labels = plans::labels(&world.repository());
    let good = plans::at(&world.store, "demo/orders", &labels[0], &marks[4].time);
    let mut wrong = good.clone();
    wrong.stop.replayed_to = Lsn(good.stop.replayed_to.0 + 8);
    let mut order = world.order(wrong);
    let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
    assert!(matches!(error, ForkError::PositionMismatch { .. }), "{error}");
    assert!(error.to_string().contains(&good.stop.replayed_to.to_string()), "{error}");
    refused(&order);

    // A stop behind the end of the plan's log: PostgreSQL would wait for ever.
    order.plan = good.clone();
    order.plan.stop.lsn = Lsn(good.stop.lsn.0 + (64 << 20));
    let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
    assert!(matches!(error, ForkError::StopNotReached { .. }), "{error}");
    refused(&order);

    // Another cluster's log.
    order.plan = good;
    order.plan.system_identifier += 1;
    fs::remove_file(order.site.dir.join("restored")).unwrap();
    let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
    assert!(matches!(error, ForkError::WrongCluster { .. }), "{error}");
    world.remove(&order).await;
}

/// The fork is neither open nor promoted.
#[track_caller]
fn refused(order: &ForkOrder) {
    assert!(!is_open(order) && server_is_down(order));
    assert!(order.site.dir.join("data/standby.signal").exists(), "it was promoted");
    assert!(!order.site.dir.join("verified").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_fork_goes_on_where_it_was() {
    if !unprivileged("an_interrupted_fork_goes_on_where_it_was") {
        return;
    }
    let (world, marks) = World::recorded();
    let labels = plans::labels(&world.repository());
    let order = world.order(plans::at(&world.store, "demo/orders", &labels[1], &marks[9].time));
    for phase in [ForkPhase::Restoring, ForkPhase::Replaying] {
        let cancel = CancellationToken::new();
        let watch = Notes { cancel: Some((phase, &cancel)), ..notes() };
        let error = runner::run(&order, ForkPhase::Planned, &watch, &world.clock, &cancel).await;
        let error = error.unwrap_err();
        assert!(matches!(error, ForkError::Cancelled(_)), "{phase}: {error}");
        assert!(!is_open(&order), "{phase}");
    }
    world.run(&order, ForkPhase::Replaying).await.unwrap();
    check_rows(&order, &marks[9]);
    world.remove(&order).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_dies_at_any_moment_can_be_repeated() {
    if !unprivileged("a_run_that_dies_at_any_moment_can_be_repeated") {
        return;
    }
    let (world, marks) = World::recorded();
    let labels = plans::labels(&world.repository());
    let order = world.order(plans::at(&world.store, "demo/orders", &labels[0], &marks[7].time));
    let mut deaths = 0;
    // Later and later, so that every phase is met.
    for round in 1..60_u64 {
        if dies_after(&world, &order, Duration::from_millis(40 * round)) {
            deaths += 1;
        } else {
            break;
        }
    }
    assert!(deaths >= 3, "the run was never interrupted");
    world.run(&order, ForkPhase::Verifying).await.unwrap();
    check_rows(&order, &marks[7]);
    world.remove(&order).await;
}

/// Runs the fork for so long and drops it. Says whether it had not ended.
fn dies_after(world: &World, order: &ForkOrder, limit: Duration) -> bool {
    let run = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // The end of the runtime waits for files that are still being deleted, as the end of a process
        // would end that: otherwise they would be the next run's.
        runtime.block_on(async {
            tokio::select! {
                done = world.run(order, ForkPhase::Restoring) => done.map(|()| false).unwrap(),
                () = world.clock.sleep(limit) => true,
            }
        })
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_still_stops_is_not_taken_for_one_that_runs() {
    if !unprivileged("a_server_that_still_stops_is_not_taken_for_one_that_runs") {
        return;
    }
    let (world, marks) = World::recorded();
    let labels = plans::labels(&world.repository());
    let order = world.order(plans::at(&world.store, "demo/orders", &labels[0], &marks[5].time));
    world.run(&order, ForkPhase::Planned).await.unwrap();
    let data = order.site.dir.join("data");
    for from in [ForkPhase::Ready, ForkPhase::Verifying] {
        // A guest keeps the server from ending, for as long as the engine does not insist.
        let mut guest = command(support::postgres_bin().join("psql"));
        guest.env("PGPASSWORD", PASSWORD).args(["-X", "-h", "127.0.0.1", "-U", "avnadmin"]);
        guest.args(["-p", &order.site.port.to_string(), "-d", "postgres"]);
        let mut guest = guest.args(["-c", "select pg_sleep(600)"]).spawn().unwrap();
        let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
        let limit = Duration::from_secs(30);
        support::wait_for("the guest", limit, || (psql(&order, sleeps) == "1").then_some(()));
        let pg_ctl = support::postgres_bin().join("pg_ctl");
        support::run(command(pg_ctl).args(["-m", "smart", "-W", "stop", "-D"]).arg(&data));
        support::wait_for("the stop to begin", limit, || {
            let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap();
            pid_file.contains("stopping").then_some(())
        });
        tokio::time::timeout(limit, world.run(&order, from)).await.unwrap().unwrap();
        assert!(!guest.wait().unwrap().success());
        check_rows(&order, &marks[5]);
    }
    // A run that died before the server had heard of it.
    fs::write(order.site.dir.join("stopping"), "").unwrap();
    world.run(&order, ForkPhase::Ready).await.unwrap();
    assert!(!order.site.dir.join("stopping").exists());
    check_rows(&order, &marks[5]);
    world.remove(&order).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_had_configured_does_no_harm() {
    if !unprivileged("what_the_source_had_configured_does_no_harm") {
        return;
    }
    let world = World::empty();
    fs::create_dir_all(world.repository()).unwrap();
    let source = Source::start(&world.place.dir("source"), &world.repository());
    let space = world.place.dir("space");
    source.psql(&format!("create tablespace fast location '{}'", space.display()));
    source.psql("create table fast_orders (id int) tablespace fast");
    source.psql("alter system set recovery_target_time = '2020-01-01 00:00:00+00'");
    source.psql("alter system set recovery_target_action = 'promote'");
    source.psql("alter system set synchronous_standby_names = 'nobody'");
    source.psql("alter system set primary_conninfo = 'host=192.0.2.1'");
    source.psql("alter system set shared_buffers = '24MB'");
    source.psql("alter database postgres set default_transaction_read_only = on");
    let conf = world.place.path().join("source/data/postgresql.conf");
    let foreign = "\ninclude '/etc/passwd'\ninclude_dir 'gone.d'\n";
    fs::write(&conf, fs::read_to_string(&conf).unwrap() + foreign).unwrap();
    source.pgbackrest("--type=full backup");
    source.psql("begin read write; insert into fast_orders select generate_series(1, 50); commit");
    source.archive();
    let before = world.files();
    let space_before = tree(&space);
    let labels = plans::labels(&world.repository());
    let order = world.order(plans::latest(&world.store, "demo/orders", &labels[0]));
    world.run(&order, ForkPhase::Planned).await.unwrap();
    assert_eq!(psql(&order, "select count(*) from fast_orders"), "50");
    assert_eq!(psql(&order, "show shared_buffers"), "24MB");
    for guarded in ["synchronous_standby_names", "primary_conninfo", "recovery_target_time"] {
        assert_eq!(psql(&order, &format!("show {guarded}")), "", "{guarded}");
    }
    // Enough to fill segments, which an archiver would push.
    psql(
        &order,
        "begin read write; insert into fast_orders select 1; commit; select pg_switch_wal()",
    );
    psql(&order, "checkpoint");
    assert_eq!(world.files(), before, "the fork wrote into its repository");
    assert_eq!(tree(&space), space_before, "the fork wrote into the source's tablespace");
    let inside = psql(
        &order,
        "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'",
    );
    assert!(Path::new(&inside).starts_with(&order.site.dir), "{inside}");
    world.remove(&order).await;
    source.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_follows_its_source_over_a_promotion() {
    if !unprivileged("a_fork_follows_its_source_over_a_promotion") {
        return;
    }
    let world = World::empty();
    fs::create_dir_all(world.repository()).unwrap();
    let source = Source::start(&world.place.dir("source"), &world.repository());
    source.insert(50);
    source.pgbackrest("--type=full backup");
    source.insert(50);
    promote(&world.place.path().join("source"), &source);
    source.insert(50);
    let mark = source.mark();
    source.insert(10);
    source.archive();
    source.stop();
    let labels = plans::labels(&world.repository());
    let plan = plans::at(&world.store, "demo/orders", &labels[0], &mark.time);
    assert_eq!((plan.timeline.0, plan.histories.len()), (2, 1));
    let order = world.order(plan);
    let history = world.store.join(&order.plan.histories[0].key);
    let text = fs::read(&history).unwrap();
    fs::remove_file(&history).unwrap();
    let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
    assert!(matches!(error, ForkError::Wal(_)), "{error}");
    assert!(error.to_string().contains("00000002.history"), "{error}");
    refused(&order);
    fs::write(&history, text).unwrap();
    world.run(&order, ForkPhase::Replaying).await.unwrap();
    check_rows(&order, &mark);
    // Its own timeline is a new one, not one that the source has used.
    psql(&order, "checkpoint");
    assert_eq!(psql(&order, "select timeline_id from pg_control_checkpoint()"), "3");
    world.remove(&order).await;
}

/// Makes the source a standby and promotes it, which begins a new timeline.
fn promote(dir: &Path, source: &Source) {
    let pg_ctl = |args: &[&str]| {
        support::run(
            command(support::postgres_bin().join("pg_ctl"))
                .arg("-D")
                .arg(dir.join("data"))
                .args(args)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null()),
        );
    };
    pg_ctl(&["-w", "-m", "fast", "stop"]);
    fs::write(dir.join("data/standby.signal"), "").unwrap();
    pg_ctl(&["-w", "-l", dir.join("log/postgresql.log").to_str().unwrap(), "start"]);
    assert_eq!(source.psql("select pg_promote(true, 60)"), "t");
}

fn tree(dir: &Path) -> String {
    support::run(command("/usr/bin/find").arg(dir).args(["-printf", "%p %s\\n"]))
}
