//! Opens the source's binary logs into the fork's directory, each proven as it passes.

use crate::{
    binlog::summary::summarize,
    domain::recovery::{BinlogObject, BinlogPlan},
    engine::{
        error::chain,
        fork::{
            error::ForkError,
            mysql::{
                decode::Decoded,
                error::MySqlError,
                feed::Source,
                paths::{Paths, Step},
            },
            site::{file_fault, make_private_dir, remove_dir},
        },
    },
    sealed::{SealedError, keys::Keys},
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

/// Files that are opened at the same time. Each uses a core and a few megabytes.
const FILES_AT_ONCE: usize = 2;

/// How much of a file is read at once, in bytes.
const PIECE: usize = 256 << 10;

/// A binary log on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalLog {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The server's name of it.
    pub(super) name: String,
    /// Its size, in bytes.
    pub(super) file_bytes: u64,
}

/// Where the binary logs of the plan are, or will be. Names may be there twice, so each begins with
/// its place in the plan.
pub(super) fn local(paths: &Paths<'_>, plan: &BinlogPlan) -> Vec<LocalLog> {
    let dir = paths.binlogs();
    let place = |(at, log): (usize, &BinlogObject)| LocalLog {
        path: dir.join(format!("{at:06}.{}", plain(&log.name))),
        name: log.name.clone(),
        file_bytes: log.file_bytes,
    };
    plan.log.iter().enumerate().map(place).collect()
}

/// A name out of a catalogue, as a part of a file's name.
fn plain(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.chars().filter(|c| allowed(*c)).take(128).collect()
}

/// Opens all binary logs of the plan. What is there already, of an earlier run for the same plan, is
/// not opened again.
pub(super) async fn open(
    paths: &Paths<'_>,
    plan: &BinlogPlan,
    keys: &Arc<Keys>,
    source: &Source<'_>,
) -> Result<(), ForkError> {
    if !paths.is_marked(Step::Opening, plan)? {
        remove_dir(&paths.binlogs()).await?;
    }
    make_private_dir(&paths.binlogs())?;
    paths.mark(Step::Opening, plan)?;
    let pairs = plan.log.iter().cloned().zip(local(paths, plan)).enumerate();
    let pairs: Vec<_> = pairs.collect();
    let last = pairs.len().saturating_sub(1);
    let one = |(at, (object, local)): (usize, (BinlogObject, LocalLog))| {
        let needed_to = (at == last).then_some(plan.stop_offset);
        one(object, local, needed_to, keys, source).boxed()
    };
    let opened = stream::iter(pairs).map(one).buffer_unordered(FILES_AT_ONCE);
    opened.try_collect::<Vec<()>>().await.map(drop)
}

async fn one(
    object: BinlogObject,
    local: LocalLog,
    needed_to: Option<u64>,
    keys: &Arc<Keys>,
    source: &Source<'_>,
) -> Result<(), ForkError> {
    // Only what was proven has its name.
    if local.path.exists() {
        source.done_bytes.fetch_add(object.size_bytes, Ordering::Relaxed);
        return Ok(());
    }
    let keys = keys.clone();
    let objects = [(object.key.clone(), object.size_bytes)];
    source.stream(&objects, move |feed| write(feed, &object, &local, needed_to, &keys)).await
}

/// Writes the plain file, and gives it its name when all of it was right.
fn write(
    feed: impl Read,
    object: &BinlogObject,
    local: &LocalLog,
    needed_to: Option<u64>,
    keys: &Keys,
) -> Result<(), ForkError> {
    let sealed = |error: SealedError| fault(object, error);
    let mut decoded =
        Decoded::begin(feed, object.codec, object.key_id.as_deref(), keys).map_err(sealed)?;
    let staged = local.path.with_extension("new");
    let written = |source| file_fault("writing", &staged, source);
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&staged);
    let mut tee = Tee {
        // One byte more than there should be is too much, and there may be no end to it.
        input: (&mut decoded).take(object.file_bytes.saturating_add(1)),
        file: file.map_err(written)?,
        bytes: 0,
        failed: None,
    };
    // The reader takes small pieces of what it reads.
    let mut buffered = io::BufReader::with_capacity(PIECE, &mut tee);
    let proven = prove(&mut buffered, needed_to);
    // What it had no use for belongs to the file all the same.
    let read = io::copy(&mut buffered, &mut io::sink());
    if let Some(source) = tee.failed {
        return Err(written(source));
    }
    let proven = proven.and_then(|()| read.map(drop).map_err(|error| chain(&error)));
    let (file, bytes) = (tee.file, tee.bytes);
    let damaged = |what: String| {
        ForkError::from(MySqlError::Binlog {
            name: object.name.clone(),
            key: object.key.clone(),
            what,
        })
    };
    if let Err(what) = proven {
        return Err(damaged(what));
    }
    if bytes != object.file_bytes {
        return Err(damaged(format!("it has {bytes} bytes, not {}", object.file_bytes)));
    }
    decoded.finish().map_err(sealed)?;
    file.sync_all().map_err(written)?;
    fs::rename(&staged, &local.path).map_err(written)
}

fn fault(object: &BinlogObject, error: SealedError) -> ForkError {
    let key = object.key.clone();
    if matches!(error, SealedError::NoKey(_) | SealedError::WrongKey(_)) {
        return MySqlError::Key { key, source: Box::new(error) }.into();
    }
    MySqlError::Binlog { name: object.name.clone(), key, what: chain(&error) }.into()
}

/// Reads a binary log to its end, and says what is wrong with it. Of the last one of a plan, only
/// what lies before the stop is needed.
fn prove(file: impl Read, needed_to: Option<u64>) -> Result<(), String> {
    let Err(fault) = summarize(file) else { return Ok(()) };
    let sound = fault.so_far.as_ref().map_or(0, |summary| summary.groups_end);
    let only_the_end = fault.damage.only_the_end_is_missing();
    if only_the_end && needed_to.is_some_and(|needed| needed <= sound) {
        return Ok(());
    }
    Err(chain(&fault))
}

/// Groups of events, which are transactions or statements of their own, in the fork's own log.
pub(super) fn groups(dir: &Path) -> Result<u64, ForkError> {
    let mut groups = 0;
    for path in own(dir)? {
        let file = fs::File::open(&path).map_err(|source| file_fault("reading", &path, source))?;
        let summary = summarize(io::BufReader::with_capacity(PIECE, file));
        groups += summary.map_err(|fault| MySqlError::OwnLog { what: chain(&fault) })?.groups;
    }
    Ok(groups)
}

/// Writes what is read from it into a file.
struct Tee<R> {
    input: R,
    file: fs::File,
    bytes: u64,
    /// Why the file could not be written: whoever reads sees a failure of reading.
    failed: Option<io::Error>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bytes += count as u64;
        if let Err(error) = self.file.write_all(&buffer[..count]) {
            self.failed = Some(error);
            return Err(io::Error::other("the file cannot be written"));
        }
        Ok(count)
    }
}

/// The fork's own binary logs, in order.
fn own(dir: &Path) -> Result<Vec<PathBuf>, ForkError> {
    let fault = |source| file_fault("reading", dir, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix("fork."));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
