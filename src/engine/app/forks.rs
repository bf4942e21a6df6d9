//! Forks: a new service from the copy of another one, and its end.

use crate::{
    api::service::{
        PROJECT_TO_FORK_FROM, RECOVERY_TARGET_TIME, SERVICE_TO_FORK_FROM, Service, ServiceCreate,
    },
    domain::{
        cloud::CloudName,
        fork::ForkPhase,
        ids::ServiceId,
        recovery::{Recovery, RecoveryTarget},
        target_time,
        violation::Violation,
    },
    engine::{
        app::{App, services::regions_of},
        catalog::{binlogs, recover},
        config::{BackupSettings, ServiceSettings},
        error::{AppError, chain},
        fork::{mysql::runner as mysql, runner},
        fork_jobs,
        state::forks::StoredFork,
    },
    layout::BackupFormat,
};
use rand::{Rng, distr::Alphanumeric};
use serde_json::Value;

/// Length of the admin role's password: 24 letters and digits hold 142 bits.
const PASSWORD_LENGTH: usize = 24;

impl App {
    /// Makes a service by forking another one from its copy in a secondary region.
    ///
    /// # Errors
    /// [`AppError`]; nothing was made then.
    pub async fn create_service(
        &self,
        project: &str,
        create: ServiceCreate,
    ) -> Result<Service, AppError> {
        let id = self.id(project, &create.service_name)?;
        let _change = self.change.lock().await;
        if self.configured(&id).is_some() || self.forks.is_taken(&id) {
            return Err(AppError::NameTaken);
        }
        let (source, backup) = self.source_of(&id, &create)?;
        let region = self.region_of(source, create.cloud.as_deref())?;
        let target = target_of(&create)?;
        let store = self.stores.get(&region).cloned().ok_or_else(|| without_store(&region))?;
        let recovery = self.recovery(&source.id, &region, target).await?;
        let fork = self.new_fork(id, source, backup, region, &create, recovery)?;
        let reserve = self.settings.forks.disk_reserve_bytes;
        let brought = brought_bytes(&fork, store.local_root().is_some());
        let reserve = reserve.saturating_add(brought);
        let site = fork_jobs::site(&fork);
        let possible = match &fork.recovery {
            Recovery::Postgres(plan) => runner::preflight(&site, plan, reserve),
            Recovery::MySql(plan) => mysql::preflight(&site, plan, reserve),
        };
        possible.map_err(|error| AppError::refused("fork_not_possible", chain(&error)))?;
        let name = fork.id.service.to_string();
        self.forks.add(fork, store)?;
        self.get_service(project, &name)
    }

    /// The service that is forked, and where its backups lie.
    fn source_of(
        &self,
        id: &ServiceId,
        create: &ServiceCreate,
    ) -> Result<(&ServiceSettings, &BackupSettings), AppError> {
        let text = |key: &str| {
            create.user_config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
        };
        let Some(name) = text(SERVICE_TO_FORK_FROM) else {
            let text = "this engine makes services by forking only: give \
                        user_config.service_to_fork_from";
            return Err(AppError::refused("bad_request", text));
        };
        let project = text(PROJECT_TO_FORK_FROM).unwrap_or(id.project.as_str());
        let source = self.id(project, name)?;
        if self.forks.is_taken(&source) {
            let text = format!("No valid backups for service {source}: it is a fork itself");
            return Err(AppError::refused("invalid_backup_configuration", text));
        }
        let Some(configured) = self.configured(&source) else {
            // Not worded like Aiven's own 404, which its clients take for a reason to try again.
            let text = format!("there is no service {source} to fork from");
            return Err(AppError::NotFound(text));
        };
        if create.service_type != configured.service_type {
            let text = format!(
                "{source} is of type {}, so its fork cannot be of type {}",
                configured.service_type, create.service_type
            );
            return Err(AppError::refused("invalid_service_type", text));
        }
        let service_type = configured.service_type.clone();
        let backup = configured.backup.as_ref();
        let backup = backup.ok_or(Violation::TypeWithoutSecondaryBackups { service_type })?;
        Ok((configured, backup))
    }

    /// The region of a fork: one that holds a copy.
    fn region_of(
        &self,
        source: &ServiceSettings,
        cloud: Option<&str>,
    ) -> Result<CloudName, AppError> {
        let enabled = regions_of(&self.state.service(&source.id)?.user_config);
        let region = match (cloud, enabled.as_slice()) {
            (Some(cloud), _) => CloudName::parse(cloud)?,
            (None, [only]) => only.clone(),
            (None, _) => source.cloud.clone(),
        };
        if enabled.contains(&region) {
            Ok(region)
        } else {
            Err(Violation::RegionWithoutCopy { region, valid: enabled }.into())
        }
    }

    /// Looks at the copy, and nothing else, and works out the recovery.
    async fn recovery(
        &self,
        source: &ServiceId,
        region: &CloudName,
        target: RecoveryTarget,
    ) -> Result<Recovery, AppError> {
        let now = self.clock.now();
        let without = || without_store(region);
        let replicator = self.replicators.get(source).ok_or_else(without)?;
        let planned = replicator
            .observe(region, async |reader, observed| match reader.place().format.is_mysql() {
                true => Box::pin(binlogs::recover::plan(reader, observed, target, now))
                    .await
                    .map(Recovery::MySql),
                false => recover::plan(reader, observed, target, now).await.map(Recovery::Postgres),
            })
            .await?;
        Ok(planned.ok_or_else(without)??)
    }

    fn new_fork(
        &self,
        id: ServiceId,
        source: &ServiceSettings,
        backup: &BackupSettings,
        region: CloudName,
        create: &ServiceCreate,
        recovery: Recovery,
    ) -> Result<StoredFork, AppError> {
        let forks = &self.settings.forks;
        let port = self.forks.free_port().ok_or_else(|| {
            let (first, last) = forks.ports;
            AppError::refused(
                "no_free_port",
                format!(
                    "no port from {first} to {last} is free for the fork; raise [forks] ports or \
                     delete a fork"
                ),
            )
        })?;
        let mut random = rand::rng();
        let short: u32 = random.random();
        let password = (0..PASSWORD_LENGTH).map(|_| char::from(random.sample(Alphanumeric)));
        let mut tags = create.tags.clone().unwrap_or_default();
        if create.copy_tags == Some(true) {
            for (key, value) in self.state.service(&source.id)?.tags {
                tags.entry(key).or_insert(value);
            }
        }
        let now = self.clock.now();
        Ok(StoredFork {
            version: 1,
            dir: self.settings.data_dir.join("forks").join(format!("{}-{short:08x}", id.service)),
            socket_dir: self.settings.data_dir.join("run").join(format!("{short:08x}")),
            id,
            source: source.id.clone(),
            region,
            plan: create.plan.clone(),
            user_config: create.user_config.clone(),
            termination_protection: create.termination_protection.unwrap_or(false),
            tags,
            created_at: now,
            updated_at: now,
            phase: ForkPhase::Planned,
            deleting: false,
            error: None,
            recovery,
            place: backup.copy.clone(),
            host: forks.host.clone(),
            port,
            admin_password: password.collect(),
        })
    }

    /// Deletes a fork.
    ///
    /// # Errors
    /// [`AppError::Protected`], and [`AppError::Refused`] for services of the configuration.
    pub async fn delete_service(&self, project: &str, service: &str) -> Result<(), AppError> {
        let id = self.id(project, service)?;
        if self.configured(&id).is_some() {
            let text = format!(
                "{id} is a service of the engine's configuration and is not deleted through the \
                 API; take it out of the configuration"
            );
            return Err(AppError::refused("request_forbidden", text));
        }
        let Some((fork, _)) = self.forks.get(&id) else {
            return Err(AppError::NotFound("Service does not exist".to_owned()));
        };
        if fork.termination_protection {
            return Err(AppError::Protected);
        }
        self.forks.delete(&id).await?;
        Ok(())
    }
}

/// What is brought to this machine besides the fork itself, in bytes; rather too much than too little.
fn brought_bytes(fork: &StoredFork, is_local: bool) -> u64 {
    let Recovery::Postgres(plan) = &fork.recovery else { return 0 };
    match fork.place.format {
        BackupFormat::PgBackRest { .. } if is_local => 0,
        // The objects of the base backup; compressed or not, they are no larger than this.
        BackupFormat::PgBackRest { .. } => plan.restored_bytes,
        // The log, packed anew: lightly, where it may have been packed tightly.
        BackupFormat::PgHoard | BackupFormat::MyHoard { .. } | BackupFormat::Stream => {
            plan.log.iter().map(|object| object.size_bytes).sum::<u64>().saturating_mul(2)
        }
    }
}

fn without_store(region: &CloudName) -> AppError {
    let text = format!("region {region} is not in the engine's configuration any more; add it");
    AppError::refused("bad_request", text)
}

/// What is to be restored.
fn target_of(create: &ServiceCreate) -> Result<RecoveryTarget, AppError> {
    if create.user_config.contains_key("recovery_basebackup_name") {
        let text = "`recovery_basebackup_name` does not exist for services of the types pg and \
                    mysql; use recovery_target_time";
        return Err(AppError::refused("bad_request", text));
    }
    match create.user_config.get(RECOVERY_TARGET_TIME) {
        None | Some(Value::Null) => Ok(RecoveryTarget::LatestTransaction),
        Some(Value::String(text)) if text.is_empty() => Ok(RecoveryTarget::LatestTransaction),
        Some(Value::String(text)) => Ok(RecoveryTarget::PointInTime(target_time::parse(text)?)),
        Some(other) => Err(Violation::NotATime { text: other.to_string() }.into()),
    }
}
