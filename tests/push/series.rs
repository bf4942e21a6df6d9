//! Series of binary logs end and begin: resets, purges, another server, a server that was restarted.

use crate::{
    mysql_server::{Product, Server},
    support::{command, run, wait_for},
    world::World,
};
use btar::layout::stream::series::Joint;
use std::time::Duration;

#[test]
fn a_reset_log_begins_a_series_that_follows_nothing() {
    for (product, reset) in
        [(Product::MariaDb, "RESET MASTER"), (Product::MySql, "RESET BINARY LOGS AND GTIDS")]
    {
        let world = World::new(product);
        world.server.add(3);
        world.push(&["base"], 0);
        for _ in 0..3 {
            world.server.add(1);
            world.push(&["binlogs", "--flush"], 0);
        }
        world.server.sql(reset);
        world.server.add(2);
        let said = world.push(&["binlogs", "--flush"], 2);
        assert!(said.contains("HOLE") && said.contains("btar push base"), "{said}");
        // Until the names are those of before, and further.
        for _ in 0..5 {
            world.server.add(1);
            let said = world.push(&["binlogs", "--flush"], 0);
            assert!(!said.contains("HOLE"), "{said}");
        }
        let series = world.series();
        assert_eq!(series.len(), 2);
        assert!(series.iter().all(|series| series.follows.is_none()), "{series:?}");
        let before = world.backups().remove(0);
        let chain = world.chain(&before);
        assert!(chain.objects.iter().all(|found| found.series == before.log.series));

        crate::support::pause(Duration::from_millis(1100));
        world.push(&["base"], 0);
        world.server.add(4);
        world.push(&["binlogs", "--flush"], 0);
        let after = world.backups().remove(1);
        assert_eq!(after.log.series, series[1].series);
        assert_eq!(world.restored(&after), world.server.contents());
    }
}

#[test]
fn a_purged_file_is_reported_and_a_base_backup_mends_it() {
    let world = World::new(Product::MariaDb);
    world.push(&["base"], 0);
    world.server.add(2);
    world.push(&["binlogs", "--flush"], 0);
    // What is stored may be purged.
    let purge = |world: &World| {
        let last = world.server.logs().pop().unwrap();
        // It keeps what InnoDB may still need for a recovery.
        wait_for("the purge", Duration::from_secs(30), || {
            world.server.sql(&format!("FLUSH ENGINE LOGS; PURGE BINARY LOGS TO '{last}'"));
            (world.server.logs().len() == 1).then_some(())
        });
    };
    purge(&world);
    let said = world.push(&["binlogs"], 0);
    assert!(said.contains("no closed binary log"), "{said}");
    world.server.add(2);
    let said = world.push(&["binlogs", "--flush"], 0);
    assert!(!said.contains("HOLE") && world.series().len() == 1, "{said}");
    // What is not, may not.
    world.server.add(2);
    world.server.sql("FLUSH BINARY LOGS");
    purge(&world);
    world.server.add(2);
    let said = world.push(&["binlogs", "--flush"], 2);
    assert!(said.contains("HOLE") && said.contains("is followed by"), "{said}");
    let said = world.push(&["binlogs", "--flush"], 0);
    assert!(!said.contains("HOLE"), "{said}");
    crate::support::pause(Duration::from_millis(1100));
    world.push(&["base"], 0);
    let backup = world.backups().pop().unwrap();
    assert_eq!(world.restored(&backup), world.server.contents());
}

#[test]
fn a_server_that_died_goes_on_in_its_series() {
    let mut world = World::new(Product::MariaDb);
    world.push(&["base"], 0);
    world.server.add(9);
    let dir = world.server.dir.clone();
    for is_killed in [true, false] {
        if is_killed {
            world.server.kill();
        } else {
            world.server.stop();
        }
        world.server = Server::with_log(Product::MariaDb, &dir, &["--server-id=16"]);
        world.server.add(4);
        let said = world.push(&["binlogs", "--flush"], 0);
        assert!(!said.contains("HOLE"), "{said}");
    }
    assert_eq!(world.series().len(), 1);
    let backup = world.backups().pop().unwrap();
    assert_eq!(world.restored(&backup), world.server.contents());
}

#[test]
fn another_server_goes_on_where_the_first_one_ended() {
    let product = Product::MySql;
    let mut world = World::new(product);
    world.server.add(3);
    world.push(&["base"], 0);
    world.server.add(3);
    world.push(&["binlogs", "--flush"], 0);

    // What a replica would be that has executed everything.
    let two = world.place.dir("two");
    let other = Server::make(product, &world.place.dir("x"), &["--server-id=9"]);
    let mut one = std::mem::replace(&mut world.server, other);
    let one_dir = one.dir.clone();
    let from = one_dir.join("data");
    one.stop();
    run(command("cp").arg("-a").arg(&from).arg(two.join("data")));
    std::fs::remove_file(two.join("data/auto.cnf")).unwrap();
    world.server = Server::with_log(product, &two, &["--server-id=17"]);
    world.settings("two.toml", &two);
    world.server.add(6);
    let said = world.push_of("two.toml", &["binlogs", "--flush"], 0);
    assert!(!said.contains("HOLE"), "{said}");
    world.server.add(1);
    world.push_of("two.toml", &["binlogs", "--flush"], 0);

    let series = world.series();
    assert_eq!(series.len(), 2, "{series:?}");
    let follows = series[1].follows.as_ref().unwrap();
    assert_eq!((&follows.series, follows.how), (&series[0].series, Joint::SameTransactions));
    let backup = world.backups().remove(0);
    let chain = world.chain(&backup);
    assert!(chain.objects.last().unwrap().series == series[1].series);
    assert_eq!(world.restored(&backup), world.server.contents());

    // Back again: the first one has got what the second one wrote, as a replica.
    let first = Server::with_log(product, &one_dir, &["--server-id=16"]);
    let mut second = std::mem::replace(&mut world.server, first);
    let mut reader = command(product.log_reader());
    let logs = second.logs();
    second.stop();
    reader.args(logs.iter().map(|name| two.join("log").join(name)));
    let statements = world.place.path().join("statements");
    run(reader.stdout(std::fs::File::create(&statements).unwrap()));
    run(world.server.client().stdin(std::fs::File::open(&statements).unwrap()));
    let said = world.push(&["binlogs", "--flush"], 0);
    assert!(!said.contains("HOLE"), "{said}");
    world.server.add(4);
    world.push(&["binlogs", "--flush"], 0);
    let series = world.series();
    assert_eq!(series.len(), 3, "{series:?}");
    assert_eq!(series[2].follows.as_ref().unwrap().series, series[1].series);
    assert_eq!(world.restored(&backup), world.server.contents());
}
