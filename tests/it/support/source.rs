//! A source database with pgBackRest backups, made once per machine and copied for each test.

use super::{Place, command, give, pause, postgres_bin, program, run};
use std::{
    collections::hash_map::DefaultHasher,
    fs::{self, File},
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A moment and what the table `orders` held then.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Mark {
    pub(crate) time: String,
    pub(crate) rows: u64,
    pub(crate) sum: u64,
}

/// A running PostgreSQL that archives into a pgBackRest repository.
pub(crate) struct Source {
    dir: PathBuf,
    port: u16,
}

impl Source {
    /// Makes the cluster in `dir` with its repository in `repository`, and the table `orders`.
    pub(crate) fn start(dir: &Path, repository: &Path) -> Self {
        let bin = postgres_bin();
        let pgbackrest = program("pgbackrest", "the Debian package pgbackrest");
        let source = Self { dir: dir.to_owned(), port: super::free_port() };
        for sub in ["log", "lock"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
            give(&dir.join(sub));
        }
        let conf = format!(
            "[global]\nrepo1-path={}\nrepo1-retention-full=9\ncompress-type=zst\nstart-fast=y\n\
             log-path={d}/log\nlock-path={d}/lock\nlog-level-file=off\n\
             [orders]\npg1-path={d}/data\npg1-socket-path={d}\npg1-port={}\n",
            repository.display(),
            source.port,
            d = dir.display(),
        );
        fs::write(dir.join("pgbackrest.conf"), conf).unwrap();
        run(command(bin.join("initdb"))
            .args(["-A", "trust", "--no-sync", "-D"])
            .arg(source.data()));
        let settings = format!(
            "\nlisten_addresses = ''\nport = {}\nunix_socket_directories = '{d}'\nfsync = off\n\
             archive_mode = on\nmax_prepared_transactions = 5\n\
             archive_command = '{} --config={d}/pgbackrest.conf --stanza=orders archive-push %p'\n",
            source.port,
            pgbackrest.display(),
            d = dir.display(),
        );
        let conf = source.data().join("postgresql.conf");
        let text = fs::read_to_string(&conf).unwrap() + &settings;
        fs::write(&conf, text).unwrap();
        run(command(bin.join("pg_ctl"))
            .args(["-w", "-D"])
            .arg(source.data())
            .args(["-l".as_ref(), dir.join("log/postgresql.log").as_os_str()])
            .arg("start")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null()));
        source.psql("create table orders (id bigint primary key)");
        source.pgbackrest("stanza-create");
        source
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn psql(&self, sql: &str) -> String {
        run(command(postgres_bin().join("psql"))
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-h"])
            .arg(&self.dir)
            .args(["-p", &self.port.to_string(), "-c", sql]))
    }

    pub(crate) fn pgbackrest(&self, what: &str) {
        run(command("pgbackrest")
            .arg(format!("--config={}/pgbackrest.conf", self.dir.display()))
            .arg("--stanza=orders")
            .args(what.split(' ')));
    }

    /// Inserts `count` orders with the next numbers, one transaction each ten rows.
    pub(crate) fn insert(&self, count: u64) {
        for _ in 0..count.div_ceil(10) {
            self.psql(
                "insert into orders select (select coalesce(max(id), 0) from orders) + n \
                 from generate_series(1, 10) n",
            );
        }
    }

    /// What the table holds now, with a moment at which nothing else was committed.
    pub(crate) fn mark(&self) -> Mark {
        pause(Duration::from_millis(20));
        let row = self.psql(
            "select to_char(clock_timestamp() at time zone 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), count(*), coalesce(sum(id), 0) from orders",
        );
        pause(Duration::from_millis(20));
        let parts: Vec<&str> = row.split('|').collect();
        Mark {
            time: parts[0].to_owned(),
            rows: parts[1].parse().unwrap(),
            sum: parts[2].parse().unwrap(),
        }
    }

    /// Closes the segment and waits until it is archived.
    pub(crate) fn archive(&self) {
        let name = self.psql("select pg_walfile_name(pg_switch_wal())");
        super::wait_for("the archiver", Duration::from_secs(30), || {
            let last = self.psql("select coalesce(last_archived_wal, '') from pg_stat_archiver");
            (last >= name).then_some(())
        });
    }

    pub(crate) fn stop(&self) {
        run(command(postgres_bin().join("pg_ctl"))
            .args(["-w", "-m", "immediate", "-D"])
            .arg(self.data())
            .arg("stop"));
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let _ = command(postgres_bin().join("pg_ctl"))
                .args(["-m", "immediate", "-D"])
                .arg(self.data())
                .arg("stop")
                .output();
        }
    }
}

/// A repository with its history: what every test that needs no live source begins with.
pub(crate) struct Recorded {
    /// The repository.
    repository: PathBuf,
    /// Moments in order; the first lies before the first backup's end, the last is not archived.
    pub(crate) marks: Vec<Mark>,
}

/// Marks from here on can be restored.
pub(crate) const FIRST_RESTORABLE: usize = 1;

impl Recorded {
    /// The repository, made now unless this machine has it from an earlier run.
    pub(crate) fn get() -> Self {
        let mut version = DefaultHasher::new();
        include_str!("source.rs").hash(&mut version);
        postgres_bin().hash(&mut version);
        let user = super::postgres_user()
            .map_or_else(|| run(Command::new("id").arg("-u")), |u| u.0.to_string());
        let home = std::env::temp_dir().join(format!("btar-tests-{user}-{:x}", version.finish()));
        fs::create_dir_all(&home).unwrap();
        give(&home);
        let lock = File::create(home.join("lock")).unwrap();
        lock.lock().unwrap();
        let listing = home.join("marks.json");
        if !listing.exists() {
            let marks = record(&home);
            fs::write(&listing, serde_json::to_vec_pretty(&marks).unwrap()).unwrap();
        }
        let marks = serde_json::from_slice(&fs::read(&listing).unwrap()).unwrap();
        Self { repository: home.join("repository"), marks }
    }

    /// The marks that can be restored.
    pub(crate) fn restorable(&self) -> &[Mark] {
        &self.marks[FIRST_RESTORABLE..self.marks.len() - 1]
    }

    /// Copies the repository into the directory `into`.
    pub(crate) fn copy_to(&self, into: &Path) {
        fs::create_dir_all(into.parent().unwrap()).unwrap();
        give(into.parent().unwrap());
        run(command("cp").arg("-a").arg(&self.repository).arg(into));
    }
}

/// Writes the history: full backup, incremental backup, a timeline without switches, a two-phase
/// commit and a rollback among the commits, twelve moments.
fn record(home: &Path) -> Vec<Mark> {
    let place = Place::new();
    let repository = home.join("repository");
    let _ = fs::remove_dir_all(&repository);
    fs::create_dir(&repository).unwrap();
    give(&repository);
    let source = Source::start(place.path(), &repository);
    let mut marks = Vec::new();
    source.insert(100);
    marks.push(source.mark());
    source.pgbackrest("--type=full backup");
    pause(Duration::from_millis(1100)); // pgBackRest records whole seconds.
    for round in 0..12 {
        marks.push(source.mark());
        source.insert(30);
        match round {
            2 => {
                source.psql("begin; insert into orders values (1000000); prepare transaction 'p'");
                marks.push(source.mark());
                source.psql("commit prepared 'p'");
            }
            4 => {
                let _ = source.psql("begin; insert into orders values (2000000); rollback");
            }
            5 => {
                source.pgbackrest("--type=incr backup");
                pause(Duration::from_millis(1100));
            }
            3 | 7 | 9 => source.archive(),
            _ => {}
        }
    }
    marks.push(source.mark());
    source.insert(10); // A commit behind the last mark, so that the mark is covered.
    source.archive();
    source.insert(10);
    marks.push(source.mark());
    source.stop();
    marks
}
