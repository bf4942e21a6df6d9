//! The traps of Terraform, one test each: all were seen in real runs before the provider avoided them.

use crate::{
    api::Api,
    journeys::{AT, FORK, REGION, enabled, fork, region},
    terraform::{Module, Run},
};
use serde_json::Value;
use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

#[test]
fn trap_1_no_numbers_in_managed_resources() {
    let (_api, module, base) = enabled();
    let out = module.command(&["providers", "schema", "-json"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&out.stdout).unwrap();
    let schema = &schema["provider_schemas"]["registry.terraform.io/btar/btar"];
    for (name, resource) in schema["resource_schemas"].as_object().unwrap() {
        assert!(!resource.to_string().contains("\"number\""), "{name} has a number");
    }
    assert!(schema["data_source_schemas"].to_string().contains("\"number\""));
    // So that a refresh of both finds nothing.
    module.write(&(base + &fork(AT)));
    module.apply().expect(0, &["1 added"]);
    let refresh = module.run(&["plan", "-refresh-only"]);
    refresh.expect(0, &["No changes. Your infrastructure still matches"]);
}

#[test]
fn trap_2_what_a_plan_knows_is_still_so_at_apply() {
    let (api, module, base) = enabled();
    module.write(&(base + &fork("recovery_target = \"latest_base_backup\"")));
    module.run(&["plan", "-input=false", "-out=saved"]).expect(0, &["RPO"]);
    // Time passes: another RPO, another end of the window, another newest backup.
    std::thread::sleep(Duration::from_millis(1100));
    api.with(|state| state.end = "2026-11-23T09:30:00Z".to_owned());
    module.run(&["apply", "-input=false", "saved"]).expect(0, &["1 added"]);
    module.plan().expect(0, &[]);
}

#[test]
fn trap_3_a_replacement_is_guarded_although_terraform_plans_no_destruction() {
    let (api, module, base) = enabled();
    let all = (base + &fork(AT))
        .replace("deletion_protection   = false", "")
        .replace("deletion_protection = false", "");
    module.write(&all);
    module.apply().expect(0, &["1 added, 1 changed"]);
    api.add_services(["others".to_owned()].into_iter());
    module.write(
        &all.replace("\"orders-dr\"", "\"orders-2\"")
            .replace("service_name          = \"orders\"", "service_name          = \"others\""),
    );
    let plan = module.plan();
    plan.expect(1, &["may not replace the fork", "may not replace the backup region"]);
}

#[test]
fn trap_4_an_error_with_a_state_taints_so_a_slow_restore_is_a_warning() {
    let (api, module, base) = enabled();
    api.with(|state| state.restore_takes = Duration::from_secs(2));
    let short = format!("{AT}\n  timeouts {{\n    create = \"1s\"\n  }}");
    module.write(&(base.clone() + &fork(&short)));
    module.apply().expect(0, &["Restore is still under way", "1 added"]);
    let state = std::fs::read_to_string(module.path().join("terraform.tfstate")).unwrap();
    assert!(!state.contains("tainted"));
    // Who wants an error gets one, and with it the taint.
    let fail = format!("{short}\n  on_create_timeout = \"fail\"").replace("orders-dr", "dr-2");
    module.write(
        &(base
            + &fork(&fail).replace("\"dr\" {", "\"strict\" {").replace("orders-dr", "dr-2")
            + &fork(&short)),
    );
    module
        .run(&["apply", "-auto-approve", "-target=fork_from_secondary_backup.strict"])
        .expect(1, &["Too slow", "timeouts.create"]);
    let state = std::fs::read_to_string(module.path().join("terraform.tfstate")).unwrap();
    assert!(state.contains("tainted"));
}

#[test]
fn trap_5_after_an_import_what_is_configured_is_planned() {
    let (api, module, base) = enabled();
    let all = base + &fork(AT);
    module.write(&all);
    module.apply().expect(0, &["1 added"]);
    // Neither the API nor an import knows these.
    let more = format!(
        "{AT}\n  max_rpo = \"9000h\"\n  triggers = {{ a = \"b\" }}\n  tags = {{ team = \"db\" }}\n  \
         wait_until = \"accepted\"\n  copy_tags = true"
    );
    module.write(&all.replace(AT, &more).replace("wait_for_first_backup = true", ""));
    for (address, id) in [(FORK, "demo/orders-dr"), (REGION, "demo/orders")] {
        module.run(&["state", "rm", address]).expect(0, &[]);
        module.run(&["import", address, id]).expect(0, &[]);
    }
    api.forget();
    module.apply().expect(0, &["0 added, 2 changed, 0 destroyed"]);
    assert_eq!(api.count("DELETE") + api.count("POST"), 0);
    module.plan().expect(0, &[]);
    assert_eq!(module.state(FORK)["triggers"]["a"], "b");
}

#[test]
fn trap_6_settings_of_a_destruction_come_from_the_state() {
    let (api, module, base) = enabled();
    let guarded = base.replace("deletion_protection   = false", "deletion_protection   = true");
    module.write(&guarded);
    module.apply().expect(0, &["1 changed"]);
    // Flipped in the configuration alone, it does not count yet, and the error says so.
    module.write(&base);
    module.run(&["destroy", "-auto-approve"]).expect(1, &["in the state", "apply that first"]);
    module.apply().expect(0, &["1 changed"]);
    // So does on_destroy.
    module.write(&base.replace("provider  ", "on_destroy = \"abandon\"\n  provider  "));
    module.apply().expect(0, &["1 changed"]);
    module.run(&["destroy", "-auto-approve"]).expect(0, &["1 destroyed"]);
    assert_eq!(api.regions("orders"), serde_json::json!(["aws-eu-central-1"]), "abandoned");
}

#[test]
fn trap_7_a_kept_state_keeps_plans_working() {
    let (api, module, base) = enabled();
    module.write_with("on_read_error = \"keep_state\"", &base);
    for status in [500, 403] {
        api.outage.store(status, Ordering::SeqCst);
        module.plan().expect(0, &["out of order", "The state is kept"]);
    }
    // Also where the environment says it, and not where the configuration says otherwise.
    let kept = |settings: &str| {
        module.write_with(settings, &base);
        let mut command = module.command(&["plan", "-input=false", "-detailed-exitcode"]);
        Run::of(&command.env("AIVEN_ON_READ_ERROR", "keep_state").output().unwrap())
    };
    kept("").expect(0, &["The state is kept"]);
    kept("on_read_error = \"fail\"").expect(1, &["out of order"]);
}

fn window(lines: &str) -> String {
    format!(
        r#"
data "aiven_restore_window" "w" {{
  provider     = btar
  project      = "demo"
  service_name = "orders"
  {lines}
}}
"#
    )
}

#[test]
fn trap_8_data_sources_are_read_without_a_refresh_too() {
    let (api, module, base) = enabled();
    api.outage.store(503, Ordering::SeqCst);
    let plan = ["plan", "-input=false", "-refresh=false", "-detailed-exitcode"];
    module.write(&base);
    module.run(&plan).expect(0, &[]);
    module.write(&(base.clone() + &window("")));
    module.run(&plan).expect(1, &["out of order"]);
    module.write(&(base + &window("fail_on_unreachable = false")));
    module.run(&plan).expect(0, &["the values that it would tell are null"]);
}

#[test]
fn trap_9_a_check_beside_a_tolerant_data_source_leaves_plans_empty() {
    let (api, module, base) = enabled();
    let check = r#"
check "rpo" {
  assert {
    condition     = coalesce(data.aiven_restore_window.w.rpo_seconds, 0) < 60
    error_message = "The copy is behind."
  }
}
"#;
    module.write(&(base + &window("fail_on_unreachable = false") + check));
    module.apply().expect(0, &["The copy is behind."]);
    module.plan().expect(0, &["The copy is behind."]);
    api.outage.store(503, Ordering::SeqCst);
    module.run(&["plan", "-refresh=false", "-detailed-exitcode"]).expect(0, &["The API failed"]);
}

fn wait_for_fork(api: &Api) {
    let end = Instant::now() + Duration::from_secs(20);
    while !api.state.lock().unwrap().services.contains_key("orders-dr") {
        assert!(Instant::now() < end, "no fork was asked for");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn trap_10_ctrl_c_reaches_the_whole_process_group() {
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
fn trap_11_validate_runs_without_a_configured_provider() {
    let body = region("a", "aws-eu-central-1")
        + &fork(AT)
        + &window("")
        + "output \"n\" { value = provider::btar::fork_name(\"orders\", \"2026-11-23T07:00:00Z\") }";
    let module = Module::new("http://127.0.0.1:1", &body);
    let validate = || {
        let out = module.command(&["validate"]).env_remove("AIVEN_TOKEN").output();
        Run::of(&out.unwrap())
    };
    validate().expect(0, &["valid"]);
    module.write(
        &body.replace("\"aws-eu-central-1\"", "\"Frankfurt!\"").replace("07:41:12", "25:61:00"),
    );
    validate().expect(1, &["is not a cloud name", "is not a time"]);
}

#[test]
fn trap_12_a_plan_gives_one_short_warning() {
    let (_api, module, base) = enabled();
    module.write(&(base + &fork(AT)));
    let said = module.diagnostics(&["plan", "-input=false"]);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!((said[0].severity.as_str(), said[0].detail.as_str()), ("warning", ""));
    let line = &said[0].summary;
    assert!(line.len() < 250 && !line.contains('\n'), "{line}");
    for part in [
        "fork orders-dr -> aws-eu-central-1: target 2026-11-23T07:41:12Z, RPO ",
        "window [2026-11-23T07:00:10Z .. 2026-11-23T09:12:44.120000Z], ",
        "base backup base-1 (953 MiB) + up to 41 WAL segments",
    ] {
        assert!(line.contains(part), "no `{part}` in {line}");
    }
    // A plan that changes nothing gives none.
    module.apply().expect(0, &["1 added"]);
    assert_eq!(module.diagnostics(&["plan", "-input=false"]), []);
}
