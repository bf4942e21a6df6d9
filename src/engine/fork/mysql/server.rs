//! The server of a MySQL or MariaDB fork: start, wait until it answers, stop, ask why it died.

use crate::engine::fork::{
    error::ForkError,
    inspect,
    mysql::{
        base,
        conf::{self, Choice, Stage},
        door::Door,
        error::MySqlError,
        identity::Identity,
        programs::call,
        runner::{Job, end_all},
    },
    process::{self, Ask, Born},
    site::{file_fault, make_private_dir, remove_file, write_file},
};
use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    time::Duration,
};

/// Both products write it when they take connections.
const READY: &str = "ready for connections";
/// How often a server is looked at that starts or stops.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long a server may take to start: after a crash it recovers first.
const START_LIMIT: Duration = Duration::from_secs(1800);
/// How often a server that says it is ready may refuse us.
const REFUSALS_MAX: u32 = 20;
/// How long a server may take to write everything down when it is stopped.
const STOP_LIMIT: Duration = Duration::from_secs(1800);
/// How much of the log's end is looked at, in bytes.
const LOG_BYTES_MAX: u64 = 256 << 10;
/// How many lines of the log are told, and how long each may be in bytes.
const LINES_MAX: usize = 4;
const LINE_BYTES_MAX: usize = 500;

impl Job<'_> {
    /// Whether the fork's server runs. A number in a file proves nothing: after a reboot it may be
    /// anybody's.
    pub(super) fn server(&self) -> Option<i32> {
        inspect::mysql_server_in(&self.order.site.data())
    }

    /// Writes the configuration for `stage`, starts the server and waits until it answers.
    ///
    /// # Errors
    /// [`MySqlError::Server`] with the reason from its log.
    pub(super) async fn start(&self, stage: Stage, doing: &'static str) -> Result<(), ForkError> {
        let identity = Identity::get(&self.paths())?;
        self.configure(stage, identity.server_id)?;
        if stage != Stage::Open {
            identity.unlock(&self.paths())?;
        }
        let born = self.bear(doing)?;
        self.wait_for(born, stage, doing).await
    }

    /// Starts the server with the configuration that it has, its administrator's by now.
    ///
    /// # Errors
    /// Those of [`Job::start`].
    pub(super) async fn start_again(&self, doing: &'static str) -> Result<(), ForkError> {
        if let Some(pid) = self.server() {
            if !is_stopping(&self.log()) {
                return Ok(());
            }
            self.wait_for_the_end(pid, doing).await?;
        }
        let born = self.bear(doing)?;
        self.wait_for(born, Stage::Open, doing).await
    }

    /// Waits until the server answers.
    async fn wait_for(
        &self,
        mut born: Born,
        stage: Stage,
        doing: &'static str,
    ) -> Result<(), ForkError> {
        let deadline = self.clock.monotonic() + START_LIMIT;
        let mut refusals = 0;
        loop {
            let ready = self.log().contains(READY);
            match stage {
                // An open one is not asked a question: accounts are its administrator's.
                Stage::Open if ready => return Ok(()),
                Stage::Replay | Stage::Private if ready => {
                    match (Door { job: self }).ping(doing).await {
                        Ok(()) => return Ok(()),
                        // It may have died since, and waiting does not help one that refuses us.
                        Err(error) if refusals > REFUSALS_MAX && !born.is_dead() => {
                            return Err(error);
                        }
                        Err(_) => refusals += 1,
                    }
                }
                Stage::Open | Stage::Replay | Stage::Private => {}
            }
            if born.is_dead() {
                return Err(self.died(doing));
            }
            if self.clock.monotonic() > deadline {
                return Err(ForkError::NoProgress { doing, minutes: START_LIMIT.as_secs() / 60 });
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(ForkError::Cancelled(doing)),
                () = self.clock.sleep(INTERVAL) => {}
            }
        }
    }

    fn configure(&self, stage: Stage, server_id: u32) -> Result<(), ForkError> {
        let (order, paths) = (self.order, self.paths());
        let adopted = base::adopted(&order.site.data())?;
        let choice = Choice {
            flavour: order.plan.flavour,
            site: &order.site,
            server_id,
            has_gtids: order.plan.executed.is_some(),
            has_anonymous: order.plan.anonymous,
            settings: &order.settings,
            adopted: &adopted,
        };
        write_file(&paths.server_conf(), &conf::server(&choice, stage))
    }

    fn bear(&self, doing: &'static str) -> Result<Born, ForkError> {
        let (site, paths) = (&self.order.site, self.paths());
        make_private_dir(&site.socket_dir)?;
        make_private_dir(&paths.tmp())?;
        for left in [paths.pid_file(), paths.socket()] {
            remove_file(&left)?;
        }
        let log = site.server_log();
        if log.exists() {
            let old = log.with_extension("log.1");
            fs::rename(&log, old).map_err(|source| file_fault("renaming", &log, source))?;
        }
        let mut options = fs::OpenOptions::new();
        let opened = options.append(true).create(true).mode(0o600).open(&log);
        let opened = opened.map_err(|source| file_fault("writing", &log, source))?;
        let conf = format!("--defaults-file={}", paths.server_conf().display());
        let program = call(&self.programs.server, &site.data(), [conf]);
        tracing::debug!(service = %self.order.service, doing, "starting the fork's server");
        process::bear(&program, opened)
            .map_err(|source| ForkError::Program { program: program.path, source })
    }

    /// Stops the server, which must have written everything down.
    ///
    /// # Errors
    /// [`MySqlError::Server`] when it died on the way.
    pub(super) async fn stop_in_order(&self, doing: &'static str) -> Result<(), ForkError> {
        self.stop(doing).await?;
        if self.log().lines().rev().take(20).any(|line| line.contains("Shutdown complete")) {
            return Ok(());
        }
        Err(self.died(doing))
    }

    /// Ends the server of an earlier run, whichever it was started for. What was compared is durable.
    pub(super) async fn end_leftover(&self, doing: &'static str) -> Result<(), ForkError> {
        if self.log().contains(READY) {
            self.stop(doing).await?;
        }
        // MariaDB that is asked to stop while it starts may wait for itself for ever.
        end_all(&self.order.site, self.clock).await
    }

    /// Asks the server to stop and waits until it is gone. Fine when there is none.
    pub(super) async fn stop(&self, doing: &'static str) -> Result<(), ForkError> {
        let Some(pid) = self.server() else { return Ok(()) };
        process::ask_to_end(pid, Ask::Politely);
        self.wait_for_the_end(pid, doing).await
    }

    async fn wait_for_the_end(&self, pid: i32, doing: &'static str) -> Result<(), ForkError> {
        let deadline = self.clock.monotonic() + STOP_LIMIT;
        while !inspect::is_gone(pid) {
            if self.clock.monotonic() > deadline {
                return Err(ForkError::NoProgress { doing, minutes: STOP_LIMIT.as_secs() / 60 });
            }
            self.clock.sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Why the server died, from its log.
    pub(super) fn died(&self, doing: &'static str) -> ForkError {
        let product = self.order.plan.flavour.product();
        MySqlError::Server { product, doing, reason: reason(&self.log()) }.into()
    }

    /// The end of the log since the last start.
    fn log(&self) -> String {
        let read = || {
            let mut file = fs::File::open(self.order.site.server_log())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
            let mut bytes = Vec::new();
            file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

/// Whether a server has been told to stop, as its log says since its last start.
fn is_stopping(log: &str) -> bool {
    log.lines().any(|line| {
        line.contains("[Server] Received SHUTDOWN from user")
            || line.ends_with("): Normal shutdown")
    })
}

/// Why a server stopped, out of its log.
fn reason(log: &str) -> String {
    // "Aborting" follows the cause and says nothing.
    let grave = |line: &&str| {
        ["[ERROR]", "[FATAL]", "mysqld got signal", "mariadbd got signal"]
            .iter()
            .any(|word| line.contains(word))
            && !line.ends_with("Aborting")
    };
    let mut told: Vec<&str> = log.lines().filter(grave).collect();
    if told.is_empty() {
        told = log.lines().filter(|line| !line.trim().is_empty()).collect();
        told.drain(..told.len().saturating_sub(LINES_MAX));
    }
    // The first is the cause, and what follows its consequences.
    told.truncate(LINES_MAX);
    let text = told.into_iter().map(cut).collect::<Vec<_>>().join(" / ");
    if text.is_empty() { "its log is empty".to_owned() } else { text }
}

/// A line from its severity on, without time and thread.
fn cut(line: &str) -> &str {
    let line = line.find("[ERROR]").map_or(line, |at| &line[at..]).trim();
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_seen_in_the_log_and_no_login_looks_like_one() {
        let mariadb =
            "2026-11-26  4:52:07 0 [Note] mariadbd (initiated by: unknown): Normal shutdown";
        let mysql = "2026-11-26T04:52:07.1Z 0 [System] [MY-013172] [Server] Received SHUTDOWN from user \
                     <via user signal>. Shutting down mysqld (Version: 9.7.0).";
        assert!(is_stopping(mariadb) && is_stopping(mysql));
        let login = "[Warning] Access denied for user 'x): Normal shutdown'@'localhost' (using password: NO)";
        assert!(!is_stopping(login) && !is_stopping(""));
    }

    #[test]
    fn the_cause_is_told_first() {
        let log = "2026-11-26  4:52:07 0 [Note] Starting MariaDB\n\
                   2026-11-26  4:52:07 0 [ERROR] InnoDB: No space\n\
                   2026-11-26  4:52:07 0 [ERROR] Plugin 'InnoDB' failed\n\
                   2026-11-26  4:52:07 0 [ERROR] Aborting\n";
        assert_eq!(reason(log), "[ERROR] InnoDB: No space / [ERROR] Plugin 'InnoDB' failed");
        assert_eq!(reason(""), "its log is empty");
        assert_eq!(reason("sh: not found\n"), "sh: not found");
    }
}
