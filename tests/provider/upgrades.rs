//! States of a former version, moved addresses, and imports by block.

use crate::{
    api::Api,
    journeys::{AT, FORK, REGION, enabled, fork},
    terraform::Module,
};
use serde_json::{Value, json};
use std::fs;

/// Rewrites the state file as another version would have written it.
fn rewrite(module: &Module, change: impl Fn(&mut Value)) {
    let path = module.path().join("terraform.tfstate");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for resource in state["resources"].as_array_mut().unwrap() {
        change(resource);
    }
    state["serial"] = (state["serial"].as_u64().unwrap() + 1).into();
    fs::write(path, state.to_string()).unwrap();
}

fn rename(attributes: &mut Value, from: &str, to: &str) {
    let value = attributes.as_object_mut().unwrap().remove(from).unwrap();
    attributes[to] = value;
}

#[test]
fn a_state_of_version_0_is_upgraded_and_plans_clean() {
    let (_api, module, base) = enabled();
    module.write(&(base + &fork(AT)));
    module.apply().expect(0, &["1 added"]);
    let (region, restored) = (module.state(REGION), module.state(FORK));
    rewrite(&module, |resource| {
        let is_fork = resource["type"] == "fork_from_secondary_backup";
        let instance = &mut resource["instances"][0];
        assert_eq!(instance["schema_version"], 1);
        instance["schema_version"] = 0.into();
        // Sensitive paths name attributes of the present version; version 0 had the same ones.
        let attributes = &mut instance["attributes"];
        if is_fork {
            attributes["service_port"] = 5433.into();
            rename(attributes, "source_service_name", "source_service");
        } else {
            rename(attributes, "region", "secondary_region");
        }
    });
    module.plan().expect(0, &[]);
    module.run(&["apply", "-refresh-only", "-auto-approve"]).expect(0, &[]);
    assert_eq!(module.state(REGION), region);
    assert_eq!(module.state(FORK), restored);
    rewrite(&module, |resource| resource["instances"][0]["schema_version"] = 9.into());
    module.plan().expect(1, &["newer"]);
}

#[test]
fn a_moved_address_changes_nothing() {
    let (api, module, base) = enabled();
    let all = base + &fork(AT);
    module.write(&all);
    module.apply().expect(0, &["1 added"]);
    api.forget();
    let moved = all.replace("\"a\"", "\"b\"").replace("\"dr\" {", "\"restored\" {")
        + r#"
moved {
  from = aiven_service_backup_region.a
  to   = aiven_service_backup_region.b
}
moved {
  from = fork_from_secondary_backup.dr
  to   = fork_from_secondary_backup.restored
}
"#;
    module.write(&moved);
    module.apply().expect(0, &["has moved to", "0 added, 0 changed, 0 destroyed"]);
    assert_eq!(api.count("PUT") + api.count("POST") + api.count("DELETE"), 0);
}

#[test]
fn a_fork_of_the_official_provider_moves_here() {
    let (api, module, base) = enabled();
    module.write(&(base.clone() + &fork(AT)));
    module.apply().expect(0, &["1 added"]);
    module.run(&["state", "rm", FORK]).expect(0, &[]);
    // What the official provider has of the same service.
    let official = json!({
        "mode": "managed", "type": "aiven_pg", "name": "dr",
        "provider": "provider[\"registry.terraform.io/btar/btar\"]",
        "instances": [{"schema_version": 1, "attributes": {
            "id": "demo/orders-dr", "project": "demo", "service_name": "orders-dr",
            "cloud_name": "aws-eu-central-1", "plan": "startup-4", "state": "RUNNING",
            "service_type": "pg", "service_port": 5433, "service_host": "127.0.0.1",
            "termination_protection": false, "project_vpc_id": "", "tag": [],
            "pg_user_config": [{"service_to_fork_from": "orders", "project_to_fork_from": "",
                "recovery_target_time": "2026-11-23T07:41:12Z"}],
        }}],
    });
    let path = module.path().join("terraform.tfstate");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    state["resources"].as_array_mut().unwrap().push(official);
    fs::write(&path, state.to_string()).unwrap();
    let triggered = format!("{AT}\n  triggers = {{ run = \"1\" }}");
    let moved = "\nmoved {\n  from = aiven_pg.dr\n  to   = fork_from_secondary_backup.dr\n}\n";
    module.write(&(base + &fork(&triggered) + moved));
    api.forget();
    module.apply().expect(0, &["0 added, 1 changed, 0 destroyed"]);
    assert_eq!(api.count("POST") + api.count("DELETE"), 0);
    let found = module.state(FORK);
    assert_eq!(
        (&found["source_service_name"], &found["region"]),
        (&json!("orders"), &json!("aws-eu-central-1"))
    );
    assert_eq!(found["forked_at"], "2026-11-23T06:00:00Z");
    module.expect_empty();
}

#[test]
fn an_import_block_generates_a_configuration_that_plans_clean() {
    let (_api, module, base) = enabled();
    module.write(&(base + &fork(AT)));
    module.apply().expect(0, &["1 added"]);
    fs::remove_file(module.path().join("terraform.tfstate")).unwrap();
    module.write(
        r#"
import {
  provider = btar
  to       = aiven_service_backup_region.a
  id       = "demo/orders"
}
import {
  provider = btar
  to       = fork_from_secondary_backup.dr
  id       = "demo/orders-dr"
}
"#,
    );
    let generated = ["plan", "-input=false", "-generate-config-out=generated.tf"];
    module.run(&generated).expect(0, &["2 to import, 0 to add, 0 to change, 0 to destroy"]);
    module.apply().expect(0, &["2 imported, 0 added, 0 changed, 0 destroyed"]);
    let text = fs::read_to_string(module.path().join("generated.tf")).unwrap();
    assert!(
        text.contains("recovery_target_time") && !text.contains(crate::api::PASSWORD),
        "{text}"
    );
    module.expect_empty();
    // An import of what is not there names it.
    module.run(&["state", "rm", FORK]).expect(0, &[]);
    module.run(&["import", FORK, "demo/nothing"]).expect(1, &["demo/nothing", "not found"]);
    let api = Api::start();
    let both = json!(["aws-eu-central-1", "aws-eu-north-1"]);
    api.change("orders", |service| service["user_config"]["additional_backup_regions"] = both);
    let module = Module::new(&api.url, &crate::journeys::region("a", "aws-eu-central-1"));
    module.run(&["import", REGION, "demo/orders"]).expect(1, &["has 2 secondary backup regions"]);
}
