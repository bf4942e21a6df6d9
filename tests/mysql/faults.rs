//! What is wrong is refused, what is interrupted begins again, and what is open stays.

use crate::{
    mysql_server::Product,
    support::{command, run},
    world::{Notes, World, is_open, notes, put, unprivileged},
};
use btar::{
    domain::{
        binlog::{Flavour, GtidSet},
        fork::ForkPhase,
        recovery::BinlogPlan,
    },
    engine::fork::{
        error::ForkError,
        mysql::{MySqlOrder, error::MySqlError, runner},
    },
    sys::clock::Clock as _,
};
use std::{fs, time::Duration};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_the_copy_is_refused() {
    if !unprivileged(Product::MariaDb, "faults::what_is_wrong_in_the_copy_is_refused") {
        return;
    }
    let world = World::new(Product::MariaDb, &[]);
    let mark = &world.history.marks[7];
    let good = world.plan(mark);
    assert!(good.log.len() > 2, "the fault must lie within the range");

    for (fault, key) in [("flipped", 1), ("flipped", 2), ("truncated", 1), ("missing", 0)] {
        let object = &good.log[key];
        let bytes = fs::read(world.store.join(&object.key)).unwrap();
        let mut order = world.order(good.clone());
        match fault {
            "missing" => fs::remove_file(world.store.join(&object.key)).unwrap(),
            "truncated" => put(&world.store, &object.key, &bytes[..bytes.len() - 9]),
            _ => put(&world.store, &object.key, &flipped(&bytes)),
        }
        let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
        assert!(error.to_string().contains(&object.key), "{fault}: {error}");
        world.refused(&order);
        if fault == "truncated" {
            // A catalogue that takes it for whole does not help it.
            order.plan.log[key].size_bytes = bytes.len() as u64 - 9;
            let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
            let binlog = matches!(error, ForkError::MySql(MySqlError::Binlog { .. }));
            assert!(binlog, "{error}");
            world.refused(&order);
        }
        put(&world.store, &object.key, &bytes);
        world.remove(&order).await;
    }

    let (key, _) = good.base.parts[1].clone();
    let bytes = fs::read(world.store.join(&key)).unwrap();
    put(&world.store, &key, &flipped(&bytes));
    let order = world.order(good.clone());
    let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
    assert!(matches!(error, ForkError::MySql(MySqlError::Base { .. })), "{error}");
    world.refused(&order);
    put(&world.store, &key, &bytes);
    // With everything back, the same fork goes on.
    world.run(&order, ForkPhase::Restoring).await.unwrap();
    world.check(&order, mark);
    world.remove(&order).await;
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bad = bytes.to_vec();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x10;
    bad
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_from_the_plan_is_never_opened() {
    if !unprivileged(Product::MariaDb, "faults::what_differs_from_the_plan_is_never_opened") {
        return;
    }
    let world = World::new(Product::MariaDb, &[]);
    let mark = &world.history.marks[6];
    let good = world.plan(mark);
    let set = |text: &str| Some(GtidSet::parse(Flavour::MariaDb, text).unwrap());
    let refused = async |change: &dyn Fn(&mut BinlogPlan), says: &str| {
        let mut order = world.order(good.clone());
        change(&mut order.plan);
        let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        world.refused(&order);
        world.remove(&order).await;
    };
    refused(&|plan| plan.executed = set("0-11-1"), "too many").await;
    refused(&|plan| plan.executed = set("0-11-9999999,7-11-1"), "too few").await;
    refused(&|plan| plan.executed = set("8-11-1"), "other transactions").await;
    refused(&|plan| plan.transactions = plan.transactions.map(|n| n + 1), "the plan has").await;
    // The base backup ends elsewhere than the plan says.
    refused(&|plan| plan.start_offset = plan.start_offset.map(|n| n + 8), "ends at").await;
    refused(&|plan| plan.log[0].name = "bin.000099".to_owned(), "bin.000099").await;
    // A stop before the commit of the last group, which has 31 bytes, undoes it.
    refused(&|plan| plan.stop_offset -= 40, "too few").await;
    refused(&|plan| plan.server_version = "99.1.0-MariaDB".to_owned(), "MariaDB 99.1").await;
    refused(&|plan| plan.flavour = Flavour::MySql, "backup is of MySQL 10.11").await;
    refused(&|plan| plan.base.parts.truncate(1), "cannot be unpacked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_statement_is_told_with_its_place() {
    if !unprivileged(Product::MariaDb, "faults::a_failing_statement_is_told_with_its_place") {
        return;
    }
    let world = World::new(Product::MariaDb, &[]);
    let mark = &world.history.marks[11];
    let mut order = world.order(world.plan(mark));
    // A server that refuses what the source let pass: a table without a primary key.
    order.settings.insert("innodb_force_primary_key".to_owned(), "ON".to_owned());
    let error = world.run(&order, ForkPhase::Planned).await.unwrap_err();
    let ForkError::MySql(MySqlError::Replay { at: Some(at), said }) = &error else {
        panic!("{error}");
    };
    let (file, offset) = at.split_once(':').unwrap();
    let (before, after) = (&world.history.marks[1].at, &world.history.marks[2].at);
    assert_eq!(file, after.file, "{error}");
    let (offset, from) = (offset.parse::<u64>().unwrap(), u64::from(before.file == after.file));
    assert!(offset >= from * before.offset && offset < after.offset, "{error}");
    assert!(said.starts_with("ERROR ") && !said.contains("CREATE"), "{error}");
    world.refused(&order);
    world.remove(&order).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_begins_again_wherever_it_was_interrupted() {
    let test = "faults::mariadb_begins_again_wherever_it_was_interrupted";
    if unprivileged(Product::MariaDb, test) {
        interrupted(Product::MariaDb).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_begins_again_wherever_it_was_interrupted() {
    let test = "faults::mysql_begins_again_wherever_it_was_interrupted";
    if unprivileged(Product::MySql, test) {
        interrupted(Product::MySql).await;
    }
}

async fn interrupted(product: Product) {
    let world = World::busy(product, 8000);
    let mark = world.history.marks.last().unwrap();
    let order = world.order(world.plan(mark));
    called_off(&world, &order, ForkPhase::Restoring).await;
    called_off(&world, &order, ForkPhase::Replaying).await;
    // In the middle of the replay: called off, and the server killed.
    in_the_middle(
        &world,
        &order,
        |cancel, _| cancel.cancel(),
        |error| matches!(error, ForkError::Cancelled(_)),
    )
    .await;
    let kill = |_: &CancellationToken, pid: u32| {
        run(command("kill").args(["-9", &pid.to_string()]));
    };
    in_the_middle(&world, &order, kill, |error| {
        matches!(error, ForkError::MySql(MySqlError::Server { .. } | MySqlError::Replay { .. }))
    })
    .await;
    assert!(dies(&world, &order, 1..8).await >= 3, "the run was never interrupted");
    // What was compared is not replayed again.
    called_off(&world, &order, ForkPhase::Verifying).await;
    dies(&world, &order, 1..60).await;
    world.check(&order, mark);
    stays_open(&world, &order).await;
    world.remove(&order).await;
    world.remove(&order).await;
}

async fn called_off(world: &World, order: &MySqlOrder, phase: ForkPhase) {
    let cancel = CancellationToken::new();
    let watch = Notes { cancel: Some((phase, &cancel)), ..notes() };
    let run = runner::run(order, ForkPhase::Planned, &watch, &world.clock, &cancel).await;
    let error = run.unwrap_err();
    assert!(matches!(error, ForkError::Cancelled(_)), "{phase}: {error}");
    assert!(!is_open(order) && world.server(order).is_none(), "{phase}");
}

/// The engine itself dies again and again, later and later, until the fork is made.
async fn dies(world: &World, order: &MySqlOrder, rounds: std::ops::Range<u64>) -> u32 {
    let mut deaths = 0;
    for round in rounds {
        let limit = world.clock.sleep(Duration::from_millis(150 * round));
        tokio::select! {
            done = world.run(order, ForkPhase::Replaying) => {
                done.unwrap();
                break;
            }
            () = limit => deaths += 1,
        }
        // What an engine does in other threads dies with it. Here it goes on for a moment.
        world.clock.sleep(Duration::from_millis(300)).await;
    }
    deaths
}

async fn in_the_middle(
    world: &World,
    order: &MySqlOrder,
    interrupt: impl Fn(&CancellationToken, u32),
    expected: impl Fn(&ForkError) -> bool,
) {
    let cancel = CancellationToken::new();
    let watch = notes();
    let run = runner::run(order, ForkPhase::Replaying, &watch, &world.clock, &cancel);
    let interrupting = || {
        world.replaying(order);
        interrupt(&cancel, world.server(order).unwrap());
    };
    let log = order.site.dir.join("log");
    let _ = fs::remove_dir_all(&log);
    let ended = std::thread::scope(|threads| {
        let handle = tokio::runtime::Handle::current();
        let run = threads.spawn(move || handle.block_on(run));
        interrupting();
        run.join().unwrap()
    });
    let error = ended.unwrap_err();
    assert!(expected(&error), "{error}");
    world.refused(order);
}

/// A server that was killed comes back; one that is up goes on.
async fn stays_open(world: &World, order: &MySqlOrder) {
    world.ask(order, "INSERT INTO shop.orders VALUES (-77, 'of the fork', NULL)");
    let pid = world.server(order).unwrap();
    world.run(order, ForkPhase::Ready).await.unwrap();
    assert_eq!(world.server(order), Some(pid));
    run(command("kill").args(["-9", &pid.to_string()]));
    crate::support::wait_for("the server to die", Duration::from_secs(10), || {
        (!is_open(order)).then_some(())
    });
    fs::remove_dir_all(&order.site.socket_dir).unwrap();
    let blocker = std::net::TcpListener::bind(("127.0.0.1", order.site.port)).unwrap();
    let error = world.run(order, ForkPhase::Ready).await.unwrap_err();
    assert!(matches!(error, ForkError::PortTaken { .. }), "{error}");
    drop(blocker);
    world.run(order, ForkPhase::Ready).await.unwrap();
    // One that has been told to stop is none that runs.
    let pid = world.server(order).unwrap();
    run(command("kill").arg(pid.to_string()));
    crate::support::wait_for("the stop to begin", Duration::from_secs(10), || {
        let log = fs::read_to_string(order.site.dir.join("server.log")).unwrap();
        (log.contains("Received SHUTDOWN") || log.contains("Normal shutdown")).then_some(())
    });
    world.run(order, ForkPhase::Ready).await.unwrap();
    assert_ne!(world.server(order).unwrap(), pid);
    let kept = world.ask(order, "SELECT count(*) FROM shop.orders WHERE id = -77");
    assert_eq!(kept, "1");
}
