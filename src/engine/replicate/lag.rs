//! Measures how far a copy's log is behind.

use crate::{
    domain::cloud::CloudName,
    engine::{
        catalog::observe::Look,
        error::chain,
        replicate::{needed_log, pass::Replicator},
    },
};
use tracing::warn;

impl Replicator {
    /// How far the copy's log is behind. Without the primary: since it was last in step.
    pub(super) fn lag(
        &self,
        cloud: &CloudName,
        source: Option<&Look>,
        target: &Look,
    ) -> Option<u64> {
        let now = self.shared.clock.now();
        let since = match source {
            Some(source) => needed_log::behind_since(source, target),
            None => match self.shared.state.in_step_at(&self.service.id, cloud) {
                Ok(in_step) => Some(in_step?),
                Err(error) => {
                    warn!(service = %self.service.id, error = %chain(&error), "a measurement is lost");
                    return None;
                }
            },
        };
        let lag = since.map_or(0, |since| (now - since).num_seconds().max(1).unsigned_abs());
        if source.is_some()
            && let Err(error) = self.shared.state.measure(&self.service.id, cloud, now, lag)
        {
            warn!(service = %self.service.id, error = %chain(&error), "a measurement is lost");
        }
        Some(lag)
    }
}
