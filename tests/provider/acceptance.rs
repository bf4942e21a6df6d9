//! What acceptance tests of providers check after each step, with the plain command line.
//!
//! 1. Plan, and apply the saved plan.
//! 2. Look at the state.
//! 3. A plan without a refresh is empty, and one with it, resources and outputs alike.
//! 4. Destroy, and look at the API.

use crate::{
    api::Api,
    journeys::{AT, REGION, enabled, fork, region},
    terraform::Module,
};
use serde_json::json;
use std::fs;

/// Steps 1 and 3.
fn step(module: &Module, body: &str) {
    module.write(body);
    module.run(&["plan", "-input=false", "-out=saved"]).expect(0, &[]);
    module.run(&["apply", "-input=false", "saved"]).expect(0, &[]);
    module.run(&["plan", "-input=false", "-detailed-exitcode", "-refresh=false"]).expect(0, &[]);
    module.plan().expect(0, &[]);
}

#[test]
fn an_installed_provider_serves_both_types_alone() {
    let api = Api::start();
    let all = region("a", "aws-eu-central-1")
        + &fork("region = split(\"/\", aiven_service_backup_region.a.id)[2]");
    let module = Module::installed(&api.url, &all);
    let providers = module.run(&["providers"]);
    providers.expect(0, &["provider[registry.terraform.io/btar/btar]"]);
    assert!(!providers.text.contains("aiven/aiven"), "{}", providers.text);
    module.apply().expect(0, &["2 added"]);
    module.plan().expect(0, &["No changes."]);
}

#[test]
fn every_change_leaves_an_empty_plan_and_drift_is_put_right() {
    let api = Api::start();
    let outputs = r#"
output "host" { value = fork_from_secondary_backup.dr.service_host }
output "region" { value = aiven_service_backup_region.a.id }
"#;
    let base = region("a", "aws-eu-central-1");
    let module = Module::new(&api.url, &base);
    step(&module, &base);
    let first = module.state(REGION);
    assert_eq!(first["service_type"], "pg");
    assert!(first["region_changed_at"].as_str().unwrap().ends_with('Z'));

    let all = format!("{base}{}{outputs}", fork(AT));
    step(&module, &all);
    assert_eq!(module.output("host"), "127.0.0.1");
    // In place, all that can be.
    api.forget();
    let more = format!(
        "{AT}\n  plan = \"business-8\"\n  project_vpc_id = \"7b1\"\n  tags = {{ team = \"db\" }}\n  \
         termination_protection = true\n  max_rpo = \"9000h\""
    );
    step(&module, &all.replace(AT, &more));
    assert_eq!(api.count("POST") + api.count("DELETE"), 0);
    let found = api.state.lock().unwrap().services["orders-dr"].clone();
    assert_eq!((&found["plan"], &found["project_vpc_id"]), (&json!("business-8"), &json!("7b1")));
    assert_eq!(
        (&found["tags"]["team"], &found["termination_protection"]),
        (&json!("db"), &json!(true))
    );

    // Drift, made behind Terraform's back, is found and put right.
    api.change("orders-dr", |service| {
        service["plan"] = "startup-4".into();
        service["tags"] = json!({"team": "app", "other": "stays"});
        service["termination_protection"] = false.into();
    });
    module.plan().expect(2, &["\"startup-4\" -> \"business-8\"", "\"app\" -> \"db\""]);
    step(&module, &all.replace(AT, &more));
    let found = api.state.lock().unwrap().services["orders-dr"].clone();
    assert_eq!(found["tags"], json!({"team": "db", "other": "stays"}));

    // The fork disappears, and is planned anew.
    step(&module, &all);
    api.with(|state| drop(state.services.remove("orders-dr")));
    module.plan().expect(2, &["Service is gone", "1 to add, 0 to change, 0 to destroy"]);
    step(&module, &all);
    module.run(&["destroy", "-auto-approve"]).expect(0, &["2 destroyed"]);
    assert_eq!(api.regions("orders"), json!([]));
    assert!(!api.state.lock().unwrap().services.contains_key("orders-dr"));
}

#[test]
fn errors_point_to_their_attribute() {
    let (_api, module, base) = enabled();
    let check = |body: &str, code: &str, summary: &str, words: &str| {
        module.write(body);
        let said = module.diagnostics(&["plan", "-input=false"]);
        let found = said.iter().find(|said| said.summary == summary);
        let found = found.unwrap_or_else(|| panic!("no `{summary}` in {said:#?}"));
        assert_eq!(found.severity, "error");
        assert!(found.code.trim_start().starts_with(code), "{found:?}");
        assert!(found.detail.contains(words), "{found:?}");
    };
    let google = base.replace("aws-eu-central-1", "google-europe-west3");
    check(&google, "region ", "Region of another cloud provider", "Choose a region of aws");
    let with = |lines: &str| base.clone() + &fork(lines);
    check(
        &with(&AT.replace("07:41:12", "06:41:12")),
        "recovery_target_time",
        "Restore time outside the restore window",
        "The nearest valid time is 2026-11-23T07:00:10Z.",
    );
    check(&with("max_rpo = \"1s\""), "max_rpo", "Too much would be lost", "max_rpo allows 1s");
    check(
        &with("region = \"aws-eu-north-1\""),
        "region ",
        "Region without secondary backups",
        "holds a copy: aws-eu-central-1.",
    );
    check(
        &with("timeouts {\n    create = \"soon\"\n  }"),
        "create = \"soon\"",
        "Not a period",
        "30m",
    );
    check(&with("wait_until = \"done\""), "wait_until", "Invalid value", "running, accepted");
}

#[test]
fn users_can_test_their_modules_with_terraform_test() {
    let (_api, module, base) = enabled();
    module.write(&(base + &fork(AT)));
    let test = r#"
run "plans_a_fork_in_the_secondary_region" {
  command = plan
  assert {
    condition     = fork_from_secondary_backup.dr.region == "aws-eu-central-1"
    error_message = "The fork is planned elsewhere."
  }
  assert {
    condition     = provider::btar::is_valid_backup_pair("aws-eu-west-1", fork_from_secondary_backup.dr.region)
    error_message = "The region is no pair."
  }
}
run "refuses_a_wrong_region" {
  command = plan
  expect_failures = [var.secondary]
  variables { secondary = "google-europe-west3" }
}
"#;
    let variable = r#"
variable "secondary" {
  default = "aws-eu-central-1"
  validation {
    condition     = provider::btar::is_valid_backup_pair("aws-eu-west-1", var.secondary)
    error_message = "Choose another region of the same provider."
  }
}
"#;
    fs::write(module.path().join("variables.tf"), variable).unwrap();
    fs::write(module.path().join("main.tftest.hcl"), test).unwrap();
    module.run(&["test"]).expect(0, &["Success! 2 passed, 0 failed."]);
}
