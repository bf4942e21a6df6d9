//! What the fake API answers to each request.

use crate::api::{PASSWORD, START, State, service};
use serde_json::{Value, json};
use std::time::Instant;

const CLOUDS: &[(&str, &str)] = &[
    ("aws-eu-west-1", "aws"),
    ("aws-eu-central-1", "aws"),
    ("aws-eu-north-1", "aws"),
    ("google-europe-west3", "google"),
    ("google-europe-north1", "google"),
    ("azure-westeurope", "azure"),
    ("eu-frankfurt-1", "oci"),
];

pub(crate) fn error(status: u16, message: &str) -> (u16, Value) {
    (status, json!({"message": message, "errors": [{"message": message, "status": status}]}))
}

pub(crate) fn answer(state: &mut State, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let Some(rest) = path.strip_prefix("/v1/project/demo/") else {
        return error(404, "Project does not exist");
    };
    let parts: Vec<&str> = rest.split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["clouds"]) => (200, clouds()),
        ("GET", ["service-types", "pg"]) => (200, schema(state.regions_max)),
        ("GET", ["service"]) => {
            let names: Vec<String> = state.services.keys().cloned().collect();
            let services: Vec<Value> = names.iter().map(|name| shown(state, name, "")).collect();
            (200, json!({ "services": services }))
        }
        ("POST", ["service"]) => create(state, body),
        (_, ["service", name, ..]) if !state.services.contains_key(*name) => {
            error(404, "Service does not exist")
        }
        ("GET", ["service", name]) => {
            look(state, name);
            (200, json!({ "service": shown(state, name, query) }))
        }
        ("PUT", ["service", name]) => update(state, name, body),
        ("PUT", ["service", name, "tags"]) => {
            state.services.get_mut(*name).unwrap()["tags"] = body["tags"].clone();
            (200, json!({}))
        }
        ("DELETE", ["service", name]) => {
            if state.services[*name]["termination_protection"] == true {
                return error(403, "Service is protected against termination and shutdown.");
            }
            state.services.remove(*name);
            (200, json!({}))
        }
        ("GET", ["service", name, "backups"]) => (200, backups(state, name)),
        ("POST", ["service", name, "backup_to_another_region", "report"]) => {
            report(state, name, body)
        }
        _ => error(404, "no such path"),
    }
}

fn clouds() -> Value {
    let cloud = |&(name, provider): &(&str, &str)| {
        json!({"cloud_name": name, "provider": provider, "geo_region": "europe",
            "geo_latitude": 53.5, "geo_longitude": -8.0})
    };
    json!({"clouds": CLOUDS.iter().map(cloud).collect::<Vec<_>>()})
}

fn schema(regions_max: usize) -> Value {
    json!({"user_config_schema": {"properties": {"additional_backup_regions":
        {"type": "array", "maxItems": regions_max, "items": {"type": "string"}}}}})
}

/// The service as the API shows it: with its backups, and with its secrets where they are asked for.
fn shown(state: &State, name: &str, query: &str) -> Value {
    let mut service = state.services[name].clone();
    service["backups"] = backups(state, name)["backups"].clone();
    if query.contains("include_secrets=true") && service["state"] == "RUNNING" {
        service["service_uri"] =
            format!("postgres://avnadmin:{PASSWORD}@127.0.0.1:5433/{name}").into();
        service["service_uri_params"] = json!({"host": "127.0.0.1", "port": "5433",
            "user": "avnadmin", "password": PASSWORD});
    }
    service
}

fn secondary(service: &Value) -> Vec<Value> {
    service["user_config"]["additional_backup_regions"].as_array().cloned().unwrap_or_default()
}

/// Two base backups, and a window in each secondary region.
fn backups(state: &State, name: &str) -> Value {
    let service = &state.services[name];
    let home = service.get("primary").unwrap_or(&service["cloud_name"]);
    let regions = if state.is_empty { Vec::new() } else { secondary(service) };
    let copies: Vec<Value> = regions
        .iter()
        .map(|cloud| {
            json!({"cloud": cloud, "region": "r", "paused": state.paused.is_some(),
                "pause_reason": state.paused})
        })
        .collect();
    let backup = |name: &str, time: &str| {
        json!({"backup_name": name, "backup_time": time, "data_size": 1_000_000_000_u64,
            "storage_location": home, "additional_regions": copies})
    };
    let mut list = json!({"backups": [
        backup("base-1", "2026-11-23T07:00:00Z"),
        backup("base-2", "2026-11-23T08:00:00Z"),
    ]});
    if state.has_pitr {
        list["pitr"] = json!({
            "primary_region": {"pitr_range_start": "2026-11-23T07:00:00Z", "pitr_range_end": null},
            "additional_regions": regions.iter().map(|c| window(state, c)).collect::<Vec<_>>(),
        });
    }
    list
}

fn window(state: &State, cloud: &Value) -> Value {
    let mut window = json!({"cloud": cloud, "region": "r",
        "pitr_range_start": START, "pitr_range_end": state.end});
    if state.has_additions {
        let log = |name: &str, segments: u64| {
            json!({"backup_name": name, "pitr_range_start": START, "pitr_range_end": state.end,
                "log_segments": segments, "log_bytes": segments * 16_777_216})
        };
        window["exact"] = true.into();
        window["lag_seconds"] = state.lag_seconds.into();
        window["ranges"] = json!([{"start": START, "end": state.end, "exact": true}]);
        window["base_backups"] = json!([log("base-1", 41), log("base-2", 17)]);
    }
    window
}

/// Aiven's chart: the first row repeats the columns, and months begin with 0.
fn report(state: &State, name: &str, body: &Value) -> (u16, Value) {
    let periods = ["hour", "day", "week", "month", "year"];
    if !periods.contains(&body["period"].as_str().unwrap_or("hour")) {
        return error(400, "Invalid input: period");
    }
    let columns = json!([{"label": "time", "type": "date"}, {"label": name, "type": "number"}]);
    let rows = json!([
        columns,
        ["Date(2026,10,23,9,10,0)", 90],
        ["Date(2026,10,23,9,15,0)", state.lag_seconds],
    ]);
    (200, json!({"metrics": {"replication_lag": {"data": {"cols": columns, "rows": rows}}}}))
}

fn update(state: &mut State, name: &str, body: &Value) -> (u16, Value) {
    if let Some(regions) = body["user_config"]["additional_backup_regions"].as_array()
        && let Err(message) = check_regions(state, name, regions)
    {
        return error(400, &message);
    }
    let service = state.services.get_mut(name).unwrap();
    for (key, value) in body["user_config"].as_object().into_iter().flatten() {
        service["user_config"][key] = value.clone();
    }
    for key in ["plan", "termination_protection", "project_vpc_id"] {
        if !body[key].is_null() {
            service[key] = body[key].clone();
        }
    }
    (200, json!({ "service": shown(state, name, "") }))
}

fn check_regions(state: &State, name: &str, regions: &[Value]) -> Result<(), String> {
    if regions.len() > state.regions_max {
        return Err("Invalid input: too many backup regions".to_owned());
    }
    let provider = |cloud: &str| CLOUDS.iter().find(|(n, _)| *n == cloud).map(|(_, p)| *p);
    let home = state.services[name]["cloud_name"].as_str().unwrap();
    for region in regions {
        let region = region.as_str().ok_or("Invalid input: not a cloud name")?;
        if region == home || provider(region).is_none() || provider(region) != provider(home) {
            return Err(format!("Invalid input: {region} cannot hold the backups"));
        }
    }
    Ok(())
}

fn create(state: &mut State, body: &Value) -> (u16, Value) {
    let name = body["service_name"].as_str().unwrap();
    if state.services.contains_key(name) {
        return error(409, "Service name is already in use in this project");
    }
    let config = &body["user_config"];
    let source = config["service_to_fork_from"].as_str().unwrap_or_default();
    if !state.services.contains_key(source) {
        return error(404, "The source of the fork is not there");
    }
    if !config["recovery_basebackup_name"].is_null() {
        return error(400, "Invalid input: pg has no recovery_basebackup_name");
    }
    if state.is_empty || !secondary(&state.services[source]).contains(&body["cloud"]) {
        return error(400, "No valid backups for service");
    }
    if let Some(time) = config["recovery_target_time"].as_str()
        && (time.len() > 32 || time < START || time > state.end.as_str())
    {
        return error(400, "Invalid input: recovery_target_time cannot be restored");
    }
    let mut fork = service(name, "REBUILDING");
    for (from, to) in [("plan", "plan"), ("cloud", "cloud_name"), ("user_config", "user_config")] {
        fork[to] = body[from].clone();
    }
    for key in ["tags", "termination_protection", "project_vpc_id"] {
        if !body[key].is_null() {
            fork[key] = body[key].clone();
        }
    }
    if body["copy_tags"] == true {
        let mut tags = state.services[source]["tags"].as_object().cloned().unwrap_or_default();
        tags.extend(fork["tags"].as_object().cloned().unwrap_or_default());
        fork["tags"] = tags.into();
    }
    if state.has_additions {
        let from = format!("demo/{source}");
        fork["metadata"] = json!({"btar": {"source": from, "phase": "restoring"}});
    }
    fork["node_states"] = json!([{"name": "n-1", "state": "syncing_data", "progress_updates": [
        {"phase": "basebackup", "completed": false, "min": 0, "max": 100, "current": 40,
         "unit": "bytes_uncompressed"}]}]);
    state.services.insert(name.to_owned(), fork);
    let ready = (Instant::now() + state.restore_takes, state.polls_until_ready);
    state.forks.insert(name.to_owned(), ready);
    (200, json!({ "service": shown(state, name, "") }))
}

/// Somebody looks at a service: a fork is ready after its time and so many looks.
fn look(state: &mut State, name: &str) {
    let Some((at, polls)) = state.forks.get_mut(name) else { return };
    if *polls > 0 {
        *polls -= 1;
        return;
    }
    if Instant::now() < *at {
        return;
    }
    let additions = state.has_additions;
    let fork = state.services.get_mut(name).unwrap();
    if state.restore_fails {
        fork["metadata"]["btar"]["phase"] = "failed".into();
        fork["metadata"]["btar"]["error"] = "segment 000000010000000000000007 is missing".into();
        return;
    }
    if fork["state"] == "REBUILDING" {
        fork["state"] = "RUNNING".into();
        fork["node_states"] = json!([]);
    }
    if additions {
        fork["metadata"]["btar"] = json!({"source": "demo/orders", "phase": "ready",
            "base_backup_name": "base-1", "base_backup_time": "2026-11-23T07:00:00Z",
            "recovered_to": "2026-11-23T07:41:12Z"});
    }
    state.forks.remove(name);
}
