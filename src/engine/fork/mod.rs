//! Restores a base backup, replays the log to the stop point, verifies, promotes and opens.
//!
//! 1. *restoring*: pgBackRest unpacks the base backup out of the secondary region's store; PGHoard's
//!    we unpack ourselves.
//! 2. *replaying*: PostgreSQL runs as a standby behind a private socket and fetches its log through
//!    `btar wal-fetch`, up to the stop position of the plan, where it pauses.
//! 3. *verifying*: cluster and position are compared with the plan; only then the server is
//!    promoted, gets its administrator, and is restarted on its public port.
//!
//! Each step leaves a marker behind when it is done, and may be repeated when it is not.

pub mod error;
pub mod fetch;
pub mod mysql;
pub mod runner;

mod ahead;
mod cluster;
mod conf;
mod fetch_plan;
mod inspect;
mod open;
mod opening;
mod patience;
mod postgres_log;
pub(crate) mod process;
mod programs;
mod replay;
mod restore;
mod server;
mod site;

use crate::{
    domain::{fork::ForkPhase, ids::ServiceId, recovery::RecoveryPlan},
    layout::BackupPlace,
    sealed::keys::Keys,
    store::BlobStore,
};
use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

/// Where a fork lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkSite {
    /// Everything of this fork, and of nothing else: it is deleted with the fork.
    pub dir: PathBuf,
    /// The directory of the private socket, also of this fork alone. Its path must be short: a
    /// socket's path has at most 107 bytes.
    pub socket_dir: PathBuf,
    /// The address that the finished fork listens on.
    pub host: String,
    /// The port that the finished fork listens on.
    pub port: u16,
}

/// A fork to be made.
#[derive(Clone, Debug)]
pub struct ForkOrder {
    /// The new service.
    pub service: ServiceId,
    /// What is restored.
    pub plan: RecoveryPlan,
    /// Where the backups lie in the store.
    pub place: BackupPlace,
    /// The directory that the keys of the log are below.
    pub store_root: PathBuf,
    /// What a base backup is read from that we unpack ourselves.
    pub site_store: Option<SiteStore>,
    /// Where the fork lives.
    pub site: ForkSite,
    /// The administrator of the fork, made or changed after verification.
    pub admin_user: String,
    /// The administrator's password.
    pub admin_password: Secret,
    /// The operator's settings of PostgreSQL, by name. Those that guard the fork are ignored.
    pub settings: BTreeMap<String, String>,
    /// The `btar` program, which PostgreSQL calls for each segment.
    pub wal_fetch: PathBuf,
}

/// The store of a copy whose base backups we unpack ourselves.
#[derive(Clone, Debug)]
pub struct SiteStore {
    /// The store, whose objects have their user metadata.
    pub store: Arc<dyn BlobStore>,
    /// Private keys for what is encrypted.
    pub keys: Arc<Keys>,
}

/// A text that must not be seen in logs, errors or snapshots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How far a phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The phase.
    pub phase: ForkPhase,
    /// What is done, where it can be told.
    pub current: Option<u64>,
    /// What there is to do, where it is known.
    pub max: Option<u64>,
    /// The unit of both: `bytes_uncompressed`, `bytes_compressed`, `wal_lsn` or `binlog_bytes`.
    pub unit: &'static str,
}

/// Looks on while a fork is made.
pub trait Watch: Send + Sync {
    /// A phase begins. It is recorded before this returns, so that a new engine begins there.
    fn phase(&self, phase: ForkPhase);

    /// A phase goes on.
    fn progress(&self, progress: Progress);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
