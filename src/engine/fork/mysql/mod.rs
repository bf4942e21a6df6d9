//! Restores a base backup of MySQL or MariaDB, replays its binary logs to the exact transaction,
//! compares, and opens.
//!
//! 1. *restoring*: the binary logs are opened into the fork's directory, each proven as it passes;
//!    the base backup is streamed out of the secondary's store into the programs that unpack it.
//! 2. *replaying*: the server runs behind a private socket, and the log's own reader and the client
//!    replay the binary logs from the end of the base backup to the stop of the plan.
//! 3. *verifying*: the transactions in the fork's own log are compared with the plan; only then the
//!    fork gets its administrator and is started on its public port.
//!
//! Each step leaves a marker behind when it is done. A replay that was interrupted begins again with
//! the base backup, as nobody can know what its last transaction was.

pub mod error;
pub mod runner;

mod conf;
mod paths;
mod programs;

mod base;
mod binlogs;
mod decode;
mod feed;
mod untar;

mod door;
mod identity;
mod server;

mod open;
mod pipeline;
mod replay;
mod verify;

use crate::{
    domain::{ids::ServiceId, recovery::BinlogPlan},
    engine::fork::{ForkSite, Secret},
    sealed::keys::Keys,
    store::BlobStore,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// A fork of MySQL or MariaDB to be made.
#[derive(Clone, Debug)]
pub struct MySqlOrder {
    /// The new service.
    pub service: ServiceId,
    /// What is restored. All keys are keys of the store.
    pub plan: BinlogPlan,
    /// The secondary's store, whose objects have their user metadata.
    pub store: Arc<dyn BlobStore>,
    /// Private keys for what is encrypted.
    pub keys: Arc<Keys>,
    /// Where the fork lives.
    pub site: ForkSite,
    /// The administrator of the fork, made or changed after verification.
    pub admin_user: String,
    /// The administrator's password.
    pub admin_password: Secret,
    /// The operator's settings of the server, by name. Those that guard the fork are ignored.
    pub settings: BTreeMap<String, String>,
    /// The directory of the server's programs; `None` for the search path.
    pub programs: Option<PathBuf>,
}
