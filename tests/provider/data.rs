//! The data sources: their values, their tolerance, and what they refuse.

use crate::{
    api::{Api, END, START},
    terraform::Module,
};
use serde_json::json;
use std::sync::atomic::Ordering;

/// A data source `NAME` of type `kind` with its service, and an output of the same name.
fn source(kind: &str, name: &str, lines: &str) -> String {
    format!(
        r#"
data "{kind}" "{name}" {{
  provider     = btar
  project      = "demo"
  service_name = "orders"
  {lines}
}}
output "{name}" {{ value = data.{kind}.{name} }}
"#
    )
}

fn window(name: &str, lines: &str) -> String {
    source("aiven_restore_window", name, lines)
}

fn status(name: &str, lines: &str) -> String {
    source("aiven_backup_replication_status", name, lines)
}

fn preview(name: &str, lines: &str) -> String {
    source("aiven_fork_preview", name, lines).replace(
        "service_name = \"orders\"",
        "service_name = \"dr\"\n source_service_name = \"orders\"",
    )
}

fn enabled(regions: &[&str]) -> Api {
    let api = Api::start();
    api.change("orders", |service| {
        service["user_config"]["additional_backup_regions"] = json!(regions);
    });
    api
}

const CENTRAL: &str = "aws-eu-central-1";

#[test]
fn every_data_source_tells_what_the_api_knows() {
    let api = enabled(&[CENTRAL]);
    let body = source("aiven_service_backups", "all", "")
        + &source("aiven_service_backups", "copied", "location = \"secondary\"")
        + &window("now", "")
        + &window("at", "region = \"aws-eu-central-1\"\n at = \"2026-11-23 10:12:44.120\"")
        + &window("inside", "at = \"2026-11-23T07:41:12Z\"")
        + &status("lag", "objective = \"1m\"")
        + &status("late", "objective = \"1s\"")
        + &preview("latest", "")
        + &preview(
            "point",
            "recovery_target = \"point_in_time\"\n recovery_target_time = \"2026-11-23T07:41:12Z\"",
        )
        + &preview("strict", "max_rpo = \"1s\"")
        + r#"
data "aiven_clouds" "aws" {
  provider       = btar
  project        = "demo"
  cloud_provider = "aws"
}
output "aws" { value = data.aiven_clouds.aws.clouds }
"#;
    let module = Module::new(&api.url, &body);
    module.apply().expect(0, &["Outputs:"]);

    let all = module.output("all");
    assert_eq!(all["backups"][0]["name"], "base-1");
    assert_eq!(all["backups"][0]["data_size_bytes"], 1_000_000_000);
    assert_eq!(all["backups"][1]["secondary_region"], CENTRAL);
    assert_eq!(all["backups"][1]["location"], "aws-eu-west-1");
    assert_eq!((&all["backups"][0]["replicated"], &all["location"]), (&json!(true), &json!("any")));
    assert_eq!(module.output("copied")["backups"].as_array().unwrap().len(), 2);

    let now = module.output("now");
    assert_eq!((&now["earliest"], &now["latest"]), (&json!(START), &json!(END)));
    assert_eq!((&now["region"], &now["exact"]), (&json!(CENTRAL), &json!(true)));
    assert_eq!((&now["reachable"], &now["in_window"]), (&json!(true), &json!(null)));
    assert_eq!(now["oldest_base_backup"], "base-1");
    assert_eq!(now["newest_base_backup"], "base-2");
    assert_eq!(now["ranges"], json!([{"start": START, "end": END, "exact": true}]));
    let at = module.output("at");
    assert_eq!((&at["in_window"], &at["rpo_seconds"]), (&json!(false), &json!(3600)));
    let inside = module.output("inside");
    assert_eq!((&inside["in_window"], &inside["rpo_seconds"]), (&json!(true), &json!(0)));

    let lag = module.output("lag");
    assert_eq!((&lag["lag_seconds"], &lag["within_objective"]), (&json!(4), &json!(true)));
    assert_eq!((&lag["paused"], &lag["pause_reason"]), (&json!(false), &json!(null)));
    assert!(lag["measured_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(module.output("late")["within_objective"], json!(false));

    let latest = module.output("latest");
    assert_eq!((&latest["ok"], &latest["problems"]), (&json!(true), &json!([])));
    assert_eq!((&latest["base_backup"], &latest["log_segments"]), (&json!("base-2"), &json!(17)));
    assert_eq!(latest["log_bytes"], json!(17 * 16_777_216));
    assert_eq!(
        (&latest["resolved_target_time"], &latest["region"]),
        (&json!(END), &json!(CENTRAL))
    );
    assert_eq!(latest["estimated_restore_seconds_low"], json!(5 + 5 + 3));
    assert_eq!(latest["estimated_restore_seconds_high"], json!(180 + 50 + 58));
    let point = module.output("point");
    assert_eq!((&point["base_backup"], &point["log_segments"]), (&json!("base-1"), &json!(41)));
    let strict = module.output("strict");
    assert_eq!(strict["ok"], json!(false));
    assert!(strict["problems"][0].as_str().unwrap().starts_with("Too much would be lost: "));

    let aws = module.output("aws");
    let names: Vec<_> = aws.as_array().unwrap().iter().map(|cloud| &cloud["name"]).collect();
    assert_eq!(names, ["aws-eu-central-1", "aws-eu-north-1", "aws-eu-west-1"]);
    assert_eq!((&aws[0]["latitude"], &aws[0]["longitude"]), (&json!(53.5), &json!(-8)));
    assert_eq!((&aws[0]["provider"], &aws[0]["geo_region"]), (&json!("aws"), &json!("europe")));
}

#[test]
fn an_api_without_additions_is_read_by_its_report_and_its_backups() {
    let api = enabled(&[CENTRAL]);
    api.with(|state| {
        state.has_additions = false;
        state.has_pitr = false;
        state.paused = Some("the target region is down".to_owned());
    });
    let body = window("now", "") + &status("lag", "period = \"day\"") + &preview("latest", "");
    let module = Module::new(&api.url, &body);
    module.apply().expect(0, &[]);
    let now = module.output("now");
    // From the oldest to the newest backup that is there.
    assert_eq!(now["earliest"], "2026-11-23T07:00:00Z");
    assert_eq!((&now["latest"], &now["exact"]), (&json!("2026-11-23T08:00:00Z"), &json!(false)));
    let lag = module.output("lag");
    assert_eq!(
        (&lag["lag_seconds"], &lag["measured_at"]),
        (&json!(4), &json!("2026-11-23T09:15:00Z"))
    );
    assert_eq!((&lag["paused"], &lag["within_objective"]), (&json!(true), &json!(null)));
    assert_eq!(lag["pause_reason"], "the target region is down");
    assert_eq!(module.output("latest")["log_segments"], json!(null));
}

#[test]
fn an_outage_is_an_error_or_nulls_as_configured() {
    let api = enabled(&[CENTRAL]);
    api.outage.store(503, Ordering::SeqCst);
    let tolerant = "fail_on_unreachable = false";
    let module = Module::new(&api.url, &(window("now", tolerant) + &status("lag", tolerant)));
    module.apply().expect(0, &["The API failed", "fail_on_unreachable is false"]);
    let now = module.output("now");
    assert_eq!((&now["reachable"], &now["latest"]), (&json!(false), &json!(null)));
    assert_eq!(module.output("lag")["lag_seconds"], json!(null));
    for body in [window("now", ""), status("lag", ""), source("aiven_service_backups", "b", "")] {
        module.write(&body);
        module.plan().expect(1, &["out of order"]);
    }
    // What is wrong is never tolerated as an outage.
    api.outage.store(0, Ordering::SeqCst);
    module.write(&window("now", tolerant).replace("\"orders\"", "\"nothing\""));
    module.plan().expect(1, &["Service \"nothing\" does not exist"]);
}

#[test]
fn what_cannot_be_read_is_refused_at_its_attribute() {
    let api = enabled(&[CENTRAL, "aws-eu-north-1"]);
    let module = Module::new(&api.url, "");
    let check = |body: &str, words: &[&str]| {
        module.write(body);
        module.plan().expect(1, words);
    };
    check(&window("w", ""), &["Which region?", "aws-eu-central-1, aws-eu-north-1"]);
    check(&window("w", "region = \"google-europe-west3\""), &["holds no secondary backups"]);
    check(
        &(window("w", "at = \"soon\"")
            + &status("s", "period = \"decade\"\n objective = \"quick\"")
            + &source("aiven_service_backups", "b", "location = \"moon\"")
            + &preview("p", "max_rpo = \"x\"")),
        &[
            "`soon` is not a time",
            "`decade` is none of",
            "`quick` is not a period",
            "`moon` is none",
            "`x`",
        ],
    );
    api.change("orders", |service| service["user_config"] = json!({}));
    check(&window("w", ""), &["No secondary backups", "aiven_service_backup_region"]);
    // What speaks against a fork is the answer of its preview.
    module.write(&preview("p", ""));
    module.apply().expect(0, &[]);
    let preview = module.output("p");
    assert_eq!((&preview["ok"], &preview["region"]), (&json!(false), &json!(null)));
    assert!(preview["problems"][0].as_str().unwrap().starts_with("No secondary backups: "));
}
