//! A source with a life: transactions of every kind, a base backup in the middle, marks at moments.

use crate::{
    mysql_server::{At, Product, Server},
    support::{Place, wait_for},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A moment in the log and what the database held then.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) at: At,
    pub(crate) digest: String,
}

/// What a killed source has left.
pub(crate) struct History {
    pub(crate) product: Product,
    pub(crate) version: String,
    /// The base backup, as one plain stream.
    pub(crate) base: PathBuf,
    /// Where the base backup ends.
    pub(crate) base_end: At,
    /// The binary logs, also those before the base backup.
    pub(crate) logs: Vec<PathBuf>,
    /// Moments after the base backup, in order. The first is its end.
    pub(crate) marks: Vec<Mark>,
}

/// Everything that a fork must have in common with its source, in one text.
pub(crate) const DIGEST: &str = "\
    SELECT count(*), coalesce(sum(crc32(concat_ws('|', id, hex(note), coalesce(hex(data), 'null')))), 0) \
    FROM shop.orders; \
    SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' ORDER BY 1; \
    SELECT user, host FROM mysql.user WHERE user LIKE 'app%' ORDER BY 1, 2; \
    SELECT event_name, status FROM information_schema.events ORDER BY 1; \
    SELECT routine_name FROM information_schema.routines WHERE routine_schema = 'shop' ORDER BY 1";

impl History {
    pub(crate) fn make(product: Product, place: &Place, settings: &[&str]) -> Self {
        let dir = place.dir("source");
        let mut source = Server::make(product, &dir, settings);
        before_the_backup(&source);
        let base = place.path().join("base.image");
        source.backup(&base);
        let mut marks = vec![mark(&source)];
        for round in 0..ROUNDS {
            live(&source, round);
            marks.push(mark(&source));
            if round % 4 == 1 {
                source.rotate();
            }
        }
        source.sql("INSERT INTO shop.orders VALUES (999999, 'after the last mark', NULL)");
        let version = source.version();
        source.kill();
        let logs = copy_logs(&source.binlogs(), &place.dir("logs"));
        Self { product, version, base, base_end: marks[0].at.clone(), logs, marks }
    }
}

pub(crate) const ROUNDS: usize = 12;

impl History {
    /// After the base backup nothing but many small transactions, so that a replay takes a while.
    pub(crate) fn busy(product: Product, place: &Place, transactions: usize) -> Self {
        let dir = place.dir("source");
        let quick = ["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"];
        let mut source = Server::make(product, &dir, &quick);
        before_the_backup(&source);
        let base = place.path().join("base.image");
        source.backup(&base);
        let mut marks = vec![mark(&source)];
        for part in 0..4 {
            let insert = |n: usize| {
                let id = 1000 + part * transactions / 4 + n;
                format!("INSERT INTO shop.orders VALUES ({id}, repeat('{n} ', 20), NULL);\n")
            };
            source.script(&(0..transactions / 4).map(insert).collect::<String>());
            source.rotate();
            marks.push(mark(&source));
        }
        let version = source.version();
        // In order, so that everything is in the log.
        source.stop();
        let logs = copy_logs(&source.binlogs(), &place.dir("logs"));
        Self { product, version, base, base_end: marks[0].at.clone(), logs, marks }
    }
}

fn copy_logs(logs: &[PathBuf], into: &Path) -> Vec<PathBuf> {
    let copy = |log: &PathBuf| {
        let copy = into.join(log.file_name().unwrap());
        fs::copy(log, &copy).unwrap();
        copy
    };
    logs.iter().map(copy).collect()
}

fn before_the_backup(source: &Server) {
    source.sql(
        "CREATE DATABASE shop CHARACTER SET utf8mb4; \
         CREATE TABLE shop.orders (id INT PRIMARY KEY, note TEXT, data LONGBLOB); \
         CREATE TABLE shop.old (id INT PRIMARY KEY) ENGINE = MyISAM; \
         CREATE USER 'app'@'%' IDENTIFIED BY 'app-Secret-1'; \
         CREATE USER 'avnadmin'@'10.%' IDENTIFIED BY 'old-Secret-1'",
    );
    for id in 1..=20 {
        source.sql(&format!("INSERT INTO shop.orders VALUES ({id}, 'n{id}', NULL)"));
    }
    source.rotate();
    source.sql("INSERT INTO shop.orders VALUES (21, 'in the log of the backup', x'00')");
}

/// One round of a life.
fn live(source: &Server, round: usize) {
    let id = 1000 * (round + 1);
    source.sql(&format!(
        "USE shop; INSERT INTO orders VALUES ({id}, 'ü€😀 \\'\\\\ \\n-- ;', x'00ff0a0d1a275c22'); \
         UPDATE orders SET note = concat(note, '+') WHERE id < 1000"
    ));
    match round {
        0 => source.script(&long_transaction(id)),
        1 => {
            source.sql("ALTER TABLE shop.orders ADD COLUMN price DECIMAL(9, 2) DEFAULT 1.5");
            source.sql("ALTER TABLE shop.orders DROP COLUMN price; CREATE TABLE shop.t2 (a INT)");
        }
        2 => drop(source.sql("CREATE USER 'app2'@'localhost' IDENTIFIED BY 'app-Secret-2'")),
        3 => event(source, id),
        4 => source.script(&format!(
            "XA START 'x{id}'; INSERT INTO shop.orders VALUES ({id} + 1, 'xa', NULL); \
             XA END 'x{id}'; XA PREPARE 'x{id}'; XA COMMIT 'x{id}';"
        )),
        5 => domains(source, id),
        6 => source.script(
            "DELIMITER //\nCREATE PROCEDURE shop.more(n INT) BEGIN \
             INSERT INTO shop.orders VALUES (n, 'procedure; with -- this', NULL); END//\n\
             DELIMITER ;\nCALL shop.more(-1);",
        ),
        7 => drop(source.sql(&format!(
            "USE shop; CREATE TEMPORARY TABLE tmp (a INT); INSERT INTO tmp VALUES ({id}); \
             INSERT INTO orders SELECT a + 1, 'from a temporary table', NULL FROM tmp"
        ))),
        8 => drop(source.sql("INSERT INTO shop.old VALUES (1), (2); DELETE FROM shop.old")),
        9 => drop(source.sql(&format!(
            "BEGIN; INSERT INTO shop.orders VALUES ({id} + 1, 'undone', NULL); ROLLBACK; \
             INSERT INTO shop.orders VALUES ({id} + 2, repeat('long ', 10000), repeat(x'00', 3000000))"
        ))),
        10 => drop(source.sql("DROP TABLE shop.t2; UPDATE shop.orders SET note = 'x' WHERE id < 0")),
        _ => drop(source.sql("SET sql_mode = 'ANSI_QUOTES'; INSERT INTO shop.orders SELECT id + 1, \
                              'copied', data FROM shop.orders WHERE id = 12000")),
    }
}

fn long_transaction(id: usize) -> String {
    let mut script = "BEGIN;\n".to_owned();
    for n in 1..=300 {
        script += &format!(
            "INSERT INTO shop.orders VALUES ({}, 'long', repeat('{n}\\0', 2000));\n",
            id + n
        );
    }
    script + "COMMIT;\n"
}

/// An event that can do its work once. MySQL runs events as it comes: nothing is marked before it has.
fn event(source: &Server, id: usize) {
    source.sql(&format!(
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND STARTS '2001-01-01 00:00:00' \
         DO INSERT INTO shop.orders VALUES ({id} + 500, 'the event ran', NULL)"
    ));
    if source.product == Product::MySql {
        let ran = format!("SELECT count(*) FROM shop.orders WHERE id = {id} + 500");
        wait_for("the event to run", Duration::from_secs(20), || {
            (source.sql(&ran) == "1").then_some(())
        });
    }
}

/// Replication domains of MariaDB; tagged transaction ids of MySQL.
fn domains(source: &Server, id: usize) {
    match source.product {
        Product::MariaDb => source.sql(&format!(
            "SET SESSION gtid_domain_id = 7; INSERT INTO shop.orders VALUES ({id} + 1, 'd7', NULL)"
        )),
        Product::MySql => source.sql(&format!(
            "SET GTID_NEXT = 'AUTOMATIC:nightly'; \
             INSERT INTO shop.orders VALUES ({id} + 1, 'tagged', NULL)"
        )),
    };
}

fn mark(source: &Server) -> Mark {
    Mark { at: source.at(), digest: source.sql(DIGEST) }
}
