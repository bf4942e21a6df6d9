//! What people do with the two resources, and what goes wrong at plan.

use crate::{
    api::{Api, END, START},
    terraform::Module,
};
use serde_json::json;

pub(crate) fn region(name: &str, cloud: &str) -> String {
    format!(
        r#"
resource "aiven_service_backup_region" "{name}" {{
  provider              = btar
  project               = "demo"
  service_name          = "orders"
  region                = "{cloud}"
  wait_for_first_backup = true
  deletion_protection   = false
}}
"#
    )
}

pub(crate) fn fork(lines: &str) -> String {
    format!(
        r#"
resource "fork_from_secondary_backup" "dr" {{
  provider            = btar
  project             = "demo"
  service_name        = "orders-dr"
  source_service_name = "orders"
  deletion_protection = false
  {lines}
}}
"#
    )
}

pub(crate) const REGION: &str = "aiven_service_backup_region.a";
pub(crate) const FORK: &str = "fork_from_secondary_backup.dr";
pub(crate) const AT: &str =
    "recovery_target = \"point_in_time\"\n  recovery_target_time = \"2026-11-23 07:41:12\"";

/// A module whose service has one secondary region.
pub(crate) fn enabled() -> (Api, Module, String) {
    let api = Api::start();
    let base = region("a", "aws-eu-central-1");
    let module = Module::new(&api.url, &base);
    module.apply().expect(0, &["1 added"]);
    (api, module, base)
}

#[test]
fn several_regions_of_one_service_are_enabled_and_disabled_in_one_apply() {
    let api = Api::start();
    let both = region("a", "aws-eu-central-1") + &region("b", "aws-eu-north-1");
    let module = Module::new(&api.url, &both);
    module.apply().expect(0, &["2 added"]);
    let found = api.regions("orders");
    assert_eq!(found.as_array().unwrap().len(), 2, "{found}");
    module.expect_empty();
    let state = module.state(REGION);
    assert_eq!(state["id"], "demo/orders/aws-eu-central-1");
    assert_eq!(state["primary_backup_region"], "aws-eu-west-1");
    assert_eq!(state["cloud_provider"], "aws");
    // Drift: one is switched off behind Terraform's back, and is put right.
    api.change("orders", |service| {
        service["user_config"]["additional_backup_regions"] = json!(["aws-eu-north-1"]);
    });
    module.plan().expect(2, &["1 to add", "switched off"]);
    module.apply().expect(0, &["1 added"]);
    module.run(&["destroy", "-auto-approve"]).expect(0, &["2 destroyed"]);
    assert_eq!(api.regions("orders"), json!([]));
}

#[test]
fn a_region_moves_in_place_and_is_protected() {
    let (api, module, base) = enabled();
    module.write(&base.replace("aws-eu-central-1", "aws-eu-north-1"));
    module.apply().expect(0, &["1 changed"]);
    assert_eq!(api.regions("orders"), json!(["aws-eu-north-1"]));
    module.expect_empty();
    let guarded = base.replace("aws-eu-central-1", "aws-eu-north-1").replace("= false", "= true");
    module.write(&guarded);
    module.apply().expect(0, &["1 changed"]);
    module.run(&["destroy", "-auto-approve"]).expect(1, &["Protected", "apply that first"]);
    module.write(&guarded.replace("\"orders\"", "\"others\""));
    module.plan().expect(1, &["may not replace"]);
}

#[test]
fn where_the_api_allows_one_region_another_one_is_drift() {
    let (api, module, base) = enabled();
    api.state.lock().unwrap().regions_max = 1;
    api.change("orders", |service| {
        service["user_config"]["additional_backup_regions"] = json!(["aws-eu-north-1"]);
    });
    module.plan().expect(2, &["1 to change"]);
    module.apply().expect(0, &["1 changed"]);
    assert_eq!(api.regions("orders"), json!(["aws-eu-central-1"]));
    module.write(&(base + &region("b", "aws-eu-north-1")));
    module.apply().expect(1, &["already copies its backups to aws-eu-central-1"]);
}

#[test]
fn wrong_regions_services_and_tokens_are_refused_at_plan() {
    let api = Api::start();
    let base = region("a", "aws-eu-central-1");
    let module = Module::new(&api.url, &base);
    let check = |from: &str, to: &str, words: &[&str]| {
        module.write(&base.replace(from, to));
        module.plan().expect(1, words);
    };
    check(
        "aws-eu-central-1",
        "google-europe-west3",
        &[
            "google-europe-west3 (google) is not of the same cloud provider as aws-eu-west-1 (aws)",
            "region = \"google-europe-west3\"",
        ],
    );
    check("aws-eu-central-1", "aws-eu-west-1", &["already holds the primary backups"]);
    check(
        "aws-eu-central-1",
        "aws-mars-1",
        &["aws-mars-1 is not offered", "Choose one of: aws-eu-central-1, aws-eu-north-1."],
    );
    check(
        "\"orders\"",
        "\"nothing\"",
        &["Service \"nothing\" does not exist in project \"demo\"", "service_name = \"nothing\""],
    );
    check("\"orders\"", "\"Orders\"", &["is not a service name"]);
    module.write(&base);
    let out = module.command(&["plan"]).env("AIVEN_TOKEN", "wrong").output().unwrap();
    crate::terraform::Run::of(&out).expect(1, &["AIVEN_TOKEN"]);
    let out = module.command(&["plan"]).env("AIVEN_TOKEN", "").output().unwrap();
    crate::terraform::Run::of(&out).expect(1, &["No API token is set"]);
}

#[test]
fn a_fork_is_made_at_a_moment_and_then_stays_as_it_is() {
    let (api, module, base) = enabled();
    module.write(&(base.clone() + &fork(AT)));
    module.plan().expect(
        2,
        &[
            "fork orders-dr -> aws-eu-central-1: target 2026-11-23T07:41:12Z, RPO",
            "base backup base-1",
        ],
    );
    module.apply().expect(0, &["1 added"]);
    module.expect_empty();
    let state = module.state(FORK);
    let expect = [
        ("id", "demo/orders-dr"),
        ("region", "aws-eu-central-1"),
        ("plan", "startup-4"),
        ("recovery_target_time", "2026-11-23 07:41:12"),
        ("base_backup_name", "base-1"),
        ("recovered_to", "2026-11-23T07:41:12Z"),
        ("service_port", "5433"),
        ("restore_status", "complete"),
    ];
    for (name, value) in expect {
        assert_eq!(state[name], value, "{name}");
    }
    let sent = api.state.lock().unwrap().services["orders-dr"]["user_config"].clone();
    assert_eq!(sent["recovery_target_time"], "2026-11-23T07:41:12Z");
    // What is used at creation only: a warning, no change.
    module.write(&(base.clone() + &fork(&AT.replace("07:41:12", "07:41:13"))));
    module.plan().expect(0, &["recovery_target_time cannot be changed after creation"]);
    // In place.
    let more = format!("{AT}\n  tags = {{ team = \"db\" }}\n  termination_protection = true");
    module.write(&(base.clone() + &fork(&more)));
    module.apply().expect(0, &["1 changed"]);
    module.expect_empty();
    module.run(&["destroy", "-auto-approve", "-target", FORK]).expect(1, &["protected"]);
    module.write(&(base + &fork(&more.replace("true", "false"))));
    module.apply().expect(0, &["1 changed"]);
    // The source is gone: the fork does not mind.
    api.state.lock().unwrap().services.remove("orders");
    module.run(&["plan", "-detailed-exitcode", "-target", FORK]).expect(0, &[]);
    // With a refresh Terraform would first plan to enable the region of the missing service again.
    module.run(&["destroy", "-auto-approve", "-refresh=false"]).expect(0, &["2 destroyed"]);
    assert!(api.state.lock().unwrap().services.is_empty());
}

#[test]
fn every_target_of_a_fork_makes_an_empty_plan_afterwards() {
    for (lines, time) in [
        ("", json!(null)),
        ("recovery_target = \"latest_base_backup\"", json!("2026-11-23T08:00:00Z")),
        ("wait_until = \"accepted\"\n  expose_credentials = false", json!(null)),
    ] {
        let (api, module, base) = enabled();
        module.write(&(base + &fork(lines)));
        module.apply().expect(0, &["1 added"]);
        let sent = api.state.lock().unwrap().services["orders-dr"]["user_config"].clone();
        assert_eq!(sent["recovery_target_time"], time);
        assert_eq!(module.state(FORK)["recovery_target_time"], time);
        std::thread::sleep(std::time::Duration::from_millis(400));
        module.run(&["apply", "-auto-approve", "-refresh-only"]).expect(0, &[]);
        module.plan().expect(0, &[]);
        assert_eq!(module.state(FORK)["service_uri"].is_null(), lines.contains("expose"));
    }
}

#[test]
fn wrong_moments_and_regions_of_a_fork_are_refused_at_plan() {
    let (_api, module, base) = enabled();
    let check = |lines: &str, code: i32, words: &[&str]| {
        module.write(&(base.clone() + &fork(lines)));
        module.plan().expect(code, words);
    };
    let at = |time: &str| AT.replace("2026-11-23 07:41:12", time);
    check(&at(START), 2, &["1 to add"]);
    check(&at(END), 2, &["1 to add"]);
    let outside = "outside the restore window";
    check(
        &at("2020-01-01T00:00:00Z"),
        1,
        &[outside, "The nearest valid time is 2026-11-23T07:00:10Z.", "recovery_target_time"],
    );
    check(
        &at("2026-11-23T09:12:44.120001Z"),
        1,
        &[outside, "time is 2026-11-23T09:12:44.120000Z."],
    );
    check(&at("2999-01-01T00:00:00Z"), 1, &["is in the future"]);
    check(&at("yesterday"), 1, &["is not a time"]);
    check("recovery_target = \"point_in_time\"", 1, &["Restore time is missing"]);
    check("region = \"aws-eu-north-1\"", 1, &["holds a copy: aws-eu-central-1."]);
    check("max_rpo = \"1s\"", 1, &["Too much would be lost", "max_rpo"]);
    module.write(&(base + &fork("").replace("\"orders\"", "\"nothing\"")));
    module.plan().expect(1, &["Service \"nothing\" does not exist in project \"demo\""]);
}

#[test]
fn a_fork_is_replaced_on_purpose_only() {
    let (api, module, base) = enabled();
    module.write(&(base.clone() + &fork(AT)));
    module.apply().expect(0, &["1 added"]);
    let trigger = format!("{AT}\n  triggers = {{ run = \"2\" }}");
    module.write(&(base.clone() + &fork(&trigger)));
    module.apply().expect(0, &["1 added, 0 changed, 1 destroyed"]);
    let other = trigger.replace("07:41:12", "07:41:13") + "\n  replace_on_source_change = true";
    module.write(&(base + &fork(&other)));
    module.plan().expect(2, &["forces replacement", "1 to add, 0 to change, 1 to destroy"]);
    module.apply().expect(0, &["1 added, 0 changed, 1 destroyed"]);
    assert_eq!(api.count("POST"), 3);
    module.expect_empty();
}

#[test]
fn imports_give_what_creation_gave() {
    let (_api, module, base) = enabled();
    let all = base + &fork(&format!("{AT}\n  triggers = {{ run = \"1\" }}"));
    module.write(&all);
    module.apply().expect(0, &["1 added"]);
    let (region, fork) = (module.state(REGION), module.state(FORK));
    for id in ["demo/orders/aws-eu-central-1", "demo/orders"] {
        module.run(&["state", "rm", REGION]).expect(0, &[]);
        module.run(&["import", REGION, id]).expect(0, &[]);
    }
    module.run(&["state", "rm", FORK]).expect(0, &[]);
    module.run(&["import", FORK, "demo/orders-dr"]).expect(0, &[]);
    module.apply().expect(0, &["0 added, 2 changed, 0 destroyed"]);
    module.expect_empty();
    let differs = |left: &serde_json::Value, right: &serde_json::Value| {
        let names = left.as_object().unwrap().keys();
        names.filter(|name| left[*name] != right[*name]).cloned().collect::<Vec<_>>()
    };
    assert_eq!(differs(&region, &module.state(REGION)), ["region_changed_at"]);
    assert_eq!(differs(&fork, &module.state(FORK)), ["recovery_target_time"]);
    module.run(&["state", "rm", FORK]).expect(0, &[]);
    module.run(&["import", FORK, "demo/orders"]).expect(1, &["was not forked"]);
    module.run(&["import", FORK, "nonsense"]).expect(1, &["is not PROJECT/SERVICE_NAME"]);
}
