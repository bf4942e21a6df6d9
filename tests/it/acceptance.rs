//! The main job, as a person would do it: Terraform, the engine, a lost region, a queried fork.

use crate::support::{
    command,
    engine::World,
    pause, run,
    source::{Recorded, Source},
    terraform::Module,
    wait_for,
};
use std::time::Duration;

/// A backup region and, when asked for, a fork at a moment.
pub(crate) fn module(time: Option<&str>) -> String {
    let region = r#"
resource "aiven_service_backup_region" "orders" {
  provider              = btar
  project               = "demo"
  service_name          = "orders"
  region                = "aws-eu-central-1"
  wait_for_first_backup = true
  deletion_protection   = false
}
"#;
    let fork = time.map_or(String::new(), |time| {
        format!(
            r#"
resource "fork_from_secondary_backup" "orders" {{
  provider             = btar
  project              = "demo"
  service_name         = "orders-dr"
  source_service_name  = "orders"
  region               = "aws-eu-central-1"
  recovery_target      = "point_in_time"
  recovery_target_time = "{time}"
  deletion_protection  = false
}}
output "uri" {{
  value     = fork_from_secondary_backup.orders.service_uri
  sensitive = true
}}
"#
        )
    });
    format!("{region}{fork}")
}

#[test]
fn every_moment_is_restored_row_for_row_with_the_primary_gone() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    world.enable();
    let marks = recorded.restorable();
    assert!(marks.len() >= 10, "only {} moments", marks.len());
    world.wait_covered(&marks.last().unwrap().time);
    world.lose_primary();
    // Two at a time, as the machine is small.
    for pair in marks.chunks(2) {
        for mark in pair {
            let name = fork_name(mark.rows, &mark.time);
            let answer = world.fork(&name, Some(&mark.time));
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        for mark in pair {
            let name = fork_name(mark.rows, &mark.time);
            let uri = world.wait_running(&name);
            assert_eq!(world.rows(&uri), (mark.rows, mark.sum), "at {}", mark.time);
            let gone = world.call("DELETE", &format!("/v1/project/demo/service/{name}"), None);
            assert_eq!(gone.status, 200, "{}", gone.body);
        }
    }
}

fn fork_name(rows: u64, time: &str) -> String {
    let digits: String = time.chars().filter(char::is_ascii_digit).collect();
    format!("at-{rows}-{digits}")
}

#[test]
fn latest_transaction_has_everything_that_was_archived() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    world.enable();
    let last = recorded.restorable().last().unwrap();
    world.wait_covered(&last.time);
    let answer = world.fork("latest", None);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let uri = world.wait_running("latest");
    // One transaction of ten rows was archived behind the last covered moment.
    assert_eq!(world.rows(&uri).0, last.rows + 10);
}

#[test]
fn both_ends_of_the_window_can_be_restored() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    world.enable();
    let last = recorded.restorable().last().unwrap();
    world.wait_covered(&last.time);
    let (start, end) = world.window().unwrap();
    world.lose_primary();
    assert_eq!(world.fork("first", Some(&start)).status, 200);
    assert_eq!(world.fork("last", Some(&end)).status, 200);
    let first = &recorded.restorable()[0];
    assert_eq!(world.rows(&world.wait_running("first")), (first.rows, first.sum));
    assert_eq!(world.rows(&world.wait_running("last")).0, last.rows + 10);
}

/// A running source with 50 orders and a full backup in the primary region's store.
fn backed_up_source(world: &World) -> Source {
    let repository = world.store("aws-eu-west-1").join("pgbackrest");
    std::fs::create_dir(&repository).unwrap();
    crate::support::give(&repository);
    let source = Source::start(&world.place.dir("source"), &repository);
    source.insert(50);
    source.pgbackrest("--type=full backup");
    source
}

#[test]
fn the_journey_through_terraform() {
    let mut world = World::empty();
    let source = backed_up_source(&world);
    world.start();

    let module_dir = Module::new(&world.url, &module(None));
    let enabled = module_dir.apply();
    assert_eq!(enabled.code, 0, "{}\n{}", enabled.text, world.log());
    assert_eq!(module_dir.plan().code, 0, "a second plan must be empty");

    pause(Duration::from_millis(1100));
    source.insert(20);
    let mark = source.mark();
    source.insert(10);
    source.psql("drop table orders");
    source.archive();
    world.wait_covered(&mark.time);
    source.stop();
    drop(source);
    world.lose_primary();

    module_dir.write(&module(Some(&mark.time)));
    let forked = module_dir.apply();
    assert_eq!(forked.code, 0, "{}\n{}", forked.text, world.log());
    let uri = module_dir.run(&["output", "-raw", "uri"]).text;
    let (server, _) = uri.rsplit_once('/').unwrap();
    assert_eq!(world.rows(&format!("{server}/postgres")), (mark.rows, mark.sum));
    let again = module_dir.plan();
    assert_eq!(again.code, 0, "{}", again.text);

    let off = serde_json::json!({"user_config": {"additional_backup_regions": []}});
    assert_eq!(world.call("PUT", "/v1/project/demo/service/orders", Some(off)).status, 200);
    let drift = module_dir.plan();
    assert_eq!(drift.code, 2, "{}", drift.text);

    let text = std::fs::read_to_string(module_dir.path().join("terraform.tfstate")).unwrap();
    assert!(text.contains("\"demo/orders-dr\""), "the fork's id is in the state");
    let destroyed = module_dir.run(&["destroy", "-input=false", "-auto-approve"]);
    assert_eq!(destroyed.code, 0, "{}", destroyed.text);
    let gone = world.call("GET", "/v1/project/demo/service/orders-dr", None);
    assert_eq!(gone.status, 404);
}

#[test]
fn expired_backups_leave_the_copy_and_the_rest_is_still_restored_by_the_tool() {
    let mut world = World::empty();
    world.retention(
        "copy_retention = { keep_expired_for = \"1s\", keep_restorable = 1, confirm_after = \"2s\" }",
    );
    let source = backed_up_source(&world);
    world.start();
    world.enable();
    let labels = |world: &World| -> Vec<String> {
        let found = std::fs::read_dir(world.copy().join("backup/orders")).into_iter().flatten();
        let names = found.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let mut labels: Vec<String> = names.filter(|name| name.ends_with('F')).collect();
        labels.sort();
        labels
    };
    wait_for("the first backup", Duration::from_secs(30), || {
        world.window().is_some().then_some(())
    });
    let first = labels(&world);
    source.insert(20);
    source.pgbackrest("--type=full --repo1-retention-full=1 backup");
    let second = wait_for("the first backup to leave the copy", Duration::from_secs(30), || {
        let now = labels(&world);
        (now.len() == 1 && now != first).then_some(now)
    });
    pause(Duration::from_millis(1100));
    source.insert(10);
    let mark = source.mark();
    source.insert(10);
    source.archive();
    world.wait_covered(&mark.time);
    source.stop();
    drop(source);
    world.lose_primary();
    // pgBackRest itself finds the copy whole, and a fork has the rows.
    let config = world.place.dir("tool").join("pgbackrest.conf");
    let text = format!(
        "[global]\nrepo1-path={}\nlog-level-file=off\nlock-path={d}\nlog-path={d}\n[orders]\n\
         pg1-path={d}/data\n",
        world.copy().display(),
        d = world.place.path().join("tool").display(),
    );
    std::fs::write(&config, text).unwrap();
    let tool = |arguments: &[&str]| {
        run(command("pgbackrest")
            .arg(format!("--config={}", config.display()))
            .arg("--stanza=orders")
            .args(arguments))
    };
    let verified = tool(&["--log-level-console=info", "verify"]);
    assert!(verified.contains("completed successfully"), "{verified}");
    let listed = tool(&["info"]);
    assert!(listed.contains(&second[0]) && !listed.contains(&first[0]), "{listed}");
    assert_eq!(world.fork("kept", Some(&mark.time)).status, 200);
    let uri = world.wait_running("kept");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
}
