//! The functions in Terraform itself: offline, with unknown and null arguments.

use crate::terraform::Module;
use serde_json::json;

#[test]
fn functions_work_without_an_api_and_name_the_argument_that_is_wrong() {
    let module = Module::new(
        "http://127.0.0.1:1",
        r#"
locals {
  t     = "2026-11-23 08:41:12+01:00"
  start = "2026-11-23T07:00:00Z"
  end   = "2026-11-23T09:00:00Z"
}
output "all" {
  value = [
    provider::btar::parse_cloud("timescale-aws-us-east-2"),
    provider::btar::parse_cloud("nowhere").provider,
    provider::btar::same_cloud("aws-eu-west-1", "aws-eu-central-1"),
    provider::btar::is_valid_backup_pair("aws-eu-west-1", "google-europe-west3"),
    provider::btar::normalize_time(local.t),
    provider::btar::time_in_window(local.t, local.start, local.end),
    provider::btar::duration_seconds("1h30m"),
    provider::btar::rpo_seconds(local.start, local.t),
    provider::btar::fork_name("orders", local.t),
  ]
}
resource "terraform_data" "later" {
  input = "orders"
}
output "unknown" { value = provider::btar::fork_name(terraform_data.later.output, local.t) }
"#,
    );
    module.run(&["validate"]).expect(0, &[]);
    module.plan().expect(2, &["unknown = (known after apply)"]);
    module.apply().expect(0, &[]);
    assert_eq!(
        module.output("all"),
        json!([
            {"name": "timescale-aws-us-east-2", "provider": "aws", "region": "us-east-2"},
            null, true, false, "2026-11-23T07:41:12Z", true, 5400, 2472, "orders-20261123-074112",
        ])
    );
    assert_eq!(module.output("unknown"), "orders-20261123-074112");

    module.write(
        r#"
output "a" { value = provider::btar::time_in_window("2026-11-23T07:41:12Z", "soon", "later") }
output "b" { value = provider::btar::fork_name(null, "2026-11-23T07:41:12Z") }
output "c" { value = provider::btar::duration_seconds("x") }
output "d" { value = provider::btar::is_valid_backup_pair("aws-eu-west-1", "Frankfurt!") }
"#,
    );
    module.run(&["validate"]).expect(
        1,
        &[
            "Invalid value for \"start\" parameter: `soon` is not a time",
            "Invalid value for \"base\" parameter: argument must not be null",
            "Invalid value for \"d\" parameter: `x` is not a period",
            "Invalid value for \"secondary\" parameter: `Frankfurt!` is not a cloud name",
        ],
    );
}
