//! Waits until a fork is restored, or gone, and says how far it is.

use crate::{
    api::service::{ProgressUpdate, Service, ServiceState},
    client::error::ClientError,
    domain::ids::ServiceId,
    provider::{
        fork::observe,
        session::{Connection, Pace, Pause, Session},
    },
};
use std::time::Duration;

/// How many times in a row the fork may be missing: a new one may not be everywhere at once.
const MISSING_MAX: u32 = 3;

/// How far a fork is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is in use, or switched off.
    Complete,
    /// It has failed, for this reason.
    Failed(String),
    /// It is being restored.
    Restoring {
        /// `planned`, `basebackup`, ….
        phase: String,
        /// Of the phase, where it is known.
        percent: Option<u64>,
    },
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The fork is restored.
    Complete,
    /// The fork has failed, for this reason.
    Failed(String),
    /// Terraform wants to stop.
    Stopped,
    /// The time is over.
    Overdue,
    /// The API says that there is no such fork any more.
    Gone,
    /// Waiting makes no sense any more.
    Broken(ClientError),
}

/// What a service says of its restore.
pub(super) fn progress(service: &Service) -> Progress {
    if let Some(reason) = observe::failure(service) {
        return Progress::Failed(reason);
    }
    match service.state {
        ServiceState::Running | ServiceState::Poweroff => Progress::Complete,
        ServiceState::Rebalancing | ServiceState::Rebuilding => {
            let updates = service.node_states.iter().flat_map(|node| &node.progress_updates);
            let current = updates.into_iter().find(|update| !update.completed);
            let phase = observe::report(service).map(|report| report.phase);
            let phase = phase.or_else(|| current.map(|update| update.phase.clone()));
            Progress::Restoring {
                phase: phase.unwrap_or_else(|| "preparing".to_owned()),
                percent: current.and_then(percent),
            }
        }
    }
}

fn percent(update: &ProgressUpdate) -> Option<u64> {
    let (min, max, current) = (update.min?, update.max?, update.current?);
    let whole = max.checked_sub(min).filter(|whole| *whole > 0)?;
    Some((current.saturating_sub(min).saturating_mul(100) / whole).min(100))
}

/// Waits until the fork is restored, at most for `limit`. `last` becomes what was seen last.
pub(super) async fn restored(
    session: &Session,
    connection: &Connection,
    id: &ServiceId,
    limit: Duration,
    last: &mut Option<Service>,
) -> End {
    let started = session.clock.monotonic();
    let mut pace = Pace::new();
    let mut missing = 0;
    loop {
        match connection.api.service_with_secrets_now(id).await {
            Ok(service) => {
                missing = 0;
                let progress = progress(&service);
                *last = Some(service);
                match progress {
                    Progress::Complete => return End::Complete,
                    Progress::Failed(reason) => return End::Failed(reason),
                    Progress::Restoring { phase, percent } => {
                        tracing::info!(fork = %id, phase, percent, "waiting for the restore");
                    }
                }
            }
            Err(ClientError::NotFound { .. }) => {
                missing += 1;
                if missing >= MISSING_MAX {
                    return End::Gone;
                }
            }
            Err(error @ (ClientError::Unauthorized { .. } | ClientError::Forbidden { .. })) => {
                return End::Broken(error);
            }
            // An outage may pass before the time is over.
            Err(error) => tracing::warn!(fork = %id, %error, "waiting for the restore"),
        }
        let pause = pace.step();
        if session.clock.monotonic().saturating_sub(started) + pause > limit {
            return End::Overdue;
        }
        if session.pause(pause).await == Pause::Stopped {
            return End::Stopped;
        }
    }
}

/// Waits until the API does not know the service any more.
pub(super) async fn gone(
    session: &Session,
    connection: &Connection,
    id: &ServiceId,
    limit: Duration,
) -> End {
    let started = session.clock.monotonic();
    let mut pace = Pace::new();
    loop {
        match connection.api.service_now(id).await {
            Err(ClientError::NotFound { .. }) => return End::Gone,
            Ok(_) => tracing::info!(fork = %id, "waiting for the deletion"),
            Err(error) => tracing::warn!(fork = %id, %error, "waiting for the deletion"),
        }
        let pause = pace.step();
        if session.clock.monotonic().saturating_sub(started) + pause > limit {
            return End::Overdue;
        }
        if session.pause(pause).await == Pause::Stopped {
            return End::Stopped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fork::observe::tests::service;
    use serde_json::json;

    #[test]
    fn progress_is_told_as_phase_and_percent() {
        let mut fork = service("REBUILDING", json!({"source": "s", "phase": "replaying"}));
        let node = json!({"name": "n", "state": "syncing_data", "progress_updates": [
            {"phase": "basebackup", "completed": true, "min": 0, "max": 10, "current": 10,
             "unit": "bytes_uncompressed"},
            {"phase": "stream", "completed": false, "min": 100, "max": 300, "current": 150,
             "unit": "wal_lsn"}]});
        fork.node_states = vec![serde_json::from_value(node).unwrap()];
        let expect = Progress::Restoring { phase: "replaying".to_owned(), percent: Some(25) };
        assert_eq!(progress(&fork), expect);
        fork.node_states[0].progress_updates[1].max = Some(100);
        fork.metadata.clear();
        let expect = Progress::Restoring { phase: "stream".to_owned(), percent: None };
        assert_eq!(progress(&fork), expect);
        fork.node_states.clear();
        assert!(matches!(progress(&fork), Progress::Restoring { percent: None, .. }));
        fork.state = ServiceState::Running;
        assert_eq!(progress(&fork), Progress::Complete);
    }
}
