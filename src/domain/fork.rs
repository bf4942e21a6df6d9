//! The phases of a fork.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How far a fork is. Every phase may be repeated after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForkPhase {
    /// Accepted; base backup, log and stop point are chosen.
    Planned,
    /// The base backup is being restored.
    Restoring,
    /// The log is being replayed, as a standby behind a private socket.
    Replaying,
    /// Replay has stopped; its position is compared, then the server is promoted.
    Verifying,
    /// Open on its public port.
    Ready,
    /// Given up; the reason is recorded.
    Failed,
    /// Deleted before it was ready.
    Cancelled,
}

impl ForkPhase {
    /// The word in the API, the state and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Restoring => "restoring",
            Self::Replaying => "replaying",
            Self::Verifying => "verifying",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Ready | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for ForkPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
