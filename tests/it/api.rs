//! Aiven's own client against the engine, and what a hostile one is told.

use crate::support::{both, engine::TOKEN, engine::World, run, source::Recorded};
use serde_json::Value;
use std::{path::PathBuf, process::Command};

/// The client that `make deps` installs.
fn avn(world: &World) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let program = target.join("avn/bin/avn");
    assert!(program.is_file(), "{} is missing: run make deps", program.display());
    let mut command = Command::new(program);
    command
        // With a slash behind it, as people write it: the client then asks for //v1.
        .env("AIVEN_WEB_URL", format!("{}/", world.url))
        .env("AIVEN_AUTH_TOKEN", TOKEN)
        .env("AIVEN_PROJECT", "demo")
        .env("HOME", world.place.path());
    command
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&run(command)).unwrap()
}

#[test]
fn aivens_client_enables_a_region_forks_and_deletes() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    let listed = run(avn(&world).args(["service", "list"]));
    assert!(listed.contains("orders") && listed.contains("aws-eu-west-1"), "{listed}");
    let clouds = run(avn(&world).args(["cloud", "list"]));
    assert!(clouds.contains("google-europe-west3"), "{clouds}");
    for regions in [r#"["google-europe-west3"]"#, r#"["aws-eu-west-1"]"#, r#"["aws-mars-1"]"#] {
        let option = format!("additional_backup_regions={regions}");
        let out =
            avn(&world).args(["service", "update", "orders", "-c", &option]).output().unwrap();
        assert!(!out.status.success(), "{regions} was taken");
        let text = both(&out);
        assert!(text.contains("Choose"), "{regions}: no remedy in {text}");
    }
    let option = r#"additional_backup_regions=["aws-eu-central-1"]"#;
    run(avn(&world).args(["service", "update", "orders", "-c", option]));
    let mark = &recorded.restorable()[4];
    world.wait_covered(&recorded.restorable().last().unwrap().time);

    let backups = json(avn(&world).args(["service", "backup-list", "orders", "--json"]));
    assert_eq!(backups.as_array().unwrap().len(), 2, "{backups}");
    for backup in backups.as_array().unwrap() {
        assert_eq!(backup["storage_location"], "aws-eu-west-1");
        assert_eq!(backup["additional_regions"][0]["cloud"], "aws-eu-central-1");
    }
    run(avn(&world).args(["service", "backup-list", "orders"]));

    world.lose_primary();
    run(avn(&world).args(["service", "create", "orders-avn", "-t", "pg", "-p", "startup-4"]).args(
        [
            "--cloud",
            "aws-eu-central-1",
            "--no-project-vpc",
            "--service-to-fork-from",
            "orders",
            "--recovery-target-time",
            &mark.time,
        ],
    ));
    run(avn(&world).args(["service", "get", "orders-avn", "-v"]));
    let uri = world.wait_running("orders-avn");
    run(avn(&world).args(["service", "wait", "orders-avn", "--timeout", "30"]));
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));

    run(avn(&world).args(["service", "update", "orders-avn", "--enable-termination-protection"]));
    let kept =
        avn(&world).args(["service", "terminate", "orders-avn", "--force"]).output().unwrap();
    assert!(both(&kept).contains("protected"), "{}", both(&kept));
    run(avn(&world).args(["service", "update", "orders-avn", "--disable-termination-protection"]));
    run(avn(&world).args(["service", "terminate", "orders-avn", "--force"]));
    assert_eq!(world.call("GET", "/v1/project/demo/service/orders-avn", None).status, 404);
}

#[test]
fn hostile_requests_are_answered_and_change_nothing() {
    let mut world = World::empty();
    world.start();
    let before = world.call("GET", "/v1/project/demo/service/orders", None).body;
    let check = |method: &str, path: &str, body: Option<Value>, status: u16| {
        let answer = world.call(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        let text = answer.body["message"].as_str().unwrap_or_default().to_owned();
        assert!(!text.is_empty(), "{method} {path} has no message");
        text
    };
    let service = "/v1/project/demo/service/orders";
    check("GET", "/v1/nothing", None, 404);
    check("PATCH", service, None, 405);
    check("GET", "/v1/project/other/service", None, 404);
    check("GET", "/v1/project/demo/service/..%2F..%2Fetc", None, 400);
    check("PUT", service, Some(serde_json::json!([1])), 400);
    for config in [
        serde_json::json!({"additional_backup_regions": "aws-eu-central-1"}),
        serde_json::json!({"additional_backup_regions": [1]}),
        serde_json::json!({"additional_backup_regions": ["../../x"]}),
        serde_json::json!({"service_to_fork_from": "orders"}),
    ] {
        check("PUT", service, Some(serde_json::json!({ "user_config": config })), 400);
    }
    check("PUT", service, Some(serde_json::json!({"powered": false})), 400);
    check("PUT", service, Some(serde_json::json!({"cloud": "aws-eu-central-1"})), 400);
    check("DELETE", service, None, 400);
    let create = |name: &str, config: Value| {
        serde_json::json!({
            "service_name": name, "service_type": "pg", "plan": "startup-4",
            "cloud": "aws-eu-central-1", "user_config": config,
        })
    };
    let services = "/v1/project/demo/service";
    let fork = serde_json::json!({"service_to_fork_from": "orders"});
    check("POST", services, Some(create("../up", fork.clone())), 400);
    check("POST", services, Some(create("orders", fork.clone())), 409);
    check("POST", services, Some(create("new", serde_json::json!({}))), 400);
    let text = check("POST", services, Some(create("new", fork)), 400);
    assert!(text.contains("Enable a backup region"), "{text}");
    let missing = serde_json::json!({"service_to_fork_from": "nothing"});
    let text = check("POST", services, Some(create("new", missing)), 404);
    assert!(!text.contains("Service nothing does not exist"), "clients would try again: {text}");

    let out = run(Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
        .args(["-H", "Authorization: aivenv1 wrong", &format!("{}{service}", world.url)]));
    assert_eq!(out, "401");
    assert_eq!(world.call("GET", service, None).body, before);
    assert!(!world.log().contains(TOKEN), "the token is in the log");
}
