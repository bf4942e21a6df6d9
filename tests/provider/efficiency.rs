//! How much is asked of the API: counted by the fake.

use crate::{
    api::Api,
    journeys::{AT, enabled, fork, region},
    terraform::Module,
};
use serde_json::json;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

const ORDERS: &str = "GET /v1/project/demo/service/orders";

#[test]
fn many_services_cost_few_requests() {
    let api = Api::start();
    api.add_services((0..60).map(|n| format!("svc-{n}")));
    let body = region("a", "aws-eu-central-1")
        .replace("provider  ", "count = 60\n  provider  ")
        .replace("\"orders\"", "\"svc-${count.index}\"");
    let module = Module::new(&api.url, &body);
    module.plan().expect(2, &["60 to add"]);
    assert!(api.count("GET") <= 12, "{}", api.count("GET"));
}

/// Of each third: regions, forks, and data sources of the same services.
#[test]
fn a_refresh_of_60_mixed_resources_asks_no_more_than_once_per_service() {
    let api = Api::start();
    api.add_services((0..20).map(|n| format!("svc-{n}")));
    let many = |text: String| text.replace("provider  ", "count = 20\n  provider  ");
    let regions = many(region("a", "aws-eu-central-1"))
        .replace("\"orders\"", "\"svc-${count.index}\"")
        .replace("wait_for_first_backup = true", "");
    let forks = many(fork(AT))
        .replace("\"orders-dr\"", "\"dr-${count.index}\"")
        .replace("\"orders\"", "split(\"/\", aiven_service_backup_region.a[count.index].id)[1]");
    let windows = r#"
data "aiven_restore_window" "w" {
  count        = 20
  provider     = btar
  project      = "demo"
  service_name = "svc-${count.index}"
}
"#;
    let module = Module::new(&api.url, &(regions.clone() + &forks));
    let parallel = ["apply", "-input=false", "-auto-approve", "-parallelism=30"];
    module.run(&parallel).expect(0, &["40 added"]);
    module.write(&(regions + &forks + windows));
    api.forget();
    module.plan().expect(0, &[]);
    // 20 services and 20 forks; the constant: 8 single reads before the list pays, lists, clouds.
    let count = api.count("GET");
    assert!(count <= 40 + 14, "{count}: {:#?}", api.state.lock().unwrap().requests);
    assert_eq!(api.count("POST") + api.count("PUT"), 0);
}

#[test]
fn resources_of_one_service_share_its_reads() {
    let api = Api::start();
    let both = region("a", "aws-eu-central-1") + &region("b", "aws-eu-north-1");
    let module = Module::new(&api.url, &both);
    module.apply().expect(0, &["2 added"]);
    let window = r#"
data "aiven_restore_window" "NAME" {
  provider     = btar
  project      = "demo"
  service_name = "orders"
  region       = "aws-eu-central-1"
}
data "aiven_backup_replication_status" "NAME" {
  provider     = btar
  project      = "demo"
  service_name = "orders"
}
"#;
    module.write(&(both + &window.replace("NAME", "x") + &window.replace("NAME", "y")));
    api.forget();
    module.plan().expect(0, &[]);
    assert_eq!(api.count(ORDERS), 2, "one for the service, one for its backups");
    assert_eq!(api.count("GET /v1/project/demo/clouds"), 1);
}

#[test]
fn connections_are_reused_and_requests_are_limited() {
    let api = Api::start();
    api.with(|state| state.delay = Duration::from_millis(30));
    api.add_services((0..60).map(|n| format!("svc-{n}")));
    for n in 0..60 {
        api.change(&format!("svc-{n}"), |service| {
            service["user_config"]["additional_backup_regions"] = json!(["aws-eu-central-1"]);
        });
    }
    let windows = r#"
data "aiven_restore_window" "w" {
  count        = 60
  provider     = btar
  project      = "demo"
  service_name = "svc-${count.index}"
}
"#;
    let module = Module::new(&api.url, windows);
    module.run(&["plan", "-input=false", "-parallelism=60"]).expect(0, &[]);
    let (connections, peak) =
        (api.traffic.connections.load(Ordering::SeqCst), api.traffic.peak.load(Ordering::SeqCst));
    assert_eq!(api.count("GET"), 60);
    assert!((8..=16).contains(&peak), "{peak} requests at the same time");
    // A connection that is being made while another falls idle is one more than is needed.
    assert!(connections <= 30, "{connections} connections for 60 requests");
    let agents = api.state.lock().unwrap().user_agents.clone();
    let expect = concat!("terraform-provider-btar/", env!("CARGO_PKG_VERSION"), " (terraform/1.");
    assert!(agents.iter().all(|agent| agent.starts_with(expect)), "{:?}", agents[0]);
}

#[test]
fn a_busy_api_is_asked_again_when_it_says_so_and_given_up_at_last() {
    let (api, module, base) = enabled();
    api.forget();
    api.with(|state| state.failures = [(429, Some(1))].into());
    let started = Instant::now();
    module.plan().expect(0, &[]);
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(api.count(ORDERS), 2);
    // Without end, it is an error with the status, and says what may help.
    api.forget();
    api.outage.store(429, Ordering::SeqCst);
    module.plan().expect(1, &["The API failed", "the API answered 429: out of order", "try again"]);
    assert_eq!(api.count(ORDERS), 2, "max_retries is 1");
    // An answer that does not come within the time limit.
    api.outage.store(0, Ordering::SeqCst);
    api.with(|state| state.delay = Duration::from_secs(4));
    let impatient = base.replace("provider  ", "timeouts {\n    read = \"1s\"\n  }\n  provider  ");
    module.write(&impatient);
    module.run(&["apply", "-refresh=false", "-auto-approve"]).expect(0, &["1 changed"]);
    let started = Instant::now();
    module
        .plan()
        .expect(1, &["reading service demo/orders", "no answer within the time of timeouts.read"]);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
