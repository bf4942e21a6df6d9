//! A fork has exactly what its source had at the moment.

use crate::{
    mysql_server::Product,
    support::{command, run},
    world::{PASSWORD, World, notes, unprivileged},
};
use btar::{
    domain::fork::ForkPhase,
    engine::fork::{error::ForkError, mysql::runner},
};
use std::{fs, path::Path};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_has_exactly_the_rows_of_each_moment() {
    if unprivileged(Product::MariaDb, "exact::mariadb_has_exactly_the_rows_of_each_moment") {
        each_moment(Product::MariaDb).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_has_exactly_the_rows_of_each_moment() {
    if unprivileged(Product::MySql, "exact::mysql_has_exactly_the_rows_of_each_moment") {
        each_moment(Product::MySql).await;
    }
}

async fn each_moment(product: Product) {
    let world = World::new(product, &[]);
    let marks = &world.history.marks;
    let plans: Vec<_> = marks.iter().map(|mark| world.plan(mark)).collect();
    let before = tree(&world.store);
    for (mark, plan) in marks.iter().zip(plans) {
        let order = world.order(plan);
        let seen = notes();
        runner::preflight(&order.site, &order.plan, 1 << 20).unwrap();
        let cancel = CancellationToken::new();
        runner::run(&order, ForkPhase::Planned, &seen, &world.clock, &cancel).await.unwrap();
        world.check(&order, mark);
        let phases =
            [ForkPhase::Restoring, ForkPhase::Replaying, ForkPhase::Verifying, ForkPhase::Ready];
        assert_eq!(*seen.seen.lock().unwrap(), phases);
        open_as_a_service_should_be(&world, &order);
        world.remove(&order).await;
    }
    assert_eq!(tree(&world.store), before, "a fork changed its store");
}

fn open_as_a_service_should_be(world: &World, order: &btar::engine::fork::mysql::MySqlOrder) {
    let users = world.ask(order, "SELECT user FROM mysql.user WHERE user LIKE 'btar%'");
    assert_eq!(users, "", "our own account is left");
    let durable = world.ask(
        order,
        "SELECT @@sync_binlog + @@innodb_flush_log_at_trx_commit, @@max_connections, @@port",
    );
    let sync = if order.programs.is_some() { 2 } else { 1 };
    assert_eq!(durable, format!("{sync}\t77\t{}", order.site.port));
    let grants = world.ask(order, "SHOW GRANTS");
    assert!(grants.contains("WITH GRANT OPTION"), "{grants}");
    for secret in [PASSWORD, "IDENTIFIED BY"] {
        assert!(!is_written(&order.site.dir, secret), "`{secret}` is written down");
    }
    for left in ["client.cnf", "init.sql", "binlogs"] {
        assert!(!order.site.dir.join(left).exists(), "{left} is left");
    }
    let taken = runner::preflight(&order.site, &order.plan, 0).unwrap_err();
    assert!(matches!(taken, ForkError::PortTaken { .. }), "{taken}");
}

/// Whether any file at the top of the fork's directory holds the text.
fn is_written(dir: &Path, text: &str) -> bool {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: std::path::PathBuf| {
        path.is_file() && String::from_utf8_lossy(&fs::read(path).unwrap()).contains(text)
    };
    files.into_iter().any(holds)
}

/// Every file with its size and time.
fn tree(dir: &Path) -> String {
    run(command("/usr/bin/find").arg(dir).args(["-printf", "%p %s %T@\\n"]))
}
