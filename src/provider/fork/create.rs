//! Asks the API for the fork, and takes over a fork that an earlier attempt has left.

use crate::{
    api::service::{
        Object, PROJECT_TO_FORK_FROM, RECOVERY_TARGET_TIME, SERVICE_TO_FORK_FROM, Service,
        ServiceCreate,
    },
    client::{endpoints::Api, error::ClientError},
    domain::{ids::ServiceId, target_time},
    provider::fork::{
        check::Checked,
        model::{Fork, LATEST_BASE_BACKUP},
        observe,
        wait::{self, Progress},
    },
};
use chrono::{DateTime, Utc};
use serde_json::Value;

/// Why there is no fork.
#[derive(Debug, thiserror::Error)]
pub(in crate::provider) enum CreateError {
    /// The API failed or refused.
    #[error(transparent)]
    Api(#[from] ClientError),
    /// The name is taken by something else.
    #[error("service {id} exists already and cannot be adopted: {difference}")]
    Taken {
        /// The name.
        id: ServiceId,
        /// Why it is not the fork that was asked for.
        difference: String,
    },
}

/// A fork that exists.
#[derive(Debug)]
pub(in crate::provider) struct Created {
    pub(in crate::provider) service: Service,
    /// An earlier attempt had made it.
    pub(in crate::provider) adopted: bool,
}

/// The request. `moment` is the moment to restore, if one is sent.
pub(in crate::provider) fn request(
    planned: &Fork,
    id: &ServiceId,
    source_id: &ServiceId,
    checked: &Checked,
    moment: Option<DateTime<Utc>>,
) -> ServiceCreate {
    let mut user_config = Object::new();
    user_config.insert(SERVICE_TO_FORK_FROM.into(), source_id.service.as_str().into());
    if source_id.project != id.project {
        user_config.insert(PROJECT_TO_FORK_FROM.into(), source_id.project.as_str().into());
    }
    if let Some(moment) = moment {
        user_config.insert(RECOVERY_TARGET_TIME.into(), target_time::format(moment).into());
    }
    let plan = planned.plan.text().unwrap_or(&checked.source.plan);
    ServiceCreate {
        service_name: id.service.as_str().to_owned(),
        service_type: checked.source.service_type.clone(),
        plan: plan.to_owned(),
        cloud: Some(checked.copy.cloud.as_str().to_owned()),
        user_config,
        termination_protection: planned.termination_protection.known().copied(),
        project_vpc_id: planned.project_vpc_id.text().map(str::to_owned),
        tags: observe::tags(&planned.tags),
        copy_tags: planned.copy_tags.known().copied().filter(|copy| *copy),
    }
}

/// Creates the fork, or adopts one of the same origin.
pub(in crate::provider) async fn create(
    api: &Api,
    planned: &Fork,
    id: &ServiceId,
    body: &ServiceCreate,
) -> Result<Created, CreateError> {
    let error = match api.create(id, body).await {
        Ok(service) => return Ok(Created { service, adopted: false }),
        Err(error) => error,
    };
    // The name is taken, or the answer got lost: the fork of this or an earlier attempt may be there.
    if !matches!(error, ClientError::Conflict { .. }) && !error.maybe_done() {
        return Err(error.into());
    }
    let Ok(service) = api.service_with_secrets_now(id).await else { return Err(error.into()) };
    let difference = same_origin(planned, &service, body.cloud.as_deref()).and_then(|()| {
        match wait::progress(&service) {
            Progress::Failed(reason) => Err(format!("its restore has failed ({reason})")),
            Progress::Complete | Progress::Restoring { .. } => Ok(()),
        }
    });
    match difference {
        Ok(()) => Ok(Created { service, adopted: true }),
        Err(difference) => Err(CreateError::Taken { id: id.clone(), difference }),
    }
}

/// Checks that `service` was forked from the same source at the same moment, and runs in `cloud`.
///
/// # Errors
/// What is different.
pub(in crate::provider) fn same_origin(
    planned: &Fork,
    service: &Service,
    cloud: Option<&str>,
) -> Result<(), String> {
    let setting = |key: &str| service.user_config.get(key).and_then(Value::as_str);
    let Some(source) = planned.source() else { return Ok(()) };
    let Some(found) = setting(SERVICE_TO_FORK_FROM) else {
        return Err("it is not a fork".to_owned());
    };
    let project = setting(PROJECT_TO_FORK_FROM).or(planned.project.text()).unwrap_or_default();
    if (project, found) != (source.project.as_str(), source.service.as_str()) {
        return Err(format!("it is a fork of {project}/{found}, not of {source}"));
    }
    let parse = |text: &str| target_time::parse(text).ok();
    let wanted = planned.recovery_target_time.text().and_then(parse);
    let at = setting(RECOVERY_TARGET_TIME).and_then(parse);
    // The newest base backup may be another one by now.
    if planned.recovery_target.text() != Some(LATEST_BASE_BACKUP) && wanted != at {
        let name =
            |time: Option<_>| time.map_or("its latest transaction".into(), target_time::format);
        return Err(format!("it restores {}, not {}", name(at), name(wanted)));
    }
    match cloud.filter(|cloud| *cloud != service.cloud_name) {
        Some(cloud) => Err(format!("it is in {}, not in {cloud}", service.cloud_name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{
        fork::{
            observe::tests::service,
            outlook::{Outlook, RegionCopy},
        },
        names,
        value::Tf,
    };
    use serde_json::json;
    use std::sync::Arc;

    fn checked() -> Checked {
        let cloud = crate::domain::cloud::CloudName::parse("aws-eu-central-1").unwrap();
        let copy = RegionCopy { cloud, window: Default::default(), bases: Vec::new() };
        let source = Arc::new(service("RUNNING", json!({})));
        Checked { source, copy, outlook: None::<Outlook> }
    }

    fn body(planned: &Fork, source: &str, moment: Option<&str>) -> Value {
        let id = names::import_id("demo/orders-dr").unwrap().0;
        let source = names::import_id(source).unwrap().0;
        let moment = moment.map(|text| target_time::parse(text).unwrap());
        serde_json::to_value(request(planned, &id, &source, &checked(), moment)).unwrap()
    }

    #[test]
    fn the_request_carries_what_is_set_and_nothing_else() {
        let plain = body(&Fork::default(), "demo/orders", None);
        let expect = json!({"service_name": "orders-dr", "service_type": "pg",
            "plan": "startup-4", "cloud": "aws-eu-central-1",
            "user_config": {"service_to_fork_from": "orders"}});
        assert_eq!(plain, expect);
        let planned = Fork {
            plan: "business-8".into(),
            termination_protection: Tf::Known(true),
            project_vpc_id: "7b1".into(),
            copy_tags: Tf::Known(true),
            ..Fork::default()
        };
        let full = body(&planned, "other/orders", Some("2026-11-23 08:41:12.250+01:00"));
        let config = json!({"service_to_fork_from": "orders", "project_to_fork_from": "other",
            "recovery_target_time": "2026-11-23T07:41:12.250000Z"});
        assert_eq!(full["user_config"], config);
        assert!(full["user_config"]["recovery_target_time"].as_str().unwrap().len() <= 32);
        assert_eq!((&full["plan"], &full["project_vpc_id"]), (&json!("business-8"), &json!("7b1")));
        let flags = (&full["copy_tags"], &full["termination_protection"]);
        assert_eq!(flags, (&json!(true), &json!(true)));
    }
}
