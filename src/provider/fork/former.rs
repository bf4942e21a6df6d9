//! States that were written by others: by a former version, and by the official provider's types.

use crate::provider::{
    fork::model::{COMPLETE, Fork, POINT_IN_TIME, RESTORING},
    value::{Secret, Tf},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The state of schema version 0 in the present form. It had the port as a number, which made every
/// refresh report a change, and called `source_service_name` `source_service`.
pub(super) fn upgraded(mut state: Value) -> Value {
    let Some(attributes) = state.as_object_mut() else { return state };
    if let Some(port) = attributes.get_mut("service_port").filter(|port| port.is_number()) {
        *port = port.to_string().into();
    }
    if let Some(source) = attributes.remove("source_service") {
        attributes.insert("source_service_name".to_owned(), source);
    }
    state
}

/// The state of an `aiven_pg` or `aiven_mysql` that was forked from another service, as that of a
/// fork. `None` for everything else.
pub(super) fn moved(from_type: &str, state: &Value) -> Option<Value> {
    let settings = match from_type {
        "aiven_pg" => &state["pg_user_config"][0],
        "aiven_mysql" => &state["mysql_user_config"][0],
        _ => return None,
    };
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let project = text(&state["project"])?;
    let service = text(&state["service_name"])?;
    let source = text(&settings["service_to_fork_from"])?;
    let time = text(&settings["recovery_target_time"]);
    let is_running = state["state"] == "RUNNING";
    let fork = Fork {
        id: Tf::Known(format!("{project}/{service}")),
        source_project: text(&settings["project_to_fork_from"])
            .or_else(|| Some(project.clone()))
            .into(),
        project: Tf::Known(project),
        service_name: Tf::Known(service),
        source_service_name: Tf::Known(source),
        region: text(&state["cloud_name"]).into(),
        plan: text(&state["plan"]).into(),
        recovery_target: time.as_ref().map(|_| POINT_IN_TIME.to_owned()).into(),
        recovery_target_time: time.into(),
        termination_protection: state["termination_protection"].as_bool().into(),
        project_vpc_id: vpc(text(&state["project_vpc_id"])).into(),
        tags: tags(&state["tag"]).into(),
        copy_tags: Tf::Known(false),
        service_type: text(&state["service_type"]).into(),
        service_host: text(&state["service_host"]).into(),
        service_port: state["service_port"].as_u64().map(|port| port.to_string()).into(),
        service_username: text(&state["service_username"]).into(),
        service_uri: text(&state["service_uri"]).map(Secret).into(),
        service_password: text(&state["service_password"]).map(Secret).into(),
        restore_status: (if is_running { COMPLETE } else { RESTORING }).into(),
        ..Fork::default()
    };
    serde_json::to_value(fork.with_defaults()).ok()
}

/// The official provider writes `PROJECT/ID`.
fn vpc(text: Option<String>) -> Option<String> {
    text.map(|text| text.rsplit('/').next().unwrap_or_default().to_owned())
}

/// The official provider has a set of blocks.
fn tags(blocks: &Value) -> Option<BTreeMap<String, Tf<String>>> {
    let tag =
        |block: &Value| Some((block["key"].as_str()?.to_owned(), block["value"].as_str()?.into()));
    let tags: BTreeMap<_, _> = blocks.as_array()?.iter().filter_map(tag).collect();
    (!tags.is_empty()).then_some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_port_becomes_a_text_and_the_source_its_present_name() {
        let old = json!({"id": "demo/dr", "service_port": 5433, "source_service": "orders"});
        let expect =
            json!({"id": "demo/dr", "service_port": "5433", "source_service_name": "orders"});
        assert_eq!(upgraded(old), expect);
        assert_eq!(upgraded(expect.clone()), expect);
        assert_eq!(upgraded(Value::Null), Value::Null);
    }

    #[test]
    fn an_official_service_that_was_forked_becomes_a_fork() {
        let mut state = json!({
            "id": "demo/orders-dr", "project": "demo", "service_name": "orders-dr",
            "cloud_name": "aws-eu-central-1", "plan": "startup-4", "state": "RUNNING",
            "service_port": 5433, "termination_protection": true,
            "project_vpc_id": "demo/7b1", "tag": [{"key": "team", "value": "db"}],
            "pg_user_config": [{"service_to_fork_from": "orders", "project_to_fork_from": "",
                "recovery_target_time": "2026-11-23 07:41:12"}],
        });
        let fork = moved("aiven_pg", &state).unwrap();
        for (name, expect) in [
            ("id", json!("demo/orders-dr")),
            ("source_project", json!("demo")),
            ("source_service_name", json!("orders")),
            ("recovery_target", json!("point_in_time")),
            ("recovery_target_time", json!("2026-11-23 07:41:12")),
            ("region", json!("aws-eu-central-1")),
            ("service_port", json!("5433")),
            ("project_vpc_id", json!("7b1")),
            ("tags", json!({"team": "db"})),
            ("restore_status", json!("complete")),
            ("deletion_protection", json!(true)),
        ] {
            assert_eq!(fork[name], expect, "{name}");
        }
        assert!(moved("aiven_mysql", &state).is_none());
        assert!(moved("aws_db_instance", &state).is_none());
        state["pg_user_config"] = json!([]);
        assert!(moved("aiven_pg", &state).is_none());
    }
}
