//! From what the engine knows to what the API says.

use crate::{
    api::{
        backups::{Backup, BackupCopy},
        service::{ForkReport, NodeState, Object, ProgressUpdate, Service, ServiceState},
    },
    domain::{binlog::Flavour, cloud::CloudName, fork::ForkPhase, recovery::Recovery, target_time},
    engine::{
        catalog::CatalogBackup,
        config::ServiceSettings,
        fork::Progress,
        fork_jobs::ADMIN_USER,
        state::{forks::StoredFork, services::StoredService},
        views::ServiceView,
    },
};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::BTreeMap;

/// Configured services have no other date of birth.
const CONFIGURED_SINCE: &str = "1970-01-01T00:00:00.000000Z";
/// The database that a connection URI names: every cluster has it.
const DATABASE: &str = "postgres";
/// The same of MySQL.
const MYSQL_DATABASE: &str = "mysql";

/// A service of the configuration.
pub(super) fn configured(
    settings: &ServiceSettings,
    stored: &StoredService,
    view: &ServiceView,
) -> Service {
    let updated = stored.updated_at.map_or_else(|| CONFIGURED_SINCE.to_owned(), time);
    let mut metadata = Object::new();
    if let Some(error) = &view.primary.error {
        metadata.insert("btar".to_owned(), json!({ "primary_region_error": error }));
    }
    Service {
        service_name: settings.id.service.to_string(),
        service_type: settings.service_type.clone(),
        cloud_name: settings.cloud.to_string(),
        plan: stored.plan.clone().unwrap_or_else(|| settings.plan.clone()),
        // Whether the database itself runs is not this engine's business, nor known to it.
        state: ServiceState::Running,
        user_config: stored.user_config.clone(),
        create_time: CONFIGURED_SINCE.to_owned(),
        update_time: updated,
        termination_protection: stored.termination_protection,
        project_vpc_id: None,
        backups: settings.backup.as_ref().map(|_| backups(&settings.cloud, view)),
        service_uri: None,
        service_uri_params: BTreeMap::new(),
        node_states: Vec::new(),
        metadata,
        tags: stored.tags.clone(),
        rest: rest(None),
    }
}

/// A fork.
pub(super) fn fork(fork: &StoredFork, progress: Option<Progress>) -> Service {
    let ready = fork.phase == ForkPhase::Ready;
    let state = if ready { ServiceState::Running } else { ServiceState::Rebuilding };
    let parameters = ready.then(|| uri_parameters(fork));
    let uri = parameters.as_ref().map(uri);
    let recovery = &fork.recovery;
    let report = ForkReport {
        source: fork.source.to_string(),
        phase: fork.phase.to_string(),
        base_backup_name: Some(recovery.backup_name().to_owned()),
        base_backup_time: Some(target_time::format(recovery.backup_finished_at())),
        recovered_to: Some(target_time::format(recovery.recovered_to())),
        recovered_lsn: Some(recovery.position()),
        flavour: flavour(recovery).map(|flavour| flavour.product().to_owned()),
        error: fork.error.clone(),
    };
    let metadata = match recovery {
        Recovery::Postgres(plan) => {
            json!({"pg_version": plan.postgres_major.to_string(), "btar": report})
        }
        Recovery::MySql(plan) => json!({"mysql_version": plan.server_version, "btar": report}),
    };
    Service {
        service_name: fork.id.service.to_string(),
        service_type: service_type(recovery).to_owned(),
        cloud_name: fork.region.to_string(),
        plan: fork.plan.clone(),
        state,
        user_config: fork.user_config.clone(),
        create_time: time(fork.created_at),
        update_time: time(fork.updated_at),
        termination_protection: fork.termination_protection,
        project_vpc_id: None,
        backups: Some(Vec::new()),
        service_uri: uri.clone(),
        service_uri_params: parameters.clone().unwrap_or_default(),
        node_states: vec![node(fork, progress)],
        metadata: metadata.as_object().cloned().unwrap_or_default(),
        tags: fork.tags.clone(),
        rest: rest(parameters.as_ref().zip(uri.as_deref())),
    }
}

fn service_type(recovery: &Recovery) -> &'static str {
    match recovery {
        Recovery::Postgres(_) => "pg",
        Recovery::MySql(_) => "mysql",
    }
}

fn flavour(recovery: &Recovery) -> Option<Flavour> {
    match recovery {
        Recovery::Postgres(_) => None,
        Recovery::MySql(plan) => Some(plan.flavour),
    }
}

fn uri_parameters(fork: &StoredFork) -> BTreeMap<String, String> {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let (database, ssl) = match &fork.recovery {
        Recovery::Postgres(_) => (DATABASE, ("sslmode", "prefer")),
        Recovery::MySql(_) => (MYSQL_DATABASE, ("ssl-mode", "PREFERRED")),
    };
    BTreeMap::from([
        pair("host", &fork.host),
        pair("port", &fork.port.to_string()),
        pair("user", ADMIN_USER),
        pair("password", &fork.admin_password),
        pair("dbname", database),
        pair(ssl.0, ssl.1),
    ])
}

fn uri(parameters: &BTreeMap<String, String>) -> String {
    let part = |key: &str| parameters.get(key).map_or("", String::as_str);
    let host = part("host");
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let scheme = if parameters.contains_key("ssl-mode") { "mysql" } else { "postgres" };
    format!(
        "{scheme}://{}:{}@{host}:{}/{}",
        part("user"),
        part("password"),
        part("port"),
        part("dbname")
    )
}

fn node(fork: &StoredFork, progress: Option<Progress>) -> NodeState {
    let state = match fork.phase {
        ForkPhase::Ready => "running",
        ForkPhase::Failed | ForkPhase::Cancelled => "unknown",
        ForkPhase::Planned => "setting_up_vm",
        ForkPhase::Restoring | ForkPhase::Replaying | ForkPhase::Verifying => "syncing_data",
    };
    let phases = [
        ("prepare", ForkPhase::Planned),
        ("basebackup", ForkPhase::Restoring),
        ("stream", ForkPhase::Replaying),
        ("finalize", ForkPhase::Verifying),
    ];
    let begun = phases.iter().filter(|(_, phase)| *phase <= fork.phase);
    let updates = begun.map(|(name, phase)| {
        let now = progress.filter(|now| now.phase == *phase && *phase == fork.phase);
        update(name, *phase < fork.phase, now)
    });
    NodeState {
        name: format!("{}-1", fork.id.service),
        state: state.to_owned(),
        role: Some("master".to_owned()),
        progress_updates: if fork.phase == ForkPhase::Ready {
            Vec::new()
        } else {
            updates.collect()
        },
    }
}

/// Clients divide by the difference of `max` and `min`: it is never zero.
fn update(name: &str, completed: bool, progress: Option<Progress>) -> ProgressUpdate {
    let max = progress.and_then(|progress| progress.max).filter(|max| *max > 0);
    let current = progress.and_then(|progress| progress.current);
    ProgressUpdate {
        phase: name.to_owned(),
        completed,
        min: max.map(|_| 0),
        max,
        current: max.and(current).map(|current| current.min(max.unwrap_or(current))),
        unit: progress.filter(|_| max.is_some()).map(|progress| progress.unit.to_owned()),
    }
}

/// What other clients insist on.
fn rest(connection: Option<(&BTreeMap<String, String>, &str)>) -> Object {
    let empty = || (json!([]), json!([]));
    let users = connection.map(|(parameters, _)| {
        json!([{"username": ADMIN_USER, "type": "primary", "password": parameters["password"]}])
    });
    let (mut pg, mut mysql) = (empty(), empty());
    if let Some((parameters, uri)) = connection {
        let own = if uri.starts_with("mysql:") { &mut mysql } else { &mut pg };
        *own = (json!([uri]), json!([parameters]));
    }
    let connection_info = json!({
        "pg": pg.0, "pg_params": pg.1, "pg_standby": [], "pg_syncing": [],
        "mysql": mysql.0, "mysql_params": mysql.1, "mysql_standby": [],
    });
    let rest = json!({
        "group_list": ["default"],
        "service_integrations": [],
        "maintenance": {"dow": "monday", "time": "03:00:00", "enabled": true, "updates": []},
        "connection_info": connection_info,
        "users": users.unwrap_or_else(|| json!([])),
        "databases": [],
        "connection_pools": [],
        "components": [],
        "service_notifications": [],
        "tech_emails": [],
        "node_count": 1,
        "disk_space_mb": null,
    });
    rest.as_object().cloned().unwrap_or_default()
}

/// The base backups of a service: what the primary lists, and what only copies still have.
pub(super) fn backups(primary: &CloudName, view: &ServiceView) -> Vec<Backup> {
    let mut listed: BTreeMap<(DateTime<Utc>, String), Backup> = BTreeMap::new();
    let copies = view.regions.values().flat_map(|region| &region.catalog.backups);
    for backup in view.primary.backups.iter().chain(copies) {
        let key = (backup.started_at, backup.name.clone());
        listed.entry(key).or_insert_with(|| describe(primary, backup, view));
    }
    listed.into_values().collect()
}

fn describe(primary: &CloudName, backup: &CatalogBackup, view: &ServiceView) -> Backup {
    let copies = view.regions.iter().filter_map(|(cloud, region)| {
        let copy = region.catalog.backups.iter().find(|copy| copy.name == backup.name)?;
        Some(BackupCopy {
            cloud: cloud.to_string(),
            region: cloud.region().to_owned(),
            paused: Some(region.error.is_some()),
            pause_reason: region.error.clone(),
            restorable: Some(copy.range.is_some()),
        })
    });
    Backup {
        backup_name: backup.name.clone(),
        backup_time: time(backup.finished_at),
        data_size: backup.size_bytes,
        storage_location: Some(primary.to_string()),
        incremental: Some(backup.incremental),
        additional_regions: copies.collect(),
    }
}

fn time(time: DateTime<Utc>) -> String {
    target_time::format_micros(time)
}
