//! The loops: a pass over each service, at every interval and whenever it is woken.

use crate::{
    domain::ids::ServiceId,
    engine::{app::App, error::chain, replicate::pass::Replicator},
};
use std::sync::Arc;
use tokio::{sync::Semaphore, task::JoinSet};
use tracing::error;

/// Passes that run at the same time.
const PASSES_AT_ONCE: usize = 4;

/// Runs the loops until the engine is being stopped.
pub async fn run(app: Arc<App>) {
    let slots = Arc::new(Semaphore::new(PASSES_AT_ONCE));
    let mut loops = JoinSet::new();
    for (id, replicator) in &app.replicators {
        loops.spawn(replicate(app.clone(), id.clone(), replicator.clone(), slots.clone()));
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
}
