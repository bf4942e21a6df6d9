//! The phase *replaying*: a standby behind the private socket replays the log up to the stop.

use crate::{
    domain::{fork::ForkPhase, lsn::Lsn},
    engine::fork::{
        Progress, ahead,
        cluster::Status,
        conf::Stage,
        error::ForkError,
        fetch::{self, Trace},
        fetch_plan::FetchPlan,
        patience::Patience,
        runner::Job,
        server::State,
        site::{remove_dir, remove_file, write_file},
    },
};
use std::time::Duration;
use tokio::sync::oneshot;

const DOING: &str = "replaying the log";
/// How often the position is asked for.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often PostgreSQL may be seen beyond the plan without having stopped. It takes a moment from
/// the last record to the pause.
const BEYOND_MAX: u32 = 20;

/// Replays until the server waits at the stop.
pub(super) async fn replay(job: &Job<'_>) -> Result<(), ForkError> {
    job.watch.phase(ForkPhase::Replaying);
    let (order, site) = (job.order, &job.order.site);
    let plan = FetchPlan::of(&order.plan, &order.store_root);
    if job.cluster.status() == Status::Down {
        write_file(&site.fetch_plan(), &plan.to_text())?;
        remove_file(&fetch::trace_file(&site.fetch_plan()))?;
        // Nothing of it was synced.
        remove_dir(&ahead::directory(&site.fetch_plan())).await?;
        job.cluster.configure(order, Stage::Recovery).await?;
        // A standby never promotes by itself where its log ends or has a hole.
        write_file(&site.data().join("standby.signal"), "")?;
        job.cluster.start(DOING).await?;
    }
    let ahead = FetchPlan::of(&order.plan, &order.store_root);
    let ahead_plan = site.fetch_plan();
    let (ended, has_ended) = oneshot::channel();
    let done = tokio::select! {
        done = reach_the_stop(job, &plan) => done,
        () = ahead::keep(&ahead_plan, ahead, job.clock, ended) => Ok(()),
    };
    // It may be in the middle of a segment, in the directory that is removed. Nothing is ever sent.
    let _ = has_ended.await;
    done?;
    remove_dir(&ahead::directory(&site.fetch_plan())).await
}

/// Looks on until the server waits at the stop.
async fn reach_the_stop(job: &Job<'_>, plan: &FetchPlan) -> Result<(), ForkError> {
    let (order, site) = (job.order, &job.order.site);
    let mut patience = Patience::new(DOING, job.clock);
    let mut beyond = 0;
    let tell = |current| {
        job.watch.progress(Progress {
            phase: ForkPhase::Replaying,
            current,
            max: Some(order.plan.stop.replayed_to.0),
            unit: "wal_lsn",
        });
    };
    loop {
        let trace = fetch::trace(&site.fetch_plan(), plan);
        let replayed = match look(job).await? {
            State::Silent => None,
            State::Standby { paused: true, replayed } => {
                // A short log is replayed before anybody looks.
                tell(replayed.map(|Lsn(bytes)| bytes));
                return Ok(());
            }
            State::Standby { paused: false, replayed } => replayed,
            State::Primary => return Err(ForkError::PromotedUnasked),
        };
        beyond = if trace == Some(Trace::Beyond) && replayed.is_some() { beyond + 1 } else { 0 };
        if beyond > BEYOND_MAX {
            let found = replayed.unwrap_or_default();
            return Err(ForkError::StopNotReached { expected: order.plan.stop.replayed_to, found });
        }
        // Before the standby is consistent it takes no questions; what it fetches shows its way.
        let fetched = match trace {
            Some(Trace::Sent(segment)) => Some(segment.start(order.plan.segment_size)),
            Some(Trace::Beyond) | None => None,
        };
        let current = replayed.max(fetched).map(|Lsn(bytes)| bytes);
        tell(current);
        patience.see(current, job.clock)?;
        pause(job).await?;
    }
}

/// Where the server is. A server that died tells why.
async fn look(job: &Job<'_>) -> Result<State, ForkError> {
    match job.cluster.status() {
        Status::Down => Err(job.cluster.failure(DOING)),
        Status::Busy => Ok(State::Silent),
        Status::Accepts => job.door.state().await,
    }
}

async fn pause(job: &Job<'_>) -> Result<(), ForkError> {
    tokio::select! {
        // The server stays: the next run goes on where it is then.
        () = job.cancel.cancelled() => Err(ForkError::Cancelled(DOING)),
        () = job.clock.sleep(INTERVAL) => Ok(()),
    }
}
