//! Stores the closed binary logs that the store lacks, in order.

use crate::{
    binlog::summary::{Ending, Summary, follows},
    domain::{hex, recovery::Codec},
    layout::stream::{
        keys::{self, BinlogKey},
        series::Series,
    },
    push::{
        error::PushError,
        files::{self, Inspected},
        joint::{Closed, Search, Start, Why},
        report::{BinlogsReport, StoredBinlog},
        server::Server,
        settings::{Settings, WhenReadOnly},
        stored::Place,
    },
    store::{BlobStore, Contents, key::Key},
    sys::clock::Clock,
};
use bytes::Bytes;
use std::{path::Path, sync::Arc, time::Duration};
use tracing::{debug, warn};

/// How often, and how long, a file is waited for that the server is about to close.
const CLOSING_PAUSES_MAX: u32 = 20;
const CLOSING_PAUSE: Duration = Duration::from_millis(250);

/// Whether the file that the server is writing is closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// When there is anything in it.
    WhenUsed,
    /// Always.
    Always,
    /// Never.
    No,
}

/// Stores the closed binary logs of the settings' server.
///
/// # Errors
/// [`PushError`].
pub async fn run(
    settings: &Settings,
    store: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    flush: Flush,
) -> Result<BinlogsReport, PushError> {
    let place = Place { store, prefix: Key::parse(&settings.path)? };
    let server = Server::connect(&settings.server, clock).await?;
    if server.facts.read_only && settings.server.when_read_only == WhenReadOnly::Skip {
        return Ok(BinlogsReport { skipped: true, ..BinlogsReport::default() });
    }
    let mut report = push(&place, &server, flush, None).await?;
    if !place.has_base_backups().await? {
        let what = "there is no base backup yet, without which nothing can be restored: run \
                    `btar push base`";
        report.warnings.push(what.to_owned());
    }
    Ok(report)
}

/// Stores the closed binary logs of a server. A series that must be begun begins with the file
/// `since`, where that is given, otherwise with the oldest one.
pub(super) async fn push(
    place: &Place,
    server: &Server,
    flush: Flush,
    since: Option<&str>,
) -> Result<BinlogsReport, PushError> {
    close(server, flush).await?;
    let closed = closed(server).await?;
    let mut report = BinlogsReport::default();
    if closed.names.is_empty() {
        return Ok(report);
    }
    // It may be stored already, and purged since.
    let since = since.and_then(|since| closed.names.iter().position(|name| name == since));
    let search = Search { place, server, closed: &closed, since };
    let Start { series, why, sequence, from, before } = search.start().await?;
    let mut writer = Writer { search, series, why, sequence, before, report: &mut report };
    writer.announce().await?;
    for name in &closed.names[from..] {
        writer.file(name).await?;
    }
    Ok(report)
}

async fn close(server: &Server, flush: Flush) -> Result<(), PushError> {
    let is_due = match flush {
        Flush::Always => true,
        Flush::No => false,
        Flush::WhenUsed => {
            let (dir, position) = (dir_of(server)?, server.position().await?);
            let path = Path::new(&dir).join(&position.file);
            files::holds_anything(&path, &position.file, position.offset).await?
        }
    };
    if is_due { server.flush_logs().await } else { Ok(()) }
}

/// The closed files: all but the last.
async fn closed(server: &Server) -> Result<Closed, PushError> {
    let dir = dir_of(server)?.into();
    let mut names = server.logs().await?;
    names.pop();
    if let Some(name) = names.iter().find(|name| !keys::is_binlog_name(name)) {
        return Err(PushError::Name(name.clone()));
    }
    Ok(Closed { dir, names })
}

fn dir_of(server: &Server) -> Result<String, PushError> {
    let base = server.facts.binlog_base.as_deref().ok_or(PushError::NoBinlog)?;
    let dir = Path::new(base).parent().unwrap_or(Path::new("/"));
    Ok(dir.to_string_lossy().into_owned())
}

/// Stores file after file.
struct Writer<'a> {
    search: Search<'a>,
    series: Series,
    why: Why,
    sequence: u64,
    before: Option<(Summary, String)>,
    report: &'a mut BinlogsReport,
}

impl Writer<'_> {
    /// Says what the series is, before its first file, otherwise nobody could tell what that follows.
    async fn announce(&mut self) -> Result<(), PushError> {
        let name = self.series.series.clone();
        self.report.series = Some(name.clone());
        match &self.why {
            Why::GoesOn => return Ok(()),
            Why::First | Why::Follows => {}
            Why::Hole(what) => {
                warn!(series = %name, "a new series begins behind a hole: {what}");
                self.report.holes.push(what.clone());
            }
        }
        let contents = Contents::of(Bytes::from(self.series.to_json()));
        // Whoever was faster has found the same.
        self.search.place.write_once(&keys::series(&name), contents).await.map(drop)
    }

    async fn file(&mut self, name: &str) -> Result<(), PushError> {
        let path = self.search.closed.path(name);
        let mut file = self.closed(&path, name).await?;
        if let Some((last, last_name)) = &self.before
            && let Err(what) = follows(last, last_name, &file.summary, name)
        {
            self.begin_anew(name, what).await?;
        }
        if let Some(damage) = &file.damage {
            warn!(file = name, "a binary log is damaged and stored as it is: {damage}");
            self.report.warnings.push(format!("{name} is damaged, and stored as it is: {damage}"));
        }
        self.store(&path, name, &mut file).await?;
        self.before = Some((file.summary, name.to_owned()));
        self.sequence += 1;
        Ok(())
    }

    /// Reads a file when the server has closed it. MariaDB opens the next one first and marks the old
    /// one closed afterwards (`MYSQL_BIN_LOG::new_file_impl`), which changes a byte of it.
    async fn closed(&self, path: &Path, name: &str) -> Result<Inspected, PushError> {
        let mut file = files::inspect(path, name).await?;
        for _ in 0..CLOSING_PAUSES_MAX {
            let is_left = matches!(file.summary.ending, Ending::Rotate { .. });
            if !(file.summary.in_use && is_left) {
                break;
            }
            self.search.server.clock.sleep(CLOSING_PAUSE).await;
            file = files::inspect(path, name).await?;
        }
        Ok(file)
    }

    /// The server itself does not go on where it was.
    async fn begin_anew(&mut self, name: &str, what: String) -> Result<(), PushError> {
        let known = self.search.place.series().await?;
        let at = self.search.closed.names.iter().position(|other| other == name).unwrap_or(0);
        let start = self.search.begin(at, None, Why::Hole(what), &known).await?;
        (self.series, self.why, self.sequence) = (start.series, start.why, start.sequence);
        self.announce().await
    }

    async fn store(
        &mut self,
        path: &Path,
        name: &str,
        file: &mut Inspected,
    ) -> Result<(), PushError> {
        let key = BinlogKey {
            series: self.series.series.clone(),
            sequence: self.sequence,
            name: name.to_owned(),
            sha1: hex::lower(&file.sha1),
            codec: Codec::Zst,
        };
        let contents = file.contents(path, name)?;
        // The same file under the same name: another push was faster.
        let is_new = self.search.place.write_once(&key.key(), contents).await?;
        debug!(file = name, sequence = self.sequence, is_new, "a binary log is stored");
        self.report.stored.push(StoredBinlog {
            series: key.series,
            sequence: key.sequence,
            name: key.name,
            size_bytes: file.stored_bytes,
        });
        Ok(())
    }
}
