//! The database server, asked by its own client, which knows every way to log in.

use crate::{
    domain::binlog::{BinlogPosition, Flavour, GtidSet},
    push::{
        error::PushError,
        parse::{self, ServerFacts},
        process::Program,
        settings::ServerSettings,
    },
    sys::clock::Clock,
};
use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

/// How long the server may take for an answer. Closing a log waits for a commit that is under way.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// A server that answers.
#[derive(Debug)]
pub(super) struct Server {
    client: Program,
    pub(super) clock: Arc<dyn Clock>,
    /// What it said of itself when it was first asked.
    pub(super) facts: ServerFacts,
}

impl Server {
    /// Asks a server who it is.
    ///
    /// # Errors
    /// [`PushError`] when the client fails.
    pub(super) async fn connect(
        settings: &ServerSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PushError> {
        let client = client(settings);
        let version = ask(&client, &*clock, "SELECT VERSION()", ANSWER_TIME_MAX).await?;
        let uuid = match parse::flavour(&version) {
            Flavour::MariaDb => "",
            Flavour::MySql => ", @@server_uuid",
        };
        let statement = format!(
            "SELECT VERSION(), @@server_id, @@log_bin, IFNULL(@@log_bin_basename, ''), \
             @@global.read_only, UTC_TIMESTAMP(6){uuid}"
        );
        let row = ask(&client, &*clock, &statement, ANSWER_TIME_MAX).await?;
        Ok(Self { facts: parse::facts(&row)?, client, clock })
    }

    async fn ask(&self, statement: &str) -> Result<String, PushError> {
        ask(&self.client, &*self.clock, statement, ANSWER_TIME_MAX).await
    }

    /// What its clock says now.
    ///
    /// # Errors
    /// [`PushError`] when the client fails.
    pub(super) async fn now(&self) -> Result<chrono::DateTime<chrono::Utc>, PushError> {
        let text = self.ask("SELECT UTC_TIMESTAMP(6)").await?;
        parse::time(&text).ok_or_else(|| PushError::said("the server", "its clock", &text))
    }

    /// Where its log ends.
    ///
    /// # Errors
    /// [`PushError`] when the client fails.
    pub(super) async fn position(&self) -> Result<BinlogPosition, PushError> {
        let newer = parse::has_binary_log_status(&self.facts.version);
        let statement = if newer { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
        parse::status(&self.ask(statement).await?)
    }

    /// The names of its binary logs, the oldest first. The last one is being written.
    ///
    /// # Errors
    /// [`PushError`] when the client fails.
    pub(super) async fn logs(&self) -> Result<Vec<String>, PushError> {
        Ok(parse::logs(&self.ask("SHOW BINARY LOGS").await?))
    }

    /// The transactions that it has executed, with ids.
    ///
    /// # Errors
    /// [`PushError`] when the client fails.
    pub(super) async fn executed(&self) -> Result<GtidSet, PushError> {
        match self.facts.flavour {
            Flavour::MariaDb => self.gtids("gtid_current_pos").await,
            Flavour::MySql => self.gtids("gtid_executed").await,
        }
    }

    /// The transactions with ids that are in none of its binary logs: those of files that were
    /// purged, and those that came with its data. No file says of the latter that they were before
    /// it. MariaDB does not tell.
    ///
    /// # Errors
    /// [`PushError`] when the client fails.
    pub(super) async fn unlogged(&self) -> Result<Option<GtidSet>, PushError> {
        match self.facts.flavour {
            Flavour::MariaDb => Ok(None),
            Flavour::MySql => self.gtids("gtid_purged").await.map(Some),
        }
    }

    async fn gtids(&self, variable: &str) -> Result<GtidSet, PushError> {
        // The client would print the ends of lines in it as `\n`.
        let text = self.ask(&format!("SELECT REPLACE(@@global.{variable}, '\\n', '')")).await?;
        let fault = |_| PushError::said("the server", "its transactions", &text);
        GtidSet::parse(self.facts.flavour, &text).map_err(fault)
    }

    /// Closes the binary log that is being written, and says nothing of it to replicas.
    ///
    /// # Errors
    /// [`PushError`] when the client fails.
    pub(super) async fn flush_logs(&self) -> Result<(), PushError> {
        self.ask("FLUSH LOCAL BINARY LOGS").await.map(drop)
    }

    /// Has its plugin CLONE make a copy of its data in `dir`, which must not exist. The settings have
    /// seen to it that the path is plain.
    ///
    /// # Errors
    /// [`PushError`] when the client fails.
    pub(super) async fn clone_into(&self, dir: &str, limit: Duration) -> Result<(), PushError> {
        let statement = format!("CLONE LOCAL DATA DIRECTORY = '{dir}'");
        ask(&self.client, &*self.clock, &statement, limit).await.map(drop)
    }
}

/// How the server is reached, as arguments that all its programs know. The option file comes first.
pub(super) fn connection(settings: &ServerSettings) -> Vec<OsString> {
    let option = |name: &str, value: OsString| {
        let mut text = OsString::from(name);
        text.push(value);
        text
    };
    let path = |path: &PathBuf| path.clone().into_os_string();
    let ServerSettings { defaults_file, socket, host, port, user, .. } = settings;
    [
        defaults_file.as_ref().map(|file| option("--defaults-file=", path(file))),
        socket.as_ref().map(|socket| option("--socket=", path(socket))),
        host.as_ref().map(|host| option("--host=", host.into())),
        port.map(|port| option("--port=", port.to_string().into())),
        user.as_ref().map(|user| option("--user=", user.into())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn client(settings: &ServerSettings) -> Program {
    let path = settings.client.clone().unwrap_or_else(|| "mysql".into());
    Program { path, args: connection(settings) }.with([
        "--connect-timeout=20",
        "--batch",
        "--skip-column-names",
    ])
}

async fn ask(
    client: &Program,
    clock: &dyn Clock,
    statement: &str,
    limit: Duration,
) -> Result<String, PushError> {
    client.clone().with(["--execute", statement]).answer(clock, limit).await
}
