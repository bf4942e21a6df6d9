//! Services: what creates, changes and describes them.

use crate::api::backups::Backup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// `user_config` and other free-form objects.
pub type Object = Map<String, Value>;

/// Key of `user_config`: the secondary backup regions.
pub const ADDITIONAL_BACKUP_REGIONS: &str = "additional_backup_regions";
/// Key of `user_config`: the service that a fork comes from.
pub const SERVICE_TO_FORK_FROM: &str = "service_to_fork_from";
/// Key of `user_config`: the project of the service that a fork comes from.
pub const PROJECT_TO_FORK_FROM: &str = "project_to_fork_from";
/// Key of `user_config`: the moment that a fork restores.
pub const RECOVERY_TARGET_TIME: &str = "recovery_target_time";

/// States of a service. Aiven has these four and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServiceState {
    /// Switched off.
    Poweroff,
    /// Changing plan or cloud.
    Rebalancing,
    /// Being made or repaired.
    Rebuilding,
    /// In use.
    Running,
}

/// Body of `POST /project/{p}/service`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceCreate {
    /// Name of the new service.
    pub service_name: String,
    /// `pg` or `mysql`.
    pub service_type: String,
    /// Plan.
    pub plan: String,
    /// Cloud; null means the project's default.
    #[serde(default)]
    pub cloud: Option<String>,
    /// Settings, among them what to fork from.
    #[serde(default)]
    pub user_config: Object,
    /// Refuse deletion and power-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_protection: Option<bool>,
    /// VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_vpc_id: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Copy the tags of the service that is forked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_tags: Option<bool>,
}

/// Body of `PUT /project/{p}/service/{s}`. `user_config` is merged key by key; arrays replace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceUpdate {
    /// Plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
    /// Switch on or off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub powered: Option<bool>,
    /// Settings to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_config: Option<Object>,
    /// Refuse deletion and power-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_protection: Option<bool>,
    /// VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_vpc_id: Option<String>,
}

/// `{"service": …}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceReply {
    /// The service.
    pub service: Service,
}

/// `{"services": […]}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceList {
    /// The services.
    pub services: Vec<Service>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Name.
    pub service_name: String,
    /// `pg`, `mysql`, ….
    pub service_type: String,
    /// Cloud that it runs in.
    pub cloud_name: String,
    /// Plan.
    pub plan: String,
    /// State.
    pub state: ServiceState,
    /// Settings as they were sent.
    #[serde(default)]
    pub user_config: Object,
    /// RFC 3339.
    pub create_time: String,
    /// RFC 3339.
    pub update_time: String,
    /// Whether deletion and power-off are refused.
    #[serde(default)]
    pub termination_protection: bool,
    /// VPC.
    #[serde(default)]
    pub project_vpc_id: Option<String>,
    /// Base backups of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Vec<Backup>>,
    /// Connection URI with the password; null until the service answers.
    #[serde(default)]
    pub service_uri: Option<String>,
    /// Parts of the URI, all strings, the port included.
    #[serde(default)]
    pub service_uri_params: BTreeMap<String, String>,
    /// Nodes with the progress of a restore.
    #[serde(default)]
    pub node_states: Vec<NodeState>,
    /// Free-form; a fork's origin and result are under `btar` (our addition).
    #[serde(default)]
    pub metadata: Object,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What the other clients insist on and this project does not use.
    #[serde(flatten)]
    pub rest: Object,
}

/// A node and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeState {
    /// Name of the node.
    pub name: String,
    /// `setting_up_vm`, `syncing_data`, `running`, ….
    pub state: String,
    /// `master`, `standby`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What the node is doing.
    #[serde(default)]
    pub progress_updates: Vec<ProgressUpdate>,
}

/// One phase of a restore. All keys are always present, and `min` never equals `max`: clients
/// divide by their difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressUpdate {
    /// `prepare`, `basebackup`, `stream` or `finalize`.
    pub phase: String,
    /// Whether the phase is over.
    pub completed: bool,
    /// Lower end of the scale.
    pub min: Option<u64>,
    /// Upper end of the scale.
    pub max: Option<u64>,
    /// Where the phase is between them.
    pub current: Option<u64>,
    /// `bytes_uncompressed`, `wal_lsn`, ….
    pub unit: Option<String>,
}

/// Our addition under `metadata.btar` of a fork.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForkReport {
    /// `project/service` that the fork comes from.
    pub source: String,
    /// `planned`, `restoring`, `replaying`, `verifying`, `ready`, `failed` or `cancelled`.
    pub phase: String,
    /// Base backup that was restored.
    #[serde(default)]
    pub base_backup_name: Option<String>,
    /// End of that base backup, RFC 3339.
    #[serde(default)]
    pub base_backup_time: Option<String>,
    /// The moment whose contents the fork has, RFC 3339.
    #[serde(default)]
    pub recovered_to: Option<String>,
    /// The log position that was replayed and verified.
    #[serde(default)]
    pub recovered_lsn: Option<String>,
    /// Whose server it is, where the type of the service does not say so: `MySQL` or `MariaDB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavour: Option<String>,
    /// What went wrong, with the remedy.
    #[serde(default)]
    pub error: Option<String>,
}
