//! MariaDB and MySQL from end to end: `btar push` takes the backups, the engine copies them, the primary
//! is lost, and forks have exactly the rows of a dozen moments.

use crate::{
    mysql_server::{Product, Server, ask, next_second, option_file},
    support::{command, engine::World, give, pause, wait_for},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const BACKUP: &str = r#"backup = { format = "stream", path = "shop" }"#;
/// Moments that are restored.
const MOMENTS: usize = 10;
/// Forks that are made at the same time.
const AT_ONCE: usize = 3;
/// What a fork must have in common with its source.
const DIGEST: &str = "\
    SELECT count(*), coalesce(sum(id), 0), coalesce(sum(crc32(concat_ws('|', id, note, hex(data)))), 0) \
    FROM shop.orders; \
    SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' ORDER BY 1";

/// A moment, and what the source held then.
struct Moment {
    at: String,
    digest: String,
}

/// A source, its pushes, and an engine.
struct Site {
    world: World,
    source: Server,
    settings: PathBuf,
}

impl Site {
    fn new(product: Product, server: &[&str]) -> Self {
        let mut world = World::empty();
        let programs = product
            .programs()
            .map_or_else(String::new, |dir| format!("mysql_programs = \"{}\"", dir.display()));
        world.mysql(BACKUP, false, &programs);
        let source = Server::make(product, &world.place.dir("source"), server);
        for dir in ["push", "clones"] {
            world.place.dir(dir);
        }
        give(&world.store("aws-eu-west-1"));
        let settings = world.place.path().join("push.toml");
        let root = world.place.path().display().to_string();
        let (client, tool) = match product {
            Product::MariaDb => ("mariadb", ""),
            Product::MySql => ("mysql", "tool = \"clone\"\n"),
        };
        let text = format!(
            "store = \"file://{}\"\npath = \"shop\"\nstate_dir = \"{root}/push\"\n\
             [server]\nsocket = \"{root}/source/s\"\nuser = \"root\"\nclient = \"{}\"\n\
             [base]\npart_mib = 1\nclone_dir = \"{root}/clones\"\n{tool}",
            world.store("aws-eu-west-1").display(),
            product.program(client).display(),
        );
        fs::write(&settings, text).unwrap();
        Self { world, source, settings }
    }

    fn push(&self, what: &[&str]) {
        let mut push = command(self.world.place.path().join("btar"));
        push.arg("push").arg("--config").arg(&self.settings).args(what);
        let out = push.output().unwrap();
        let said = crate::support::both(&out);
        assert!(out.status.success(), "btar push {what:?}: {}\n{said}", out.status);
    }

    /// The present moment, by the source's clock; nothing is written around it.
    fn moment(&self) -> Moment {
        self.quiet();
        let now = "SELECT date_format(utc_timestamp(6), '%Y-%m-%dT%H:%i:%s.%fZ')";
        let moment = Moment { at: self.source.sql(now), digest: self.source.sql(DIGEST) };
        self.quiet();
        moment
    }

    /// A moment at which a transaction has written and has not committed.
    fn moment_inside_a_transaction(&self) -> Moment {
        std::thread::scope(|threads| {
            threads.spawn(|| {
                self.source.script(
                    "BEGIN; INSERT INTO shop.orders VALUES (-1, 'open', NULL); DO SLEEP(4); COMMIT;",
                );
            });
            pause(Duration::from_millis(500));
            self.moment()
        })
    }

    /// MariaDB's log tells whole seconds, MySQL's microseconds.
    fn quiet(&self) {
        match self.source.product {
            Product::MariaDb => next_second(),
            Product::MySql => pause(Duration::from_millis(3)),
        }
    }

    fn digest_of(&self, fork: &str) -> String {
        digest_of(&self.world, self.source.product, fork)
    }
}

fn digest_of(world: &World, product: Product, fork: &str) -> String {
    world.wait_running(fork);
    let path = format!("/v1/project/demo/service/{fork}");
    let service = world.call("GET", &path, None).body["service"].clone();
    let parameters = &service["service_uri_params"];
    let text = |key: &str| parameters[key].as_str().unwrap().to_owned();
    assert!(service["service_uri"].as_str().unwrap().starts_with("mysql://avnadmin:"));
    let (port, user) = (text("port").parse().unwrap(), text("user"));
    let options = option_file(&world.place, port, &user, &text("password"));
    ask(product, &options, DIGEST)
}

/// One step of a life.
fn live(source: &Server, round: usize) {
    let id = 1000 * (round + 1);
    source.sql(&format!(
        "INSERT INTO shop.orders VALUES ({id}, 'ü{round}', x'00ff27'), ({id} + 1, NULL, NULL)"
    ));
    match round % 4 {
        1 => drop(source.sql(&format!("CREATE TABLE shop.t{round} (a INT)"))),
        2 => drop(source.sql("UPDATE shop.orders SET note = concat(note, '+') WHERE id % 2 = 0")),
        3 => source.script(&format!(
            "BEGIN; INSERT INTO shop.orders VALUES ({id} + 2, 'a', NULL); \
             DO SLEEP(0.3); INSERT INTO shop.orders VALUES ({id} + 3, 'b', NULL); COMMIT;"
        )),
        _ => {}
    }
}

fn make_tables(source: &Server) {
    source.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, \
         note VARCHAR(100) CHARACTER SET utf8mb4, data BLOB)",
    );
    if source.product == Product::MySql {
        // As the guide says.
        source.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
    }
}

#[track_caller]
fn every_moment_is_restored_exactly(product: Product) {
    product.prepare();
    let mut site = Site::new(product, &[]);
    make_tables(&site.source);
    live(&site.source, 0);
    site.world.start();
    site.world.enable();
    site.push(&["base"]);
    // It can be restored from the next full second on.
    next_second();
    let mut moments = Vec::new();
    for round in 1..=MOMENTS {
        live(&site.source, round);
        if round == MOMENTS / 2 {
            site.push(&["base"]);
        }
        moments.push(site.moment());
        if round == 4 {
            moments.push(site.moment_inside_a_transaction());
        }
        if round % 3 == 1 {
            site.push(&["binlogs", "--flush"]);
            site.world.kill();
            site.world.start();
        }
    }
    live(&site.source, MOMENTS + 1);
    let latest = site.source.sql(DIGEST);
    // The last binary log is closed in a later second than the last moment.
    next_second();
    site.push(&["binlogs", "--flush"]);
    site.source.kill();
    let last = moments.last().unwrap().at.clone();
    site.world.wait_covered(&last);
    wait_for("the whole log", Duration::from_secs(30), || {
        let primary = files(&site.world.store("aws-eu-west-1").join("shop/binlogs"));
        (primary == files(&site.world.copy().join("binlogs"))).then_some(())
    });
    site.world.lose_primary();
    pause(Duration::from_secs(1));

    restore_all(&site, &moments);
    assert_eq!(site.world.fork("latest", None).status, 200);
    assert_eq!(site.digest_of("latest"), latest);
    // An engine that is killed leaves a fork that runs, and one that is half made goes on.
    assert_eq!(site.world.fork("half", Some(&moments[3].at)).status, 200);
    pause(Duration::from_millis(400));
    site.world.kill();
    site.world.start();
    assert_eq!(site.digest_of("half"), moments[3].digest);
    assert_eq!(site.digest_of("latest"), latest);
    let (verified, said) = site.world.btar(&[
        "verify",
        "--config",
        site.world.config().to_str().unwrap(),
        "--service",
        "demo/orders",
        "--deep",
    ]);
    assert!(verified, "{said}");
    refused_moments(&site, &moments);
    for fork in ["latest", "half"] {
        let path = format!("/v1/project/demo/service/{fork}");
        assert_eq!(site.world.call("DELETE", &path, None).status, 200);
    }
}

/// Restores every moment, some at the same time.
fn restore_all(site: &Site, moments: &[Moment]) {
    for (group, moments) in moments.chunks(AT_ONCE).enumerate() {
        let name = |at: usize| format!("fork-{group}-{at}");
        for (at, moment) in moments.iter().enumerate() {
            let answer = site.world.fork(&name(at), Some(&moment.at));
            assert_eq!(answer.status, 200, "{}: {}", moment.at, answer.body);
        }
        for (at, moment) in moments.iter().enumerate() {
            assert_eq!(site.digest_of(&name(at)), moment.digest, "{}", moment.at);
            let path = format!("/v1/project/demo/service/{}", name(at));
            assert_eq!(site.world.call("DELETE", &path, None).status, 200);
        }
    }
}

/// What the copy does not cover is refused with the nearest moment.
fn refused_moments(site: &Site, moments: &[Moment]) {
    let (begin, end) = site.world.window().unwrap();
    for (target, nearest) in [("2020-01-01T00:00:00Z", &begin), ("2026-11-26T00:00:00Z", &begin)] {
        let answer = site.world.fork("never", Some(target));
        assert_eq!(answer.status, 400, "{}", answer.body);
        let nearest = nearest.trim_end_matches("Z").trim_end_matches('0').trim_end_matches('.');
        assert!(answer.body.to_string().contains(nearest), "{}", answer.body);
    }
    let answer = site.world.fork("never", Some("2999-01-01T00:00:00Z"));
    assert_eq!(answer.status, 400, "{}", answer.body);
    // A binary log in the middle is lost in the copy: what is behind it is not promised any more.
    let logs = files(&site.world.copy().join("binlogs"));
    let logs: Vec<&PathBuf> =
        logs.iter().filter(|log| log.extension().is_some_and(|e| e == "zst")).collect();
    let lost = site.world.copy().join("binlogs").join(logs[logs.len() - 2]);
    fs::remove_file(&lost).unwrap();
    wait_for("a smaller window", Duration::from_secs(30), || {
        (site.world.window()?.1 < end).then_some(())
    });
    let answer = site.world.fork("never", Some(&moments.last().unwrap().at));
    assert_eq!(answer.status, 400, "{}", answer.body);
    let status = site.world.btar(&["status", "--url", &site.world.url]).1;
    assert!(status.contains("is missing"), "{status}");
}

/// All files below a directory, by their paths from there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path.strip_prefix(dir).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// A log without transaction ids, then with both kinds, then with ids alone.
#[test]
fn mysql_that_begins_to_use_transaction_ids_is_restored_before_and_after() {
    Product::MySql.prepare();
    let off = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
    let mut site = Site::new(Product::MySql, &off);
    make_tables(&site.source);
    site.world.start();
    site.world.enable();
    site.push(&["base"]);
    next_second();
    let mut moments = Vec::new();
    let modes = ["", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];
    for (round, mode) in (1..).zip(modes) {
        if mode == "OFF_PERMISSIVE" {
            site.source.sql("SET GLOBAL enforce_gtid_consistency = ON");
        }
        if !mode.is_empty() {
            site.source.sql(&format!("SET GLOBAL gtid_mode = {mode}"));
        }
        live(&site.source, round);
        moments.push(site.moment());
    }
    live(&site.source, 5);
    next_second();
    site.push(&["binlogs", "--flush"]);
    site.source.kill();
    site.world.wait_covered(&moments.last().unwrap().at);
    site.world.lose_primary();
    pause(Duration::from_secs(1));
    restore_all(&site, &moments);
}

#[test]
fn mariadb_is_restored_to_every_moment_from_the_copy_alone() {
    every_moment_is_restored_exactly(Product::MariaDb);
}

#[test]
fn mysql_is_restored_to_every_moment_from_the_copy_alone() {
    every_moment_is_restored_exactly(Product::MySql);
}
