//! The settings of `btar push`: a small TOML file for one server.

use crate::{
    domain::recovery::BaseTool,
    store::{config::StoreOptions, key::Key},
};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("reading the settings {file} failed")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("reading the settings {file} failed")]
    Toml {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value cannot be.
    #[error("{file}: {what}")]
    Value {
        /// The file.
        file: PathBuf,
        /// What is wrong, and how to put it right.
        what: String,
    },
}

/// What to push, and where to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address of the primary region's store, as in the engine's `[[region]]`.
    pub store: String,
    /// What else must be known of it, as in the engine's `[[region]]`.
    #[serde(default)]
    pub store_options: StoreOptions,
    /// Prefix of all keys, as in the engine's `backup = { path = … }`.
    pub path: String,
    /// A directory for what must be remembered while a base backup is made.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// The server.
    #[serde(default)]
    pub server: ServerSettings,
    /// Base backups.
    #[serde(default)]
    pub base: BaseSettings,
}

/// How the server is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// An option file with user and password, and the only one that is read; without it the client
    /// reads those that it always reads.
    pub defaults_file: Option<PathBuf>,
    /// Its socket.
    pub socket: Option<PathBuf>,
    /// Its host. The server's files must be on this machine nevertheless.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The account.
    pub user: Option<String>,
    /// The client program: `mariadb` or `mysql`.
    pub client: Option<PathBuf>,
    /// What to do when the server is read-only.
    pub when_read_only: WhenReadOnly,
}

/// What to do when the server is read-only, as replicas are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenReadOnly {
    /// Nothing, so that the same timer may run on all servers and the primary pushes.
    #[default]
    Skip,
    /// Push all the same: backups are taken from this replica, and from no other server.
    Push,
}

/// How base backups are made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaseSettings {
    /// The tool; without it the server's own one.
    pub tool: Option<Tool>,
    /// The program of the tool.
    pub program: Option<PathBuf>,
    /// More arguments for it, such as `--parallel=4`.
    pub arguments: Vec<String>,
    /// For `clone`: a directory in which the server may make others.
    pub clone_dir: Option<PathBuf>,
    /// Size of a part, in MiB. Three of them are kept in memory.
    pub part_mib: u32,
    /// How long a base backup may take, in hours.
    pub hours_max: u32,
}

/// The tools by the names that they have everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// MariaDB's.
    MariadbBackup,
    /// Percona's.
    Xtrabackup,
    /// MySQL's own plugin.
    Clone,
}

impl From<Tool> for BaseTool {
    fn from(tool: Tool) -> Self {
        match tool {
            Tool::MariadbBackup => Self::MariaDbBackup,
            Tool::Xtrabackup => Self::XtraBackup,
            Tool::Clone => Self::Clone,
        }
    }
}

impl Default for BaseSettings {
    fn default() -> Self {
        Self {
            tool: None,
            program: None,
            arguments: Vec::new(),
            clone_dir: None,
            part_mib: 64,
            hours_max: 24,
        }
    }
}

impl BaseSettings {
    /// Size of a part, in bytes.
    #[must_use]
    pub fn part_bytes(&self) -> usize {
        usize::try_from(self.part_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20)
    }

    /// How long a base backup may take.
    #[must_use]
    pub fn time_max(&self) -> Duration {
        Duration::from_secs(u64::from(self.hours_max) * 3600)
    }
}

fn state_dir() -> PathBuf {
    "/var/lib/btar-push".into()
}

/// Reads and checks settings.
///
/// # Errors
/// [`SettingsError`].
pub fn load(file: &Path) -> Result<Settings, SettingsError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| SettingsError::Read { file: file.to_owned(), source })?;
    let settings: Settings = toml::from_str(&text).map_err(|source| SettingsError::Toml {
        file: file.to_owned(),
        source: Box::new(source),
    })?;
    let wrong = |what: String| SettingsError::Value { file: file.to_owned(), what };
    Key::parse(&settings.path).map_err(|error| wrong(format!("path: {error}")))?;
    if !(1..=1024).contains(&settings.base.part_mib) {
        return Err(wrong("part_mib in [base] must be between 1 and 1024".to_owned()));
    }
    if !(1..=24 * 14).contains(&settings.base.hours_max) {
        return Err(wrong("hours_max in [base] must be between 1 and 336".to_owned()));
    }
    let clone_dir = settings.base.clone_dir.as_ref().map(|dir| dir.to_string_lossy());
    if let Some(dir) = clone_dir {
        // It becomes part of a statement.
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        if !dir.starts_with('/') || !dir.chars().all(plain) {
            let what = "clone_dir in [base] must begin with a slash and have only letters, digits, \
                        `.`, `_`, `-` and `/`";
            return Err(wrong(what.to_owned()));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("push.toml");
        std::fs::write(&file, text).unwrap();
        load(&file).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", source.unwrap_or_default())
        })
    }

    #[test]
    fn little_is_enough_and_mistakes_are_told() {
        let settings = read("store = \"file:///srv/a\"\npath = \"orders\"").unwrap();
        assert_eq!(settings.state_dir, Path::new("/var/lib/btar-push"));
        assert_eq!(settings.base.part_bytes(), 64 << 20);
        assert_eq!(settings.server.when_read_only, WhenReadOnly::Skip);
        let more = "[base]\ntool = \"mariadb-backup\"\nclone_dir = \"/srv/clone\"";
        let base = format!("store = \"file:///srv/a\"\npath = \"orders\"\n{more}");
        assert_eq!(read(&base).unwrap().base.tool, Some(Tool::MariadbBackup));
        for (from, to, expect) in [
            ("mariadb-backup", "cp", "unknown variant `cp`"),
            ("orders", "../x", "path: `../x`"),
            ("/srv/clone", "/srv/it's", "clone_dir"),
            ("/srv/clone", "clone", "clone_dir"),
            ("tool =", "tol =", "line 4"),
            ("tool = \"mariadb-backup\"", "part_mib = 0", "part_mib"),
        ] {
            let error = read(&base.replace(from, to)).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }
}
