//! What goes wrong during an apply or a refresh, and what the state then holds.

use crate::{
    api::Api,
    journeys::{AT, REGION, enabled, fork},
    terraform::Module,
};
use std::sync::atomic::Ordering;

#[test]
fn a_failed_restore_is_an_error_and_is_made_again() {
    let (api, module, base) = enabled();
    api.state.lock().unwrap().restore_fails = true;
    module.write(&(base + &fork(AT)));
    module.apply().expect(1, &["Restore failed", "segment 000000010000000000000007 is missing"]);
    module.plan().expect(2, &["is tainted, so must be replaced"]);
    api.state.lock().unwrap().restore_fails = false;
    module.apply().expect(0, &["1 added, 0 changed, 1 destroyed"]);
}

#[test]
fn a_fork_whose_answer_was_lost_is_found_again() {
    let (api, module, base) = enabled();
    module.write(&(base.clone() + &fork(AT)));
    api.loses_answers.store(true, Ordering::SeqCst);
    module.apply().expect(0, &["1 added", "Existing fork adopted"]);
    assert_eq!(api.count("POST"), 1);
    module.expect_empty();

    // Something else under that name is never adopted.
    let (api, module, _) = enabled();
    let other = crate::api::service("orders-dr", "RUNNING");
    api.state.lock().unwrap().services.insert("orders-dr".to_owned(), other);
    module.write(&(base + &fork(AT)));
    module.plan().expect(2, &["Name is taken"]);
    module.apply().expect(1, &["cannot be adopted", "it is not a fork"]);
}

#[test]
fn an_outage_fails_the_refresh_or_keeps_the_state_as_configured() {
    let (api, module, base) = enabled();
    let all = base + &fork(AT);
    module.write(&all);
    module.apply().expect(0, &["1 added"]);
    api.outage.store(503, Ordering::SeqCst);
    module.plan().expect(1, &["out of order", "keep_state"]);
    module.write_with("on_read_error = \"keep_state\"", &all);
    module.plan().expect(0, &["out of order", "The state is kept"]);
    api.outage.store(0, Ordering::SeqCst);
    api.state.lock().unwrap().services.remove("orders-dr");
    module.plan().expect(2, &["Service is gone", "1 to add"]);
}

#[test]
fn an_api_that_is_away_is_named_with_what_to_do() {
    let module = Module::new("http://127.0.0.1:1", &crate::journeys::region("a", "aws-x"));
    module.plan().expect(1, &["cannot reach http://127.0.0.1:1", "btar serve", "api_url"]);
}

#[test]
fn settings_that_are_known_after_apply_put_the_checks_off() {
    let api = Api::start();
    let base = crate::journeys::region("a", "aws-eu-central-1");
    let module = Module::new(&api.url, &base);
    let text = |region: &str| {
        format!(
            "resource \"terraform_data\" \"url\" {{\n  input = \"{}\"\n}}\n{}",
            api.url,
            base.replace("aws-eu-central-1", region)
        )
    };
    let write = |region: &str| {
        module.write(&text(region));
        let path = module.path().join("main.tf");
        let main = std::fs::read_to_string(&path).unwrap();
        let literal = format!("api_url     = \"{}\"", api.url);
        let main = main.replace(&literal, "api_url     = terraform_data.url.output");
        std::fs::write(path, main).unwrap();
    };
    write("aws-mars-1");
    module.plan().expect(2, &["API checks are skipped"]);
    module.apply().expect(1, &["aws-mars-1 is not offered"]);
    assert_eq!(api.regions("orders"), serde_json::Value::Null);
    write("aws-eu-central-1");
    module.apply().expect(0, &[]);
    assert_eq!(module.state(REGION)["service_type"], "pg");
}
