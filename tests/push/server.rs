//! A MariaDB or MySQL server that nothing on this machine configures, as the unprivileged user.

use crate::support::{command, give, program, run, wait_for};
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
    /// Path of a program of the product.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        match self {
            // Servers are not in everybody's search path.
            Self::MariaDb => [Path::new("/usr/sbin").join(name)]
                .into_iter()
                .find(|path| path.is_file())
                .unwrap_or_else(|| program(name, "the packages mariadb-server, mariadb-backup")),
            Self::MySql => mysql_place().join("bin").join(name),
        }
    }

    pub(crate) fn client(self) -> PathBuf {
        self.program(match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        })
    }

    /// The program that prints binary logs as statements.
    pub(crate) fn log_reader(self) -> PathBuf {
        self.program(match self {
            Self::MariaDb => "mariadb-binlog",
            Self::MySql => "mysqlbinlog",
        })
    }
}

/// The folder with a real MySQL, which `.ci/mysql` makes once per machine.
fn mysql_place() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/mysql");
    PathBuf::from(run(&mut Command::new(script)))
}

/// A running server with a user `root` without a password.
pub(crate) struct Server {
    pub(crate) product: Product,
    pub(crate) dir: PathBuf,
    child: Child,
}

impl Server {
    /// Makes a server with binary logs in `dir`, whose path must be short.
    pub(crate) fn make(product: Product, dir: &Path, id: u32) -> Self {
        let data = format!("--datadir={}", dir.join("data").display());
        let made = match product {
            Product::MariaDb => command(product.program("mariadb-install-db"))
                .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                .args(["--skip-test-db", &data])
                .output(),
            Product::MySql => command(product.program("mysqld"))
                .args(["--no-defaults", "--initialize-insecure", &data])
                .output(),
        };
        let made = made.unwrap();
        assert!(made.status.success(), "{}", crate::support::both(&made));
        let server = Self::with_log(product, dir, id);
        if product == Product::MySql {
            server.sql("SET sql_log_bin = 0; INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
        }
        server
            .sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b TEXT)");
        server
    }

    /// Starts a server with binary logs on the data in `dir`.
    pub(crate) fn with_log(product: Product, dir: &Path, id: u32) -> Self {
        let logs = dir.join("log");
        fs::create_dir_all(&logs).unwrap();
        give(&logs);
        let log = format!("--log-bin={}", logs.join("bin").display());
        Self::start(product, dir, &[&log, &format!("--server-id={id}")])
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
            .arg("--skip-networking")
            .args(own)
            .args(settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { product, dir: dir.to_owned(), child };
        wait_for("the server", Duration::from_secs(60), || {
            let asked = server.client().args(["-e", "SELECT 1"]).output().unwrap();
            asked.status.success().then_some(())
        });
        server
    }

    pub(crate) fn client(&self) -> Command {
        let mut client = command(self.product.client());
        client.arg("--no-defaults").arg(format!("--socket={}", self.dir.join("s").display()));
        client.args(["--user=root", "--batch", "--skip-column-names", "--binary-mode"]);
        client
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        run(self.client().arg(format!("-e{sql}")))
    }

    /// Adds rows, each in a transaction of its own.
    pub(crate) fn add(&self, rows: usize) {
        let row = "INSERT INTO d.t (b) VALUES (HEX(RANDOM_BYTES(400)));";
        self.sql(&row.repeat(rows));
    }

    /// Adds some 4 MB that cannot be compressed.
    pub(crate) fn fill(&self) {
        self.sql("INSERT INTO d.t (b) VALUES (HEX(RANDOM_BYTES(1000)))");
        let double = "INSERT INTO d.t (b) SELECT HEX(RANDOM_BYTES(1000)) FROM d.t;";
        self.sql(&double.repeat(12));
    }

    /// What the table holds.
    pub(crate) fn contents(&self) -> String {
        self.sql("SELECT COUNT(*), MAX(a), SUM(CRC32(b)) FROM d.t")
    }

    /// The names of the binary logs.
    pub(crate) fn logs(&self) -> Vec<String> {
        let rows = self.sql("SHOW BINARY LOGS");
        rows.lines().map(|row| row.split('\t').next().unwrap().to_owned()).collect()
    }

    /// Ends the server in order.
    pub(crate) fn stop(mut self) {
        run(Command::new("kill").arg(self.child.id().to_string()));
        wait_for("the server to end", Duration::from_secs(60), || {
            self.child.try_wait().unwrap().map(drop)
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
