//! Makes a fork, phase by phase, from wherever an earlier run stopped; keeps it up; removes it.

use crate::{
    domain::{fork::ForkPhase, recovery::RecoveryPlan},
    engine::fork::{
        ForkOrder, ForkSite, Watch,
        cluster::{Cluster, Stop},
        conf,
        error::ForkError,
        open, process,
        programs::Postgres,
        replay, restore,
        server::Door,
        site::{self, remove_dir},
    },
    sys::clock::Clock,
};
use tokio_util::sync::CancellationToken;

/// What every phase needs.
pub(super) struct Job<'a> {
    pub(super) order: &'a ForkOrder,
    pub(super) cluster: Cluster<'a>,
    pub(super) door: Door<'a>,
    pub(super) watch: &'a dyn Watch,
    pub(super) clock: &'a dyn Clock,
    pub(super) cancel: &'a CancellationToken,
}

/// Checks, before anything is made, that the fork fits on the disk and that its port is free.
///
/// # Errors
/// [`ForkError::DiskSpace`], [`ForkError::PortTaken`], [`ForkError::PortUnusable`],
/// [`ForkError::Path`].
pub fn preflight(
    site: &ForkSite,
    plan: &RecoveryPlan,
    disk_reserve_bytes: u64,
) -> Result<(), ForkError> {
    site.check_paths()?;
    site::check_space(site, plan, disk_reserve_bytes)?;
    site::check_port(site)
}

/// Makes the fork and ends when it is open on its public port.
///
/// `from` is the recorded phase. What was done before is found by the markers in the fork's
/// directory, so that a phase whose record and whose effect differ after a crash is repeated.
/// A cancelled run may leave its server behind the private socket, for the next run or for
/// [`remove`]. A failed run stops it: nothing half open stays. To stop a run, cancel it and await
/// its end: what is dropped may still be deleting files in the background.
///
/// # Errors
/// [`ForkError`], in words for the person who waits.
pub async fn run(
    order: &ForkOrder,
    from: ForkPhase,
    watch: &dyn Watch,
    clock: &dyn Clock,
    cancel: &CancellationToken,
) -> Result<(), ForkError> {
    match from {
        ForkPhase::Failed | ForkPhase::Cancelled => return Err(ForkError::Over(from.as_str())),
        ForkPhase::Ready => return ensure_running(order, clock).await,
        ForkPhase::Planned | ForkPhase::Restoring | ForkPhase::Replaying | ForkPhase::Verifying => {
        }
    }
    let job = Job::new(order, watch, clock, cancel).await?;
    for name in conf::ignored_settings(order) {
        tracing::warn!(service = %order.service, setting = name, "this setting guards forks and is ignored");
    }
    let done = Box::pin(phases(&job)).await;
    match &done {
        Ok(()) => watch.phase(ForkPhase::Ready),
        Err(ForkError::Cancelled(_)) => {}
        Err(_) => job.close().await,
    }
    done
}

async fn phases(job: &Job<'_>) -> Result<(), ForkError> {
    let (site, plan) = (&job.order.site, &job.order.plan);
    job.cluster.end_begun_stop().await?;
    restore::restore(job).await?;
    if site.is_verified(plan)? {
        job.watch.phase(ForkPhase::Verifying);
    } else {
        replay::replay(job).await?;
        job.watch.phase(ForkPhase::Verifying);
        open::verify(job).await?;
    }
    open::promote_and_open(job).await
}

/// Starts the server of a fork that is ready, unless it runs. Its configuration stays as it is:
/// it is its administrator's now.
///
/// # Errors
/// [`ForkError::Over`] when the fork was never verified, and why it does not start.
pub async fn ensure_running(order: &ForkOrder, clock: &dyn Clock) -> Result<(), ForkError> {
    let (watch, cancel) = (Unwatched, CancellationToken::new());
    let job = Job::new(order, &watch, clock, &cancel).await?;
    if !order.site.is_verified(&order.plan)? {
        return Err(ForkError::Over("not verified"));
    }
    job.cluster.end_begun_stop().await?;
    Box::pin(open::start_open(&job)).await
}

/// Stops the server, if there is one, and deletes everything of the fork. Fine when half made.
///
/// # Errors
/// [`ForkError::Path`] for directories that cannot be a fork's, and what cannot be deleted.
pub async fn remove(
    site: &ForkSite,
    postgres_major: u32,
    clock: &dyn Clock,
) -> Result<(), ForkError> {
    site.check_paths()?;
    if let Ok(postgres) = Postgres::find(postgres_major, clock).await {
        // What does not obey is ended below; its data are not needed any more.
        let _ = Cluster { site, postgres, clock }.stop(Stop::Immediate).await;
    }
    process::end_all_in(&site.dir, clock).await?;
    remove_dir(&site.dir).await?;
    remove_dir(&site.socket_dir).await
}

impl<'a> Job<'a> {
    async fn new(
        order: &'a ForkOrder,
        watch: &'a dyn Watch,
        clock: &'a dyn Clock,
        cancel: &'a CancellationToken,
    ) -> Result<Self, ForkError> {
        if rustix::process::geteuid().is_root() {
            return Err(ForkError::RunningAsRoot);
        }
        let postgres = Postgres::find(order.plan.postgres_major, clock).await?;
        order.site.prepare()?;
        let cluster = Cluster { site: &order.site, postgres, clock };
        Ok(Self { order, cluster, door: Door { order, clock }, watch, clock, cancel })
    }

    /// Stops what a failed run left. The failure itself is what is told.
    async fn close(&self) {
        if let Err(error) = self.cluster.stop(Stop::Immediate).await {
            tracing::error!(service = %self.order.service, %error, "stopping a failed fork failed");
        }
    }
}

/// Nobody looks on.
struct Unwatched;

impl Watch for Unwatched {
    fn phase(&self, _: ForkPhase) {}
    fn progress(&self, _: crate::engine::fork::Progress) {}
}
