//! Imports a fork that exists: what it was made from stands in its settings.

use crate::{
    api::service::{PROJECT_TO_FORK_FROM, RECOVERY_TARGET_TIME, SERVICE_TO_FORK_FROM, Service},
    client::endpoints::Api,
    domain::ids::ServiceId,
    provider::{
        fork::{
            model::{Fork, POINT_IN_TIME},
            observe,
        },
        names,
        report::{self, At},
        timeouts::Timeouts,
        value::Tf,
    },
};
use serde_json::Value;
use tf_provider::Diagnostics;

/// Reads the fork `text`, which is `PROJECT/SERVICE_NAME`.
pub(super) async fn import(diags: &mut Diagnostics, api: &Api, text: &str) -> Option<Fork> {
    let id = match names::import_id(text) {
        Ok((id, None)) => id,
        Ok((_, Some(_))) => {
            let detail = format!("`{text}` has too many parts. Import PROJECT/SERVICE_NAME.");
            report::import_id(diags, &detail);
            return None;
        }
        Err(detail) => {
            report::import_id(diags, &detail);
            return None;
        }
    };
    let service = api.service_with_secrets(&id).await;
    let service = service.map_err(|error| report::client_error(diags, At::Block, &error)).ok()?;
    let fork = imported(&id, &service);
    if fork.is_none() {
        report::fork::not_a_fork(diags, &id);
    }
    fork
}

/// The state of an existing fork; `None` when the service is no fork.
fn imported(id: &ServiceId, service: &Service) -> Option<Fork> {
    let setting = |key: &str| service.user_config.get(key).and_then(Value::as_str);
    let source = setting(SERVICE_TO_FORK_FROM)?;
    let time = setting(RECOVERY_TARGET_TIME);
    let fork = Fork {
        id: Tf::Known(id.to_string()),
        project: id.project.as_str().into(),
        service_name: id.service.as_str().into(),
        source_project: setting(PROJECT_TO_FORK_FROM).unwrap_or(id.project.as_str()).into(),
        source_service_name: source.into(),
        region: service.cloud_name.as_str().into(),
        recovery_target: time.map(|_| POINT_IN_TIME.to_owned()).into(),
        recovery_target_time: time.map(str::to_owned).into(),
        project_vpc_id: service.project_vpc_id.clone().into(),
        copy_tags: Tf::Known(false),
        // A group block is never null.
        timeouts: Tf::Known(Timeouts::default()),
        ..Fork::default()
    };
    Some(observe::refreshed(&fork.with_defaults(), service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fork::observe::tests::service;

    #[test]
    fn the_origin_comes_from_the_settings() {
        let (id, _) = names::import_id("demo/orders-dr").unwrap();
        let mut found = service("RUNNING", serde_json::json!({"source": "s", "phase": "ready"}));
        let time = "2026-11-23T07:41:12Z";
        found.user_config.insert(RECOVERY_TARGET_TIME.to_owned(), time.into());
        let fork = imported(&id, &found).unwrap();
        assert_eq!(fork.source_service_name.text(), Some("orders"));
        assert_eq!(fork.source_project.text(), Some("demo"));
        assert_eq!(fork.recovery_target.text(), Some("point_in_time"));
        assert_eq!(fork.restore_status.text(), Some("complete"));
        found.user_config.clear();
        assert!(imported(&id, &found).is_none());
    }
}
