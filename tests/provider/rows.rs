//! What the attributes promise, one by one, where no journey passes by.

use crate::{
    api::Api,
    journeys::{AT, FORK, REGION, enabled, fork, region},
    terraform::Module,
};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_region_is_judged_by_where_the_primary_backups_are() {
    let api = Api::start();
    // The service has moved to another provider; its primary backups have stayed.
    api.change("orders", |service| service["primary"] = "google-europe-west3".into());
    let module = Module::new(&api.url, &region("a", "aws-eu-central-1"));
    module.plan().expect(1, &["is not of the same cloud provider as google-europe-west3 (google)"]);
    // Moved within the provider: the old home is taken, the new one is free.
    api.change("orders", |service| service["primary"] = "aws-eu-central-1".into());
    module.plan().expect(1, &["aws-eu-central-1 already holds the primary backups"]);
    api.change("orders", |service| service["service_type"] = "kafka".into());
    module.plan().expect(1, &["services of type kafka have no backup to another region"]);
}

#[test]
fn copying_that_is_paused_is_a_warning_with_its_reason() {
    let (api, module, _) = enabled();
    api.with(|state| state.paused = Some("the target region is down".to_owned()));
    module.plan().expect(0, &["Copying is paused", "the target region is down"]);
}

#[test]
fn the_first_backup_is_waited_for_where_that_is_asked() {
    let api = Api::start();
    api.with(|state| state.is_empty = true);
    let lines = region("a", "aws-eu-central-1");
    let short = lines.replace("provider  ", "timeouts {\n    create = \"1s\"\n  }\n  provider  ");
    let module = Module::new(&api.url, &short);
    module.apply().expect(0, &["No backup yet", "within the time limit", "1 added"]);
    assert!(!module.state(REGION)["id"].is_null());
    module.plan().expect(0, &[]);
    // The backup arrives while Terraform waits.
    module.run(&["destroy", "-auto-approve"]).expect(0, &[]);
    module.write(&lines);
    let state = api.state;
    let arrival = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        state.lock().unwrap().is_empty = false;
    });
    let run = module.apply();
    run.expect(0, &["1 added"]);
    assert!(!run.text.contains("No backup yet"), "{}", run.text);
    assert!(arrival.is_finished(), "the apply was over before the backup was there");
}

#[test]
fn window_and_rpo_are_checked_again_just_before_creation() {
    let (api, module, base) = enabled();
    let hours_ago = |hours| (Utc::now() - TimeDelta::hours(hours)).format("%FT%TZ").to_string();
    api.with(|state| state.end = hours_ago(1));
    module.write(&(base.clone() + &fork("max_rpo = \"2h\"")));
    module.run(&["plan", "-out=saved"]).expect(0, &["RPO 1h"]);
    api.with(|state| state.end = hours_ago(3));
    module.run(&["apply", "saved"]).expect(1, &["Too much would be lost", "max_rpo allows 2h"]);
    module.write(&(base + &fork(AT)));
    module.run(&["plan", "-out=saved"]).expect(0, &[]);
    api.with(|state| state.end = "2026-11-23T07:30:00Z".to_owned());
    module.run(&["apply", "saved"]).expect(1, &["outside the restore window"]);
    assert_eq!(api.count("POST"), 0);
}

#[test]
fn a_fork_that_takes_five_looks_is_waited_for_with_aivens_own_api() {
    let (api, module, base) = enabled();
    api.with(|state| {
        state.polls_until_ready = 4;
        state.has_additions = false;
    });
    let copied = format!("{AT}\n  copy_tags = true\n  tags = {{ team = \"db\" }}");
    api.change("orders", |service| service["tags"] = json!({"cost": "7"}));
    module.write(&(base + &fork(&copied)));
    api.forget();
    module.apply().expect(0, &["1 added"]);
    assert!(api.count("GET /v1/project/demo/service/orders-dr") >= 5);
    let state = module.state(FORK);
    assert_eq!(
        (&state["restore_status"], &state["base_backup_name"]),
        (&json!("complete"), &json!(null))
    );
    assert_eq!(state["tags"], json!({"team": "db"}));
    let tags = api.state.lock().unwrap().services["orders-dr"]["tags"].clone();
    assert_eq!(tags, json!({"cost": "7", "team": "db"}));
    module.plan().expect(0, &[]);
    // Later repairs and power-offs are neither drift nor a step back.
    for state in ["REBUILDING", "POWEROFF"] {
        api.change("orders-dr", |service| service["state"] = state.into());
        module.plan().expect(0, &[]);
    }
}

#[test]
fn a_fork_from_nothing_says_what_to_do_first() {
    let api = Api::start();
    let module = Module::new(&api.url, &fork(""));
    module.plan().expect(1, &["No secondary backups", "aiven_service_backup_region first"]);
    // In one apply, with a region that is known only afterwards.
    let later = "region = split(\"/\", aiven_service_backup_region.a.id)[2]";
    module.write(&(region("a", "aws-eu-central-1") + &fork(later)));
    module.apply().expect(0, &["2 added"]);
    module.write(&fork("source_project = \"elsewhere\""));
    let kept = "source_project cannot be changed after creation";
    module.plan().expect(2, &["0 to add, 0 to change, 1 to destroy", kept]);
    api.with(|state| drop(state.services.remove("orders-dr")));
    module.plan().expect(1, &["Service \"orders\" does not exist in project \"elsewhere\""]);
}
