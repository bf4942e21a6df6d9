//! A restored cluster, recovered by a real PostgreSQL to a position, and asked what is in it.

use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

/// Version 15, which made the fixture.
const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A directory that PostgreSQL's user owns, with a data directory in it.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
}

/// The unprivileged user that PostgreSQL runs as when the tests run as root.
fn user() -> Option<(u32, u32)> {
    let id = |args: &[&str]| -> u32 {
        let out = Command::new("id").args(args).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().parse().unwrap_or_else(|_| {
            panic!("there is no user postgres: install the package postgresql-15 (make deps)")
        })
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("btar-pg-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// A new cluster, running.
    pub(crate) fn init(&self) {
        self.give();
        let data = self.data();
        let data = data.to_str().unwrap();
        self.run("initdb", &["-D", data, "-U", "postgres", "-A", "trust", "-k", "-N"]).unwrap();
        let dir = self.dir.path().display();
        let settings = format!("listen_addresses = ''\nunix_socket_directories = '{dir}'\n");
        fs::write(self.data().join("postgresql.auto.conf"), settings).unwrap();
        let log = self.dir.path().join("server.log");
        let args = ["-D", data, "-l", log.to_str().unwrap(), "-w", "start"];
        self.run("pg_ctl", &args).unwrap();
    }

    /// What `pg_basebackup` writes, with the log that it needs.
    pub(crate) fn base_backup(&self) -> Vec<u8> {
        let dir = self.dir.path().to_str().unwrap();
        let to = self.dir.path().join("backup");
        let to = to.to_str().unwrap();
        let args = ["-h", dir, "-U", "postgres", "-Ft", "-X", "fetch", "-c", "fast", "-D", to];
        self.run("pg_basebackup", &args).unwrap();
        fs::read(self.dir.path().join("backup/base.tar")).unwrap()
    }

    /// Hands everything to PostgreSQL's user.
    fn give(&self) {
        if let Some((uid, gid)) = user() {
            let owner = format!("{uid}:{gid}");
            let changed =
                Command::new("chown").arg("-R").arg(owner).arg(self.dir.path()).status().unwrap();
            assert!(changed.success());
        }
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(Path::new(BIN).join(program));
        if let Some((uid, gid)) = user() {
            command.uid(uid).gid(gid);
        }
        let out = command.args(args).current_dir("/").output().unwrap_or_else(|error| {
            panic!("cannot start {program}: {error}; install postgresql-15 (make deps)")
        });
        let text = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
        let error = String::from_utf8_lossy(&out.stderr);
        if out.status.success() { Ok(text) } else { Err(format!("{text}\n{error}")) }
    }

    /// Recovers to a position on a timeline with the log in [`Cluster::log`], and promotes.
    pub(crate) fn recover(&self, lsn: Option<&str>, timeline: u64) {
        let dir = self.dir.path().display();
        let target = lsn.map(|lsn| format!("recovery_target_lsn = '{lsn}'\n")).unwrap_or_default();
        let settings = format!(
            "port = 5432\nlisten_addresses = ''\nunix_socket_directories = '{dir}'\n\
             archive_mode = off\nrestore_command = 'cp {dir}/log/%f %p'\n\
             recovery_target_timeline = '{timeline}'\nrecovery_target_action = promote\n{target}"
        );
        fs::write(self.data().join("postgresql.auto.conf"), settings).unwrap();
        fs::write(self.data().join("recovery.signal"), "").unwrap();
        self.give();
        let (data, log) = (self.data(), self.dir.path().join("server.log"));
        let args = ["-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "-w", "start"];
        let started = self.run("pg_ctl", &args);
        let text = || fs::read_to_string(&log).unwrap_or_default();
        assert!(started.is_ok(), "{started:?}\n{}", text());
        // `pg_ctl -w` is content with a hot standby.
        for _ in 0..600 {
            match self.sql("select pg_is_in_recovery()") {
                Ok(answer) if answer == "f" => return,
                Ok(_) => {}
                Err(error) => panic!("{error}\n{}", text()),
            }
            #[allow(clippy::disallowed_methods, reason = "the tests wait for real processes")]
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("still in recovery\n{}", text());
    }

    pub(crate) fn sql(&self, sql: &str) -> Result<String, String> {
        let dir = self.dir.path().to_str().unwrap();
        let args = ["-h", dir, "-U", "postgres", "-d", "postgres", "-AtXc", sql];
        self.run("psql", &args)
    }

    /// Number of rows, and the hash over all of them as `truth.json` has it.
    pub(crate) fn ledger(&self) -> (u64, String) {
        let rows = self
            .sql(
                "select id || '|' || to_char(at at time zone 'UTC', \
                 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') || '|' || note from ledger order by id",
            )
            .unwrap();
        let count = rows.lines().count() as u64;
        let text = rows.lines().fold(String::new(), |text, row| text + row + "\n");
        (count, Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let data = self.data();
            drop(self.run("pg_ctl", &["-D", data.to_str().unwrap(), "-m", "immediate", "stop"]));
        }
    }
}
