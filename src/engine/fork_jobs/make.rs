//! Has one fork made, whichever database it is of.

use crate::{
    domain::{
        fork::ForkPhase,
        recovery::{BinlogPlan, Recovery, RecoveryPlan},
    },
    engine::{
        error::chain,
        fork::{
            ForkOrder, Progress, Secret, SiteStore, Watch,
            error::ForkError,
            mysql::{MySqlOrder, runner as mysql},
            runner,
        },
        fork_jobs::{ADMIN_USER, ForkJobs, site},
        replicate::execute::Progress as CopyProgress,
        stage::{self, StageError},
        state::forks::StoredFork,
    },
    layout::BackupFormat,
    store::BlobStore,
    sys::clock::Clock,
};
use futures_util::FutureExt;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Why a fork was not made.
pub(super) enum Unmade {
    /// The engine is being stopped, or the fork deleted.
    Interrupted,
    /// For the person who waits.
    Failed(String),
}

impl From<ForkError> for Unmade {
    fn from(error: ForkError) -> Self {
        if matches!(error, ForkError::Cancelled(_)) {
            return Self::Interrupted;
        }
        Self::Failed(chain(&error))
    }
}

impl From<StageError> for Unmade {
    fn from(error: StageError) -> Self {
        if matches!(error, StageError::Interrupted) {
            return Self::Interrupted;
        }
        Self::Failed(chain(&error))
    }
}

impl ForkJobs {
    /// Makes a fork, from wherever an earlier run stopped.
    pub(super) async fn make(
        &self,
        watch: &dyn Watch,
        fork: &StoredFork,
        store: Arc<dyn BlobStore>,
        cancel: &CancellationToken,
    ) -> Result<(), Unmade> {
        match &fork.recovery {
            Recovery::Postgres(plan) => {
                Box::pin(self.make_postgres(watch, fork, plan, store, cancel)).await?;
            }
            Recovery::MySql(plan) => {
                let order = self.mysql_order(fork, plan, store);
                Box::pin(mysql::run(&order, fork.phase, watch, &*self.clock, cancel)).await?;
            }
        }
        remove_staged(fork);
        Ok(())
    }

    async fn make_postgres(
        &self,
        watch: &dyn Watch,
        fork: &StoredFork,
        plan: &RecoveryPlan,
        store: Arc<dyn BlobStore>,
        cancel: &CancellationToken,
    ) -> Result<(), Unmade> {
        let site_store = match fork.place.format {
            BackupFormat::PgHoard => {
                Some(SiteStore { store: store.clone(), keys: self.keys.clone() })
            }
            BackupFormat::PgBackRest { .. }
            | BackupFormat::MyHoard { .. }
            | BackupFormat::Stream => None,
        };
        let (root, plan) = match (store.local_root(), &site_store) {
            // A fork that is open reads its copy no more.
            (Some(root), None) => (root, plan.clone()),
            _ if fork.phase == ForkPhase::Ready => (stage::root_of(&fork.dir), plan.clone()),
            _ => self.stage(watch, fork, plan, store, cancel).await?,
        };
        let order = self.order(fork, plan, root, site_store);
        Ok(Box::pin(runner::run(&order, fork.phase, watch, &*self.clock, cancel)).await?)
    }

    /// Brings the objects of a copy that is not in a directory to this machine.
    async fn stage(
        &self,
        watch: &dyn Watch,
        fork: &StoredFork,
        plan: &RecoveryPlan,
        store: Arc<dyn BlobStore>,
        cancel: &CancellationToken,
    ) -> Result<(PathBuf, RecoveryPlan), StageError> {
        if fork.phase == ForkPhase::Planned {
            watch.phase(ForkPhase::Restoring);
        }
        let done = CopyProgress::default();
        let staging = async {
            let dir = &fork.dir;
            match fork.place.format {
                BackupFormat::PgHoard => {
                    stage::open_log(&*store, plan, dir, &self.keys, &done, cancel).await
                }
                BackupFormat::PgBackRest { .. }
                | BackupFormat::MyHoard { .. }
                | BackupFormat::Stream => {
                    let root = stage::stage(store, &fork.place, plan, dir, &done, cancel).await?;
                    Ok((root, plan.clone()))
                }
            }
        };
        let mut staging = staging.boxed();
        loop {
            tokio::select! {
                staged = &mut staging => return staged,
                () = self.clock.sleep(Duration::from_secs(1)) => watch.progress(Progress {
                    phase: ForkPhase::Restoring,
                    current: Some(done.done_bytes.load(Ordering::Relaxed)),
                    max: Some(done.total_bytes.load(Ordering::Relaxed)),
                    unit: "bytes_compressed",
                }),
            }
        }
    }

    fn order(
        &self,
        fork: &StoredFork,
        plan: RecoveryPlan,
        store_root: PathBuf,
        site_store: Option<SiteStore>,
    ) -> ForkOrder {
        ForkOrder {
            service: fork.id.clone(),
            plan,
            place: fork.place.clone(),
            store_root,
            site_store,
            site: site(fork),
            admin_user: ADMIN_USER.to_owned(),
            admin_password: Secret::new(fork.admin_password.clone()),
            settings: self.settings.settings.clone(),
            wal_fetch: self.program.clone(),
        }
    }

    fn mysql_order(
        &self,
        fork: &StoredFork,
        plan: &BinlogPlan,
        store: Arc<dyn BlobStore>,
    ) -> MySqlOrder {
        MySqlOrder {
            service: fork.id.clone(),
            plan: plan.clone(),
            store,
            keys: self.keys.clone(),
            site: site(fork),
            admin_user: ADMIN_USER.to_owned(),
            admin_password: Secret::new(fork.admin_password.clone()),
            settings: self.settings.mysql_settings.clone(),
            programs: self.settings.programs(plan.flavour).cloned(),
        }
    }
}

/// Stops a fork's server and deletes everything of it.
///
/// # Errors
/// [`ForkError`].
pub(super) async fn remove(fork: &StoredFork, clock: &dyn Clock) -> Result<(), ForkError> {
    match &fork.recovery {
        Recovery::Postgres(plan) => runner::remove(&site(fork), plan.postgres_major, clock).await,
        Recovery::MySql(_) => mysql::remove(&site(fork), clock).await,
    }
}

/// What was brought to this machine is not needed by a fork that is open.
fn remove_staged(fork: &StoredFork) {
    let staged = stage::root_of(&fork.dir);
    if staged.exists()
        && let Err(error) = std::fs::remove_dir_all(&staged)
    {
        warn!(dir = %staged.display(), %error, "what was staged for a fork cannot be removed");
    }
}
