//! MariaDB and MySQL servers: started with nothing of the machine's own configuration, as the
//! unprivileged user, in a directory of the test.
//!
//! A test binary that uses this has the module `support` of `tests/it` at its root.

use crate::support::{Place, command, give, pause, program, run, wait_for};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    MariaDb,
    MySql,
}

impl Product {
    /// The directory of its programs, where the search path does not have them.
    pub(crate) fn programs(self) -> Option<PathBuf> {
        match self {
            Self::MariaDb => None,
            Self::MySql => Some(mysql_place().join("bin")),
        }
    }

    /// Makes what this machine lacks. Root must do it, before tests run as somebody else.
    pub(crate) fn prepare(self) {
        self.programs();
    }

    pub(crate) fn program(self, name: &str) -> PathBuf {
        match self {
            Self::MariaDb if Path::new("/usr/sbin").join(name).is_file() => {
                Path::new("/usr/sbin").join(name)
            }
            Self::MariaDb => program(name, "the Debian packages mariadb-server, mariadb-backup"),
            Self::MySql => mysql_place().join("bin").join(name),
        }
    }

    pub(crate) fn client(self) -> PathBuf {
        match self {
            Self::MariaDb => self.program("mariadb"),
            Self::MySql => self.program("mysql"),
        }
    }

    /// The program that prints binary logs as statements.
    pub(crate) fn log_reader(self) -> PathBuf {
        match self {
            Self::MariaDb => self.program("mariadb-binlog"),
            Self::MySql => self.program("mysqlbinlog"),
        }
    }
}

/// Where `.ci/mysql` puts a real MySQL when root runs it.
const MADE_BY_ROOT: &str = "/var/cache/btar/mysql";

/// The folder with a real MySQL, which `.ci/mysql` makes once per machine.
fn mysql_place() -> PathBuf {
    let named = std::env::var_os("BTAR_TEST_MYSQL").is_some();
    let made = Path::new(MADE_BY_ROOT);
    if !named && made.join("bin/mysqld").exists() {
        return made.to_owned();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/mysql");
    PathBuf::from(run(&mut Command::new(script)))
}

/// A running server with a user `root` without a password.
pub(crate) struct Server {
    pub(crate) product: Product,
    pub(crate) dir: PathBuf,
    child: Child,
}

/// A place in the log and what was executed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) gtids: String,
}

impl Server {
    /// Makes a server with binary logs in `dir`, whose path must be short, with these settings besides.
    pub(crate) fn make(product: Product, dir: &Path, settings: &[&str]) -> Self {
        let data = format!("--datadir={}", dir.join("data").display());
        let mut install = match product {
            Product::MariaDb => {
                let mut install = command(product.program("mariadb-install-db"));
                install.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
                install.arg("--skip-test-db");
                install
            }
            Product::MySql => {
                let mut install = command(product.program("mysqld"));
                install.args(["--no-defaults", "--initialize-insecure"]);
                install
            }
        };
        run(install.args([data, temporary(dir)]));
        Self::with_log(product, dir, settings)
    }

    /// Starts a server with binary logs on the data in `dir`.
    pub(crate) fn with_log(product: Product, dir: &Path, settings: &[&str]) -> Self {
        let logs = dir.join("log");
        fs::create_dir_all(&logs).unwrap();
        give(&logs);
        let log = format!("--log-bin={}", logs.join("bin").display());
        Self::start(product, dir, &[&[&*log, "--server-id=11"], settings].concat())
    }

    /// Starts a server on the data in `dir`.
    pub(crate) fn start(product: Product, dir: &Path, settings: &[&str]) -> Self {
        let path = |option: &str, name: &str| format!("--{option}={}", dir.join(name).display());
        let (server, own): (_, &[&str]) = match product {
            Product::MariaDb => ("mariadbd", &["--skip-slave-start"]),
            Product::MySql => {
                ("mysqld", &["--mysqlx=OFF", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"])
            }
        };
        let log = fs::File::create(dir.join("server.log")).unwrap();
        let child = command(product.program(server))
            .arg("--no-defaults")
            .args([path("datadir", "data"), path("socket", "s"), path("pid-file", "pid")])
            .args([&*temporary(dir), "--skip-networking", "--max-allowed-packet=1G"])
            .args(own)
            .args(settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { product, dir: dir.to_owned(), child };
        wait_for("the server", Duration::from_secs(60), || {
            let asked = server.client().args(["-e", "SELECT 1"]).output().unwrap();
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server gave {status}\n{}", server.said());
            }
            asked.status.success().then_some(())
        });
        server
    }

    /// What the server has written of itself.
    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("server.log")).unwrap()).into_owned()
    }

    pub(crate) fn client(&self) -> Command {
        let mut client = command(self.product.client());
        client.arg("--no-defaults").arg(format!("--socket={}", self.dir.join("s").display()));
        client.args(["--user=root", "--default-character-set=utf8mb4", "--batch"]);
        client.args(["--skip-column-names", "--raw", "--max-allowed-packet=1G"]);
        client
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        run(self.client().arg(format!("-e{sql}")))
    }

    /// Runs a file of statements in one session.
    pub(crate) fn script(&self, sql: &str) {
        let file = self.dir.join("script.sql");
        fs::write(&file, sql).unwrap();
        run(self.client().stdin(fs::File::open(&file).unwrap()));
    }

    /// Where the log is now.
    pub(crate) fn at(&self) -> At {
        let (show, executed) = match self.product {
            Product::MariaDb => ("SHOW MASTER STATUS", "SELECT @@gtid_binlog_pos"),
            Product::MySql => ("SHOW BINARY LOG STATUS", "SELECT @@gtid_executed"),
        };
        let row = self.sql(show);
        let mut parts = row.split('\t');
        At {
            file: parts.next().unwrap().to_owned(),
            offset: parts.next().unwrap().parse().unwrap(),
            gtids: self.sql(executed),
        }
    }

    pub(crate) fn version(&self) -> String {
        self.sql("SELECT VERSION()")
    }

    /// Begins the next binary log.
    pub(crate) fn rotate(&self) {
        self.sql("FLUSH BINARY LOGS");
    }

    /// The binary logs, in order.
    pub(crate) fn binlogs(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(self.dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
        let is_log = |path: &PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| extension.parse::<u32>().is_ok())
        };
        let mut logs: Vec<PathBuf> = names.filter(is_log).collect();
        logs.sort();
        logs
    }

    /// Writes a base backup to `file`: xbstream of MariaDB's own tool, or a tar archive of what the
    /// plugin CLONE makes. Gives what the tool or the plugin says of where it ends, where it does.
    pub(crate) fn backup(&self, file: &Path) {
        let scratch = self.dir.join("backup");
        let _ = fs::remove_dir_all(&scratch);
        match self.product {
            Product::MariaDb => {
                let out = fs::File::create(file).unwrap();
                let made = command(self.product.program("mariadb-backup"))
                    .args(["--no-defaults", "--backup", "--stream=xbstream", "--user=root"])
                    .arg(format!("--socket={}", self.dir.join("s").display()))
                    .arg(format!("--target-dir={}", scratch.display()))
                    .stdout(out)
                    .stderr(fs::File::create(self.dir.join("backup.log")).unwrap())
                    .status();
                let log = fs::read_to_string(self.dir.join("backup.log")).unwrap();
                assert!(made.unwrap().success() && log.contains("completed OK!"), "{log}");
            }
            Product::MySql => {
                let known = "SELECT plugin_status FROM information_schema.plugins \
                             WHERE plugin_name = 'clone'";
                if self.sql(known).is_empty() {
                    // Not a statement of the source's: it is not to be in its log.
                    self.sql("SET sql_log_bin = 0; INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
                }
                self.sql(&format!("CLONE LOCAL DATA DIRECTORY = '{}'", scratch.display()));
                run(command("tar").arg("-cf").arg(file).arg("-C").arg(&scratch).arg("."));
            }
        }
    }

    /// Replays binary logs as a person would: the reader of the log, a pipe, the client.
    pub(crate) fn replay(&self, from: u64, logs: &[PathBuf]) {
        let mut reader = command(self.product.log_reader())
            .args(["--no-defaults".to_owned(), format!("--start-position={from}")])
            .args(logs)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        run(self.client().arg("--binary-mode").stdin(reader.stdout.take().unwrap()));
        assert!(reader.wait().unwrap().success());
    }

    /// Ends the server as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends the server in order.
    pub(crate) fn stop(&mut self) {
        run(Command::new("kill").arg(self.child.id().to_string()));
        wait_for("the server to end", Duration::from_secs(60), || {
            self.child.try_wait().unwrap().map(drop)
        });
    }
}

/// The setting of a directory in `dir` for temporary files. A MariaDB that starts removes what others
/// have where its own would be: `mysql_rm_tmp_tables` in `sql/sql_base.cc`.
fn temporary(dir: &Path) -> String {
    let temporary = dir.join("tmp");
    fs::create_dir_all(&temporary).unwrap();
    give(&temporary);
    format!("--tmpdir={}", temporary.display())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks a server on a port, as the user and with the password in `option_file`.
pub(crate) fn ask(product: Product, option_file: &Path, sql: &str) -> String {
    let mut client = command(product.client());
    client.arg(format!("--defaults-file={}", option_file.display())).arg("--protocol=tcp");
    client.args(["--default-character-set=utf8mb4", "--batch", "--skip-column-names", "--raw"]);
    run(client.arg(format!("-e{sql}")))
}

/// An option file for [`ask`].
pub(crate) fn option_file(place: &Place, port: u16, user: &str, password: &str) -> PathBuf {
    let file = place.path().join(format!("{user}-{port}.cnf"));
    let text =
        format!("[client]\nhost=127.0.0.1\nport={port}\nuser={user}\npassword=\"{password}\"\n");
    fs::write(&file, text).unwrap();
    give(&file);
    file
}

/// Lets the clock of the log, which counts seconds on MariaDB, go on.
pub(crate) fn next_second() {
    pause(Duration::from_millis(1100));
}
