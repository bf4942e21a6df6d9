//! A PostgreSQL cluster in a temporary directory, and the programs that go with it.

use std::{
    fmt::Write as _,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// A cluster that is stopped and removed when it goes out of scope.
pub(crate) struct Cluster {
    pub(crate) bin: PathBuf,
    pub(crate) dir: tempfile::TempDir,
}

impl Cluster {
    /// A new cluster with `initdb`'s further arguments, not started.
    pub(crate) fn create(bin: &Path, arguments: &[&str]) -> Self {
        let cluster = Self::empty(bin);
        run(command(bin.join("initdb"))
            .args(["-A", "trust", "--no-sync", "-D"])
            .arg(cluster.data())
            .args(arguments));
        let settings = "wal_level = logical\nmax_prepared_transactions = 5\nfsync = off\n\
             wal_keep_size = 4GB\nmax_wal_size = 8GB\nautovacuum = off\nlisten_addresses = ''\n";
        cluster.configure(settings);
        cluster
    }

    /// A place for a cluster.
    pub(crate) fn empty(bin: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("btar-wal-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        give(dir.path());
        Self { bin: bin.to_owned(), dir }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.data().join("pg_wal")
    }

    /// Appends to the settings.
    pub(crate) fn configure(&self, settings: &str) {
        let conf = self.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        write!(text, "\n{settings}\nunix_socket_directories = '{}'\n", self.dir.path().display())
            .unwrap();
        fs::write(conf, text).unwrap();
    }

    pub(crate) fn start(&self) {
        let log = self.dir.path().join("postgresql.log");
        let out = command(self.bin.join("pg_ctl"))
            .args(["-w", "-t", "60", "-D"])
            .arg(self.data())
            .arg("-l")
            .arg(&log)
            .arg("start")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(out.success(), "{}", fs::read_to_string(log).unwrap_or_default());
    }

    pub(crate) fn stop(&self, mode: &str) {
        run(command(self.bin.join("pg_ctl"))
            .args(["-w", "-m", mode, "-D"])
            .arg(self.data())
            .arg("stop"));
    }

    /// A `psql` that runs `sql`, each statement in a transaction of its own.
    fn session(&self, sql: &str) -> Command {
        let mut psql = command(self.bin.join("psql"));
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-h"])
            .arg(self.dir.path());
        for statement in sql.split(";;") {
            psql.args(["-c", statement.trim()]);
        }
        psql
    }

    /// Runs statements, parted by two semicolons, and gives what they say.
    pub(crate) fn psql(&self, sql: &str) -> String {
        run(&mut self.session(sql))
    }

    /// Starts them and does not wait.
    pub(crate) fn psql_behind(&self, sql: &str) -> Child {
        self.session(sql).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// A copy of the cluster's files, taken while it runs, as a cluster of its own.
    pub(crate) fn base_backup(&self) -> Self {
        let copy = Self::empty(&self.bin);
        run(command(self.bin.join("pg_basebackup"))
            .args(["-c", "fast", "-X", "none", "-h"])
            .arg(self.dir.path())
            .arg("-D")
            .arg(copy.data()));
        copy
    }

    /// A copy of a stopped cluster's files.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::empty(&self.bin);
        run(command("cp").arg("-a").arg(self.data()).arg(copy.dir.path()));
        copy
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let _ = command(self.bin.join("pg_ctl"))
                .args(["-m", "immediate", "-D"])
                .arg(self.data())
                .arg("stop")
                .output();
        }
    }
}

/// The program directories of every PostgreSQL on this machine, the newest last; or the one of the
/// folder that `BTAR_TEST_POSTGRES` names.
pub(crate) fn postgres_bins() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("BTAR_TEST_POSTGRES") {
        return vec![Path::new(&folder).join("bin")];
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let major = path.file_name()?.to_str()?.parse().ok()?;
            Some((major, path.join("bin"))).filter(|(_, bin)| bin.join("postgres").is_file())
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "PostgreSQL is missing: install the package postgresql (make deps)");
    for (major, bin) in &found {
        let tool = bin.join("pg_waldump");
        assert!(tool.is_file(), "{} is missing: reinstall postgresql-{major}", tool.display());
    }
    found.into_iter().map(|(_, bin)| bin).collect()
}

/// A command that runs as the user postgres when the tests run as root.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env("TZ", "UTC").env("LC_ALL", "C");
    command
}

fn postgres_user() -> Option<(u32, u32)> {
    let id = |flag: &str, who: &[&str]| -> Option<u32> {
        let out = Command::new("id").arg(flag).args(who).output().ok()?;
        String::from_utf8(out.stdout).ok()?.trim().parse().ok()
    };
    if id("-u", &[]) != Some(0) {
        return None;
    }
    let user = id("-u", &["postgres"]).zip(id("-g", &["postgres"]));
    assert!(
        user.is_some(),
        "there is no user postgres: install the package postgresql (make deps)"
    );
    user
}

/// Hands a file or directory to the user postgres.
pub(crate) fn give(path: &Path) {
    if let Some((uid, gid)) = postgres_user() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// Runs it and gives its output; fails with everything that it said.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    assert!(out.status.success(), "{command:?} gave {}\n{}", out.status, both(&out));
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

fn both(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Asks until `ask` says yes; fails with `what` after half a minute.
#[allow(clippy::disallowed_methods, reason = "the tests wait for real processes")]
pub(crate) fn wait_for(what: &str, mut ask: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ask() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited half a minute for {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}
