//! Talks SQL with a fork's server: through the private socket, and at last through the public port.

use crate::{
    domain::lsn::Lsn,
    engine::fork::{ForkOrder, ForkSite, error::ForkError},
    sys::clock::Clock,
};
use std::{error::Error, time::Duration};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// How long one question may take. A question that is not answered is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long a promotion may take, in seconds.
const PROMOTE_SECONDS: u64 = 60;
/// Settings for our own sessions, against what databases and roles of the source may have set.
const OPTIONS: &str = "-c default_transaction_read_only=off -c statement_timeout=0 \
    -c lock_timeout=0 -c synchronous_commit=local -c session_preload_libraries= \
    -c local_preload_libraries= -c log_statement=none -c log_min_duration_statement=-1 \
    -c log_min_error_statement=panic -c search_path=pg_catalog";
/// The same for 17 and newer, which have triggers on logins and a limit for whole transactions.
const OPTIONS_17: &str = " -c event_triggers=off -c transaction_timeout=0";

/// The private entrance of a fork's server.
pub(super) struct Door<'a> {
    pub(super) order: &'a ForkOrder,
    pub(super) clock: &'a dyn Clock,
}

/// Where a server is between standby and primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It did not answer; the reason is not known to be final.
    Silent,
    /// It replays, or has stopped to.
    Standby {
        /// End of the last replayed record.
        replayed: Option<Lsn>,
        /// Whether it waits at the stop.
        paused: bool,
    },
    /// It is a primary.
    Primary,
}

impl Door<'_> {
    /// Asks where the server is.
    ///
    /// # Errors
    /// [`ForkError::NoSuperuser`], or [`ForkError::Sql`] with what will not change by waiting.
    pub(super) async fn state(&self) -> Result<State, ForkError> {
        let Some(client) = self.connect().await? else { return Ok(State::Silent) };
        let recovering = self.ask(&client, "select pg_is_in_recovery()").await;
        match recovering.map(|row| row.first().map(|value| value == "t")) {
            Ok(Some(true)) => {}
            Ok(Some(false)) => return Ok(State::Primary),
            Ok(None) => return Ok(State::Silent),
            Err(error) => return silence_or(error, "asking for the state"),
        }
        let paused = if self.order.plan.postgres_major >= 14 {
            "pg_get_wal_replay_pause_state() = 'paused'"
        } else {
            "pg_is_wal_replay_paused()"
        };
        let sql = format!("select {paused}, coalesce(pg_last_wal_replay_lsn()::text, '')");
        match self.ask(&client, &sql).await {
            Ok(row) => Ok(State::Standby {
                paused: row.first().is_some_and(|value| value == "t"),
                replayed: row.get(1).and_then(|text| text.parse().ok()),
            }),
            Err(error) => silence_or(error, "asking for the position"),
        }
    }

    /// The database cluster's identifier.
    pub(super) async fn system_identifier(&self) -> Result<Option<u64>, ForkError> {
        let Some(client) = self.connect().await? else { return Ok(None) };
        let sql = "select system_identifier from pg_control_system()";
        let row = self.ask(&client, sql).await.map_err(|e| fault("asking for the cluster", e))?;
        // PostgreSQL prints the 64 bits as a signed number.
        let bits = row.first().and_then(|text| text.parse::<i64>().ok());
        Ok(bits.map(i64::cast_unsigned))
    }

    /// Makes the standby a primary. Says whether it became one in time.
    pub(super) async fn promote(&self) -> Result<bool, ForkError> {
        let Some(client) = self.connect().await? else { return Ok(false) };
        let sql = format!("select pg_promote(true, {PROMOTE_SECONDS})");
        let limit = Duration::from_secs(PROMOTE_SECONDS) + ANSWER_LIMIT;
        let row = self.ask_for(&client, &sql, limit).await.map_err(|e| fault("promoting", e))?;
        Ok(row.first().is_some_and(|value| value == "t"))
    }

    /// Makes the administrator, or gives an existing role of that name its rights and password.
    ///
    /// The server only ever sees a SCRAM verifier, so that the password cannot reach its log, its
    /// statistics or an extension.
    pub(super) async fn make_admin(&self) -> Result<(), ForkError> {
        let doing = "making the administrator";
        let silent = || fault(doing, "the server did not answer".into());
        let client = self.connect().await?.ok_or_else(silent)?;
        let (user, password) = (&self.order.admin_user, &self.order.admin_password);
        let named = format!("select 1 from pg_roles where rolname = {}", literal(user));
        let known = self.ask(&client, &named).await.map_err(|error| fault(doing, error))?;
        let verb = if known.is_empty() { "create" } else { "alter" };
        let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        let sql = format!(
            "{verb} role {} with login superuser connection limit -1 valid until 'infinity' \
             password {}",
            identifier(user),
            literal(&verifier)
        );
        self.ask(&client, &sql).await.map(drop).map_err(|error| fault(doing, error))
    }

    /// A session, or `None` when the server does not take one now.
    async fn connect(&self) -> Result<Option<Client>, ForkError> {
        // The bootstrap superuser and its database have these names unless somebody chose others.
        let roles = ["postgres", self.order.admin_user.as_str()];
        for role in roles {
            for database in DATABASES {
                let mut config = Config::new();
                config
                    .host_path(&self.order.site.socket_dir)
                    .port(self.order.site.port)
                    .user(role)
                    .dbname(database)
                    .options(options(self.order.plan.postgres_major))
                    .application_name("btar");
                match session(&config, self.clock).await {
                    Ok(client) => return Ok(Some(client)),
                    Err(error) => match refusal(&error) {
                        Refusal::Role => break,
                        Refusal::Database => {}
                        Refusal::NotNow => return Ok(None),
                        Refusal::Other => return Err(fault("logging in", error)),
                    },
                }
            }
        }
        Err(ForkError::NoSuperuser { tried: roles.join(", ") })
    }

    async fn ask(&self, client: &Client, sql: &str) -> Result<Vec<String>, Fault> {
        self.ask_for(client, sql, ANSWER_LIMIT).await
    }

    /// The first row of the answer, as text.
    async fn ask_for(
        &self,
        client: &Client,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<String>, Fault> {
        let answer = tokio::select! {
            answer = client.simple_query(sql) => answer?,
            () = self.clock.sleep(limit) => return Err(TIMEOUT.into()),
        };
        let row = answer.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            SimpleQueryMessage::CommandComplete(_) | SimpleQueryMessage::RowDescription(_) | _ => {
                None
            }
        });
        let texts = |row: tokio_postgres::SimpleQueryRow| {
            (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect()
        };
        Ok(row.map(texts).unwrap_or_default())
    }
}

/// Settings for our own sessions on a server of this version.
fn options(postgres_major: u32) -> String {
    let newer = if postgres_major >= 17 { OPTIONS_17 } else { "" };
    format!("{OPTIONS}{newer}")
}

/// Logs in through the public port, as the administrator will.
pub(super) async fn log_in(order: &ForkOrder, clock: &dyn Clock) -> Result<(), ForkError> {
    let ForkSite { host, port, .. } = &order.site;
    // What listens on every address is reached on this one.
    let host = match host.as_str() {
        "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let mut config = Config::new();
    config.host(host).port(*port).user(&order.admin_user);
    config.password(order.admin_password.expose()).options(options(order.plan.postgres_major));
    for database in DATABASES {
        match session(config.dbname(database), clock).await {
            Ok(_) => return Ok(()),
            Err(error) if refusal(&error) == Refusal::Database => {}
            Err(error) => return Err(fault("logging in as the administrator", error)),
        }
    }
    // The server looks for the database of a session behind the password only.
    Ok(())
}

/// Every cluster begins with these. Either may have been dropped.
const DATABASES: [&str; 2] = ["postgres", "template1"];

type Fault = Box<dyn Error + Send + Sync>;

const TIMEOUT: &str = "there was no answer in time";

async fn session(config: &Config, clock: &dyn Clock) -> Result<Client, Fault> {
    let (client, connection) = tokio::select! {
        connected = config.connect(NoTls) => connected?,
        () = clock.sleep(ANSWER_LIMIT) => return Err(TIMEOUT.into()),
    };
    // It ends with the client. Its errors come out of the client's calls as well.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// Why a server refuses a session or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// No such role, or one that may not log in.
    Role,
    /// No such database.
    Database,
    /// It starts, stops, replays something that is in the way, or is gone.
    NotNow,
    /// Waiting does not help.
    Other,
}

fn refusal(error: &Fault) -> Refusal {
    let Some(code) = error.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.code()) else {
        return Refusal::NotNow; // Not the server's words: the connection failed, or time is up.
    };
    match code.code() {
        "28000" => Refusal::Role,
        "3D000" => Refusal::Database,
        // "recovery is not in progress": it was promoted between two questions.
        "55000" => Refusal::NotNow,
        // Recovery conflicts, too many connections, shutdown and startup.
        other if ["40", "53", "57"].iter().any(|class| other.starts_with(class)) => Refusal::NotNow,
        _ => Refusal::Other,
    }
}

fn silence_or(error: Fault, doing: &'static str) -> Result<State, ForkError> {
    if refusal(&error) == Refusal::NotNow { Ok(State::Silent) } else { Err(fault(doing, error)) }
}

/// PostgreSQL's own words are the source: the client library only says "db error".
fn fault(doing: &'static str, error: Fault) -> ForkError {
    let said = error
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::as_db_error)
        .map(|db| format!("{}: {}", db.severity(), db.message()));
    ForkError::Sql { doing, source: said.map_or(error, Into::into) }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal that means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_servers_are_not_asked_for_what_they_do_not_know() {
        let newer = ["event_triggers", "transaction_timeout"];
        for (major, knows) in [(13, false), (16, false), (17, true), (18, true)] {
            let options = options(major);
            assert!(newer.iter().all(|name| options.contains(name) == knows), "{major}: {options}");
            assert!(options.contains("-c statement_timeout=0 "), "{major}: {options}");
        }
    }

    #[test]
    fn names_and_texts_cannot_break_out() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'"), "E'\\\\'''");
    }
}
