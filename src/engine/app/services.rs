//! Services: get, list, change.

use crate::{
    api::service::{
        ADDITIONAL_BACKUP_REGIONS, Object, PROJECT_TO_FORK_FROM, RECOVERY_TARGET_TIME,
        SERVICE_TO_FORK_FROM, Service, ServiceUpdate,
    },
    domain::{
        cloud::{Cloud, CloudName, check_backup_region},
        ids::ServiceId,
        violation::Violation,
    },
    engine::{
        app::{App, describe},
        config::ServiceSettings,
        error::AppError,
        state::services::StoredService,
    },
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Secondary regions that one service may have.
pub const REGIONS_MAX: usize = 16;

/// Settings that can be given when a service is made and never be changed.
const CREATE_ONLY: &[&str] = &[SERVICE_TO_FORK_FROM, PROJECT_TO_FORK_FROM, RECOVERY_TARGET_TIME];

/// The secondary regions in a `user_config`.
#[must_use]
pub fn regions_of(user_config: &Object) -> Vec<CloudName> {
    let listed = user_config.get(ADDITIONAL_BACKUP_REGIONS).and_then(Value::as_array);
    let texts = listed.into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| CloudName::parse(text).ok()).collect()
}

impl App {
    /// One service.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn get_service(&self, project: &str, service: &str) -> Result<Service, AppError> {
        let id = self.id(project, service)?;
        if let Some(configured) = self.configured(&id) {
            let stored = self.state.service(&id)?;
            return Ok(describe::configured(configured, &stored, &self.views.service(&id)));
        }
        match self.forks.get(&id) {
            Some((fork, progress)) => Ok(describe::fork(&fork, progress)),
            None => Err(AppError::NotFound("Service does not exist".to_owned())),
        }
    }

    /// All services of a project.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn list_services(&self, project: &str) -> Result<Vec<Service>, AppError> {
        let project = self.project(project)?;
        let mut services = Vec::new();
        for configured in self.settings.services.iter().filter(|s| s.id.project == project) {
            let stored = self.state.service(&configured.id)?;
            let view = self.views.service(&configured.id);
            services.push(describe::configured(configured, &stored, &view));
        }
        let forks = self.forks.all().into_iter().filter(|(fork, _)| fork.id.project == project);
        services.extend(forks.map(|(fork, progress)| describe::fork(&fork, progress)));
        Ok(services)
    }

    /// Changes a service.
    ///
    /// # Errors
    /// [`AppError`]; nothing was changed then.
    pub async fn update_service(
        &self,
        project: &str,
        service: &str,
        update: ServiceUpdate,
    ) -> Result<Service, AppError> {
        let id = self.id(project, service)?;
        let _change = self.change.lock().await;
        match self.configured(&id) {
            Some(configured) => self.update_configured(configured, update)?,
            None => self.update_fork(&id, update)?,
        }
        self.get_service(project, service)
    }

    fn update_configured(
        &self,
        configured: &ServiceSettings,
        update: ServiceUpdate,
    ) -> Result<(), AppError> {
        let mut stored = self.state.service(&configured.id)?;
        refuse_moves(configured.cloud.as_str(), &update)?;
        let user_config = update.user_config.unwrap_or_default();
        let merged = merge(&stored.user_config, user_config)?;
        if merged.get(ADDITIONAL_BACKUP_REGIONS)
            != stored.user_config.get(ADDITIONAL_BACKUP_REGIONS)
        {
            self.check_regions(configured, merged.get(ADDITIONAL_BACKUP_REGIONS))?;
        }
        stored.user_config = merged;
        stored.plan = update.plan.or(stored.plan);
        if let Some(protection) = update.termination_protection {
            stored.termination_protection = protection;
        }
        stored.version = 1;
        stored.updated_at = Some(self.clock.now());
        self.state.put_service(&configured.id, &stored)?;
        if let Some(replicator) = self.replicators.get(&configured.id) {
            replicator.wake.notify_one();
        }
        Ok(())
    }

    fn update_fork(&self, id: &ServiceId, update: ServiceUpdate) -> Result<(), AppError> {
        let missing = || AppError::NotFound("Service does not exist".to_owned());
        let (fork, _) = self.forks.get(id).ok_or_else(missing)?;
        refuse_moves(fork.region.as_str(), &update)?;
        let user_config = merge(&fork.user_config, update.user_config.unwrap_or_default())?;
        if !regions_of(&user_config).is_empty() {
            let text = "a fork has no backups of its own that could be copied; set up backups for \
                        it and describe it as a [[service]] in the engine's configuration";
            return Err(AppError::refused("invalid_backup_configuration", text));
        }
        self.forks.change(id, |fork| {
            fork.user_config = user_config;
            if let Some(plan) = update.plan {
                fork.plan = plan;
            }
            if let Some(protection) = update.termination_protection {
                fork.termination_protection = protection;
            }
        })?;
        Ok(())
    }

    /// Checks the regions that a service is to have, by the same rules as the plan does.
    fn check_regions(
        &self,
        configured: &ServiceSettings,
        wanted: Option<&Value>,
    ) -> Result<(), AppError> {
        let wanted = wanted.and_then(Value::as_array);
        let wanted: Vec<&Value> = wanted.into_iter().flatten().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        if configured.backup.is_none() {
            let service_type = configured.service_type.clone();
            return Err(Violation::TypeWithoutSecondaryBackups { service_type }.into());
        }
        if wanted.len() > REGIONS_MAX {
            let text = format!("a service may have at most {REGIONS_MAX} backup regions");
            return Err(AppError::refused("invalid_backup_configuration", text));
        }
        let primary = self.known_cloud(&configured.cloud)?;
        for value in wanted {
            let text = value.as_str().unwrap_or_default();
            let region = self.known_cloud(&CloudName::parse(text)?)?;
            check_backup_region(&region, &primary, std::slice::from_ref(&primary))?;
        }
        Ok(())
    }

    fn known_cloud(&self, name: &CloudName) -> Result<Cloud, Violation> {
        let clouds = || self.settings.regions.iter().map(|region| &region.cloud);
        clouds().find(|cloud| cloud.name == *name).cloned().ok_or_else(|| {
            let known = clouds().map(|cloud| cloud.name.clone()).collect();
            Violation::UnknownCloud { name: name.clone(), known }
        })
    }

    /// Tags of a service.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn tags(&self, project: &str, service: &str) -> Result<BTreeMap<String, String>, AppError> {
        Ok(self.get_service(project, service)?.tags)
    }

    /// Changes the tags of a service by `change`.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn change_tags(
        &self,
        project: &str,
        service: &str,
        change: impl FnOnce(&mut BTreeMap<String, String>) + Send,
    ) -> Result<BTreeMap<String, String>, AppError> {
        let id = self.id(project, service)?;
        let _change = self.change.lock().await;
        if self.configured(&id).is_some() {
            let mut stored: StoredService = self.state.service(&id)?;
            change(&mut stored.tags);
            self.state.put_service(&id, &stored)?;
        } else {
            self.forks.change(&id, |fork| change(&mut fork.tags))?;
        }
        self.tags(project, service)
    }
}

fn refuse_moves(cloud: &str, update: &ServiceUpdate) -> Result<(), AppError> {
    if update.cloud.as_deref().is_some_and(|other| other != cloud) {
        let text = format!("this engine does not move services; leave the cloud at {cloud}");
        return Err(AppError::refused("bad_request", text));
    }
    if update.powered == Some(false) {
        let text = "this engine does not power services off; delete a fork that is not needed";
        return Err(AppError::refused("bad_request", text));
    }
    Ok(())
}

/// Merges sent keys into present ones. Arrays replace, `null` removes, create-only keys stay.
fn merge(present: &Object, sent: Object) -> Result<Object, AppError> {
    let mut merged = present.clone();
    for (key, value) in sent {
        if CREATE_ONLY.contains(&key.as_str()) {
            let same = present.get(&key).unwrap_or(&Value::Null) == &value;
            if !same {
                let text = format!("`{key}` can be given only when a service is created");
                return Err(AppError::refused("bad_request", text));
            }
            continue;
        }
        if key == ADDITIONAL_BACKUP_REGIONS {
            let strings = |list: &Vec<Value>| list.iter().all(Value::is_string);
            if !value.as_array().is_some_and(strings) {
                let text = format!("Invalid input: `{key}` must be a list of cloud names");
                return Err(AppError::refused("bad_request", text));
            }
        }
        if value.is_null() {
            merged.remove(&key);
        } else {
            merged.insert(key, value);
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_change_is_merged_key_by_key() {
        let present = object(json!({"a": 1, "b": [1], "service_to_fork_from": "s"}));
        let sent = object(json!({"b": [2], "c": 3, "a": null, "service_to_fork_from": "s"}));
        let merged = merge(&present, sent).unwrap();
        assert_eq!(Value::Object(merged), json!({"b": [2], "c": 3, "service_to_fork_from": "s"}));
        let other = object(json!({"service_to_fork_from": "t"}));
        assert!(merge(&present, other).is_err(), "where a fork comes from never changes");
    }

    #[test]
    fn regions_are_a_list_of_names() {
        for bad in [json!("x"), json!([1]), json!(null), json!({})] {
            let sent = object(json!({"additional_backup_regions": bad}));
            assert!(merge(&Object::new(), sent).is_err());
        }
        let good = object(json!({"additional_backup_regions": ["aws-x"]}));
        assert_eq!(regions_of(&merge(&Object::new(), good).unwrap()).len(), 1);
    }
}
