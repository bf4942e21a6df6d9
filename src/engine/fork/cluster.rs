//! A fork's data directory and the server on it: configure, start, stop, ask why it died.

use crate::{
    engine::fork::{
        ForkOrder, ForkSite,
        conf::{self, Control, Stage},
        error::ForkError,
        inspect,
        postgres_log::{self, Reason},
        process::{self, Program},
        programs::Postgres,
        site::{self, file_fault, read_file, remove_file, write_file},
    },
    sys::clock::Clock,
};
use std::{fs, io::Read as _, path::Path, time::Duration};

/// How long short programs may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);
/// How long a server that is being stopped may take for its last checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(1800);
/// How long a server may take to write its process number down.
const BIRTH_LIMIT: Duration = Duration::from_secs(30);
/// How much of the log's end is looked at, in bytes.
const LOG_BYTES_MAX: u64 = 256 << 10;

/// The server of a fork.
pub(super) struct Cluster<'a> {
    pub(super) site: &'a ForkSite,
    pub(super) postgres: Postgres,
    pub(super) clock: &'a dyn Clock,
}

/// What the server says of itself in `postmaster.pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// There is no server.
    Down,
    /// It does not take connections yet, or no more.
    Busy,
    /// It takes connections.
    Accepts,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// With a checkpoint.
    Fast,
    /// At once; it recovers at the next start.
    Immediate,
}

impl Cluster<'_> {
    /// Whether the server runs and takes connections, as its own file says.
    pub(super) fn status(&self) -> Status {
        match self.says().as_deref() {
            None => Status::Down,
            Some("ready" | "standby") => Status::Accepts,
            Some(_) => Status::Busy,
        }
    }

    /// What a server that lives says of its state. Asking its file first keeps the log free of refused
    /// connections.
    fn says(&self) -> Option<String> {
        let data = self.site.data();
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        // Line 8 (`LOCK_FILE_LINE_PM_STATUS` in `pidfile.h`). A young server has not written it yet.
        let state = || lines.nth(6).unwrap_or_default().trim().to_owned();
        inspect::is_server(pid, &data).then(state)
    }

    /// What `pg_controldata` says.
    pub(super) async fn control(&self) -> Result<Control, ForkError> {
        let program = self.program("pg_controldata", &[]);
        let text = process::succeed(&program, self.clock, PROGRAM_LIMIT).await?;
        Control::parse(&text).ok_or_else(|| ForkError::ProgramFailed {
            program: program.path,
            said: "its output is not understood".to_owned(),
        })
    }

    /// Where the base backup goes on from, when it is an incremental one (`backup_label` of
    /// PostgreSQL 17 and newer: `build_backup_content` in `xlogbackup.c`).
    pub(super) fn incremental_from(&self) -> Result<Option<String>, ForkError> {
        let label = read_file(&self.site.data().join("backup_label"))?.unwrap_or_default();
        let from = label.lines().find_map(|line| line.strip_prefix("INCREMENTAL FROM LSN: "));
        Ok(from.map(|lsn| lsn.trim().to_owned()))
    }

    /// Puts the source's configuration aside and takes away what was left of its life.
    pub(super) fn adopt(&self) -> Result<(), ForkError> {
        let data = self.site.data();
        let names = [
            ("postgresql.conf", "postgresql.source.conf", Some(conf::ADOPTED)),
            ("postgresql.auto.conf", "postgresql.source.auto.conf", Some(conf::ADOPTED_AUTO)),
            ("pg_hba.conf", "pg_hba.source.conf", None),
            ("pg_ident.conf", "pg_ident.source.conf", None),
        ];
        for (name, kept, adopted) in names {
            let (path, kept) = (data.join(name), data.join(kept));
            // Debian keeps these files in /etc: then the backup has none.
            let Some(text) = read_file(&path)? else { continue };
            fs::rename(&path, &kept).map_err(|source| file_fault("renaming", &path, source))?;
            if let Some(adopted) = adopted {
                let exists = |path: &Path| data.join(path).is_dir();
                write_file(&data.join(adopted), &conf::adopted(&text, &exists))?;
            }
        }
        for left in ["recovery.signal", "standby.signal", "postmaster.pid", "postmaster.opts"] {
            remove_file(&data.join(left))?;
        }
        Ok(())
    }

    /// Writes the configuration for `stage`.
    pub(super) async fn configure(&self, order: &ForkOrder, stage: Stage) -> Result<(), ForkError> {
        let control = self.control().await?;
        let data = self.site.data();
        write_file(&data.join("postgresql.auto.conf"), conf::AUTO_CONF)?;
        write_file(&data.join("pg_hba.conf"), conf::pg_hba(stage))?;
        write_file(&data.join("pg_ident.conf"), conf::PG_IDENT)?;
        let text = conf::postgresql_conf(order, &control, stage);
        write_file(&data.join("postgresql.conf"), &text)
    }

    /// Starts the server, unless it runs already, and waits until it has a process number.
    ///
    /// # Errors
    /// [`ForkError::Server`] with the reason from its log.
    pub(super) async fn start(&self, doing: &'static str) -> Result<(), ForkError> {
        if self.status() != Status::Down {
            return Ok(());
        }
        site::make_private_dir(&self.site.socket_dir)?;
        // The number in it is nobody's, or that of a process which is not this server.
        remove_file(&self.site.data().join("postmaster.pid"))?;
        let log = self.site.server_log();
        if log.exists() {
            let old = log.with_extension("log.1");
            fs::rename(&log, old).map_err(|source| file_fault("renaming", &log, source))?;
        }
        let log_arg = log.display().to_string();
        let program = self.program("pg_ctl", &["-W", "-l", &log_arg, "start"]);
        process::succeed(&program, self.clock, PROGRAM_LIMIT).await?;
        let deadline = self.clock.monotonic() + BIRTH_LIMIT;
        while self.status() == Status::Down {
            let died = self.log().contains("FATAL:  ");
            if died || self.clock.monotonic() > deadline {
                return Err(self.failure(doing));
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Stops the server. Fine when there is none.
    pub(super) async fn stop(&self, how: Stop) -> Result<(), ForkError> {
        if self.status() != Status::Down {
            // A full disk is a reason to stop, and no reason not to: the note only helps a later run.
            if let Err(error) = write_file(&self.site.stopping(), "") {
                tracing::debug!(%error, "the stop is not noted");
            }
            self.stop_now(how).await?;
        }
        remove_file(&self.site.stopping())
    }

    /// Ends the stop of a server that an earlier run had begun and did not live to see, or somebody else
    /// has: whatever that server still answers, it goes.
    pub(super) async fn end_begun_stop(&self) -> Result<(), ForkError> {
        if self.site.stopping().exists() || self.says().as_deref() == Some("stopping") {
            self.stop(Stop::Fast).await?;
        }
        Ok(())
    }

    async fn stop_now(&self, how: Stop) -> Result<(), ForkError> {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let seconds = STOP_LIMIT.as_secs().to_string();
        let program = self.program("pg_ctl", &["-w", "-t", &seconds, "-m", mode, "stop"]);
        match process::succeed(&program, self.clock, STOP_LIMIT + PROGRAM_LIMIT).await {
            // It ended by itself meanwhile.
            Err(ForkError::ProgramFailed { .. }) if self.status() == Status::Down => Ok(()),
            stopped => stopped.map(drop),
        }
    }

    /// Why the server died, from its log.
    pub(super) fn failure(&self, doing: &'static str) -> ForkError {
        match postgres_log::reason(&self.log()) {
            Reason::Fetch(message) => ForkError::Wal(message),
            Reason::Server(reason) => ForkError::Server { doing, reason },
        }
    }

    /// What the server said last that was grave.
    pub(super) fn reason(&self) -> String {
        match postgres_log::reason(&self.log()) {
            Reason::Fetch(text) | Reason::Server(text) => text,
        }
    }

    /// The end of the log since the last start.
    fn log(&self) -> String {
        let read = || {
            let mut file = fs::File::open(self.site.server_log())?;
            let length = file.metadata()?.len();
            io_seek(&mut file, length.saturating_sub(LOG_BYTES_MAX))?;
            let mut bytes = Vec::new();
            file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    fn program(&self, name: &str, args: &[&str]) -> Program {
        let data = self.site.data();
        let mut all = vec!["-D".into(), data.into_os_string()];
        all.extend(args.iter().map(Into::into));
        Program { path: self.postgres.program(name), args: all, dir: self.site.dir.clone() }
    }
}

fn io_seek(file: &mut fs::File, to: u64) -> std::io::Result<()> {
    use std::io::Seek as _;
    file.seek(std::io::SeekFrom::Start(to)).map(drop)
}
