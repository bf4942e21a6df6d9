//! Finds the programs that a fork of MySQL or MariaDB needs, and says whether they fit its backup.

use crate::{
    domain::{
        binlog::Flavour,
        recovery::{BaseTool, BinlogPlan},
    },
    engine::fork::{
        error::ForkError,
        mysql::error::MySqlError,
        process::{self, Program},
    },
    sys::clock::Clock,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a program may take to tell its version.
const LIMIT: Duration = Duration::from_secs(30);

/// The programs of one fork.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) server: PathBuf,
    pub(super) client: PathBuf,
    pub(super) log_reader: PathBuf,
    dir: Option<PathBuf>,
}

impl Programs {
    /// Looks for them in `dir`, in the search path, and where Debian's packages put servers.
    ///
    /// # Errors
    /// [`MySqlError::ProgramMissing`], [`MySqlError::WrongVersion`].
    pub(super) async fn find(
        plan: &BinlogPlan,
        dir: Option<&Path>,
        clock: &dyn Clock,
    ) -> Result<Self, ForkError> {
        let find = |program, package| {
            process::find(program, dir).ok_or(MySqlError::ProgramMissing { program, package })
        };
        let [server, client, log_reader] = match plan.flavour {
            Flavour::MariaDb => [
                find("mariadbd", "mariadb-server")?,
                find("mariadb", "mariadb-client")?,
                find("mariadb-binlog", "mariadb-client")?,
            ],
            Flavour::MySql => [
                find("mysqld", "mysql-server-core")?,
                find("mysql", "mysql-client-core")?,
                find("mysqlbinlog", "mysql-client-core")?,
            ],
        };
        let asked =
            Program { path: server.clone(), args: vec!["--version".into()], dir: "/".into() };
        let found = process::succeed(&asked, clock, LIMIT).await?;
        check_version(plan.flavour, &plan.server_version, found.trim())?;
        let programs = Self { server, client, log_reader, dir: dir.map(Path::to_owned) };
        // Before anything is restored: what is missing at the end is missing now.
        programs.unpacker(plan.base.tool)?;
        Ok(programs)
    }

    /// The programs that unpack and prepare a base backup. [`BaseTool::Clone`] needs none.
    pub(super) fn unpacker(&self, tool: BaseTool) -> Result<Option<[PathBuf; 2]>, ForkError> {
        let find = |program, package| {
            process::find(program, self.dir.as_deref())
                .ok_or(MySqlError::ProgramMissing { program, package })
        };
        Ok(match tool {
            BaseTool::MariaDbBackup => Some([
                find("mbstream", "mariadb-backup")?,
                find("mariadb-backup", "mariadb-backup")?,
            ]),
            BaseTool::XtraBackup => Some([
                find("xbstream", "percona-xtrabackup")?,
                find("xtrabackup", "percona-xtrabackup")?,
            ]),
            BaseTool::Clone => None,
        })
    }
}

/// A program with its arguments, in `dir`.
pub(super) fn call<A: Into<OsString>>(
    path: &Path,
    dir: &Path,
    args: impl IntoIterator<Item = A>,
) -> Program {
    let args = args.into_iter().map(Into::into).collect();
    Program { path: path.to_owned(), args, dir: dir.to_owned() }
}

/// Whether the server that says `found` of itself may open what a server of version `wanted` left.
///
/// MariaDB opens what an older one left. MySQL does so for its own series and for the next one of
/// those with long support: 8.0 to 8.4, 8.4 to 9.7 ("Upgrade Paths" in MySQL's manual).
fn check_version(flavour: Flavour, wanted: &str, found: &str) -> Result<(), MySqlError> {
    let is_mariadb = found.contains("MariaDB");
    let same_product = is_mariadb == (flavour == Flavour::MariaDb);
    let number = found.split_whitespace().skip_while(|word| *word != "Ver").nth(1);
    let fits = match (series(wanted), number.and_then(series)) {
        (Some(wanted), Some(found)) => {
            let hops = generation(found) - generation(wanted);
            found >= wanted && (flavour == Flavour::MariaDb || hops <= 1)
        }
        (None, _) | (_, None) => false,
    };
    if same_product && fits {
        return Ok(());
    }
    let (product, wanted) = (flavour.product(), series(wanted).map(series_text));
    let wanted = wanted.unwrap_or_else(|| "an unknown version".to_owned());
    let remedy = match flavour {
        Flavour::MariaDb => format!("MariaDB {wanted} or a newer one"),
        Flavour::MySql => format!("MySQL {wanted}, or a newer one up to the next long-term series"),
    };
    Err(MySqlError::WrongVersion {
        wanted: format!("{product} {wanted}"),
        found: found.to_owned(),
        remedy,
    })
}

/// `(10, 11)` of `10.11.19-MariaDB-0+deb12u1-log`.
fn series(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn series_text((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// The long-term series of MySQL that a version leads to, counted.
fn generation(series: (u32, u32)) -> i64 {
    match series {
        (..=7, _) => 0,
        (8, 0) => 1,
        (8, _) => 2,
        (major, _) => i64::from(major) - 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARIADB: &str = "/usr/sbin/mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu";
    const MYSQL: &str = "/x/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))";

    #[track_caller]
    fn check(flavour: Flavour, wanted: &str, found: &str, expect: bool) {
        assert_eq!(check_version(flavour, wanted, found).is_ok(), expect, "{wanted} by {found}");
    }

    #[test]
    fn a_server_opens_what_its_own_or_an_older_series_left() {
        for (wanted, expect) in [
            ("10.11.3-MariaDB-log", true),
            ("10.11.99-MariaDB", true),
            ("10.6.1-MariaDB", true),
            ("11.4.2-MariaDB", false),
            ("nonsense", false),
        ] {
            check(Flavour::MariaDb, wanted, MARIADB, expect);
        }
        for (wanted, expect) in
            [("9.7.0", true), ("8.4.3", true), ("8.0.36-0ubuntu", false), ("10.1.0", false)]
        {
            check(Flavour::MySql, wanted, MYSQL, expect);
        }
        check(Flavour::MySql, "8.0.36", "mysqld  Ver 8.4.0 for Linux", true);
        check(Flavour::MySql, "10.11.3", MARIADB, false);
        check(Flavour::MariaDb, "9.7.4", MYSQL, false);
    }

    #[test]
    fn what_would_do_is_told() {
        let error = check_version(Flavour::MariaDb, "11.4.2-MariaDB", MARIADB).unwrap_err();
        assert!(error.to_string().contains("install MariaDB 11.4 or a newer one"), "{error}");
    }
}
