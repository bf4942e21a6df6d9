//! The loops: a pass over each service, at every interval and whenever it is woken.

use crate::{
    domain::ids::ServiceId,
    engine::{app::App, error::chain, replicate::pass::Replicator},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};
use tracing::error;

/// Passes that run at the same time.
const PASSES_AT_ONCE: usize = 4;
/// Between two turns of reading a copy again.
const MORE_AFTER: Duration = Duration::from_millis(10);
/// The same, when there was nothing to read.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// The end of an engine waits so long for what was learned of the copies to be written.
const CLOSE_AFTER: Duration = Duration::from_secs(10);

/// Runs the loops until the engine is being stopped.
pub async fn run(app: Arc<App>) {
    let slots = Arc::new(Semaphore::new(PASSES_AT_ONCE));
    let mut loops = JoinSet::new();
    for (id, replicator) in &app.replicators {
        loops.spawn(replicate(app.clone(), id.clone(), replicator.clone(), slots.clone()));
        loops.spawn(prove(app.clone(), id.clone(), replicator.clone()));
    }
    while let Some(ended) = loops.join_next().await {
        if let Err(fault) = ended {
            // A loop that panicked stops the engine: its supervisor starts it anew.
            error!(%fault, "a replication loop has failed");
            app.stop.cancel();
        }
    }
}

async fn replicate(
    app: Arc<App>,
    id: ServiceId,
    replicator: Arc<Replicator>,
    slots: Arc<Semaphore>,
) {
    while !app.stop.is_cancelled() {
        let again = {
            let _slot = slots.acquire().await;
            match app.enabled_regions(&id) {
                Ok(enabled) => Box::pin(replicator.pass(&enabled)).await,
                Err(fault) => {
                    error!(service = %id, error = %chain(&fault), "the intentions cannot be read");
                    false
                }
            }
        };
        if again {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = app.clock.sleep(app.settings.poll_interval) => {}
            () = replicator.wake.notified() => {}
            () = app.stop.cancelled() => {}
        }
    }
    let enabled = app.enabled_regions(&id).unwrap_or_default();
    tokio::select! {
        () = replicator.close(&enabled) => {}
        () = app.clock.sleep(CLOSE_AFTER) => {}
    }
}

/// Reads the copies of a service again, beside the passes.
async fn prove(app: Arc<App>, id: ServiceId, replicator: Arc<Replicator>) {
    while !app.stop.is_cancelled() {
        let turn = async {
            let enabled = app.enabled_regions(&id).unwrap_or_default();
            let more = replicator.prove(&enabled).await;
            let pause = if more { MORE_AFTER } else { app.settings.poll_interval.max(IDLE_AFTER) };
            tokio::select! {
                () = app.clock.sleep(pause) => {}
                () = replicator.read.notified() => {}
            }
        };
        // What is being read is given up: nothing of it is lost but the reading.
        tokio::select! {
            () = turn => {}
            () = app.stop.cancelled() => {}
        }
    }
}
