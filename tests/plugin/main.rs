//! The plugin server driven by the real Terraform, with this very executable as the provider.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod provider;
mod workspace;

use btar::plugin::{log, server::Server, start};
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use std::{fs, os::unix::process::CommandExt, process::Stdio};
use tokio_util::sync::CancellationToken;
use workspace::{Workspace, output, signal, wait_for};

fn main() {
    if start::run_by_terraform() {
        log::init("plugin");
        runtime().block_on(serve()).unwrap();
        return;
    }
    let checks: &[(&str, fn())] = &[
        ("creates_reads_updates_and_destroys", creates_reads_updates_and_destroys),
        ("names_need_no_common_prefix", names_need_no_common_prefix),
        ("nested_attributes_work", nested_attributes_work),
        ("a_bad_value_is_shown_where_it_stands", a_bad_value_is_shown_where_it_stands),
        ("an_old_state_is_upgraded", an_old_state_is_upgraded),
        ("a_newer_state_is_refused", a_newer_state_is_refused),
        ("a_resource_moves_to_another_type", a_resource_moves_to_another_type),
        ("import_gives_a_clean_plan", import_gives_a_clean_plan),
        ("an_object_gone_is_planned_anew", an_object_gone_is_planned_anew),
        ("functions_and_data_sources_answer", functions_and_data_sources_answer),
        ("a_function_names_the_wrong_argument", a_function_names_the_wrong_argument),
        ("a_panic_is_a_diagnostic", a_panic_is_a_diagnostic),
        ("a_panic_in_an_update_keeps_the_state", a_panic_in_an_update_keeps_the_state),
        ("no_answer_is_never_success", no_answer_is_never_success),
        ("ctrl_c_saves_what_was_created", ctrl_c_saves_what_was_created),
        ("no_backtrace_reaches_the_user", no_backtrace_reaches_the_user),
        ("a_large_value_passes", a_large_value_passes),
        ("plain_when_terraform_disables_tls", plain_when_terraform_disables_tls),
        ("log_lines_keep_their_level", log_lines_keep_their_level),
        ("only_terraforms_certificate_connects", client::only_terraforms_certificate_connects),
        ("a_second_sigterm_ends_the_plugin", client::a_second_sigterm_ends_the_plugin),
        ("the_plugin_ends_when_its_parent_is_gone", client::ends_when_its_parent_is_gone),
        ("serves_nobody_but_terraform", serves_nobody_but_terraform),
    ];
    let trials = checks.iter().map(|&(name, check)| {
        Trial::test(name, move || {
            check();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

async fn serve() -> Result<(), btar::plugin::server::ServeError> {
    let stop = CancellationToken::new();
    Server::new(provider::Shelf, stop.clone())
        .resource("shelf_box", provider::ShelfBox)
        .resource("ledger", provider::Ledger { stop })
        .data_source("shelf_count", provider::Count)
        .function("shout", provider::Shout)
        .serve()
        .await
}

fn creates_reads_updates_and_destroys() {
    let mut workspace = Workspace::new(r#"resource "shelf_box" "a" { name = "one" }"#);
    let applied = workspace.apply();
    assert!(applied.contains("1 added"), "{applied}");
    assert!(workspace.plan_is_clean());

    workspace.write(r#"resource "shelf_box" "a" { name = "two" }"#);
    let applied = workspace.apply();
    assert!(applied.contains("1 changed"), "{applied}");
    let state = workspace.attributes("shelf_box");
    assert_eq!((&state["id"], &state["name"]), (&json!("box-one"), &json!("two")));

    let destroyed = workspace.succeeds(&["destroy", "-auto-approve"]);
    assert!(destroyed.contains("1 destroyed"), "{destroyed}");
    workspace.finish();
}

fn names_need_no_common_prefix() {
    let workspace = Workspace::new(
        r#"
        resource "shelf_box" "a" { name = "one" }
        resource "ledger" "b" {
          provider = shelf
          mode     = "plain"
        }"#,
    );
    let applied = workspace.apply();
    assert!(applied.contains("2 added"), "{applied}");
    workspace.finish();
}

fn nested_attributes_work() {
    let workspace = Workspace::new(
        r#"
        resource "shelf_box" "a" {
          name   = "one"
          lid    = { colour = "red" }
          things = [{ colour = "blue" }, { colour = "green", weight = 3 }]
        }"#,
    );
    workspace.apply();
    let state = workspace.attributes("shelf_box");
    assert_eq!(state["lid"], json!({"colour": "red", "weight": 7}));
    assert_eq!(
        state["things"],
        json!([{"colour": "blue", "weight": 7}, {"colour": "green", "weight": 3}])
    );
    assert!(workspace.plan_is_clean());
    workspace.finish();
}

fn a_bad_value_is_shown_where_it_stands() {
    let workspace = Workspace::new(
        r#"
        resource "shelf_box" "a" {
          name   = "one"
          things = [{ colour = "blue" }, { colour = "invisible" }]
        }"#,
    );
    let text = workspace.fails(&["validate"]);
    assert!(text.contains("Nobody sees this colour"), "{text}");
    assert!(text.contains("things = [{ colour = \"blue\" }"), "{text}");
    workspace.finish();
}

/// The state of one object as some version of the provider wrote it.
fn state_file(kind: &str, version: i64, attributes: &serde_json::Value) -> String {
    json!({
        "version": 4, "terraform_version": "1.11.4", "serial": 1,
        "lineage": "00000000-0000-0000-0000-000000000001", "outputs": {},
        "resources": [{
            "mode": "managed", "type": kind, "name": "a",
            "provider": "provider[\"registry.terraform.io/test/shelf\"]",
            "instances": [{"schema_version": version, "attributes": attributes}],
        }],
    })
    .to_string()
}

fn an_old_state_is_upgraded() {
    let workspace = Workspace::new(r#"resource "shelf_box" "a" { name = "one" }"#);
    // Version 0 called `name` `title`, and had a `colour` that is no more.
    let old = json!({"id": "box-one", "title": "one", "colour": "red"});
    fs::write(workspace.path("terraform.tfstate"), state_file("shelf_box", 0, &old)).unwrap();
    assert!(workspace.plan_is_clean());
    workspace.succeeds(&["apply", "-auto-approve", "-refresh-only"]);
    let shown = workspace.succeeds(&["state", "show", "shelf_box.a"]);
    assert!(shown.contains("\"box-one\"") && shown.contains("name = \"one\""), "{shown}");
    workspace.finish();
}

fn a_newer_state_is_refused() {
    let workspace = Workspace::new(r#"resource "shelf_box" "a" { name = "one" }"#);
    let newer = json!({"id": "box-one", "name": "one"});
    fs::write(workspace.path("terraform.tfstate"), state_file("shelf_box", 9, &newer)).unwrap();
    let text = workspace.fails(&["plan"]);
    assert!(text.contains("newer"), "{text}");
    workspace.finish();
}

fn a_resource_moves_to_another_type() {
    let mut workspace = Workspace::new(r#"resource "shelf_box" "a" { name = "one" }"#);
    workspace.apply();
    workspace.write(
        r#"
        resource "ledger" "a" {
          provider = shelf
          mode     = "one"
        }
        moved {
          from = shelf_box.a
          to   = ledger.a
        }"#,
    );
    let applied = workspace.apply();
    assert!(applied.contains("0 added, 0 changed, 0 destroyed"), "{applied}");
    assert_eq!(workspace.attributes("ledger")["id"], json!("box-one"));
    workspace.finish();
}

fn import_gives_a_clean_plan() {
    let workspace = Workspace::new(r#"resource "shelf_box" "a" { name = "one" }"#);
    workspace.succeeds(&["import", "shelf_box.a", "one"]);
    assert!(workspace.plan_is_clean());
    let text = workspace.fails(&["import", "ledger.x", "one"]);
    assert!(text.contains("does not exist in the configuration"), "{text}");
    workspace.finish();
}

fn an_object_gone_is_planned_anew() {
    let workspace = Workspace::new(r#"resource "shelf_box" "a" { name = "gone" }"#);
    workspace.apply();
    let planned = workspace.succeeds(&["plan"]);
    assert!(planned.contains("1 to add, 0 to change, 0 to destroy"), "{planned}");
    workspace.finish();
}

fn functions_and_data_sources_answer() {
    let workspace = Workspace::new(
        r#"
        data "shelf_count" "all" { name = "four" }
        output "count" { value = data.shelf_count.all.letters }
        output "loud" { value = provider::shelf::shout("hello", 3) }"#,
    );
    workspace.apply();
    assert_eq!(workspace.succeeds(&["output", "-raw", "loud"]), "HELLO!!!");
    assert_eq!(workspace.succeeds(&["output", "-raw", "count"]), "4");
    workspace.finish();
}

fn a_function_names_the_wrong_argument() {
    let workspace =
        Workspace::new(r#"output "loud" { value = provider::shelf::shout("hello", -1) }"#);
    let text = workspace.fails(&["plan"]);
    assert!(text.contains("Invalid value for \"marks\" parameter: not below zero"), "{text}");
    workspace.finish();
}

/// One object of the type that misbehaves as its mode says.
fn ledger(mode: &str) -> String {
    format!("resource \"ledger\" \"a\" {{\n provider = shelf\n mode = \"{mode}\"\n}}")
}

fn a_panic_is_a_diagnostic() {
    let workspace = Workspace::new(&ledger("panic_in_validate"));
    let text = workspace.fails(&["plan"]);
    assert!(text.contains("The provider failed inside the check of a `ledger`"), "{text}");
    assert!(text.contains("boom in validate. This is a bug in the provider."), "{text}");
    assert!(text.contains("on main.tf line"), "{text}");
    workspace.finish();
}

fn a_panic_in_an_update_keeps_the_state() {
    let mut workspace = Workspace::new(&ledger("plain"));
    workspace.apply();
    workspace.write(&ledger("panic_in_update"));
    let text = workspace.fails(&["apply", "-auto-approve"]);
    assert!(text.contains("The provider failed inside a change of a `ledger`"), "{text}");
    let state = workspace.attributes("ledger");
    assert_eq!((&state["id"], &state["mode"]), (&json!("ledger-1"), &json!("plain")));
    workspace.finish();
}

fn no_answer_is_never_success() {
    let mut workspace = Workspace::new(&ledger("no_create"));
    let text = workspace.fails(&["apply", "-auto-approve"]);
    assert!(text.contains("It was creating an object, which may exist now"), "{text}");
    assert!(workspace.resources().is_empty());

    workspace.write(&ledger("no_destroy"));
    workspace.apply();
    let text = workspace.fails(&["destroy", "-auto-approve"]);
    assert!(text.contains("It was destroying an object, which may still exist"), "{text}");
    assert_eq!(workspace.attributes("ledger")["id"], json!("ledger-1"));

    workspace.write(&ledger("destroy_error"));
    workspace.apply();
    let text = workspace.fails(&["destroy", "-auto-approve"]);
    assert!(text.contains("The ledger is chained"), "{text}");
    assert_eq!(workspace.attributes("ledger")["id"], json!("ledger-1"));
    workspace.finish();
}

fn ctrl_c_saves_what_was_created() {
    let mut workspace = Workspace::new("");
    let marker = workspace.path("creating");
    workspace.write(&ledger(&format!("slow:{}", marker.display())));
    let mut command = workspace.terraform(&["apply", "-auto-approve"]);
    // A group of its own, so that the signal reaches Terraform and the plugin as in a terminal.
    let child =
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("create to begin", || marker.exists());
    signal("INT", &format!("-{}", child.id()));
    let ended = output(child.wait_with_output().unwrap());
    assert!(ended.text.contains("Interrupted while the ledger was being filled"), "{}", ended.text);
    let resources = workspace.resources();
    assert_eq!(resources[0]["instances"][0]["attributes"]["id"], json!("ledger-1"));
    assert_eq!(resources[0]["instances"][0]["status"], json!(null), "not tainted");
    workspace.finish();
}

fn no_backtrace_reaches_the_user() {
    let mut workspace =
        Workspace::new(r#"resource "shelf_box" "a" { name = "" }"#).with("RUST_BACKTRACE", "1");
    let text = workspace.fails(&["validate"]);
    assert!(text.contains("A box needs a name"), "{text}");
    let is_frame = |line: &str| {
        let line = line.trim_start_matches(['│', ' ']);
        line.starts_with("0: ") || line.starts_with("at ")
    };
    assert!(!text.lines().any(is_frame), "{text}");

    workspace.write(&ledger("panic_in_validate"));
    let text = workspace.fails(&["validate"]);
    assert!(text.contains("boom in validate") && !text.lines().any(is_frame), "{text}");
    workspace.finish();
}

fn a_large_value_passes() {
    // Three of these stand in one request, above the 4 MB that gRPC allows by itself.
    let name = "n".repeat(3 << 20);
    let workspace = Workspace::new(&format!(r#"resource "shelf_box" "a" {{ name = "{name}" }}"#));
    workspace.apply();
    assert_eq!(workspace.attributes("shelf_box")["name"], json!(name));
    workspace.finish();
}

fn plain_when_terraform_disables_tls() {
    let workspace = Workspace::new(r#"resource "shelf_box" "a" { name = "one" }"#)
        .with("TF_DISABLE_PLUGIN_TLS", "1");
    workspace.apply();
    workspace.finish();
}

fn log_lines_keep_their_level() {
    let workspace = Workspace::new(r#"resource "shelf_box" "a" { name = "one" }"#);
    let log = workspace.path("log");
    let workspace = workspace.with("TF_LOG_PROVIDER", "INFO").with("TF_LOG_PATH", &log);
    workspace.apply();
    let log = fs::read_to_string(log).unwrap();
    let line = log.lines().find(|line| line.contains("a box is made")).unwrap();
    assert!(line.contains("[INFO]  provider.terraform-provider-shelf_v0.1.0: a box is made"));
    assert!(line.contains("@module=plugin.provider") && line.contains("name=one"), "{line}");
    assert!(!log.contains("[DEBUG]"), "{log}");
    workspace.finish();
}

fn serves_nobody_but_terraform() {
    assert!(!start::run_by_terraform());
    let refused = runtime().block_on(serve()).unwrap_err();
    assert_eq!(refused.to_string(), "this program is a Terraform provider: Terraform starts it");
}
