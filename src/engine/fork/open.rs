//! The phase *verifying*: compare, and only then promote, make the administrator, and open.

use crate::{
    domain::fork::ForkPhase,
    engine::fork::{
        cluster::{Status, Stop},
        conf::Stage,
        error::ForkError,
        runner::Job,
        server::{self, State},
        site::check_port,
    },
};
use std::time::Duration;

const DOING: &str = "opening the fork";
/// How often a starting server is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long a server may take to start. After a crash it replays what it wrote since its last
/// checkpoint.
const START_LIMIT: Duration = Duration::from_secs(1800);

/// Compares cluster and position with the plan, and records that they are right.
pub(super) async fn verify(job: &Job<'_>) -> Result<(), ForkError> {
    job.watch.phase(ForkPhase::Verifying);
    let plan = &job.order.plan;
    match settled(job).await? {
        Settled::AtStop => {}
        Settled::Primary => return Err(ForkError::PromotedUnasked),
    }
    let found = job.door.system_identifier().await?.unwrap_or(0);
    if found != plan.system_identifier {
        return Err(ForkError::WrongCluster { expected: plan.system_identifier, found });
    }
    // Before the promotion: a primary without this record is one that promoted by itself.
    job.order.site.mark_verified(plan)
}

/// Makes the verified standby a primary with its administrator, on its public port.
pub(super) async fn promote_and_open(job: &Job<'_>) -> Result<(), ForkError> {
    job.watch.phase(ForkPhase::Verifying);
    // A server that went down meanwhile comes back with the configuration that it had: paused at
    // the stop before its promotion, as a primary after it.
    job.cluster.start(DOING).await?;
    match settled(job).await? {
        Settled::Primary => {}
        Settled::AtStop => promote(job).await?,
    }
    job.door.make_admin().await?;
    job.cluster.configure(job.order, Stage::Open).await?;
    // The port and the connection limits need a restart.
    job.cluster.stop(Stop::Fast).await?;
    check_port(&job.order.site)?;
    start_open(job).await
}

/// Starts an open fork, unless it runs, and waits until its administrator can log in.
pub(super) async fn start_open(job: &Job<'_>) -> Result<(), ForkError> {
    let order = job.order;
    let started = match job.cluster.start(DOING).await {
        Ok(()) => settled(job).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(Settled::Primary) => {}
        Ok(Settled::AtStop) => {
            return Err(ForkError::NotPromoted { reason: "it is still a standby".to_owned() });
        }
        // Another program was quicker: say so, and not what the server's log makes of it.
        Err(error @ ForkError::Server { .. }) => {
            return Err(check_port(&order.site).err().unwrap_or(error));
        }
        Err(error) => return Err(error),
    }
    let site = &order.site;
    server::log_in(&site.host, site.port, &order.admin_user, &order.admin_password, job.clock).await
}

/// What a server has become that takes connections.
enum Settled {
    /// A standby that waits at the plan's stop.
    AtStop,
    /// A primary.
    Primary,
}

/// Waits until the server has settled. A standby must have settled exactly at the plan's stop.
async fn settled(job: &Job<'_>) -> Result<Settled, ForkError> {
    let deadline = job.clock.monotonic() + START_LIMIT;
    let expected = job.order.plan.stop.replayed_to;
    loop {
        let state = match job.cluster.status() {
            Status::Down => return Err(job.cluster.failure(DOING)),
            Status::Busy => State::Silent,
            Status::Accepts => job.door.state().await?,
        };
        match state {
            State::Primary => return Ok(Settled::Primary),
            State::Standby { paused: true, replayed } => {
                let found = replayed.unwrap_or_default();
                return if found == expected {
                    Ok(Settled::AtStop)
                } else {
                    Err(ForkError::PositionMismatch { expected, found })
                };
            }
            State::Standby { paused: false, .. } | State::Silent => {}
        }
        if job.clock.monotonic() > deadline {
            return Err(ForkError::NoProgress {
                doing: DOING,
                minutes: START_LIMIT.as_secs() / 60,
            });
        }
        tokio::select! {
            () = job.cancel.cancelled() => return Err(ForkError::Cancelled(DOING)),
            () = job.clock.sleep(INTERVAL) => {}
        }
    }
}

async fn promote(job: &Job<'_>) -> Result<(), ForkError> {
    let promoted = job.door.promote().await?;
    if promoted && job.door.state().await? == State::Primary {
        return Ok(());
    }
    let reason = job.cluster.reason();
    Err(ForkError::NotPromoted { reason })
}
