//! The phase *verifying*: compare, and only then promote, make the administrator, and open.

use crate::engine::fork::{
    cluster::{Status, Stop},
    conf::Stage,
    error::ForkError,
    runner::Job,
    server::{self, State},
    site::check_port,
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
    start_open(job).await?;
    server::log_in(job.order, job.clock).await
}

/// Starts an open fork, unless it runs, and waits until it takes connections.
///
/// It asks no question: passwords and access rules are the administrator's now.
pub(super) async fn start_open(job: &Job<'_>) -> Result<(), ForkError> {
    let started = match job.cluster.start(DOING).await {
        Ok(()) => accepting(job).await,
        Err(error) => Err(error),
    };
    // When another program was quicker with the port, say so, and not what the log makes of it.
    if let Err(ForkError::Server { .. }) = started {
        check_port(&job.order.site)?;
    }
    started
}

/// Waits until the server takes connections.
async fn accepting(job: &Job<'_>) -> Result<(), ForkError> {
    let deadline = job.clock.monotonic() + START_LIMIT;
    loop {
        match job.cluster.status() {
            Status::Down => return Err(job.cluster.failure(DOING)),
            Status::Busy => wait(job, deadline).await?,
            Status::Accepts => return Ok(()),
        }
    }
}

/// Waits a moment, unless it is too late or called off.
async fn wait(job: &Job<'_>, deadline: Duration) -> Result<(), ForkError> {
    if job.clock.monotonic() > deadline {
        return Err(ForkError::NoProgress { doing: DOING, minutes: START_LIMIT.as_secs() / 60 });
    }
    tokio::select! {
        () = job.cancel.cancelled() => Err(ForkError::Cancelled(DOING)),
        () = job.clock.sleep(INTERVAL) => Ok(()),
    }
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
        wait(job, deadline).await?;
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
