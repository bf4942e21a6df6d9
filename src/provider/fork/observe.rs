//! What the API says of a fork, as Terraform's state.

use crate::{
    api::service::{ForkReport, Service, ServiceState},
    domain::fork::ForkPhase,
    provider::{
        fork::model::{COMPLETE, FAILED, Fork, RESTORING},
        value::{Secret, Tf},
    },
};
use std::collections::BTreeMap;

/// Our report about a fork, which Aiven's API does not have.
pub(super) fn report(service: &Service) -> Option<ForkReport> {
    serde_json::from_value(service.metadata.get("btar")?.clone()).ok()
}

/// Why the restore failed, if it did.
pub(super) fn failure(service: &Service) -> Option<String> {
    let report = report(service)?;
    let failed = [ForkPhase::Failed, ForkPhase::Cancelled].map(ForkPhase::as_str);
    failed.contains(&report.phase.as_str()).then(|| {
        report.error.unwrap_or_else(|| format!("the fork is {}, without a reason", report.phase))
    })
}

/// The state after a refresh. What was frozen at creation stays, and so does what the service does
/// not say at the moment: a repair must not look like a change.
pub(super) fn refreshed(prior: &Fork, service: &Service) -> Fork {
    let mut state = seen(prior, service);
    state.plan = service.plan.as_str().into();
    state.termination_protection = Tf::Known(service.termination_protection);
    if state.project_vpc_id.known().is_some() && service.project_vpc_id.is_some() {
        state.project_vpc_id = service.project_vpc_id.clone().into();
    }
    if let Tf::Known(tags) = &mut state.tags {
        // Only the tags that are managed here.
        tags.retain(|key, _| service.tags.contains_key(key));
        for (key, value) in tags.iter_mut() {
            if let Some(found) = service.tags.get(key) {
                *value = found.as_str().into();
            }
        }
    }
    state
}

/// The state after an apply: only what was unknown is filled in, and what is still unknown then is
/// null. Terraform refuses any other change of what was planned.
pub(super) fn applied(planned: Fork, service: Option<&Service>) -> Fork {
    let mut state = planned;
    if let Some(service) = service {
        let seen = refreshed(&settled(state.clone()), service);
        macro_rules! fill {
            ($($field:ident),*) => {$(
                if state.$field.is_unknown() {
                    state.$field = seen.$field;
                }
            )*};
        }
        fill!(plan, termination_protection, service_type, service_host, service_port);
        fill!(service_username, service_uri, service_password, base_backup_name);
        fill!(base_backup_time, recovered_to, forked_at, restore_status);
    }
    settled(state)
}

/// What is unknown becomes null; the next refresh fills it in.
fn settled(mut state: Fork) -> Fork {
    macro_rules! settle {
        ($($field:ident),*) => {$( state.$field = state.$field.settled(); )*};
    }
    settle!(id, source_project, region, plan, recovery_target_time, termination_protection);
    settle!(service_type, service_host, service_port, service_username, service_uri);
    settle!(service_password, base_backup_name, base_backup_time, recovered_to, forked_at);
    settle!(restore_status, copy_tags, project_vpc_id);
    state
}

fn seen(prior: &Fork, service: &Service) -> Fork {
    let mut state = prior.clone();
    let set = |value: &mut Tf<String>, found: Option<&str>| {
        if let Some(found) = found {
            *value = found.into();
        }
    };
    let set_secret = |value: &mut Tf<Secret>, found: Option<&str>| {
        if let Some(found) = found {
            *value = found.into();
        }
    };
    let freeze = |value: &mut Tf<String>, found: Option<&str>| {
        if value.is_null() {
            set(value, found);
        }
    };
    let part = |key: &str| service.service_uri_params.get(key).map(String::as_str);
    set(&mut state.service_type, Some(&service.service_type));
    set(&mut state.service_host, part("host"));
    set(&mut state.service_port, part("port"));
    set(&mut state.service_username, part("user"));
    if state.expose_credentials.known() == Some(&false) {
        state.service_uri = Tf::Null;
        state.service_password = Tf::Null;
    } else {
        set_secret(&mut state.service_uri, service.service_uri.as_deref());
        set_secret(&mut state.service_password, part("password"));
    }
    let report = report(service).unwrap_or_default();
    freeze(&mut state.base_backup_name, report.base_backup_name.as_deref());
    freeze(&mut state.base_backup_time, report.base_backup_time.as_deref());
    freeze(&mut state.recovered_to, report.recovered_to.as_deref());
    freeze(&mut state.forked_at, Some(&service.create_time));
    // A fork that was complete once stays so, whatever happens to the service later.
    if state.restore_status.text() != Some(COMPLETE) {
        let status = match service.state {
            _ if failure(service).is_some() => FAILED,
            // Only what has been complete can be switched off.
            ServiceState::Running | ServiceState::Poweroff => COMPLETE,
            ServiceState::Rebalancing | ServiceState::Rebuilding => RESTORING,
        };
        state.restore_status = status.into();
    }
    state
}

/// Tags as the wire has them.
pub(super) fn tags(tags: &Tf<BTreeMap<String, Tf<String>>>) -> Option<BTreeMap<String, String>> {
    let pair = |(key, value): (&String, &Tf<String>)| Some((key.clone(), value.text()?.to_owned()));
    tags.known().map(|tags| tags.iter().filter_map(pair).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::provider::fork) fn service(state: &str, report: serde_json::Value) -> Service {
        let up = state == "RUNNING";
        serde_json::from_value(json!({
            "service_name": "orders-dr", "service_type": "pg", "plan": "startup-4",
            "cloud_name": "aws-eu-central-1", "state": state,
            "user_config": {"service_to_fork_from": "orders"},
            "create_time": "2026-11-23T09:00:00Z", "update_time": "2026-11-23T09:00:00Z",
            "service_uri": up.then_some("postgres://avnadmin:secret@127.0.0.1:5433/defaultdb"),
            "service_uri_params": if up {
                json!({"host": "127.0.0.1", "port": "5433", "user": "avnadmin", "password": "secret"})
            } else { json!({}) },
            "metadata": {"btar": report},
            "tags": {"team": "db", "other": "x"},
        }))
        .unwrap()
    }

    fn done() -> serde_json::Value {
        json!({"source": "demo/orders", "phase": "ready", "base_backup_name": "b",
            "base_backup_time": "2026-11-23T07:00:00Z", "recovered_to": "2026-11-23T07:41:12Z"})
    }

    fn planned() -> Fork {
        Fork {
            id: Tf::Unknown,
            plan: Tf::Unknown,
            base_backup_name: Tf::Unknown,
            recovered_to: Tf::Unknown,
            service_uri: Tf::Unknown,
            restore_status: Tf::Unknown,
            termination_protection: Tf::Known(true),
            ..Fork::default()
        }
    }

    #[test]
    fn an_apply_fills_in_what_was_unknown_and_nothing_else() {
        let state = applied(planned(), Some(&service("RUNNING", done())));
        assert_eq!(state.base_backup_name.text(), Some("b"));
        assert_eq!(state.restore_status.text(), Some("complete"));
        assert!(state.service_uri.reveal().is_some());
        // The service says otherwise, and the plan said this.
        assert_eq!(state.termination_protection, Tf::Known(true));
    }

    #[test]
    fn an_interrupted_create_leaves_nothing_unknown_and_the_refresh_completes_it() {
        let early = json!({"source": "demo/orders", "phase": "restoring"});
        let state = applied(planned(), Some(&service("REBUILDING", early)));
        assert_eq!(state.restore_status.text(), Some("restoring"));
        assert!(state.recovered_to.is_null() && state.service_uri.is_null());
        assert!(!format!("{:?}", applied(planned(), None)).contains("Unknown"));
        let later = refreshed(&state, &service("RUNNING", done()));
        assert_eq!(later.restore_status.text(), Some("complete"));
        assert_eq!(later.recovered_to.text(), Some("2026-11-23T07:41:12Z"));
        // From now on it is frozen, and a repair of the service is no change.
        let changed = json!({"source": "s", "phase": "ready", "base_backup_name": "c"});
        assert_eq!(refreshed(&later, &service("REBUILDING", changed)), later);
    }

    #[test]
    fn a_failed_restore_is_told_with_its_reason() {
        let failed =
            service("REBUILDING", json!({"source": "s", "phase": "failed", "error": "no WAL"}));
        assert_eq!(failure(&failed).as_deref(), Some("no WAL"));
        assert_eq!(refreshed(&Fork::default(), &failed).restore_status.text(), Some("failed"));
        assert_eq!(failure(&service("RUNNING", done())), None);
    }

    #[test]
    fn only_managed_tags_are_compared() {
        let tags = BTreeMap::from([("team".to_owned(), "app".into()), ("gone".into(), "y".into())]);
        let prior = Fork { tags: Tf::Known(tags), ..Fork::default() };
        let found = refreshed(&prior, &service("RUNNING", done())).tags;
        assert_eq!(found, Tf::Known(BTreeMap::from([("team".to_owned(), Tf::from("db"))])));
    }
}
