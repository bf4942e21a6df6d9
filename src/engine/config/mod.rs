//! The engine's configuration: data only. Parts are built from it elsewhere.

mod check;
mod copies;
mod file;
mod key_command;
mod keys;
mod retention;
mod services;
mod units;

use crate::{
    domain::{
        binlog::Flavour,
        cloud::{Cloud, CloudName},
        ids::ServiceId,
    },
    layout::BackupPlace,
    sealed::keys::Keys,
    store::config::StoreOptions,
};
use chrono::{DateTime, Utc};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Directory of the state and the forks.
    pub data_dir: PathBuf,
    /// Whom to continue as when started as root.
    pub user: String,
    /// How often the stores are looked at.
    pub poll_interval: Duration,
    /// How often everything in them is listed, and not only what is new.
    pub full_scan_interval: Duration,
    /// How far a copy may be behind before that is a problem.
    pub lag_warning: Duration,
    /// How copies are read again in the background; `None` means not at all.
    pub scrub: Option<ScrubSettings>,
    /// Memory for copying, in MiB.
    pub memory_mib: u64,
    /// Who may call the API.
    pub tokens: Vec<Token>,
    /// Clouds with their stores.
    pub regions: Vec<Region>,
    /// Services whose backups are replicated.
    pub services: Vec<ServiceSettings>,
    /// Private keys for backups that are encrypted.
    pub keys: Arc<Keys>,
    /// How forks are made.
    pub forks: ForkSettings,
}

/// Who may call the API. The token itself is nowhere, only its SHA-256.
#[derive(Clone, Debug)]
pub struct Token {
    /// For logs.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
}

/// A cloud and its store.
#[derive(Clone, Debug)]
pub struct Region {
    /// Name and provider.
    pub cloud: Cloud,
    /// URL of the store.
    pub store: String,
    /// What else must be known of it.
    pub store_options: StoreOptions,
}

/// A service.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Project and name.
    pub id: ServiceId,
    /// `pg`, `mysql`, ….
    pub service_type: String,
    /// The cloud that it runs in and that holds its primary backups.
    pub cloud: CloudName,
    /// Plan.
    pub plan: String,
    /// Where its backups lie; `None` for types without backup to another region.
    pub backup: Option<BackupSettings>,
    /// When expired backups leave the copies; `None` means never.
    pub copy_retention: Option<RetentionSettings>,
}

/// How copies are read again in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// Every object is to be read once in this period.
    pub every: Duration,
    /// Bytes that are read of one copy in a second at most.
    pub rate_bytes: u64,
}

/// When expired backups leave a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionSettings {
    /// How long a backup is kept after it has left the copy's catalogue.
    pub keep_expired_for: Duration,
    /// Restorable backups that must be listed before anything is removed.
    pub keep_restorable: usize,
    /// Backups that are never removed.
    pub hold: Vec<Hold>,
    /// A plan that would remove more of the copy's backups or bytes than this is held back.
    pub remove_percent_max: u8,
    /// How long a plan that was held back must stay the same before it is carried out.
    pub confirm_after: Duration,
}

/// A backup that is not removed, nor its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The tool's name of it.
    pub label: String,
    /// Until when; `None` means as long as the setting is there.
    pub until: Option<DateTime<Utc>>,
}

/// Where a service's backups lie.
#[derive(Clone, Debug)]
pub struct BackupSettings {
    /// In the store of the primary region.
    pub primary: BackupPlace,
    /// In the stores of secondary regions.
    pub copy: BackupPlace,
}

/// How forks are made.
#[derive(Clone, Debug)]
pub struct ForkSettings {
    /// Address that forks listen on.
    pub host: String,
    /// First and last port, both included.
    pub ports: (u16, u16),
    /// Disk space that a restore must leave free, in bytes.
    pub disk_reserve_bytes: u64,
    /// Settings of `postgresql.conf` that every fork of PostgreSQL gets.
    pub settings: BTreeMap<String, String>,
    /// Settings of `my.cnf` that every fork of MySQL or MariaDB gets.
    pub mysql_settings: BTreeMap<String, String>,
    /// Directory of MySQL's programs; `None` means the search path.
    pub mysql_programs: Option<PathBuf>,
    /// Directory of MariaDB's programs; `None` means the search path.
    pub mariadb_programs: Option<PathBuf>,
}

impl ForkSettings {
    /// Directory of the programs of MySQL or MariaDB; `None` means the search path.
    #[must_use]
    pub fn programs(&self, flavour: Flavour) -> Option<&PathBuf> {
        match flavour {
            Flavour::MySql => self.mysql_programs.as_ref(),
            Flavour::MariaDb => self.mariadb_programs.as_ref(),
        }
    }
}

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration {file} failed")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It has mistakes.
    #[error("{}", .0.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<Mistake>),
}

/// A mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and how to put it right.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.file.display(), self.line, self.what)
    }
}

/// Reads and checks a configuration.
///
/// # Errors
/// [`ConfigError`] with the line and the remedy of every mistake.
pub fn load(file: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    check::check(file, &text)
}
