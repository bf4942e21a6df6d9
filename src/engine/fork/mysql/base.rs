//! The phase *restoring*: the log is opened, and the base backup streamed into what unpacks it.

use crate::{
    domain::{
        fork::ForkPhase,
        recovery::{BaseTool, Codec, WrappedKey},
    },
    engine::{
        error::chain,
        fork::{
            Progress,
            error::ForkError,
            inspect,
            mysql::{
                binlogs, conf,
                decode::Decoded,
                error::MySqlError,
                feed::Source,
                paths::Step,
                programs::call,
                runner::{Job, end_all},
                untar::{self, TarError},
            },
            patience::Patience,
            process::{Output, Program, Running},
            site::{file_fault, make_private_dir, read_file, remove_dir, remove_file, write_file},
        },
    },
    sealed::{SealedError, keys::Keys},
    store::feed::Feed,
};
use futures_util::FutureExt;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const DOING: &str = "restoring the base backup";
/// How often progress is told.
const INTERVAL: Duration = Duration::from_secs(1);

/// Restores the base backup and opens the log, unless both are there, untouched.
pub(super) async fn restore(job: &Job<'_>) -> Result<(), ForkError> {
    let (paths, plan) = (job.paths(), &job.order.plan);
    if paths.is_untouched(plan)? {
        return Ok(());
    }
    job.watch.phase(ForkPhase::Restoring);
    clear(job).await?;
    let done = AtomicU64::new(0);
    let logs: u64 = plan.log.iter().map(|log| log.size_bytes).sum();
    let base: u64 = plan.base.parts.iter().map(|(_, bytes)| bytes).sum();
    let source =
        Source { store: &*job.order.store, cancel: job.cancel, done_bytes: &done, doing: DOING };
    let mut restoring = async {
        // The log first: it is proven while it is opened, and a base backup without its log is of
        // no use.
        binlogs::open(&paths, plan, &job.order.keys, &source).await?;
        unpack(job, &source).await
    }
    .boxed();
    loop {
        tokio::select! {
            restored = &mut restoring => break restored?,
            () = job.clock.sleep(INTERVAL) => job.watch.progress(Progress {
                phase: ForkPhase::Restoring,
                current: Some(done.load(Ordering::Relaxed)),
                max: Some(logs + base),
                unit: "bytes_compressed",
            }),
        }
    }
    adopt(job)?;
    sync(&job.order.site.data())?;
    paths.mark(Step::Restored, plan)
}

/// Takes away what an earlier run left half done, first its programs, otherwise they go on writing.
async fn clear(job: &Job<'_>) -> Result<(), ForkError> {
    let (site, paths) = (&job.order.site, job.paths());
    end_all(site, job.clock).await?;
    paths.unmark()?;
    for dir in [site.data(), paths.own_logs(), paths.tmp()] {
        remove_dir(&dir).await?;
        make_private_dir(&dir)?;
    }
    Ok(())
}

async fn unpack(job: &Job<'_>, source: &Source<'_>) -> Result<(), ForkError> {
    let base = &job.order.plan.base;
    let key_file = job.paths().backup_key();
    let sealed = match &base.wrapped_key {
        Some(wrapped) => {
            write_file(&key_file, &unwrapped(wrapped, &job.order.keys)?)?;
            true
        }
        None => false,
    };
    let unpacked = match job.programs.unpacker(base.tool)? {
        Some([unpacker, preparer]) => {
            let mut args = vec!["-x".into(), "-C".into(), job.order.site.data().into_os_string()];
            if sealed {
                let mut file = std::ffi::OsString::from("--encrypt-key-file=");
                file.push(&key_file);
                args.extend(["--decrypt=AES256".into(), file]);
            }
            let program = call(&unpacker, &job.order.site.dir, args);
            match through(job, source, &program).await {
                Ok(()) => prepare(job, &preparer).await,
                Err(error) => Err(error),
            }
        }
        None => as_tar(job, source).await,
    };
    remove_file(&key_file)?;
    unpacked
}

/// The key that a base backup was encrypted with.
fn unwrapped(wrapped: &WrappedKey, keys: &Keys) -> Result<String, ForkError> {
    let fault =
        |source| MySqlError::Key { key: "the base backup".to_owned(), source: Box::new(source) };
    let wrong = || fault(SealedError::WrongKey(wrapped.key_id.clone()));
    let plain = keys.unwrap(&wrapped.key_id, &wrapped.hex).map_err(fault)?;
    // xtrabackup takes printable keys only.
    String::from_utf8(plain).map_err(|_| wrong().into())
}

/// Streams the base backup through a program.
async fn through(job: &Job<'_>, source: &Source<'_>, program: &Program) -> Result<(), ForkError> {
    let pipe = |source| MySqlError::Pipe { doing: "making a pipe", source };
    let (reader, mut writer) = io::pipe().map_err(pipe)?;
    let copied = copying(job, source, move |decoded| match io::copy(decoded, &mut writer) {
        // The program has ended, and says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Copied::Broken),
        Err(error) => Err(error),
        Ok(_) => Ok(Copied::Whole),
    });
    let (copied, output) = tokio::join!(copied, attended(job, program, reader.into()));
    // What could not be read is the cause of what the program made of it.
    let copied = copied?;
    let output = output?;
    match (copied, output.success) {
        (Copied::Whole, true) => Ok(()),
        (Copied::Broken, true) => Err(broken(job, "it goes on after its end".to_owned())),
        (Copied::Whole | Copied::Broken, false) => Err(broken(job, last_words(&output))),
    }
}

/// How a stream was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    Whole,
    /// Whoever read it has ended.
    Broken,
}

/// Reads the joined parts, decoded, on a thread of its own.
async fn copying<T: Send + 'static>(
    job: &Job<'_>,
    source: &Source<'_>,
    copy: impl FnOnce(&mut Decoded<Feed>) -> io::Result<T> + Send + 'static,
) -> Result<T, ForkError> {
    let (codec, backup) = (job.order.plan.base.codec, job.order.plan.backup_name.clone());
    let read = move |feed: Feed| {
        let fault = |what: String| MySqlError::Base { backup: backup.clone(), what };
        let mut decoded = begin(feed, codec).map_err(|error| fault(chain(&error)))?;
        let copied = copy(&mut decoded).map_err(|error| fault(chain(&error)))?;
        decoded.finish().map_err(|error| fault(chain(&error)))?;
        Ok(copied)
    };
    source.stream(&job.order.plan.base.parts, read).await
}

fn begin(feed: Feed, codec: Codec) -> Result<Decoded<Feed>, SealedError> {
    Decoded::begin(feed, codec, None, &Keys::none())
}

async fn as_tar(job: &Job<'_>, source: &Source<'_>) -> Result<(), ForkError> {
    let target = job.order.site.data();
    let unpacked = copying(job, source, move |decoded| match untar::unpack(decoded, &target) {
        Err(TarError::Read(error)) => Err(error),
        other => Ok(other),
    });
    unpacked.await?.map_err(|error| broken(job, chain(&error)))
}

/// Makes the files consistent, which were copied while they were written to.
async fn prepare(job: &Job<'_>, preparer: &Path) -> Result<(), ForkError> {
    let data = job.order.site.data();
    let checkpoints = info(&data, "checkpoints")?;
    // Its last file, so that a stream which ended early has none.
    let Some(checkpoints) = checkpoints else {
        return Err(broken(job, "it has no list of checkpoints; it ends early".to_owned()));
    };
    if !checkpoints.lines().any(|line| line.trim() == "backup_type = full-backuped") {
        return Err(broken(job, "it is not a full backup".to_owned()));
    }
    let target = format!("--target-dir={}", data.display());
    if job.order.plan.base.tool == BaseTool::XtraBackup && is_compressed(&data) {
        let args = ["--decompress", "--remove-original", &target];
        run_to_end(job, &call(preparer, &job.order.site.dir, args)).await?;
    }
    // The only configuration that it reads is that of the backup.
    let args = ["--prepare", "--use-memory=256M", &target];
    run_to_end(job, &call(preparer, &job.order.site.dir, args)).await
}

async fn run_to_end(job: &Job<'_>, program: &Program) -> Result<(), ForkError> {
    let output = attended(job, program, Stdio::null()).await?;
    if output.success && output.stderr.contains("completed OK!") {
        return Ok(());
    }
    Err(broken(job, last_words(&output)))
}

/// Runs a program until it ends, the fork is called off, or it does nothing for too long.
async fn attended(job: &Job<'_>, program: &Program, stdin: Stdio) -> Result<Output, ForkError> {
    let fault = |source| ForkError::Program { program: program.path.clone(), source };
    let mut running = Running::start(program, stdin, Stdio::piped()).map_err(fault)?;
    let pid = running.pid();
    let idle = async {
        let mut patience = Patience::new(DOING, job.clock);
        loop {
            job.clock.sleep(INTERVAL).await;
            if let Err(error) = patience.see(pid.and_then(inspect::ticks), job.clock) {
                return error;
            }
        }
    };
    let why = tokio::select! {
        output = running.finish() => return output.map_err(fault),
        () = job.cancel.cancelled() => ForkError::Cancelled(DOING),
        error = idle => error,
    };
    running.end(job.clock).await;
    Err(why)
}

/// Puts aside what the source's server kept for its next start, and would make this one another.
fn adopt(job: &Job<'_>) -> Result<(), ForkError> {
    let data = job.order.site.data();
    // Two servers with one UUID would mix up their transactions.
    remove_file(&data.join("auto.cnf"))?;
    // What `SET PERSIST` has left is read after every other configuration.
    let (persisted, kept) = (data.join("mysqld-auto.cnf"), data.join("mysqld-auto.source.cnf"));
    match fs::rename(&persisted, kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_fault("renaming", &persisted, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the backup says that its files cannot be opened without.
pub(super) fn adopted(data: &Path) -> Result<BTreeMap<String, String>, ForkError> {
    let text = read_file(&data.join("backup-my.cnf"))?;
    Ok(text.as_deref().map(conf::adopted).unwrap_or_default())
}

/// A file in which the backup tool tells something: its name begins with that of the tool.
pub(super) fn info(data: &Path, what: &str) -> Result<Option<String>, ForkError> {
    for tool in ["xtrabackup", "mariadb_backup"] {
        if let Some(text) = read_file(&data.join(format!("{tool}_{what}")))? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn is_compressed(data: &Path) -> bool {
    let compressed = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("zst" | "lz4" | "qp"))
    };
    let mut open: Vec<PathBuf> = vec![data.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(_) if compressed(&path) => return true,
                Ok(_) | Err(_) => {}
            }
        }
    }
    false
}

/// Writes everything through to the disk, before a marker says that it is there.
fn sync(dir: &Path) -> Result<(), ForkError> {
    let fault = |source| file_fault("syncing", dir, source);
    let opened = fs::File::open(dir).map_err(fault)?;
    rustix::fs::syncfs(&opened).map_err(|error| fault(error.into()))
}

fn broken(job: &Job<'_>, what: String) -> ForkError {
    MySqlError::Base { backup: job.order.plan.backup_name.clone(), what }.into()
}

/// The lines of a tool that tell why it failed.
fn last_words(output: &Output) -> String {
    const GRAVE: &[&str] = &["[ERROR]", "rror:", "failed", "Failed", "can't", "cannot", "No space"];
    const LINES_MAX: usize = 3;
    let lines: Vec<&str> = output.stderr.lines().map(str::trim).collect();
    let grave: Vec<&str> =
        lines.iter().copied().filter(|line| GRAVE.iter().any(|word| line.contains(word))).collect();
    let told = grave[..grave.len().min(LINES_MAX)].join(" / ");
    if told.is_empty() { output.said() } else { told }
}
