//! Makes a base backup and stores it.
//!
//! 1. The tool's stream goes into the store, part after part; where the server's log is then is asked.
//! 2. The log is closed and stored, so that the backup is restorable as soon as it is there.
//! 3. The parts are looked at once more, and the manifest is written, last.

use crate::{
    domain::{
        binlog::{BinlogPosition, Flavour, GtidSet},
        recovery::{BaseTool, Codec},
    },
    layout::stream::{
        keys,
        manifest::{LogEnd, LogStart, Manifest},
    },
    push::{
        binlogs::{self, Flush},
        error::PushError,
        leftovers::{self, Lock},
        parse::{self, Coordinates},
        parts::{self, Stored},
        process::Program,
        report::{BaseReport, BinlogsReport},
        server::{self, Server},
        settings::{Settings, WhenReadOnly},
        stored::Place,
    },
    store::{BlobStore, Contents, StoreError, key::Key},
    sys::clock::Clock,
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::TryStreamExt;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the tools say when they have done all of it.
const COMPLETED: &str = "completed OK!";
/// The file in which they say where they stand in the log.
const INFO: &str = "xtrabackup_info";

/// Makes a base backup of the settings' server and stores it, with the log up to its end.
///
/// # Errors
/// [`PushError`]. Nothing that looks like a backup is left then.
pub async fn run(
    settings: &Settings,
    store: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
) -> Result<BaseReport, PushError> {
    let place = Place { store, prefix: Key::parse(&settings.path)? };
    let server = Server::connect(&settings.server, clock.clone()).await?;
    if server.facts.read_only && settings.server.when_read_only == WhenReadOnly::Skip {
        let binlogs = BinlogsReport { skipped: true, ..BinlogsReport::default() };
        return Ok(BaseReport { binlogs, ..BaseReport::default() });
    }
    if server.facts.binlog_base.is_none() {
        return Err(PushError::NoBinlog);
    }
    let tool = tool(settings, server.facts.flavour)?;
    let mut lock = Lock::take(&settings.state_dir)?;
    let removed = leftovers::remove_parts(&place, lock.dead.as_deref(), &*clock).await?;
    let label = keys::label(server.facts.now);
    // Before the first part, otherwise nobody would know whose it is.
    lock.name(&label)?;
    let making = Making { settings, place: &place, server: &server, label, tool };
    let limit = settings.base.time_max();
    let made = tokio::select! {
        made = making.make() => made,
        () = clock.sleep(limit) => {
            Err(PushError::TooLong { program: "the base backup".into(), seconds: limit.as_secs() })
        }
    };
    match made {
        Ok(report) => {
            lock.name("")?;
            Ok(BaseReport { removed, ..report })
        }
        // Another machine makes one of the same name: what is there is not ours.
        Err(error @ PushError::Store(StoreError::AlreadyExists(_))) => {
            lock.name("")?;
            Err(error)
        }
        Err(error) => {
            // The next push does it, when this fails, too.
            let label = Some(making.label.as_str());
            if leftovers::remove_parts(&place, label, &*clock).await.is_ok() {
                lock.name("")?;
            }
            Err(error)
        }
    }
}

/// The tool of the settings, or the server's own one.
fn tool(settings: &Settings, flavour: Flavour) -> Result<BaseTool, PushError> {
    let own = match flavour {
        Flavour::MariaDb => BaseTool::MariaDbBackup,
        Flavour::MySql => BaseTool::Clone,
    };
    let tool = settings.base.tool.map_or(own, BaseTool::from);
    let (name, of) = match tool {
        BaseTool::MariaDbBackup => ("mariadb-backup", Flavour::MariaDb),
        BaseTool::XtraBackup => ("xtrabackup", Flavour::MySql),
        BaseTool::Clone => ("clone", Flavour::MySql),
    };
    if of != flavour {
        return Err(PushError::WrongTool { tool: name, product: flavour.product() });
    }
    Ok(tool)
}

/// A base backup in the making.
struct Making<'a> {
    settings: &'a Settings,
    place: &'a Place,
    server: &'a Server,
    label: String,
    tool: BaseTool,
}

/// A stream that is stored, and where it stands in the log.
struct Taken {
    stored: Stored,
    start: BinlogPosition,
    /// Whether `start` is exactly where the replay begins.
    is_exact: bool,
    executed: Option<GtidSet>,
    end: End,
}

/// When everything that is in the stream had happened.
#[derive(Clone)]
struct End {
    position: BinlogPosition,
    finished_at: DateTime<Utc>,
}

impl Making<'_> {
    async fn make(&self) -> Result<BaseReport, PushError> {
        let taken = match self.tool {
            BaseTool::Clone => self.clone().await?,
            BaseTool::MariaDbBackup | BaseTool::XtraBackup => self.stream().await?,
        };
        let End { position, finished_at } = taken.end.clone();
        let since = Some(taken.start.file.as_str());
        let binlogs = binlogs::push(self.place, self.server, Flush::Always, since).await?;
        let (log, log_end) = self.log(&taken, position, &binlogs).await?;
        let facts = &self.server.facts;
        let manifest = Manifest {
            label: self.label.clone(),
            tool: self.tool,
            flavour: facts.flavour,
            server_version: facts.version.clone(),
            server_uuid: facts.server_uuid.clone(),
            server_id: facts.server_id,
            started_at: facts.now,
            finished_at,
            codec: Codec::Zst,
            parts: taken.stored.parts,
            restored_bytes: taken.stored.plain_bytes,
            executed: taken.executed,
            log,
            log_end,
        };
        self.publish(&manifest).await?;
        Ok(BaseReport {
            label: Some(manifest.label.clone()),
            finished_at: Some(finished_at.to_rfc3339_opts(SecondsFormat::Secs, true)),
            parts: manifest.parts.len(),
            stored_bytes: manifest.stored_bytes(),
            restored_bytes: manifest.restored_bytes,
            removed: Vec::new(),
            binlogs,
        })
    }

    /// Asks where the log is and what time it is, when the tool has ended.
    async fn end(&self) -> Result<End, PushError> {
        // The position first: a transaction that comes between the two is later than both.
        let position = self.server.position().await?;
        Ok(End { position, finished_at: parse::rounded_up(self.server.now().await?) })
    }

    /// Writes the manifest, when all parts are still there.
    async fn publish(&self, manifest: &Manifest) -> Result<(), PushError> {
        let json = manifest.to_json();
        // What could not be read would be no backup.
        Manifest::read(&json)?;
        let prefix = self.place.key(&format!("{}/{}", keys::BACKUPS, self.label))?;
        let listed: Vec<_> = self.place.store.list(&prefix, None).try_collect().await?;
        for (key, size_bytes) in manifest.part_keys() {
            let full = self.place.key(&key)?;
            if !listed.iter().any(|meta| meta.key == full && meta.size_bytes == size_bytes) {
                return Err(PushError::PartLost(key));
            }
        }
        let key = keys::manifest(&self.label);
        if self.place.write_once(&key, Contents::of(Bytes::from(json))).await? {
            return Ok(());
        }
        Err(StoreError::AlreadyExists(self.place.key(&key)?).into())
    }

    /// The places of the files in the series that is being written.
    async fn log(
        &self,
        taken: &Taken,
        end: BinlogPosition,
        binlogs: &BinlogsReport,
    ) -> Result<(LogStart, LogEnd), PushError> {
        let series = binlogs.series.clone().unwrap_or_default();
        let stored = self.place.binlogs(&series).await?;
        let place = |name: &str| {
            let found = stored.iter().rev().find(|binlog| binlog.name == name);
            found.map(|binlog| binlog.sequence).ok_or_else(|| PushError::LogLost(name.to_owned()))
        };
        let BinlogPosition { file, offset } = taken.start.clone();
        let start_offset = taken.is_exact.then_some(offset);
        let log = LogStart { sequence: place(&file)?, series, name: file, start_offset };
        let sequence = place(&end.file)?;
        if sequence < log.sequence {
            return Err(PushError::LogLost(log.name));
        }
        Ok((log, LogEnd { sequence, name: end.file, offset: end.offset }))
    }

    /// The stream of mariadb-backup or xtrabackup.
    async fn stream(&self) -> Result<Taken, PushError> {
        let own = if self.tool == BaseTool::XtraBackup { "xtrabackup" } else { "mariadb-backup" };
        let path = self.settings.base.program.clone().unwrap_or_else(|| own.into());
        let all_notes = self.settings.state_dir.join("notes");
        clear(&all_notes)?;
        // A tool whose push was killed may go on for a moment, in a directory of its own.
        let notes = all_notes.join(&self.label);
        clear(&notes)?;
        let option = |name: &str, dir: &Path| {
            let mut text = std::ffi::OsString::from(name);
            text.push(dir);
            text
        };
        let program = Program { path, args: server::connection(&self.settings.server) }
            .with(["--backup", "--stream=xbstream"])
            .with([option("--extra-lsndir=", &notes), option("--target-dir=", &notes)])
            .with(self.settings.base.arguments.iter());
        let (running, mut pipe) = program.stream()?;
        let part_bytes = self.settings.base.part_bytes();
        let stored = parts::store(self.place, &self.label, part_bytes, move |sink| {
            let copied = io::copy(&mut pipe, sink);
            copied.map(drop).map_err(PushError::file("reading", "the output of the backup tool"))
        });
        let stored = match stored.await {
            Ok(stored) => stored,
            // The tool's own message would be that nobody reads what it writes.
            Err(error @ PushError::Store(_)) => return Err(error),
            Err(error) => {
                running.succeed(COMPLETED).await?;
                return Err(error);
            }
        };
        running.succeed(COMPLETED).await?;
        let end = self.end().await?;
        let info = notes.join(INFO);
        let text = fs::read_to_string(&info).map_err(PushError::file("reading", &info))?;
        let Coordinates { position, executed } =
            parse::coordinates(self.server.facts.flavour, &text)?;
        clear(&all_notes)?;
        Ok(Taken { stored, start: position, is_exact: true, executed, end })
    }

    /// A tar archive of what MySQL's plugin CLONE has made.
    async fn clone(&self) -> Result<Taken, PushError> {
        let Some(dir) = &self.settings.base.clone_dir else {
            return Err(PushError::Setting(
                "CLONE needs a directory in which the server may make another: set clone_dir in \
                 [base] of the settings",
            ));
        };
        leftovers::remove_clones(dir)?;
        let start = self.server.position().await?;
        let made = leftovers::clone_dir(dir, &self.label);
        let limit = self.settings.base.time_max();
        self.server.clone_into(&made.to_string_lossy(), limit).await?;
        // At once, and not when the copy is stored: from here on it can restore.
        let end = self.end().await?;
        let part_bytes = self.settings.base.part_bytes();
        let archived = made.clone();
        let stored =
            parts::store(self.place, &self.label, part_bytes, move |sink| archive(&archived, sink));
        let stored = stored.await;
        leftovers::remove_clones(dir)?;
        Ok(Taken { stored: stored?, start, is_exact: false, executed: None, end })
    }
}

fn archive(dir: &PathBuf, sink: &mut dyn io::Write) -> Result<(), PushError> {
    let mut archive = tar::Builder::new(sink);
    archive.follow_symlinks(false);
    let written = archive.append_dir_all(".", dir).and_then(|()| archive.finish());
    written.map_err(PushError::file("archiving", dir))
}

/// Makes a directory that is empty.
fn clear(dir: &Path) -> Result<(), PushError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PushError::file("removing", dir)(error));
        }
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(dir).map_err(PushError::file("making", dir))
}
