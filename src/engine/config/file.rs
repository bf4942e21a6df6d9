//! The configuration as it is written: TOML tables, with the places of what is checked.

use crate::store::config::StoreOptions;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) engine: Spanned<EngineTable>,
    #[serde(default)]
    pub(super) token: Vec<TokenTable>,
    #[serde(default)]
    pub(super) region: Vec<RegionTable>,
    #[serde(default)]
    pub(super) service: Vec<ServiceTable>,
    #[serde(default)]
    pub(super) private_key: Vec<PrivateKeyTable>,
    #[serde(default)]
    pub(super) forks: ForksTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EngineTable {
    pub(super) listen: Spanned<String>,
    pub(super) data_dir: Spanned<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) poll_interval: Option<Spanned<String>>,
    pub(super) full_scan_interval: Option<Spanned<String>>,
    pub(super) lag_warning: Option<Spanned<String>>,
    pub(super) memory_mib: Option<Spanned<u64>>,
    pub(super) scrub: Option<ScrubTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScrubTable {
    pub(super) every: Option<Spanned<String>>,
    pub(super) rate_mib: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenTable {
    pub(super) name: Spanned<String>,
    pub(super) sha256: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrivateKeyTable {
    pub(super) id: Spanned<String>,
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) env: Option<Spanned<String>>,
    pub(super) command: Option<Spanned<Vec<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegionTable {
    pub(super) cloud: Spanned<String>,
    pub(super) provider: Option<String>,
    pub(super) store: Spanned<String>,
    pub(super) store_options: Option<Spanned<StoreOptions>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceTable {
    pub(super) project: Spanned<String>,
    pub(super) name: Spanned<String>,
    #[serde(rename = "type")]
    pub(super) service_type: Spanned<String>,
    pub(super) cloud: Spanned<String>,
    pub(super) plan: String,
    pub(super) backup: Option<BackupTable>,
    pub(super) copy_retention: Option<RetentionTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionTable {
    pub(super) keep_expired_for: Option<Spanned<String>>,
    /// The older name of `keep_expired_for`.
    pub(super) expired_after: Option<Spanned<String>>,
    pub(super) keep_restorable: Option<usize>,
    #[serde(default)]
    pub(super) hold: Vec<Spanned<HoldTable>>,
    pub(super) remove_percent_max: Option<Spanned<u8>>,
    pub(super) confirm_after: Option<Spanned<String>>,
}

/// `"LABEL"`, or `{ backup = "LABEL", until = "2027-01-01T00:00:00Z" }`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum HoldTable {
    Always(String),
    Until { backup: String, until: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupTable {
    pub(super) format: Spanned<String>,
    pub(super) stanza: Option<Spanned<String>>,
    pub(super) private_key: Option<Spanned<String>>,
    pub(super) path: Spanned<String>,
    pub(super) copy_path: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForksTable {
    pub(super) host: Option<String>,
    pub(super) ports: Option<Spanned<String>>,
    pub(super) disk_reserve: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) mysql_settings: BTreeMap<String, String>,
    pub(super) mysql_programs: Option<Spanned<PathBuf>>,
    pub(super) mariadb_programs: Option<Spanned<PathBuf>>,
}
