//! Makes a fork of MySQL or MariaDB, phase by phase, from wherever an earlier run stopped; keeps it
//! up; removes it.

use crate::{
    domain::{fork::ForkPhase, recovery::BinlogPlan},
    engine::fork::{
        ForkSite, Watch,
        error::ForkError,
        inspect,
        mysql::{
            MySqlOrder, base, conf,
            error::MySqlError,
            identity::Identity,
            open,
            paths::{Paths, Step},
            programs::Programs,
            replay, verify,
        },
        process::{self, Ask},
        site::{self, remove_dir},
    },
    sys::clock::Clock,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often and how long a server that was killed is looked at until it is gone.
const GONE_INTERVAL: Duration = Duration::from_millis(20);
const GONE_ROUNDS_MAX: u32 = 3000;

/// What every phase needs.
pub(super) struct Job<'a> {
    pub(super) order: &'a MySqlOrder,
    pub(super) programs: Programs,
    pub(super) watch: &'a dyn Watch,
    pub(super) clock: &'a dyn Clock,
    pub(super) cancel: &'a CancellationToken,
}

/// Checks, before anything is made, that the fork fits on the disk and that its port is free.
///
/// # Errors
/// [`ForkError::DiskSpace`], [`ForkError::PortTaken`], [`ForkError::PortUnusable`],
/// [`ForkError::Path`], [`MySqlError::Unwritable`].
pub fn preflight(
    site: &ForkSite,
    plan: &BinlogPlan,
    disk_reserve_bytes: u64,
) -> Result<(), ForkError> {
    Paths(site).check()?;
    let log_bytes = plan.log.iter().map(|log| log.file_bytes).fold(0, u64::saturating_add);
    // The source's log, and the fork's own of the same transactions.
    site::check_room(site, plan.restored_bytes, log_bytes.saturating_mul(2), disk_reserve_bytes)?;
    site::check_port(site)
}

/// Makes the fork and ends when it is open on its public port.
///
/// `from` is the recorded phase. What was done before is found by the markers in the fork's
/// directory, so that a phase whose record and whose effect differ after a crash is repeated.
/// A run that fails or is cancelled stops the server: nothing half open stays.
///
/// # Errors
/// [`ForkError`], in words for the person who waits.
pub async fn run(
    order: &MySqlOrder,
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
    for name in conf::ignored_settings(&order.settings) {
        tracing::warn!(service = %order.service, setting = name, "this setting guards forks and is ignored");
    }
    let done = Box::pin(phases(&job)).await;
    match &done {
        Ok(()) => watch.phase(ForkPhase::Ready),
        Err(_) => job.close().await,
    }
    done
}

async fn phases(job: &Job<'_>) -> Result<(), ForkError> {
    if job.paths().is_marked(Step::Verified, &job.order.plan)? {
        job.watch.phase(ForkPhase::Verifying);
    } else {
        base::restore(job).await?;
        replay::replay(job).await?;
        job.watch.phase(ForkPhase::Verifying);
        verify::verify(job).await?;
    }
    open::open(job).await
}

/// Starts the server of a fork that is ready, unless it runs. Its configuration stays as it is:
/// it is its administrator's now.
///
/// # Errors
/// [`ForkError::Over`] when the fork was never verified, and why it does not start.
pub async fn ensure_running(order: &MySqlOrder, clock: &dyn Clock) -> Result<(), ForkError> {
    let (watch, cancel) = (Unwatched, CancellationToken::new());
    let job = Job::new(order, &watch, clock, &cancel).await?;
    if !job.paths().is_marked(Step::Verified, &order.plan)? {
        return Err(ForkError::Over("not verified"));
    }
    Box::pin(open::start_again(&job)).await
}

/// Stops the server, if there is one, and deletes everything of the fork. Fine when half made.
///
/// # Errors
/// [`ForkError::Path`] for directories that cannot be a fork's, and what cannot be deleted.
pub async fn remove(site: &ForkSite, clock: &dyn Clock) -> Result<(), ForkError> {
    site.check_paths()?;
    end_all(site, clock).await?;
    remove_dir(&site.dir).await?;
    remove_dir(&site.socket_dir).await
}

/// Ends everything that works in the fork's directory. What the server has not written down is not
/// needed any more.
pub(super) async fn end_all(site: &ForkSite, clock: &dyn Clock) -> Result<(), ForkError> {
    let server = inspect::mysql_server_in(&site.data());
    if let Some(pid) = server {
        process::ask_to_end(pid, Ask::AtOnce);
    }
    process::end_all_in(&site.dir, clock).await?;
    for _ in 0..GONE_ROUNDS_MAX {
        if server.is_none_or(inspect::is_gone) {
            return Ok(());
        }
        clock.sleep(GONE_INTERVAL).await;
    }
    Err(ForkError::NoProgress { doing: "ending the fork's server", minutes: 1 })
}

impl<'a> Job<'a> {
    async fn new(
        order: &'a MySqlOrder,
        watch: &'a dyn Watch,
        clock: &'a dyn Clock,
        cancel: &'a CancellationToken,
    ) -> Result<Self, ForkError> {
        if rustix::process::geteuid().is_root() {
            return Err(MySqlError::RunningAsRoot.into());
        }
        let programs = Programs::find(&order.plan, order.programs.as_deref(), clock).await?;
        Paths(&order.site).check()?;
        order.site.prepare()?;
        Ok(Self { order, programs, watch, clock, cancel })
    }

    pub(super) fn paths(&self) -> Paths<'a> {
        Paths(&self.order.site)
    }

    /// Stops what a failed run left. The failure itself is what is told.
    async fn close(&self) {
        let ended = end_all(&self.order.site, self.clock).await;
        if let Err(error) = ended.and_then(|()| Identity::lock(&self.paths())) {
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
