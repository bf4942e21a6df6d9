//! Keeps what a copy's store says about its service up to date.

use crate::{
    domain::window::RestoreRange,
    engine::{
        description::Description,
        error::chain,
        replicate::pass::{Replicator, Target},
    },
};
use chrono::TimeDelta;
use tracing::warn;

/// A description is for people and for adoption: its ranges may be this old.
const DESCRIBE_EVERY: TimeDelta = TimeDelta::minutes(1);

impl Replicator {
    /// Keeps the description in the copy's store up to date, at most once in a while.
    pub(super) async fn describe(&self, target: &Target, ranges: Vec<RestoreRange>) {
        let now = self.shared.clock.now();
        let mut lane = target.data.lock().await;
        let fresh = lane
            .described
            .as_ref()
            .is_some_and(|(at, before)| *before == ranges || now - *at < DESCRIBE_EVERY);
        if fresh {
            return;
        }
        let Some(description) = Description::of(&self.service, &ranges, now) else { return };
        let store = target.reader.lock().await.store().clone();
        match description.write(&*store).await {
            Ok(()) => lane.described = Some((now, ranges)),
            Err(error) => {
                warn!(service = %self.service.id, error = %chain(&error),
                    "the description of a copy cannot be written");
            }
        }
    }
}
