//! How long a replay takes, beside what a person would type.

use crate::{
    mysql_server::{Product, Server},
    support::{command, now, run},
    world::{World, unprivileged},
};
use btar::{
    domain::fork::ForkPhase,
    engine::fork::{Progress, Watch, mysql::runner},
};
use std::{
    fs,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const TRANSACTIONS: usize = 40_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures"]
async fn a_replay_of_mariadb_is_as_quick_as_a_persons() {
    let test = "speed::a_replay_of_mariadb_is_as_quick_as_a_persons";
    if !unprivileged(Product::MariaDb, test) {
        return;
    }
    let world = World::busy(Product::MariaDb, TRANSACTIONS);
    let mark = world.history.marks.last().unwrap();
    let ours = ours(&world).await;
    for (name, settings) in [
        ("with the defaults", &[][..]),
        ("not durable", &["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"][..]),
    ] {
        let dir = world.place.dir(&format!("person-{}", settings.len()));
        for sub in ["log", "tmp", "data"] {
            world.place.dir(&format!("person-{}/{sub}", settings.len()));
        }
        unpack(&world.history.base, &dir.join("data"));
        let mut server = Server::with_log(Product::MariaDb, &dir, settings);
        let logs: Vec<_> = world.history.logs.iter().skip(1).cloned().collect();
        let begun = now();
        server.replay(world.history.base_end.offset, &logs);
        println!("figure: a person {name}: {:?}", begun.elapsed());
        assert_eq!(server.sql(crate::history::DIGEST), mark.digest);
        server.stop();
    }
    println!("figure: ours, with the server's start: {ours:?}");
}

fn unpack(base: &Path, data: &Path) {
    let stream = fs::File::open(base).unwrap();
    run(command("mbstream").args(["-x", "-C"]).arg(data).stdin(stream));
    let target = format!("--target-dir={}", data.display());
    run(command("mariadb-backup").args(["--prepare", &target]));
}

/// From the beginning of the phase *replaying* to that of the next one.
async fn ours(world: &World) -> Duration {
    let order = world.order(world.plan(world.history.marks.last().unwrap()));
    let times = Times::default();
    let cancel = CancellationToken::new();
    runner::run(&order, ForkPhase::Planned, &times, &world.clock, &cancel).await.unwrap();
    let times = times.0.into_inner().unwrap();
    let at = |phase| times.iter().find(|(seen, _)| *seen == phase).unwrap().1;
    let took = at(ForkPhase::Verifying) - at(ForkPhase::Replaying);
    world.check(&order, world.history.marks.last().unwrap());
    world.remove(&order).await;
    took
}

#[derive(Default)]
struct Times(Mutex<Vec<(ForkPhase, Instant)>>);

impl Watch for Times {
    fn phase(&self, phase: ForkPhase) {
        self.0.lock().unwrap().push((phase, now()));
    }

    fn progress(&self, _: Progress) {}
}
