//! The private entrance of a fork's server: questions and orders through the product's own client.

use crate::{
    domain::{
        binlog::{Flavour, GtidSet},
        hex,
    },
    engine::fork::{
        error::ForkError,
        mysql::{conf, error::MySqlError, programs::call, runner::Job},
        process::{self, Ended, Program},
        site::{remove_file, write_file},
    },
};
use sha1::{Digest, Sha1};
use std::{io::Write as _, time::Duration};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to say that it is there.
const PING_LIMIT: Duration = Duration::from_secs(10);
/// What one order may hold, in bytes: what fits into a pipe at once.
const ORDER_BYTES_MAX: usize = 60 << 10;

/// The private entrance.
pub(super) struct Door<'a> {
    pub(super) job: &'a Job<'a>,
}

impl Door<'_> {
    /// Asks whether the server takes our account.
    ///
    /// # Errors
    /// [`MySqlError::Sql`] when it does not.
    pub(super) async fn ping(&self, doing: &'static str) -> Result<(), ForkError> {
        self.send(doing, "DO 1;\n", &[], PING_LIMIT).await.map(drop)
    }

    /// Sends statements and gives the answers, a line for each row and tabs between columns.
    ///
    /// # Errors
    /// [`MySqlError::Sql`] with the client's words.
    pub(super) async fn ask(&self, doing: &'static str, sql: &str) -> Result<String, ForkError> {
        self.send(doing, sql, &[], ANSWER_LIMIT).await
    }

    /// The transactions that the server has in its log.
    pub(super) async fn executed(&self, doing: &'static str) -> Result<GtidSet, ForkError> {
        let flavour = self.job.order.plan.flavour;
        let text = self.ask(doing, executed_sql(flavour)).await?;
        GtidSet::parse(flavour, &text)
            .map_err(|error| MySqlError::Sql { doing, said: error.to_string() }.into())
    }

    /// Makes the administrator, or gives an existing account of that name its rights and password,
    /// and takes our own account away. Nothing of it is logged.
    pub(super) async fn hand_over(&self, own_user: &str) -> Result<(), ForkError> {
        let doing = "making the administrator";
        let (order, flavour) = (self.job.order, self.job.order.plan.flavour);
        let user = literal(&order.admin_user);
        let named = format!("SELECT HEX(host) FROM mysql.user WHERE user = {user};\n");
        let hosts = self.ask(doing, &named).await?;
        let hosts: Option<Vec<String>> = hosts.lines().map(unhex).collect();
        let unreadable = || MySqlError::Sql { doing, said: "a host is no text".to_owned() };
        let password = order.admin_password.expose();
        let proof = match flavour {
            // The server never sees the password itself, nor can its log.
            Flavour::MariaDb => format!("IDENTIFIED BY PASSWORD '{}'", native_hash(password)),
            Flavour::MySql => format!("IDENTIFIED BY {}", literal(password)),
        };
        let mut sql = "SET SESSION sql_log_bin = 0;\nSET SESSION sql_mode = '';\n".to_owned();
        sql += &format!("CREATE USER IF NOT EXISTS {user}@'%' {proof};\n");
        let mut hosts = hosts.ok_or_else(unreadable)?;
        hosts.retain(|host| host != "%");
        hosts.push("%".to_owned());
        for host in hosts {
            let host = literal(&host);
            sql += &format!(
                "ALTER USER {user}@{host} {proof} REQUIRE NONE PASSWORD EXPIRE NEVER ACCOUNT UNLOCK;\n\
                 GRANT ALL PRIVILEGES ON *.* TO {user}@{host} WITH GRANT OPTION;\n"
            );
        }
        sql += &format!("DROP USER IF EXISTS {}@'localhost';\n", literal(own_user));
        self.send(doing, &sql, &[password, &proof], ANSWER_LIMIT).await.map(drop)
    }

    async fn send(
        &self,
        doing: &'static str,
        sql: &str,
        secrets: &[&str],
        limit: Duration,
    ) -> Result<String, ForkError> {
        let pipe = |source| MySqlError::Pipe { doing, source };
        let (reader, mut writer) = std::io::pipe().map_err(pipe)?;
        // It fits into the pipe, so that nobody has to read yet.
        debug_assert!(sql.len() <= ORDER_BYTES_MAX, "an order is short");
        writer.write_all(sql.as_bytes()).map_err(pipe)?;
        drop(writer);
        let program = self.client(["--batch", "--skip-column-names", "--raw"]);
        let clock = self.job.clock;
        let ended = process::run_with(&program, reader.into(), clock, clock.sleep(limit)).await;
        let fault = |source| ForkError::Program { program: program.path.clone(), source };
        match ended.map_err(fault)? {
            Ended::Exited(output) if output.success => Ok(output.stdout),
            Ended::Exited(output) => {
                let said = told(&output.stderr, secrets);
                Err(MySqlError::Sql { doing, said }.into())
            }
            Ended::Interrupted(()) => {
                let said = format!("there was no answer in {} seconds", limit.as_secs());
                Err(MySqlError::Sql { doing, said }.into())
            }
        }
    }

    /// The client with what every call of it has. The option must be the first.
    pub(super) fn client<'b>(&self, args: impl IntoIterator<Item = &'b str>) -> Program {
        let first = format!("--defaults-file={}", self.job.paths().client_conf().display());
        let rest = ["--protocol=socket", "--default-character-set=utf8mb4"].into_iter().chain(args);
        let args = std::iter::once(first).chain(rest.map(str::to_owned));
        call(&self.job.programs.client, &self.job.order.site.dir, args)
    }
}

/// Logs in through the public port, as the administrator will.
pub(super) async fn log_in(job: &Job<'_>) -> Result<(), ForkError> {
    let doing = "logging in as the administrator";
    let (order, site, path) = (job.order, &job.order.site, job.paths().client_conf());
    // What listens on every address is reached on this one.
    let host = match site.host.as_str() {
        "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let password = order.admin_password.expose();
    write_file(&path, &conf::admin(host, site.port, &order.admin_user, password))?;
    let mut args = vec![format!("--defaults-file={}", path.display()), "--protocol=tcp".to_owned()];
    if order.plan.flavour == Flavour::MySql {
        // Without TLS the password is encrypted with a key that the server gives.
        args.push("--get-server-public-key".to_owned());
    }
    args.push("--execute=SELECT 1".to_owned());
    let program = call(&job.programs.client, &site.dir, args);
    let ended = process::run(&program, job.clock, job.clock.sleep(ANSWER_LIMIT)).await;
    remove_file(&path)?;
    match ended.map_err(|source| ForkError::Program { program: program.path, source })? {
        Ended::Exited(output) if output.success => Ok(()),
        Ended::Exited(output) => {
            Err(MySqlError::Sql { doing, said: told(&output.stderr, &[password]) }.into())
        }
        Ended::Interrupted(()) => {
            Err(MySqlError::Sql { doing, said: "there was no answer".to_owned() }.into())
        }
    }
}

fn executed_sql(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos;\n",
        Flavour::MySql => "SELECT @@GLOBAL.gtid_executed;\n",
    }
}

/// The error lines of a client. The rest may be the statement with its data.
pub(super) fn told(stderr: &str, secrets: &[&str]) -> String {
    const LINES_MAX: usize = 3;
    let lines: Vec<&str> =
        stderr.lines().map(str::trim).filter(|line| line.starts_with("ERROR")).collect();
    let mut text = lines[..lines.len().min(LINES_MAX)].join(" / ");
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "(secret)");
    }
    if text.is_empty() { "the client said nothing".to_owned() } else { text }
}

/// What `mysql_native_password` keeps of a password: twice SHA-1.
fn native_hash(password: &str) -> String {
    let twice = Sha1::digest(Sha1::digest(password.as_bytes()));
    format!("*{}", hex::lower(&twice).to_ascii_uppercase())
}

/// A literal, in a session without `sql_mode`.
fn literal(text: &str) -> String {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.%".contains(c)) {
        return format!("'{text}'");
    }
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn unhex(digits: &str) -> Option<String> {
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_break_out() {
        assert_eq!(literal("avnadmin"), "'avnadmin'");
        assert_eq!(literal("it's\\"), "'it''s\\\\'");
        assert_eq!(unhex("25").as_deref(), Some("%"));
        assert_eq!(unhex("2"), None);
    }

    #[test]
    fn the_hash_is_the_servers() {
        // `SELECT PASSWORD('secret')` of MariaDB.
        assert_eq!(native_hash("secret"), "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7");
    }

    #[test]
    fn an_error_shows_neither_secrets_nor_statements() {
        let stderr = "--------------\nALTER USER x IDENTIFIED BY 'pw'\n--------------\n\n\
                      ERROR 1064 (42000) at line 2: near 'pw'\n";
        assert_eq!(told(stderr, &["pw"]), "ERROR 1064 (42000) at line 2: near '(secret)'");
        assert_eq!(told("", &[]), "the client said nothing");
    }
}
