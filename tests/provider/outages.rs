//! What goes wrong during an apply or a refresh, and what the state then holds.

use crate::{
    api::Api,
    journeys::{AT, FORK, REGION, enabled, fork},
    terraform::{Module, Run},
};
use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

fn wait_for_fork(api: &Api) {
    let end = Instant::now() + Duration::from_secs(20);
    while !api.state.lock().unwrap().services.contains_key("orders-dr") {
        assert!(Instant::now() < end, "no fork was asked for");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ctrl_c_during_a_restore_keeps_the_fork_and_the_next_apply_waits_on() {
    let (api, module, base) = enabled();
    api.state.lock().unwrap().restore_takes = Duration::from_secs(4);
    module.write(&(base + &fork(AT)));
    // Ctrl-C reaches the whole process group: Terraform and its plugins.
    let child = module
        .command(&["apply", "-input=false", "-auto-approve"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    wait_for_fork(&api);
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    let run = Run::of(&child.wait_with_output().unwrap());
    let state = std::fs::read_to_string(module.path().join("terraform.tfstate")).unwrap();
    assert!(state.contains("\"demo/orders-dr\""), "{}", run.text);
    assert!(!state.contains("tainted"), "{}", run.text);
    assert_eq!(module.state(FORK)["restore_status"], "restoring", "{}", run.text);
    module.apply().expect(0, &["0 added, 1 changed, 0 destroyed"]);
    assert_eq!(module.state(FORK)["recovered_to"], "2026-11-23T07:41:12Z");
    module.expect_empty();
}

#[test]
fn a_slow_restore_is_a_warning_and_a_failed_one_an_error() {
    let (api, module, base) = enabled();
    api.state.lock().unwrap().restore_takes = Duration::from_secs(3);
    let short = format!("{AT}\n  timeouts {{\n    create = \"1s\"\n  }}");
    module.write(&(base.clone() + &fork(&short)));
    module.apply().expect(0, &["Restore is still under way", "1 added"]);
    std::thread::sleep(Duration::from_secs(3));
    module.apply().expect(0, &["0 destroyed"]);
    module.expect_empty();

    let (api, module, _) = enabled();
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
