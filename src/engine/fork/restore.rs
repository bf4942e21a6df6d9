//! The phase *restoring*: the base backup is unpacked out of the secondary's store, by pgBackRest or
//! by ourselves.

use crate::{
    domain::fork::ForkPhase,
    engine::fork::{
        Progress, SiteStore,
        cluster::Stop,
        error::ForkError,
        patience::Patience,
        postgres_log,
        process::{self, Ended, Program},
        runner::Job,
        site::{make_private_dir, remove_dir, size_below, write_file},
    },
    layout::BackupFormat,
    restore::{self, error::RestoreError, tablespaces::Placement},
};
use futures_util::FutureExt;
use std::{
    io,
    num::NonZeroUsize,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const DOING: &str = "restoring the base backup";
/// How often progress is told.
const INTERVAL: Duration = Duration::from_secs(1);

/// Restores the base backup, unless that is done.
pub(super) async fn restore(job: &Job<'_>) -> Result<(), ForkError> {
    let (site, plan) = (&job.order.site, &job.order.plan);
    if site.is_restored(plan)? {
        return Ok(());
    }
    job.watch.phase(ForkPhase::Restoring);
    clear(job).await?;
    unpack(job).await?;
    // Before anything is started on it: a wrong cluster must not touch the right one's log.
    let found = job.cluster.control().await?.system_identifier;
    if found != plan.system_identifier {
        return Err(ForkError::WrongCluster { expected: plan.system_identifier, found });
    }
    // PostgreSQL would refuse it as well, but only when it starts, and speak of a data directory.
    if let Some(from) = job.cluster.incremental_from()? {
        return Err(ForkError::Incremental { backup: plan.backup_name.clone(), from });
    }
    job.cluster.adopt()?;
    site.mark_restored(plan)
}

/// Takes away what an earlier run left half done, first its programs, otherwise they go on writing.
async fn clear(job: &Job<'_>) -> Result<(), ForkError> {
    let site = &job.order.site;
    job.cluster.stop(Stop::Immediate).await?;
    process::end_all_in(&site.dir, job.clock).await?;
    site.unmark()?;
    for dir in [site.data(), site.tablespaces(), site.pgbackrest_files()] {
        remove_dir(&dir).await?;
        make_private_dir(&dir)?;
    }
    Ok(())
}

async fn unpack(job: &Job<'_>) -> Result<(), ForkError> {
    match (&job.order.place.format, &job.order.site_store) {
        (BackupFormat::PgBackRest { stanza }, _) => with_pgbackrest(job, stanza).await,
        (BackupFormat::PgHoard, Some(from)) => natively(job, from).await,
        (BackupFormat::PgHoard | BackupFormat::MyHoard { .. } | BackupFormat::Stream, _) => {
            Err(ForkError::NoStore)
        }
    }
}

/// Objects that are unpacked at the same time. Each uses a core.
const OBJECTS_AT_ONCE: usize = 4;

async fn natively(job: &Job<'_>, from: &SiteStore) -> Result<(), ForkError> {
    let (order, site) = (job.order, &job.order.site);
    let told = AtomicU64::new(0);
    let total = AtomicU64::new(0);
    let progress = |progress: restore::Progress| {
        told.store(progress.stored_bytes_read, Ordering::Relaxed);
        total.store(progress.stored_bytes, Ordering::Relaxed);
    };
    let placement = Placement::below(site.tablespaces());
    let target = site.data();
    let parallel = std::thread::available_parallelism().map_or(2, usize::from);
    let restoring = restore::Order {
        store: &*from.store,
        prefix: &order.place.prefix,
        backup: &order.plan.backup_name,
        keys: &from.keys,
        target: &target,
        tablespaces: &placement,
        parallel: NonZeroUsize::new(parallel.min(OBJECTS_AT_ONCE)).unwrap_or(NonZeroUsize::MIN),
        progress: &progress,
        stop: job.cancel,
    };
    let mut restored = restore::restore(&restoring).boxed();
    loop {
        tokio::select! {
            done = &mut restored => match done {
                Ok(_) => return Ok(()),
                Err(RestoreError::Interrupted) => return Err(ForkError::Cancelled(DOING)),
                Err(source) => {
                    let backup = order.plan.backup_name.clone();
                    return Err(ForkError::Restore { backup, source: Box::new(source) });
                }
            },
            () = job.clock.sleep(INTERVAL) => job.watch.progress(Progress {
                phase: ForkPhase::Restoring,
                current: Some(told.load(Ordering::Relaxed)),
                max: Some(total.load(Ordering::Relaxed)),
                unit: "bytes_compressed",
            }),
        }
    }
}

async fn with_pgbackrest(job: &Job<'_>, stanza: &str) -> Result<(), ForkError> {
    let site = &job.order.site;
    let program = command(job, stanza)?;
    let ended = process::run(&program, job.clock, interruption(job)).await;
    let output = match ended {
        Ok(Ended::Exited(output)) => output,
        Ok(Ended::Interrupted(why)) => return Err(why),
        Err(error) if error.kind() == io::ErrorKind::NotFound && site.dir.is_dir() => {
            return Err(ForkError::PgBackRestMissing);
        }
        Err(source) => return Err(ForkError::Program { program: program.path, source }),
    };
    if output.success {
        return Ok(());
    }
    let all = format!("{}\n{}", output.stderr, output.stdout);
    Err(ForkError::PgBackRest {
        backup: job.order.plan.backup_name.clone(),
        said: postgres_log::pgbackrest_errors(&all),
    })
}

/// Writes pgBackRest's configuration and gives the call. It reads nothing of the machine's own
/// configuration, and writes its locks and files into the fork's directory, never the repository.
fn command(job: &Job<'_>, stanza: &str) -> Result<Program, ForkError> {
    let (order, site) = (job.order, &job.order.site);
    let repository = order.store_root.join(order.place.prefix.as_str());
    let files = site.pgbackrest_files();
    let lines = [
        "[global]".to_owned(),
        format!("repo1-path={}", repository.display()),
        format!("lock-path={}", files.display()),
        format!("log-path={}", files.display()),
        format!("spool-path={}", files.display()),
        "log-level-file=off".to_owned(),
        "log-level-console=off".to_owned(),
        "log-level-stderr=warn".to_owned(),
        "process-max=2".to_owned(),
        format!("[{stanza}]"),
        format!("pg1-path={}", site.data().display()),
        String::new(),
    ];
    if lines.iter().any(|line| line.contains(char::is_control)) {
        let why = "pgBackRest's configuration cannot hold such a path";
        return Err(ForkError::Path { path: repository, why });
    }
    write_file(&site.pgbackrest_conf(), &lines.join("\n"))?;
    let args = [
        format!("--config={}", site.pgbackrest_conf().display()),
        format!("--stanza={stanza}"),
        format!("--set={}", order.plan.backup_name),
        // Recovery is configured by us; it writes nothing of it.
        "--type=none".to_owned(),
        format!("--tablespace-map-all={}", site.tablespaces().display()),
        "restore".to_owned(),
    ];
    Ok(Program {
        path: PathBuf::from("pgbackrest"),
        args: args.into_iter().map(Into::into).collect(),
        dir: site.dir.clone(),
    })
}

/// Tells progress until the restore is called off or stands still.
async fn interruption(job: &Job<'_>) -> ForkError {
    let mut patience = Patience::new(DOING, job.clock);
    loop {
        tokio::select! {
            () = job.cancel.cancelled() => return ForkError::Cancelled(DOING),
            () = job.clock.sleep(INTERVAL) => {}
        }
        let dirs = [job.order.site.data(), job.order.site.tablespaces()];
        let sized = tokio::task::spawn_blocking(move || dirs.iter().map(|d| size_below(d)).sum());
        let current: Option<u64> = sized.await.ok();
        job.watch.progress(Progress {
            phase: ForkPhase::Restoring,
            current,
            max: Some(job.order.plan.restored_bytes),
            unit: "bytes_uncompressed",
        });
        if let Err(error) = patience.see(current, job.clock) {
            return error;
        }
    }
}
