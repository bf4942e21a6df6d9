//! Real servers that write the logs to be read.

use crate::{
    cluster::{Cluster, command, give, postgres_bins, run, wait_for},
    mysql,
};
use btar::domain::lsn::{Segment, SegmentSize, Timeline};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

/// Size of a binary log, in bytes.
pub(crate) const BINLOG_BYTES_MIN: u64 = 200_000_000;
const SEGMENTS: u64 = 20;

/// A stopped cluster, and the whole segments of its log.
pub(crate) fn wal() -> (Cluster, Vec<Segment>) {
    let cluster = Cluster::create(&postgres_bins().pop().unwrap(), &[]);
    cluster.start();
    cluster.psql("create table t (id int primary key, v text)");
    let pgbench = |arguments: &[&str]| {
        let mut pgbench = command(cluster.bin.join("pgbench"));
        run(pgbench.args(["-n", "-h"]).arg(cluster.dir.path()).args(arguments).arg("postgres"));
    };
    pgbench(&["-i", "-q", "-s", "5"]);
    let current = || -> u64 {
        let text =
            cluster.psql("select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 17))");
        u64::from_str_radix(text.trim_start_matches('x'), 16).unwrap()
    };
    let first = current() + 1;
    cluster.psql("select pg_switch_wal()");
    // Small transactions, and rows in bulk.
    pgbench(&["-c", "4", "-j", "2", "-t", "5000"]);
    let mut round = 0;
    while current() < first + SEGMENTS {
        cluster.psql(&format!(
            "insert into t select n + {round} * 20000, repeat(md5(n::text), 4) \
             from generate_series(1, 20000) n;; update t set v = v || '.' where id % 3 = 0"
        ));
        pgbench(&["-c", "4", "-j", "2", "-t", "500"]);
        round += 1;
    }
    cluster.psql("select pg_switch_wal()");
    cluster.stop("fast");
    let segments =
        (first..first + SEGMENTS).map(|number| Segment { timeline: Timeline(1), number });
    let segments: Vec<_> = segments.collect();
    for segment in &segments {
        assert!(cluster.wal().join(segment.file_name(SegmentSize::DEFAULT)).is_file());
    }
    (cluster, segments)
}

/// Whose server.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    MySql,
    MariaDb,
}

/// One closed binary log.
pub(crate) struct Binlog {
    pub(crate) file: PathBuf,
    /// The server's own tool.
    pub(crate) tool: PathBuf,
    /// How many groups the server has written.
    pub(crate) groups: u64,
    _dir: tempfile::TempDir,
}

/// Small transactions first, then rows in bulk.
const LOAD: &str = "
    CREATE DATABASE d;
    CREATE TABLE d.small (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(400)) ENGINE=InnoDB;
    CREATE TABLE d.large (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(400)) ENGINE=InnoDB;
    DELIMITER //
    CREATE PROCEDURE d.fill()
    BEGIN
      DECLARE n INT DEFAULT 0;
      WHILE n < 150000 DO
        INSERT INTO d.small (v) VALUES (REPEAT('small', 1 + n % 40));
        SET n = n + 1;
      END WHILE;
      SET n = 0;
      WHILE n < 55 DO
        INSERT INTO d.large (v) SELECT CONCAT(v, REPEAT('large', 40)) FROM d.small LIMIT 10000;
        SET n = n + 1;
      END WHILE;
    END//
    DELIMITER ;
    CALL d.fill();
    FLUSH BINARY LOGS;";
/// Of them: a database, two tables and a procedure, and what that does.
const GROUPS: u64 = 4 + 150_000 + 55;

/// Starts a server, has it write, and stops it.
pub(crate) fn binlog(kind: Kind) -> Binlog {
    let dir = tempfile::Builder::new().prefix("btar-logs-").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    give(dir.path());
    let data = dir.path().join("data");
    let at = |option: &str, path: &Path| format!("--{option}={}", path.display());
    let datadir = at("datadir", &data);
    let (server, client, admin, tool) = match kind {
        Kind::MySql => {
            let bin = mysql();
            let error = at("log-error", &dir.path().join("error"));
            let program = command(bin.join("mysqld"))
                .args(["--no-defaults", "--initialize-insecure", &datadir, &error])
                .status();
            assert!(program.unwrap().success(), "see {error}");
            let of = |name: &str| bin.join(name);
            (of("mysqld"), of("mysql"), of("mysqladmin"), of("mysqlbinlog"))
        }
        Kind::MariaDb => {
            let install = ["--no-defaults", "--auth-root-authentication-method=normal", &datadir];
            run(command("mariadb-install-db").args(install));
            let of = |name: &str| PathBuf::from("/usr/bin").join(name);
            ("/usr/sbin/mariadbd".into(), of("mariadb"), of("mariadb-admin"), of("mariadb-binlog"))
        }
    };
    let socket = at("socket", &dir.path().join("sock"));
    let mut start = command(&server);
    start.args(["--no-defaults", "--skip-networking", "--server-id=7", "--binlog-format=ROW"]);
    // What has to survive here is nothing.
    start.args(["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", "--max-binlog-size=1G"]);
    start.args([&datadir, &socket, &at("log-bin", &dir.path().join("bin"))]);
    start.args([
        at("pid-file", &dir.path().join("pid")),
        at("log-error", &dir.path().join("error")),
    ]);
    if matches!(kind, Kind::MySql) {
        start.arg("--mysqlx=OFF");
    }
    let running = Running(start.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let reach = |program: &Path, arguments: &[&str]| {
        let mut command = command(program);
        command.args(["--no-defaults", "--user=root", &socket]).args(arguments);
        command
    };
    wait_for("the server", || reach(&admin, &["ping"]).output().unwrap().status.success());
    let script = dir.path().join("load.sql");
    fs::write(&script, LOAD).unwrap();
    let mut load = reach(&client, &[]);
    run(load.stdin(fs::File::open(&script).unwrap()));
    run(&mut reach(&admin, &["shutdown"]));
    drop(running);
    Binlog { file: dir.path().join("bin.000001"), tool, groups: GROUPS, _dir: dir }
}

/// A server that does not outlive this program.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that was asked to end is given the time to do so.
        if std::thread::panicking() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}
